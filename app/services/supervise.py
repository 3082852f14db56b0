"""Keeps background loops going."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from app.core.cancellation import cancel_is_due
from app.core.errors import ArqiveError

logger = logging.getLogger(__name__)


async def repeat(
    name: str,
    run_once: Callable[[], Awaitable[object]],
    *,
    every_s: float,
    after: "asyncio.Task[None] | None" = None,
) -> None:
    """Run something every `every_s` seconds until cancelled, whatever it raises.

    Args:
        name: For the log.
        run_once: One pass.
        every_s: Seconds between the end of one pass and the start of the next.
        after: The first pass waits until this is done.
    """
    if after is not None:
        await asyncio.wait({after})
    while True:
        with _survived(name):
            await run_once()
        if cancel_is_due():
            return
        await asyncio.sleep(every_s)


def repeat_in_thread(name: str, run_once: Callable[[], object], stop: threading.Event, *, every_s: float) -> None:
    """Run something every `every_s` seconds, for the first time after as many, until told to stop."""
    while not stop.wait(every_s):
        with _survived(name):
            run_once()


@contextmanager
def _survived(name: str) -> Iterator[None]:
    """Log whatever is raised; the next pass may do better."""
    try:
        yield
    except ArqiveError as error:
        logger.warning("%s: %s", name, error)
    except Exception:
        logger.exception("%s failed, it will be tried again", name)


async def until_done(name: str, run_once: Callable[[], Awaitable[object]], *, every_s: float) -> None:
    """Run something until it does not raise an error of ours, trying again every `every_s` seconds."""
    while not cancel_is_due():
        try:
            await run_once()
        except ArqiveError as error:
            logger.warning("%s: %s", name, error)
        else:
            return
        await asyncio.sleep(every_s)
