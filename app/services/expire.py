"""Fails tasks that were not started in time, whether or not a worker is there: a part of every pass of reconcile."""

from collections import defaultdict

from app.core.clock import utc_now
from app.core.ids import TaskId
from app.queue.task_queue import TaskQueue
from app.store.expiry import ExpiryStore


class Expirer:
    """Fails tasks whose `start_before` has passed, MongoDB first and Redis second.

    A worker does the same when it claims one; but none may be there, or the queue be paused.

    Args:
        store: Where they are failed.
        queue: Where they are taken out, and whoever waits for them is told.
    """

    def __init__(self, store: ExpiryStore, queue: TaskQueue) -> None:
        self._store = store
        self._queue = queue

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
            for name, task_ids in by_queue.items():
                await self._queue.withdraw(name, task_ids)
                await self._queue.signal_ended(task_ids)
            failed += len(batch)
        return failed
