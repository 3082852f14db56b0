"""Renews the leases of what a worker runs, and learns what was lost or is to be cancelled."""

import logging
from datetime import timedelta

from app.core.clock import utc_now
from app.core.errors import QueueUnavailable
from app.core.ids import TaskId
from app.queue.task_queue import TaskQueue
from app.services.execute import Executions, Interruption
from app.store.attempts import AttemptStore

logger = logging.getLogger(__name__)


class LeaseKeeper:
    """Renews in MongoDB, whose word counts, and in Redis, so that nobody else is offered the task.

    Args:
        attempts: Whose leases.
        queue: The queues the tasks came from.
        executions: What runs.
        lease: How long a lease lasts from each renewal.
    """

    def __init__(self, attempts: AttemptStore, queue: TaskQueue, executions: Executions, *, lease: timedelta) -> None:
        self._attempts = attempts
        self._queue = queue
        self._executions = executions
        self._lease = lease

    @property
    def interval_s(self) -> float:
        """Seconds between renewals: two may fail before a lease lapses."""
        return self._lease.total_seconds() / 3

    async def renew(self) -> None:
        """Renew every lease once.

        Raises:
            StoreUnavailable: MongoDB is away; the leases lapse unless it is back in time.
        """
        running = [execution.attempt for execution in self._executions.all()]
        if not running:
            return
        try:
            await self._queue.renew(
                [(attempt.queue, attempt.task_id, attempt.token) for attempt in running], lease=self._lease
            )
        except QueueUnavailable as error:
            logger.warning("Cannot renew %d leases in Redis: %s", len(running), error)
        renewal = await self._attempts.renew({attempt.task_id: attempt.token for attempt in running}, now=utc_now())
        for task_id in renewal.lost:
            self._interrupt_lost(task_id)
        for task_id in renewal.cancel:
            self._executions.interrupt(task_id, Interruption.CANCEL)

    def _interrupt_lost(self, task_id: TaskId) -> None:
        logger.warning("Task %s runs under another lease now", task_id)
        self._executions.interrupt(task_id, Interruption.LEASE_LOST)
