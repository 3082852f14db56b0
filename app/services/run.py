"""Takes a claimed task from its begin to its outcome."""

import asyncio
import logging
from datetime import timedelta

from app.core.attempt import Attempt, Claim, Settlement
from app.core.clock import to_ms, utc_now
from app.core.errors import QueueUnavailable, StoreUnavailable
from app.core.faults import FaultPoint, reach
from app.core.outcomes import Outcome
from app.core.task_type import TaskTypes
from app.queue.scripts import Ending
from app.queue.task_queue import TaskQueue
from app.services.announce import Announcer
from app.services.context import Context, HttpAccess
from app.services.execute import Execution, Executions, Interruption
from app.services.handler_pools import HandlerPools
from app.services.settle import Settler
from app.store.attempts import AttemptStore
from app.store.begun import Begun
from app.store.settlements import Record
from app.telemetry.catalogue import Operation
from app.telemetry.logging import name_attempt
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import Tracing

logger = logging.getLogger(__name__)

BEGIN_PAUSE_S = 0.2


class TaskRunner:
    """Begins, runs and settles the attempts of one worker.

    Args:
        attempts: Where attempts begin.
        queue: Where ids came from.
        settler: Where outcomes go.
        types: The registered types.
        http: What handlers call out with.
        pools: Run the handlers that are not coroutines.
        max_result_bytes: The largest result that is kept.
        patience: How long to try to begin what was claimed when MongoDB is away.
        metrics: Counts attempts.
        tracing: Knows which trace an attempt belongs to.
    """

    def __init__(  # noqa: PLR0913 - the parts of a worker, each by its name
        self,
        *,
        attempts: AttemptStore,
        queue: TaskQueue,
        settler: Settler,
        types: TaskTypes,
        http: HttpAccess,
        pools: HandlerPools,
        max_result_bytes: int,
        patience: timedelta,
        metrics: Metrics,
        tracing: Tracing,
    ) -> None:
        self.executions = Executions()
        self.announcer = Announcer(queue)
        self._attempts = attempts
        self._queue = queue
        self._settler = settler
        self._types = types
        self._http = http
        self._pools = pools
        self._max_result_bytes = max_result_bytes
        self._patience = patience
        self._metrics = metrics
        self._tracing = tracing
        self._shutting_down = False

    async def begin(self, claim: Claim) -> list[Attempt]:
        """Begin what was claimed; what may not run goes back or leaves the queue."""
        await reach(FaultPoint.AFTER_CLAIM)
        begun = await self._begin(claim)
        if begun is None:
            return []
        self._count(claim, begun)
        self.announcer.tell([*(attempt.task_id for attempt in begun.attempts), *begun.gone])
        endings = [
            Ending(entry.task_id, claim.token, entry.priority, to_ms(entry.again_at)) for entry in begun.waiting
        ] + [Ending(task_id, claim.token) for task_id in begun.gone]
        if endings:
            try:
                await self._queue.settle(claim.queue, endings)
            except QueueUnavailable as error:
                logger.warning("Could not give back %d ids, their leases will lapse: %s", len(endings), error)
        return begun.attempts

    def _count(self, claim: Claim, begun: Begun) -> None:
        self._metrics.batch(Operation.CLAIM, len(claim.task_ids))
        self._metrics.batch(Operation.BEGIN, len(begun.attempts))
        for attempt in begun.attempts:
            self._metrics.begun(attempt)
        for ended in begun.ended:
            self._metrics.ended_unrun(ended.type, claim.queue, ended.outcome, lost_attempt=ended.lost_attempt)

    async def _begin(self, claim: Claim) -> Begun | None:
        """Trying again is safe: what an unacknowledged try has begun is found by its token."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience.total_seconds()
        while True:
            try:
                begun = await self._attempts.begin(claim, now=utc_now())
            except StoreUnavailable as error:
                logger.warning("Cannot begin %d tasks: %s", len(claim.task_ids), error, extra={"event": "begin_failed"})
            else:
                await reach(FaultPoint.AFTER_BEGIN)
                return begun
            if loop.time() > deadline:
                return None
            await asyncio.sleep(BEGIN_PAUSE_S)

    async def run(self, attempt: Attempt) -> None:
        """Run the handler and record the outcome."""
        name_attempt(attempt.task_id, attempt.type, attempt.number)
        trace = self._tracing.begin_attempt(attempt)
        context = Context(
            task_id=attempt.task_id,
            attempt=attempt.number,
            type=attempt.type,
            queue=attempt.queue,
            http=self._http,
            traceparent=trace.traceparent,
        )
        execution = Execution(attempt, self._types[attempt.type], context, pools=self._pools)
        self.executions.add(execution)
        if attempt.cancel_requested:
            execution.interrupt(Interruption.CANCEL)
        if self._shutting_down:
            execution.interrupt(Interruption.SHUTDOWN)
        try:
            outcome = await execution.outcome(max_result_bytes=self._max_result_bytes)
        finally:
            # Before it is settled: a renewal of what has just been settled would look like a lost lease.
            self.executions.remove(execution)
        trace.end(outcome)
        if outcome is None:
            logger.warning("Lost the lease of %s task %s", attempt.type, attempt.task_id, extra={"event": "lease_lost"})
        else:
            await self._settle(execution, outcome, trace.own)

    async def _settle(self, execution: Execution, outcome: Outcome, traceparent: str | None) -> None:
        progress, lines = execution.context.take()
        settlement = Settlement(execution.attempt, outcome, utc_now(), traceparent)
        try:
            await self._settler.settle(Record(settlement, progress, lines))
        except StoreUnavailable:
            return  # the settler has logged it; the lease lapses and the task runs again
        logger.debug("%s task %s: %s", execution.attempt.type, execution.attempt.task_id, type(outcome).__name__)

    def release_all(self) -> None:
        """Stop every handler and give its task back, the attempt not counted."""
        self._shutting_down = True
        self.executions.interrupt_all(Interruption.SHUTDOWN)
