"""What a handler may raise to say how its attempt ended, and what an attempt can end as."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class Retry(Exception):  # noqa: N818 - an instruction, not an error
    """Raised by a handler: this attempt failed, try again after `delay` seconds.

    Counts as an attempt: when it was the last one the task fails. Without a delay the task's own backoff applies.
    """

    def __init__(self, delay: float | None = None, reason: str = "the handler asked for a retry") -> None:
        if delay is not None and not 0 <= delay < float("inf"):
            raise ValueError(f"delay must be a finite number of seconds, at least 0, not {delay!r}")
        self.delay = delay
        self.reason = reason
        super().__init__(reason)


class Fail(Exception):  # noqa: N818 - an instruction, not an error
    """Raised by a handler: the task cannot succeed, make no more attempts."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class AttemptOutcome(StrEnum):
    """How one attempt ended; what an entry of `history` says; the status of the task is another thing."""

    COMPLETED = "completed"  # the handler returned
    FAILED = "failed"  # the handler raised, or its result could not be kept
    TIMED_OUT = "timed_out"  # the handler ran longer than the task's timeout
    CANCELLED = "cancelled"  # a client asked for it while the handler ran
    LOST = "lost"  # the worker died or lost touch, and its lease lapsed
    RELEASED = "released"  # given back unfinished by a shutdown; not counted


class ErrorCode(StrEnum):
    """The `error.code` of a failed attempt. Clients branch on these; they never change."""

    HANDLER_ERROR = "handler_error"  # the handler raised an exception
    PERMANENT = "permanent"  # the handler raised Fail
    RETRY_REQUESTED = "retry_requested"  # the handler raised Retry
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"  # the process that the handler had to itself ended under it
    EXPIRED = "expired"  # it could not start before `start_before`
    LOST = "lost"  # it took too many workers down with it
    INVALID_PAYLOAD = "invalid_payload"  # the type's model no longer accepts the payload
    RESULT_NOT_JSON = "result_not_json"
    RESULT_TOO_LARGE = "result_too_large"
    RESULT_NOT_STORABLE = "result_not_storable"  # MongoDB refused it


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed.

    Attributes:
        code: See `ErrorCode`.
        message: One line for a person, at most `limits.MAX_ERROR_MESSAGE` characters.
        traceback: The end of the handler's traceback, or None where it would say nothing.
    """

    code: ErrorCode
    message: str
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """The handler returned `result`, which is JSON and within its limit."""

    result: Any


@dataclass(frozen=True, slots=True)
class Rescheduled:
    """The attempt failed and another is due at `run_at`."""

    failure: Failure
    run_at: datetime


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed and no other will be made."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Released:
    """The handler was stopped by a shutdown or never known here; the attempt does not count.

    Attributes:
        run_at: When another worker may take it.
    """

    run_at: datetime


@dataclass(frozen=True, slots=True)
class Cancelled:
    """No other attempt is made, because a client asked for that.

    Attributes:
        instead_of: How the attempt ended before that was known here; None when its handler was stopped for it.
    """

    instead_of: Rescheduled | Released | None = None


Outcome = Completed | Rescheduled | Failed | Released | Cancelled
