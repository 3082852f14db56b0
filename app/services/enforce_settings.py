"""Keeps Redis to the settings of queues that MongoDB has: a part of every pass of reconcile."""

import asyncio
import logging

from app.core.clock import utc_now
from app.core.queue_settings import QueueSettings
from app.queue.queue_settings import SettingsQueue, to_text
from app.store.queues import QueueStore
from app.store.unfinished import UnfinishedStore

logger = logging.getLogger(__name__)

BEGIN_PATIENCE_S = 1.0
"""How long what was claimed just before Redis was wiped gets to show in MongoDB as running."""


class SettingsEnforcer:
    """Tells Redis again of what it has forgotten, never heard of, or remembers from another MongoDB.

    Args:
        queues: The truth.
        unfinished: Knows what runs.
        settings: Redis.
    """

    def __init__(self, queues: QueueStore, unfinished: UnfinishedStore, settings: SettingsQueue) -> None:
        self._queues = queues
        self._unfinished = unfinished
        self._settings = settings

    async def run_once(self, run_id: str) -> int:
        """One pass over the Redis that has this run id; how many queues were told of.

        Redis is read first: what it has was in MongoDB before, so whatever is newer there is not of this MongoDB.

        Raises:
            StoreUnavailable: MongoDB cannot serve.
            QueueUnavailable: Redis cannot serve.
        """
        names = [settings.name for settings in await self._queues.all() if settings.version]
        wrong = await self._wrong(names, run_id)
        if any(settings.max_running for settings, _ in wrong):
            await asyncio.sleep(BEGIN_PATIENCE_S)
            wrong = await self._wrong(names, run_id)
        for settings, text in wrong:
            await self._tell(settings, text, run_id)
        return len(wrong)

    async def _wrong(self, names: list[str], run_id: str) -> list[tuple[QueueSettings, str]]:
        """The settings of which Redis has another text, and that text."""
        if not names:
            return []
        texts = dict(zip(names, await self._settings.told(names), strict=True))
        found = await self._queues.named(names)
        return [
            (settings, texts[settings.name]) for settings in found if not _says(texts[settings.name], settings, run_id)
        ]

    async def _tell(self, settings: QueueSettings, instead_of: str, run_id: str) -> None:
        if settings.max_running:
            # Nobody can count what runs before Redis knows all of it.
            async for held in self._unfinished.leased(settings.name, now=utc_now()):
                await self._settings.restore_leases(settings.name, held)
        await self._settings.tell(settings, instead_of=instead_of, run_id=run_id)
        logger.info("Told Redis of the settings of queue %s", settings.name)


def _says(text: str, settings: QueueSettings, run_id: str) -> bool:
    """Whether a text says what it should; who counted the leases matters only where they are counted."""
    told, _, counted_by = text.rpartition(" ")
    return told == to_text(settings) and (not settings.max_running or counted_by == run_id)
