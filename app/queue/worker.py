"""The loop of a worker: an arq worker that claims in batches under leases and is woken, not polling."""

import asyncio
import logging
import time
from datetime import timedelta
from typing import Any, Protocol

from arq.worker import Worker, func

from app.core.attempt import Attempt, Claim
from app.core.clock import utc_now
from app.core.errors import QueueUnavailable
from app.queue.connect import decode_job, encode_job
from app.queue.keys import queue as queue_key
from app.queue.task_queue import JOB_FUNCTION, TaskQueue

logger = logging.getLogger(__name__)

BATCH = 50
"""Ids a claim takes at most: the script then holds Redis for one to three milliseconds."""

POLL_S = 2.0
"""How often to look without being woken: for lapsed leases, and for wake signals that were lost."""

BEGIN_PATIENCE_S = 0.05
"""How long claims wait for those before to be begun."""

OUTAGE_PAUSE_S = 0.5


class Runner(Protocol):
    """What a worker does with what it claimed."""

    async def begin(self, claim: Claim) -> list[Attempt]:
        """The attempts that were won; everything else of the claim has been taken care of."""
        ...

    async def run(self, attempt: Attempt) -> None:
        """Make the attempt and record its outcome; does not raise."""
        ...


class LeasedWorker(Worker):
    """Takes due ids from queues, as many as there are free slots, and has them run.

    Keeps arq's constructor, pool and bookkeeping (`tasks`, `allow_pick_jobs`, `max_jobs`); replaces its polling, its
    WATCH-based start, its in-progress keys and its signal handling.

    Args:
        queue: Where ids come from.
        runner: What is done with them.
        names: The queues, in order of preference.
        concurrency: How many tasks may run at the same time.
        lease: How long a claim lasts unless renewed.
    """

    def __init__(
        self, queue: TaskQueue, runner: Runner, *, names: tuple[str, ...], concurrency: int, lease: timedelta
    ) -> None:
        super().__init__(
            functions=[func(_never_called, name=JOB_FUNCTION)],
            queue_name=queue_key(names[0]),
            redis_pool=queue.redis,
            handle_signals=False,
            max_jobs=concurrency,
            keep_result=0,
            poll_delay=POLL_S,
            job_serializer=encode_job,
            job_deserializer=decode_job,
        )
        self._queue = queue
        self._runner = runner
        self._names = names
        self._lease = lease
        self._reserved = 0
        self._starting: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._lacks_slots = False
        self._next_due = float("inf")
        self._answered_at = float("-inf")

    @property
    def running(self) -> int:
        """Tasks that occupy a slot."""
        return self._reserved + len(self.tasks)

    def claimed_within(self, seconds: float) -> bool:
        """Whether Redis answered a claim in the last `seconds`, or every slot has been taken since."""
        return self.running >= self.max_jobs or time.monotonic() - self._answered_at <= seconds

    def wake(self) -> None:
        """Look for work now."""
        self._wake.set()

    def wake_at(self, due_ms: str) -> None:
        """Look for work at a moment, given as the text of a wake signal: milliseconds since the epoch."""
        delay_s = int(due_ms) / 1000 - time.time()
        if delay_s <= 0:
            self._wake.set()
        elif time.monotonic() + delay_s < self._next_due:
            self._next_due = time.monotonic() + delay_s
            self._wake.set()

    async def main(self) -> None:
        """Claim and start until `stop_claiming`; then return once every claim in flight has been started."""
        while self.allow_pick_jobs:
            self._wake.clear()
            try:
                more = await self._claim_once()
            except QueueUnavailable as error:
                logger.warning("Cannot claim: %s", error, extra={"event": "claim_failed"})
                await asyncio.sleep(OUTAGE_PAUSE_S)
                continue
            if not more:
                await self._rest()
                await self._until_started()
        # A claim in flight is never cancelled: its script has run, and nobody else would know the batch.
        while self._starting:
            await asyncio.wait(self._starting)

    async def _until_started(self) -> None:
        """What becomes due while claims are begun is claimed and begun together, however many signals tell of it.

        Where slots are the shortage, claims are large by themselves, and need not wait.
        """
        if self._starting and not self._lacks_slots:
            await asyncio.wait(self._starting, timeout=BEGIN_PATIENCE_S)

    def stop_claiming(self) -> None:
        """Take no more work; what runs goes on."""
        self.allow_pick_jobs = False
        self._wake.set()

    async def drain(self, grace_s: float) -> bool:
        """Wait until nothing runs, at most `grace_s` seconds; whether nothing does."""
        if self.tasks:
            await asyncio.wait(set(self.tasks.values()), timeout=grace_s)
        return not self.tasks

    async def _claim_once(self) -> bool:
        """Claim from each queue what there is room for; whether there may be more at once."""
        more, next_due = False, float("inf")
        for name in self._names:
            limit = min(self.max_jobs - self.running, BATCH)
            self._lacks_slots = limit <= 0
            if self._lacks_slots:
                return False
            claim, due = await self._queue.claim(name, limit=limit, lease=self._lease)
            self._answered_at = time.monotonic()
            if due is not None:
                next_due = min(next_due, self._answered_at + (due - utc_now()).total_seconds())
            if claim.task_ids:
                self._reserved += len(claim.task_ids)
                task = self.loop.create_task(self._start(claim))
                self._starting.add(task)
                task.add_done_callback(self._starting.discard)
            if len(claim.task_ids) == limit:
                more = True
                break
        self._next_due = next_due
        return more

    async def _start(self, claim: Claim) -> None:
        try:
            attempts = await self._runner.begin(claim)
        finally:
            self._reserved -= len(claim.task_ids)
        for attempt in attempts:
            # By lease, since a task whose lease lapsed may come back here while its old attempt still ends.
            self.tasks[f"{attempt.task_id}/{attempt.token}"] = self.loop.create_task(self._run(attempt))
        if len(attempts) < len(claim.task_ids):
            self._slot_is_free()

    async def _run(self, attempt: Attempt) -> None:
        try:
            await self._runner.run(attempt)
            self.jobs_complete += 1
        finally:
            del self.tasks[f"{attempt.task_id}/{attempt.token}"]
            self._slot_is_free()

    def _slot_is_free(self) -> None:
        """With slots to spare the last claims have taken what there was, and a signal tells of what has come since."""
        if self._lacks_slots:
            self._wake.set()

    async def _rest(self) -> None:
        """Until woken, the next deferred id is due, or the poll interval has passed."""
        pause = POLL_S
        if self.running < self.max_jobs:
            pause = max(0.0, min(pause, self._next_due - time.monotonic()))
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            pass


async def _never_called(ctx: dict[Any, Any], *args: Any, **kwargs: Any) -> None:
    """Arq wants a function for its registry; ours are in MongoDB's `type`."""
