"""Keeps background loops going."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

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
        await asyncio.sleep(every_s)
