"""Makes Redis say what MongoDB knows: the answer to every write to Redis that was lost."""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.core.clock import utc_now
from app.core.errors import StoreUnavailable
from app.core.faults import FaultPoint, reach
from app.queue.task_queue import Entry, RedisIdentity, TaskQueue
from app.services.callbacks import Callbacks
from app.services.enforce_settings import SettingsEnforcer
from app.services.expire import Expirer
from app.store.duties import DutyStore
from app.store.expiry import ExpiryStore
from app.store.mongo import Mongo
from app.store.queues import QueueStore
from app.store.unfinished import Unfinished, UnfinishedStore
from app.telemetry.catalogue import Role
from app.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

INTERVAL_S = 5.0
DUTY = "reconcile"
DUTY_TIME = timedelta(seconds=15)
"""How long a process that died keeps the duty."""

SOON = timedelta(seconds=3)
"""How long after its time a task that still waits is looked for: most have been claimed by then."""

LATER = timedelta(seconds=30)
"""When that is done once more: clocks differ, and a write may take a while to be seen."""

LATER_EVERY = 6
"""Passes."""

LAPSE_MARGIN = timedelta(seconds=2)
"""Redis notices a lapsed lease by itself; only what it does not know of is left this long after."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What one pass did: whether it went through everything, and how many tasks it offered."""

    full: bool
    offered: int


class Reconciler:
    """Compares MongoDB with Redis, in one process at a time.

    A short pass looks for tasks whose time came, that still wait, and that Redis does not know: whatever way a task
    came to wait, its `run_at` passes through two windows of time that move along behind the present. How far they have
    got is kept with the duty, so that they have no gap when another process takes over or Redis comes back. A full pass
    offers all that wait; it is made when this is not the Redis that was told of them all: it is new, was wiped,
    restarted or replaced.

    Offering an id that is queued changes nothing, and one that is running is dropped by the next claim.

    Before anything is offered, Redis is told of the settings of queues that it does not have, and tasks that could not
    start in time are failed. In the end it sends the callbacks that whoever ended their tasks did not live to send.

    Args:
        mongo: The truth.
        queue: Redis.
        callbacks: What follows from ends.
        holder: Names this process.
        retention: How long a finished task is kept, or None for ever.
        metrics: Counts the passes and what they end.
    """

    def __init__(
        self,
        mongo: Mongo,
        queue: TaskQueue,
        callbacks: Callbacks,
        *,
        holder: str,
        retention: timedelta | None,
        metrics: Metrics | None = None,
    ) -> None:
        self._unfinished = UnfinishedStore(mongo)
        self._duties = DutyStore(mongo)
        self._queue = queue
        self._callbacks = callbacks
        self._holder = holder
        self._metrics = metrics or Metrics(Role.WEB)
        self._expirer = Expirer(ExpiryStore(mongo, retention=retention), queue, self._metrics)
        self._enforcer = SettingsEnforcer(QueueStore(mongo), self._unfinished, queue.settings)
        self._last: datetime | None = None
        self._looked_later: datetime | None = None
        self._passes = 0

    async def run_once(self) -> Reconciled | None:
        """One pass, or None while another process has the duty.

        Raises:
            StoreUnavailable: MongoDB cannot serve.
            QueueUnavailable: Redis cannot serve.
        """
        now = utc_now()
        if not await self._take():
            self._last = self._looked_later = None
            return None
        if self._last is None:
            self._last = await self._duties.done_until(DUTY)
        await self._expirer.run_once()
        identity = await self._queue.identity()
        await self._enforcer.run_once(identity.run_id)
        full = self._last is None or not identity.knows_all
        if self._last is None or full:
            offered = await self._rebuild(identity)
        else:
            offered = await self._look(since=self._last, until=now)
        offered += await self._offer(self._unfinished.lapsed(before=now - LAPSE_MARGIN))
        self._last = now
        self._metrics.reconciled(full=full, offered=offered)
        await self._callbacks.catch_up()
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
        logger.info(
            "Rebuilt the queues: offered %d tasks%s",
            offered,
            "" if noted else ", and Redis forgot some again",
            extra={"event": "queues_rebuilt"},
        )
        return offered

    async def _look(self, *, since: datetime, until: datetime) -> int:
        """Offer what became due and Redis does not know; returns how many that were."""
        offered = await self._offer_missing(since - SOON, until - SOON)
        if self._looked_later is None:
            self._looked_later = since - LATER
        if self._passes % LATER_EVERY == 0:
            offered += await self._offer_missing(self._looked_later - LATER, until - LATER)
            self._looked_later = until
        self._passes += 1
        return offered

    async def _offer_missing(self, since: datetime, until: datetime) -> int:
        return await self._offer(self._missing(self._unfinished.became_due(since=since, until=until)))

    async def _missing(self, pages: AsyncIterator[list[Unfinished]]) -> AsyncIterator[list[Unfinished]]:
        """Under a backlog nearly all are queued, and asking costs a tenth of offering."""
        async for page in pages:
            known = await self._queue.known((task.queue, task.task_id) for task in page)
            yield [task for task in page if task.task_id not in known]

    async def _offer(self, pages: AsyncIterator[list[Unfinished]]) -> int:
        offered = 0
        async for page in pages:
            if page:
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
