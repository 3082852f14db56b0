"""Keeps what handlers report while they run."""

from app.core.clock import utc_now
from app.services.announce import Announcer
from app.services.execute import Executions
from app.store.attempts import AttemptStore

INTERVAL_S = 0.5


class Reporter:
    """Writes progress and log lines of running attempts, all in one round trip."""

    def __init__(self, attempts: AttemptStore, executions: Executions, announcer: Announcer) -> None:
        self._attempts = attempts
        self._executions = executions
        self._announcer = announcer

    async def flush(self) -> None:
        """Write what was reported since the last call.

        Raises:
            StoreUnavailable: MongoDB is away; what was taken is not reported again.
        """
        reports = [(execution.attempt, *execution.context.take()) for execution in self._executions.all()]
        await self._attempts.report(reports, now=utc_now())
        self._announcer.tell(attempt.task_id for attempt, progress, _lines in reports if progress is not None)
