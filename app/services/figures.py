"""The figures of queues and statuses, as fresh as they can be had at a cost that does not grow with the tasks."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from app.core.clock import utc_now
from app.core.errors import QueueUnavailable
from app.core.states import Status
from app.queue.depths import Depth, read_depths
from app.queue.task_queue import TaskQueue
from app.services.recount import Recount
from app.store.counts import CountStore

logger = logging.getLogger(__name__)

PATIENCE_S = 1.0
"""How long Redis gets to answer."""


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """What waits and runs in one queue; `oldest_ready_at` is when the oldest ready task became due."""

    ready: int = 0
    deferred: int = 0
    running: int = 0
    oldest_ready_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What one process has counted last."""

    statuses: Recount[dict[Status, int]] = field(default_factory=Recount)
    queues: Recount[dict[str, QueueFigures]] = field(default_factory=Recount)

    async def close(self) -> None:
        """End the counts that are under way."""
        await self.statuses.close()
        await self.queues.close()


async def count_queues(store: CountStore, queue: TaskQueue, names: Sequence[str]) -> dict[str, QueueFigures]:
    """The figures of queues, from Redis where it knows all; else from MongoDB, which then has to read all that waits.

    The oldest is from MongoDB: a task that Redis has lost, or that every worker hands back, is late all the same.

    Raises:
        StoreUnavailable: MongoDB cannot serve.
    """
    now = utc_now()
    depths = await _depths(queue, names)
    if depths is None:
        counts = {name: await store.of_queue(name, now=now) for name in names}
        depths = {name: Depth(each.ready, each.deferred, each.running, ()) for name, each in counts.items()}
    due_at = await store.due_at([head for depth in depths.values() for head in depth.heads])
    figures = {}
    for name, depth in depths.items():
        # Almost always the head is the oldest; only what became due before it has to be looked for.
        head = min((due_at[head] for head in depth.heads if head in due_at), default=None)
        older = await store.oldest_due(name, before=head or now)
        figures[name] = QueueFigures(depth.ready, depth.deferred, depth.running, older or head)
    return figures


async def _depths(queue: TaskQueue, names: Sequence[str]) -> dict[str, Depth] | None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await read_depths(queue.redis, names)
    except (QueueUnavailable, TimeoutError) as error:
        logger.warning("Counting without Redis: %s", str(error) or f"no answer within {PATIENCE_S:g} s")
        return None
