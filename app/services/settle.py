"""Records how attempts ended: MongoDB first, Redis second, many at a time."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from app.core import limits
from app.core.clock import to_ms
from app.core.errors import QueueUnavailable, StoreRefused, StoreUnavailable
from app.core.faults import FaultPoint, reach
from app.core.ids import TaskId
from app.core.outcomes import Cancelled, ErrorCode, Failure, Released, Rescheduled
from app.queue.scripts import Ending
from app.queue.task_queue import TaskQueue
from app.services.batch import Batcher
from app.services.callbacks import Callbacks
from app.store.settlements import Record, SettlementStore
from app.telemetry.catalogue import Operation, Role
from app.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

BATCH = 100
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0


@dataclass(slots=True)
class _Settling:
    """An outcome on its way; `written` is what MongoDB took for it in the end, unless it was `late`."""

    written: Record
    late: bool = False


class Settler:
    """Settles attempts; those that end at the same time share their round trips.

    The order survives every crash: between the two writes it leaves an id in Redis whose task has moved on, and the
    next claim of that id drops it. Each has a batch of its own, so that no outcome waits to be recorded, with a lease
    that nobody renews any more, because Redis is slow to hear of another.

    Args:
        store: Where outcomes are kept.
        queue: Where leases end.
        callbacks: What follows from ends.
        patience: How long to try when MongoDB is away: as long as the leases can last. After that the attempt is lost,
            and another worker makes it again.
        metrics: Counts outcomes.
    """

    def __init__(
        self,
        store: SettlementStore,
        queue: TaskQueue,
        callbacks: Callbacks,
        *,
        patience: timedelta,
        metrics: Metrics | None = None,
    ) -> None:
        self._store = store
        self._queue = queue
        self._callbacks = callbacks
        self._patience = patience
        self._metrics = metrics or Metrics(Role.WORKER)
        self._records: Batcher[_Settling] = Batcher(self._write, limit=BATCH)
        self._endings: Batcher[Record] = Batcher(self._tell, limit=BATCH)

    async def settle(self, record: Record) -> None:
        """Record one outcome.

        Raises:
            StoreUnavailable: MongoDB was away for longer than the patience.
        """
        settling = _Settling(record)
        await self._records.add(settling)
        await self._endings.add(settling.written)
        settled = settling.written.settlement
        if settled.attempt.followed_ends and settled.runs_again_at is None:
            await self._callbacks.follow(settled.attempt.task_id)

    async def _write(self, batch: Sequence[_Settling]) -> None:
        await reach(FaultPoint.BEFORE_SETTLE)
        self._metrics.batch(Operation.SETTLE, len(batch))
        await self._record(batch)
        late = 0
        for settling in batch:
            if settling.late:
                late += 1  # whoever took the task over has counted the attempt, as lost
            else:
                self._metrics.settled(settling.written.settlement)
        if late:
            self._metrics.late(late)
            logger.warning(
                "%d outcomes came too late: other leases hold their tasks", late, extra={"event": "outcomes_late"}
            )

    async def _tell(self, records: Sequence[Record]) -> None:
        await reach(FaultPoint.AFTER_SETTLE)
        endings: dict[str, list[Ending]] = defaultdict(list)
        again: list[TaskId] = []
        for record in records:
            attempt, again_at = record.settlement.attempt, record.settlement.runs_again_at
            due_ms = None if again_at is None else to_ms(again_at)
            endings[attempt.queue].append(Ending(attempt.task_id, attempt.token, attempt.priority, due_ms))
            if again_at is not None:
                again.append(attempt.task_id)
        try:
            for queue, of_queue in endings.items():
                await self._queue.settle(queue, of_queue)
            await reach(FaultPoint.AFTER_FINISH)
            await self._queue.signal_changed(again)
        except QueueUnavailable as error:
            # The outcome is recorded; what is left in Redis is found by the next claim.
            logger.warning("Recorded %d outcomes but could not tell Redis: %s", len(records), error)

    async def _record(self, batch: Sequence[_Settling]) -> None:
        """Records the outcomes, or what stands in for those that could not be stored."""
        loop = asyncio.get_running_loop()
        deadline, pause_s = loop.time() + self._patience.total_seconds(), FIRST_PAUSE_S
        while True:
            try:
                await self._record_once(batch)
            except StoreUnavailable as error:
                if loop.time() + pause_s > deadline:
                    logger.error(  # noqa: TRY400 - what it raises tells the rest
                        "Could not record %d outcomes, their attempts are lost: %s", len(batch), error,
                        extra={"event": "outcomes_lost"},
                    )  # fmt: skip
                    raise
                logger.warning("Cannot record %d outcomes yet: %s", len(batch), error, extra={"event": "settle_failed"})
            else:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _record_once(self, batch: Sequence[_Settling]) -> None:
        try:
            recorded = await self._store.settle([settling.written for settling in batch])
        except StoreRefused as error:
            if len(batch) > 1:
                # One of them spoils the batch: each by itself, and that one fails alone.
                for settling in batch:
                    await self._record_once([settling])
                return
            [alone] = batch
            logger.warning("The outcome of task %s: %s", alone.written.settlement.attempt.task_id, error)
            alone.written = _failed(alone.written, error)
            recorded = await self._store.settle([alone.written])
        if recorded < len(batch):
            await self._record_rest(batch)

    async def _record_rest(self, batch: Sequence[_Settling]) -> None:
        """Find out which of them are late, and end the tasks that were to run again but that a client has cancelled."""
        unrecorded = await self._store.find_unrecorded([settling.written for settling in batch])
        for position, settling in enumerate(batch):
            settling.late = position in unrecorded.late
        to_cancel = [batch[position] for position in sorted(unrecorded.to_cancel)]
        for settling in to_cancel:
            settling.written = _cancelled(settling.written)
        if to_cancel:
            await self._record_once(to_cancel)


def _failed(record: Record, error: StoreRefused) -> Record:
    """The attempt without what could not be stored."""
    settlement = record.settlement
    failure = Failure(ErrorCode.RESULT_NOT_STORABLE, str(error)[: limits.MAX_ERROR_MESSAGE])
    outcome = settlement.attempt.outcome_of_failure(failure, now=settlement.finished_at)
    return Record(replace(settlement, outcome=outcome), None, [])


def _cancelled(record: Record) -> Record:
    """The end of a task that a client has asked to cancel since the worker last looked."""
    outcome = record.settlement.outcome
    assert isinstance(outcome, Rescheduled | Released)  # noqa: S101 - no other outcome depends on what clients ask for
    return replace(record, settlement=replace(record.settlement, outcome=Cancelled(instead_of=outcome)))
