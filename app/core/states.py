"""The life of a task as data: its statuses and every transition that exists.

Each write to the store takes its filter from here, the picture in docs/states.md is generated from here, and a
transition that is not listed is refused.
"""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """Where a task stands. Each member says who moves a task out of it, and when."""

    PENDING = "pending"  # a worker claims it once `run_at` has come; a client may cancel it
    RUNNING = "running"  # its worker settles or releases it; when the lease lapses, another worker recovers it
    RETRYING = "retrying"  # like pending, after an attempt that failed
    COMPLETED = "completed"  # nobody: it ended well
    FAILED = "failed"  # a client may retry it
    CANCELLED = "cancelled"  # a client may retry it


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
UNFINISHED = frozenset(Status) - TERMINAL
WAITING = frozenset({Status.PENDING, Status.RETRYING})


@dataclass(frozen=True, slots=True)
class Transition:
    """One arrow.

    Attributes:
        verb: What it is called.
        sources: The statuses that it starts from; empty for a task that does not exist yet.
        target: The status that it ends in.
        actor: Who makes it.
        when: The condition, for the reader of the picture.
    """

    verb: str
    sources: frozenset[Status]
    target: Status
    actor: str
    when: str

    @property
    def source_names(self) -> list[str]:
        """The sources as sorted plain strings, as a MongoDB filter or a message wants them."""
        return sorted(status.value for status in self.sources)


_RUNNING = frozenset({Status.RUNNING})

SUBMIT = Transition("submit", frozenset(), Status.PENDING, "web", "POST /tasks")
CLAIM = Transition("claim", WAITING, Status.RUNNING, "worker", "run_at has come")
RECOVER = Transition("recover", _RUNNING, Status.RUNNING, "worker", "the lease lapsed")
LOSE = Transition("lose", _RUNNING, Status.FAILED, "worker", "the lease lapsed too often")
COMPLETE = Transition("complete", _RUNNING, Status.COMPLETED, "worker", "the handler returned")
RESCHEDULE = Transition("reschedule", _RUNNING, Status.RETRYING, "worker", "the attempt failed, others are left")
FAIL = Transition("fail", _RUNNING, Status.FAILED, "worker", "the attempt failed for good")
STOP = Transition("stop", _RUNNING, Status.CANCELLED, "worker", "a cancel was asked for and the handler has stopped")
RELEASE_FIRST = Transition("release", _RUNNING, Status.PENDING, "worker", "shutdown in the first attempt")
RELEASE_LATER = Transition("release", _RUNNING, Status.RETRYING, "worker", "shutdown in a later attempt")
CANCEL = Transition("cancel", WAITING, Status.CANCELLED, "web", "POST /tasks/{id}/cancel")
EXPIRE = Transition("expire", WAITING, Status.FAILED, "worker, reconciler", "start_before has passed")
RETRY = Transition(
    "retry", frozenset({Status.FAILED, Status.CANCELLED}), Status.PENDING, "web", "POST /tasks/{id}/retry"
)

TRANSITIONS: tuple[Transition, ...] = (
    SUBMIT,
    CLAIM,
    RECOVER,
    LOSE,
    COMPLETE,
    RESCHEDULE,
    FAIL,
    STOP,
    RELEASE_FIRST,
    RELEASE_LATER,
    CANCEL,
    EXPIRE,
    RETRY,
)
