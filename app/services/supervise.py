"""Keeps background loops going."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from app.core.cancellation import cancel_is_due
from app.core.errors import ArqiveError

logger = logging.getLogger(__name__)


async def repeat(name: str, run_once: Callable[[], Awaitable[object]], *, every_s: float) -> None:
    """Run something every `every_s` seconds until cancelled, whatever it raises.

    Args:
        name: For the log.
        run_once: One pass.
        every_s: Seconds between the end of one pass and the start of the next.
    """
    while True:
        try:
            await run_once()
        except ArqiveError as error:
            logger.warning("%s: %s", name, error)
        except Exception:
            logger.exception("%s failed, it will be tried again", name)
        if cancel_is_due():
            return
        await asyncio.sleep(every_s)


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
