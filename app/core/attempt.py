"""One attempt, from its claim to its outcome."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.core.backoff import Backoff
from app.core.ids import LeaseToken, TaskId, WorkerId
from app.core.outcomes import Completed, Failed, Failure, Outcome, Rescheduled


@dataclass(frozen=True, slots=True)
class Claim:
    """Task ids that one call took from one queue, all under one lease token.

    Attributes:
        queue: Where they were taken from.
        token: Names the lease.
        task_ids: What was taken; which of them may really run is for the store to say.
    """

    queue: str
    token: LeaseToken
    task_ids: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """The right to make one attempt, and all that is needed for it.

    Attributes:
        task_id: The task.
        token: The lease that every write of this attempt must name.
        worker: Who holds it.
        type: The name of the handler.
        queue: The task's queue.
        priority: 0..9.
        payload: As it was submitted.
        round: Counts from 1.
        number: Counts from 1 in each round, every start counted but those that were released.
        losses: How many earlier attempts of the round ended with their worker.
        max_attempts: Attempts that may fail by their own fault.
        timeout: How long the handler may run.
        backoff: The delay before the next attempt.
        started_at: When it was begun.
        cancel_requested: Whether a client had asked for a cancel when it was begun.
        followed_ends: The terminal statuses that have a consequence: a callback, or word of one.
        run_at: When it was due.
        created_at: When the task was accepted.
        traceparent: The trace that the task was submitted in, as W3C Trace Context writes it, or None.
        earlier: The same for each attempt of this round that has ended and was traced.
        taken_over: Whether the attempt before it was lost with its worker, and this one has taken its lease.
    """

    task_id: TaskId
    token: LeaseToken
    worker: WorkerId
    type: str
    queue: str
    priority: int
    payload: Any
    round: int
    number: int
    losses: int
    max_attempts: int
    timeout: timedelta
    backoff: Backoff
    started_at: datetime
    cancel_requested: bool
    run_at: datetime
    created_at: datetime
    followed_ends: frozenset[str] = frozenset()
    traceparent: str | None = None
    earlier: tuple[str, ...] = ()
    taken_over: bool = False

    def outcome_of_failure(
        self, failure: Failure, *, now: datetime, delay: timedelta | None = None, permanent: bool = False
    ) -> Outcome:
        """Another attempt if one is left, else the end.

        Lost attempts do not use up `max_attempts`: they were the worker's fault, and `max_losses` bounds them.

        Args:
            failure: What went wrong.
            now: The moment that the delay counts from.
            delay: Instead of what the backoff says.
            permanent: No more attempts, however many are left.
        """
        own = self.number - self.losses
        if permanent or own >= self.max_attempts:
            return Failed(failure)
        return Rescheduled(failure, now + (self.backoff.delay(own) if delay is None else delay))


@dataclass(frozen=True, slots=True)
class Settlement:
    """An attempt, how it ended and when; with `traceparent`, where the attempt itself is in a trace."""

    attempt: Attempt
    outcome: Outcome
    finished_at: datetime
    traceparent: str | None = None

    @property
    def runs_again_at(self) -> datetime | None:
        """When the task is due again, or None when it has ended."""
        return None if isinstance(self.outcome, Completed | Failed) else getattr(self.outcome, "run_at", None)
