"""Makes Redis say what MongoDB knows: the answer to every write to Redis that was lost."""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.core.clock import utc_now
from app.core.errors import StoreUnavailable
from app.core.faults import FaultPoint, reach
from app.queue.task_queue import Entry, RedisIdentity, TaskQueue
from app.store.duties import DutyStore
from app.store.unfinished import Unfinished, UnfinishedStore

logger = logging.getLogger(__name__)

INTERVAL_S = 5.0
DUTY = "reconcile"
DUTY_TIME = timedelta(seconds=15)
"""How long a process that died keeps the duty."""

OVERLAP = timedelta(seconds=30)
"""How far back a short pass looks past the last one: clocks differ, and a write may take a while to be seen."""

LAPSE_MARGIN = timedelta(seconds=2)
"""Redis notices a lapsed lease by itself; only what it does not know of is left this long after."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What one pass did: whether it went through everything, and how many tasks it offered."""

    full: bool
    offered: int


class Reconciler:
    """Compares MongoDB with Redis, in one process at a time.

    A short pass offers the tasks whose time came since the last pass and that still wait: whatever way a task came to
    wait, its `run_at` passes through that window once. How far the passes have got is kept with the duty, so that the
    window has no gap when another process takes over or Redis comes back. A full pass offers all that wait; it is made
    when this is not the Redis that was told of them all: it is new, was wiped, restarted or replaced.

    Offering an id that is queued changes nothing, and one that is running is dropped by the next claim.
    """

    def __init__(self, unfinished: UnfinishedStore, duties: DutyStore, queue: TaskQueue, *, holder: str) -> None:
        self._unfinished = unfinished
        self._duties = duties
        self._queue = queue
        self._holder = holder
        self._last: datetime | None = None

    async def run_once(self) -> Reconciled | None:
        """One pass, or None while another process has the duty.

        Raises:
            StoreUnavailable: MongoDB cannot serve.
            QueueUnavailable: Redis cannot serve.
        """
        now = utc_now()
        if not await self._take():
            self._last = None
            return None
        if self._last is None:
            self._last = await self._duties.done_until(DUTY)
        identity = await self._queue.identity()
        full = self._last is None or not identity.knows_all
        if self._last is None or full:
            offered = await self._rebuild(identity)
        else:
            offered = await self._offer(self._unfinished.became_due(since=self._last - OVERLAP, until=now))
        offered += await self._offer(self._unfinished.lapsed(before=now - LAPSE_MARGIN))
        self._last = now
        return Reconciled(full, offered)

    async def _take(self) -> bool:
        now = utc_now()
        return await self._duties.take(DUTY, self._holder, now=now, until=now + DUTY_TIME, done_until=self._last)

    async def _rebuild(self, identity: RedisIdentity) -> int:
        """Offer all that wait.

        A pass that was cut short, or in which Redis was wiped or restarted, is not noted, and so is made again.
        """
        mark = await self._queue.begin_rebuild(identity)
        offered = await self._offer(self._unfinished.waiting())
        noted = await self._queue.end_rebuild(mark)
        logger.info("Rebuilt the queues: offered %d tasks%s", offered, "" if noted else ", and Redis forgot some again")
        return offered

    async def _offer(self, pages: AsyncIterator[list[Unfinished]]) -> int:
        offered = 0
        async for page in pages:
            await self._queue.dispatch(
                (Entry(task.task_id, task.queue, task.due_at, task.priority) for task in page), only_missing=True
            )
            offered += len(page)
            await reach(FaultPoint.DURING_REBUILD)
            await self._take()
        return offered

    async def give_up(self) -> None:
        """Let another process take over at once; without MongoDB it has to wait until the duty lapses."""
        try:
            await self._duties.give_up(DUTY, self._holder)
        except StoreUnavailable as error:
            logger.warning("Could not give up reconciling: %s", error)
