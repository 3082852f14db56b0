"""Being cancelled, when a library hides it."""

import asyncio


def cancel_is_due() -> bool:
    """Whether the current asyncio task was asked to cancel.

    redis-py 5.3 turns a cancellation that arrives while it connects into an ordinary error, so a loop that survives
    errors has to ask, or it would survive its cancellation too.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
