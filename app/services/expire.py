"""Fails tasks that were not started in time, whether or not a worker is there: a part of every pass of reconcile."""

from collections import defaultdict

from app.core.clock import utc_now
from app.core.ids import TaskId
from app.core.outcomes import ErrorCode
from app.queue.task_queue import TaskQueue
from app.store.expiry import ExpiryStore
from app.telemetry.metrics import Metrics


class Expirer:
    """Fails tasks whose `start_before` has passed, MongoDB first and Redis second.

    A worker does the same when it claims one; but none may be there, or the queue be paused.

    Args:
        store: Where they are failed.
        queue: Where they are taken out, and whoever waits for them is told.
        metrics: Counts them.
    """

    def __init__(self, store: ExpiryStore, queue: TaskQueue, metrics: Metrics) -> None:
        self._store = store
        self._queue = queue
        self._metrics = metrics

    async def run_once(self) -> int:
        """One pass; how many tasks were failed.

        Raises:
            StoreUnavailable: MongoDB cannot serve.
            QueueUnavailable: Redis cannot serve; the ids that are left in it are dropped by the next claim.
        """
        failed = 0
        async for batch in self._store.expire(now=utc_now()):
            by_queue: dict[str, list[TaskId]] = defaultdict(list)
            for each in batch:
                by_queue[each.queue].append(each.task_id)
                self._metrics.ended_unrun(each.type, each.queue, ErrorCode.EXPIRED)
            for name, task_ids in by_queue.items():
                await self._queue.withdraw(name, task_ids)
                await self._queue.signal_ended(task_ids)
            failed += len(batch)
        return failed
