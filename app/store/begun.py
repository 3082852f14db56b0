"""What becomes of a claim when it is begun."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from app.core.attempt import Attempt
from app.core.backoff import Backoff
from app.core.ids import LeaseToken, TaskId, WorkerId
from app.core.outcomes import AttemptOutcome
from app.core.states import STOP, TERMINAL
from app.store.documents import TaskDocument


@dataclass(frozen=True, slots=True)
class Waiting:
    """A claimed task that may not run here now; `again_at` is when to offer it again."""

    task_id: TaskId
    priority: int
    again_at: datetime


@dataclass(frozen=True, slots=True)
class Ended:
    """A claimed task that was ended instead of run.

    Attributes:
        type: Its type.
        outcome: cancelled, expired or lost.
        lost_attempt: Whether an attempt was lost with it.
    """

    type: str
    outcome: str
    lost_attempt: bool


@dataclass(frozen=True, slots=True)
class Begun:
    """What became of a claim: attempts to make, tasks to offer again, ids that nobody needs any more.

    `ended` are those of the latter that this begin itself has ended.
    """

    attempts: list[Attempt]
    waiting: list[Waiting]
    gone: list[TaskId]
    ended: list[Ended]


def attempt_of(document: TaskDocument) -> Attempt:
    """The attempt that a task's lease stands for; only of a task that has one."""
    lease, backoff = document["lease"], document["backoff"]
    assert lease is not None and document["started_at"] is not None  # noqa: S101, PT018 - `begin` filters by the token
    return Attempt(
        task_id=TaskId(str(document["_id"])),
        token=LeaseToken(lease["token"]),
        worker=WorkerId(lease["worker"]),
        type=document["type"],
        queue=document["queue"],
        priority=document["priority"],
        payload=document["payload"],
        round=document["round"],
        number=document["attempt"],
        losses=document["losses"],
        max_attempts=document["max_attempts"],
        timeout=timedelta(seconds=document["timeout_s"]),
        backoff=_backoff_of(backoff["base_s"], backoff["max_s"], backoff["factor"], jitter=backoff["jitter"]),
        started_at=document["started_at"],
        cancel_requested=document["cancel_requested_at"] is not None,
        run_at=document["run_at"],
        created_at=document["created_at"],
        followed_ends=_followed_ends(document),
        traceparent=document.get("traceparent"),
        earlier=_earlier(document),
        taken_over=_was_lost(document),
    )


@lru_cache(maxsize=256)
def _backoff_of(base_s: float, max_s: float, factor: float, *, jitter: bool) -> Backoff:
    """Nearly every task has the backoff of its type."""
    return Backoff(timedelta(seconds=base_s), timedelta(seconds=max_s), factor, jitter)


def _earlier(document: TaskDocument) -> tuple[str, ...]:
    return tuple(
        entry["traceparent"]
        for entry in document["history"]
        if "traceparent" in entry and entry["round"] == document["round"]
    )


def _followed_ends(document: TaskDocument) -> frozenset[str]:
    callback = document.get("callback")
    return _NO_ENDS if callback is None else frozenset(callback.get("events", TERMINAL))


_NO_ENDS: frozenset[str] = frozenset()


def _was_lost(document: TaskDocument) -> bool:
    """Whether the last thing that happened to the task is that its worker was lost."""
    history = document["history"]
    return bool(history) and history[-1]["outcome"] == AttemptOutcome.LOST and history[-1]["round"] == document["round"]


def ended_of(document: TaskDocument, now: datetime) -> Ended | None:
    """What the begin of this moment has ended the task with, or None when it was over before."""
    if document["finished_at"] != now:
        return None
    lost, error = _was_lost(document), document.get("error")
    if document["status"] == STOP.target:
        return Ended(document["type"], STOP.target, lost_attempt=True) if lost else None  # else a client was as quick
    return None if error is None else Ended(document["type"], error["code"], lost_attempt=lost)
