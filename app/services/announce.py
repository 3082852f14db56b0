"""Tells listeners of changes, beside the path of a task: nobody waits for it."""

import asyncio
import logging
from collections.abc import Iterable

from app.core.errors import QueueUnavailable
from app.core.ids import TaskId
from app.queue.task_queue import TaskQueue

logger = logging.getLogger(__name__)


class Announcer:
    """Announces changes of one process; those that come while one is being told go together in the next.

    While nobody listens it does nothing. What Redis cannot be told is found by those who listen when they next look at
    the truth.
    """

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue
        self._waiting: dict[TaskId, None] = {}
        self._telling: asyncio.Task[None] | None = None

    def tell(self, task_ids: Iterable[TaskId]) -> None:
        """These tasks have changed, and are not terminal."""
        if not self._queue.audience.present:
            return
        self._waiting.update(dict.fromkeys(task_ids))
        if self._waiting and self._telling is None:
            self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        try:
            while self._waiting:
                task_ids, self._waiting = list(self._waiting), {}
                await self._queue.signal_changed(task_ids)
        except QueueUnavailable as error:
            self._waiting.clear()
            logger.warning("Could not tell listeners of changes, they will see them a little later: %s", error)
        finally:
            self._telling = None
