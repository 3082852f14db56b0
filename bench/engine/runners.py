"""What Arqive's workers do with what they claim here: everything but MongoDB."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Protocol

from pydantic import TypeAdapter

from app.core.attempt import Attempt, Claim
from app.core.backoff import Backoff
from app.core.clock import utc_now
from app.core.ids import TaskId, WorkerId, new_worker_id
from app.core.task_type import TaskType
from app.queue.scripts import Ending
from app.queue.task_queue import TaskQueue
from app.services.batch import Batcher
from app.services.context import Context, HttpAccess
from app.services.execute import Execution
from app.services.handler_child import ProcessSettings
from app.services.handler_pools import HandlerPools, ProcessPool
from app.services.settle import BATCH
from bench.engine.systems import FUNCTION, QUEUE

BACKOFF = Backoff()


class Starts(Protocol):
    """Is told when a handler has just been entered."""

    def started(self, job_id: str) -> None:
        """A handler has just been entered."""


class Record:
    """What a worker has run.

    Attributes:
        count: How many jobs were started.
        starts: When each was started, by the system's monotonic clock; stays empty unless asked for.
    """

    def __init__(self, *, keep_starts: bool) -> None:
        self.count = 0
        self.starts: dict[str, float] = {}
        self._keep_starts = keep_starts

    def started(self, job_id: str) -> None:
        """A handler has just been entered."""
        if self._keep_starts:
            self.starts[job_id] = time.monotonic()
        self.count += 1


class EmptyRunner:
    """What was claimed may run, does nothing, and is finished in batches as the service does it."""

    def __init__(self, queue: TaskQueue, record: Starts) -> None:
        self._queue = queue
        self._record = record
        self._worker = new_worker_id()
        self._batcher: Batcher[Attempt] = Batcher(self._finish, limit=BATCH)

    async def begin(self, claim: Claim) -> list[Attempt]:
        """Every id is won."""
        now = utc_now()
        return [_attempt(claim, task_id, self._worker, now) for task_id in claim.task_ids]

    async def run(self, attempt: Attempt) -> None:
        """Do nothing and finish."""
        self._record.started(attempt.task_id)
        await self._batcher.add(attempt)

    async def _finish(self, attempts: Sequence[Attempt]) -> None:
        await self._queue.settle(QUEUE, [Ending(attempt.task_id, attempt.token) for attempt in attempts])


class WrappedRunner(EmptyRunner):
    """The same through the wrapper that calls a user's handler: payload checked, a timeout over it, result checked."""

    def __init__(self, queue: TaskQueue, record: Record, http: HttpAccess) -> None:
        super().__init__(queue, record)
        self._http = http
        self._pools = HandlerPools(ThreadPoolExecutor(1), ProcessPool(1, ProcessSettings()))
        self._type = TaskType(FUNCTION, self._handler, TypeAdapter(dict[str, object]), is_async=True)

    async def run(self, attempt: Attempt) -> None:
        """Call the handler and finish."""
        context = Context(
            task_id=attempt.task_id, attempt=attempt.number, type=attempt.type, queue=attempt.queue, http=self._http
        )
        execution = Execution(attempt, self._type, context, pools=self._pools)
        await execution.outcome(max_result_bytes=1_000_000)
        await self._batcher.add(attempt)

    async def _handler(self, context: Context, _payload: dict[str, object]) -> None:
        self._record.started(context.task_id)


def _attempt(claim: Claim, task_id: TaskId, worker: WorkerId, now: datetime) -> Attempt:
    return Attempt(
        task_id=task_id,
        token=claim.token,
        worker=worker,
        type=FUNCTION,
        queue=claim.queue,
        priority=0,
        payload={},
        round=1,
        number=1,
        losses=0,
        max_attempts=1,
        timeout=timedelta(seconds=60),
        backoff=BACKOFF,
        started_at=now,
        cancel_requested=False,
        run_at=now,
        created_at=now,
    )
