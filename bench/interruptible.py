"""Ctrl-C ends a benchmark with one line, and with nothing that it has started."""

import asyncio
import sys
from collections.abc import Callable, Sequence

from app.core.cancellation import cancel_is_due

INTERRUPTED = 130


def interruptible(main: Callable[[Sequence[str]], int]) -> int:
    """The exit code of `main`, or that of one that was interrupted.

    The loop that `main` runs in cancels its main task, and waits until that has stopped what it had started.
    """
    try:
        return main(sys.argv[1:])
    except KeyboardInterrupt:
        print("bench: interrupted; nothing is written", file=sys.stderr)
        return INTERRUPTED


def tell(line: str) -> None:
    """Progress, apart from the report.

    Raises:
        CancelledError: the run was interrupted, and redis-py has hidden that from whoever waited for Redis.
    """
    print(line, file=sys.stderr, flush=True)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if cancel_is_due():
        raise asyncio.CancelledError
