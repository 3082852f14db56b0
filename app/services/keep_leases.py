"""Renews leases from a thread, so that a handler that blocks the event loop does not lose its task."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta

from app.core.attempt import Attempt
from app.core.clock import utc_now
from app.core.errors import QueueUnavailable, StoreUnavailable
from app.queue.leases import LeaseQueue, open_lease_queue
from app.services.execute import STOP_PATIENCE_S, Executions, Interruption
from app.services.supervise import repeat_in_thread
from app.store.leases import LeaseStore
from app.store.mongo import open_mongo_for_thread
from app.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

Interrupt = Callable[[Attempt, Interruption], None]
"""Stops the handler of an attempt; callable from any thread."""


class LeaseKeeper:
    """Renews in MongoDB, whose word counts, and then in Redis, so that nobody else is offered the task.

    Args:
        store: The leases in MongoDB.
        queue: The leases in Redis.
        executions: What runs.
        interrupt: How to stop a handler whose lease is lost or whose task is to be cancelled.
        lease: How long a lease lasts from each renewal.
        metrics: Counts renewals.
    """

    def __init__(
        self,
        store: LeaseStore,
        queue: LeaseQueue,
        executions: Executions,
        interrupt: Interrupt,
        *,
        lease: timedelta,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._queue = queue
        self._executions = executions
        self._interrupt = interrupt
        self._lease = lease
        self._metrics = metrics

    def renew(self) -> None:
        """Renew every lease once. What is far past its timeout keeps no lease: it hangs, and so may its whole loop.

        Raises:
            StoreUnavailable: MongoDB is away; the leases lapse unless it is back in time.
        """
        now = utc_now()
        running = self._executions.all()
        held = [each.attempt for each in running if each.waits or now < self._latest_end(each.attempt)]
        if not held:
            return
        try:
            renewal = self._store.renew({attempt.task_id: attempt.token for attempt in held}, now=now)
        except StoreUnavailable:
            self._renew_in_redis(self._still_running(held))  # that MongoDB is away takes no task from anybody
            raise
        # Not those that have ended meanwhile, here or elsewhere: Redis does not know them and would lease them anew.
        held = self._still_running(held)
        self._renew_in_redis([attempt for attempt in held if attempt.task_id not in renewal.lost])
        lost = sum(attempt.task_id in renewal.lost for attempt in held)
        self._metrics.leases(renewed=len(held) - lost, lost=lost)
        for attempt in held:
            if attempt.task_id in renewal.lost:
                self._interrupt(attempt, Interruption.LEASE_LOST)
            elif attempt.task_id in renewal.cancel:
                self._interrupt(attempt, Interruption.CANCEL)

    def _still_running(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        running = {(each.attempt.task_id, each.attempt.token) for each in self._executions.all()}
        return [attempt for attempt in attempts if (attempt.task_id, attempt.token) in running]

    def _renew_in_redis(self, held: Sequence[Attempt]) -> None:
        try:
            self._queue.renew(((each.queue, each.task_id, each.token) for each in held), lease=self._lease)
        except QueueUnavailable as error:
            logger.warning("Cannot renew %d leases in Redis: %s", len(held), error)

    def _latest_end(self, attempt: Attempt) -> datetime:
        return attempt.started_at + attempt.timeout + timedelta(seconds=STOP_PATIENCE_S) + self._lease

    def run(self, stop: threading.Event) -> None:
        """Renew in time, again and again: two renewals may fail before a lease lapses."""
        repeat_in_thread("renewing leases", self.renew, stop, every_s=self._lease.total_seconds() / 3)


def keep_leases(
    mongo_url: str, database: str, redis_url: str, *, executions: Executions, lease: timedelta, metrics: Metrics
) -> AbstractAsyncContextManager[None]:
    """Keep the leases of what runs while the context is open, in a thread with connections of its own.

    Args:
        mongo_url: Where the leases are kept.
        database: Its name.
        redis_url: Where they are seen.
        executions: What runs.
        lease: How long a lease lasts from each renewal.
        metrics: Counts renewals.
    """
    loop = asyncio.get_running_loop()
    patience = lease / 3

    def interrupt(attempt: Attempt, why: Interruption) -> None:
        loop.call_soon_threadsafe(executions.interrupt_attempt, attempt, why)

    def keep(stop: threading.Event) -> None:
        with (
            open_mongo_for_thread(mongo_url, database, timeout=patience) as opened,
            open_lease_queue(redis_url, timeout=patience) as queue,
        ):
            store = LeaseStore(opened, lease=lease)
            LeaseKeeper(store, queue, executions, interrupt, lease=lease, metrics=metrics).run(stop)

    return _in_thread(keep)


@asynccontextmanager
async def _in_thread(run: Callable[[threading.Event], None]) -> AsyncIterator[None]:
    """Run something in a thread of its own while the context is open; it ends when its event is set."""
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(stop,), name="leases", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        # It may be in a renewal, which has a time limit of its own.
        await asyncio.to_thread(thread.join)
