"""Keeps in a worker's mind what is set on its queues, so that it holds when Redis forgets."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from app.core.errors import StoreUnavailable
from app.queue.queue_settings import SettingsMemory
from app.store.mongo import Mongo
from app.store.queues import QueueStore

INTERVAL_S = 5.0

START_PATIENCE_S = 1.0
"""How long the first claim waits for MongoDB, without which nothing could begin anyway."""


class SettingsLearner:
    """Learns the settings of some queues.

    Args:
        mongo: Where they are.
        memory: Where claims look.
        names: The queues.
    """

    def __init__(self, mongo: Mongo, memory: SettingsMemory, names: Sequence[str]) -> None:
        self._queues = QueueStore(mongo)
        self._memory = memory
        self._names = names

    async def learn(self) -> None:
        """Learn once.

        Raises:
            StoreUnavailable: MongoDB cannot serve.
        """
        self._memory.learn_all(await self._queues.named(self._names))

    async def begin(self) -> None:
        """Learn before the first claim, if that is soon.

        Otherwise claims have to ask Redis whether it knows all, queue by queue and out of the order of preference.
        """
        with suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(START_PATIENCE_S):
                await self.learn()
