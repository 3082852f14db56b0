"""Being cancelled, when a library hides it."""

import asyncio


def cancel_is_due() -> bool:
    """Whether the current asyncio task was asked to cancel.

    redis-py 5.3 now and then turns a cancellation that arrives while it connects or waits into an ordinary error or a
    return, so a loop that goes on after those has to ask, or it would survive its cancellation too.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
