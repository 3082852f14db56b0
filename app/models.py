"""The models that web and worker share: a task as it is submitted, and a task as it is read.

Durations are seconds and moments are RFC 3339 in UTC, as on the wire. The stored shape is `app.store.documents`.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from app.callback_models import Callback, CallbackRequest, callback_fields
from app.core import limits
from app.core.backoff import Backoff
from app.core.outcomes import AttemptOutcome
from app.core.states import Status

if TYPE_CHECKING:
    # For types only: the client reads these models too, where no driver of MongoDB needs to be installed.
    from app.store.documents import BackoffDocument, TaskDocument

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _rfc_3339(value: object) -> object:
    """Pydantic would also take a number of seconds, or a date alone."""
    if not isinstance(value, datetime) and not (isinstance(value, str) and _RFC_3339.fullmatch(value)):
        raise ValueError("must be an RFC 3339 moment with an offset, such as 2030-01-31T08:00:00Z")
    return value


def _utc_milliseconds(moment: datetime) -> datetime:
    if not limits.FIRST_YEAR < moment.year < limits.LAST_YEAR:
        raise ValueError(f"must lie between the years {limits.FIRST_YEAR} and {limits.LAST_YEAR}")
    moment = moment.astimezone(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


Moment = Annotated[AwareDatetime, BeforeValidator(_rfc_3339), AfterValidator(_utc_milliseconds)]
"""An RFC 3339 moment with an offset; kept in UTC with millisecond precision."""

Seconds = Annotated[float, Field(strict=True)]
"""A number of seconds; neither a string nor a boolean passes for one."""

Name = Annotated[str, StringConstraints(pattern=limits.NAME_PATTERN, max_length=limits.MAX_NAME)]
"""A type, queue or tag: letters, digits and `_ . : -`, starting with a letter or digit."""


Key = Annotated[str, StringConstraints(pattern=limits.KEY_PATTERN, max_length=limits.MAX_KEY)]
"""Chosen by a client: printable ASCII characters, spaces only in between."""


class Strict(BaseModel):
    """What clients send: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BackoffModel(Strict):
    """Delay before the next attempt: min(max, base * factor^(attempt-1)) seconds, a random part of it with jitter."""

    base: Seconds = Field(
        2.0, ge=0, le=limits.MAX_BACKOFF.total_seconds(), description="Seconds after the first attempt."
    )
    max: Seconds = Field(600.0, ge=0, le=limits.MAX_BACKOFF.total_seconds(), description="Seconds; no delay is longer.")
    factor: float = Field(
        2.0, ge=1, le=limits.MAX_BACKOFF_FACTOR, strict=True, description="Growth with each further attempt."
    )
    jitter: bool = Field(default=True, strict=True, description="Whether to wait a random part of the delay.")

    @classmethod
    def from_backoff(cls, backoff: Backoff) -> Self:
        """The wire form of a type's default."""
        return cls(
            base=backoff.base.total_seconds(),
            max=backoff.max.total_seconds(),
            factor=backoff.factor,
            jitter=backoff.jitter,
        )

    def to_document(self) -> "BackoffDocument":
        """The stored form."""
        return {"base_s": self.base, "max_s": self.max, "factor": self.factor, "jitter": self.jitter}


def backoff_of(document: "TaskDocument") -> Backoff:
    """The backoff that a stored task was accepted with."""
    stored = document["backoff"]
    return Backoff(
        base=timedelta(seconds=stored["base_s"]),
        max=timedelta(seconds=stored["max_s"]),
        factor=stored["factor"],
        jitter=stored["jitter"],
    )


class TaskFields(Strict):
    """What a task is, whenever it is to run. What is left out takes the default of the type."""

    type: str = Field(min_length=1, max_length=limits.MAX_NAME, description="A registered type; see GET /types.")
    payload: dict[str, JsonValue] = Field(
        default_factory=dict, description="What the handler gets; checked by the type."
    )
    queue: Name = Field("default", description="The line it waits in.")
    priority: int = Field(0, ge=0, le=limits.MAX_PRIORITY, strict=True, description="0..9, higher first.")
    max_attempts: int | None = Field(None, ge=1, le=limits.MAX_ATTEMPTS, strict=True, description="How often to try.")
    timeout: Seconds | None = Field(
        None, gt=0, le=limits.MAX_TIMEOUT.total_seconds(), description="Seconds that one attempt may take."
    )
    backoff: BackoffModel | None = Field(None, description="Delay between attempts.")
    tags: tuple[Name, ...] = Field((), max_length=limits.MAX_TAGS, description="Labels to filter by.")
    callback: CallbackRequest | None = Field(None, description="Where to POST the outcome to.")
    unique_key: Key | None = Field(
        None, description="While a task with this key has not ended, it is answered instead of making another."
    )


class Submission(TaskFields):
    """A task as a client submits it. What is left out takes the default of the type."""

    run_at: Moment | None = Field(None, description="Not before this moment.")
    delay: Seconds | None = Field(
        None, ge=0, le=limits.MAX_DELAY.total_seconds(), description="Not before this many seconds from now."
    )
    start_before: Moment | None = Field(None, description="Fail the task as expired if an attempt cannot start before.")
    idempotency_key: Key | None = Field(
        None, description="As the header Idempotency-Key: the same submission again is answered with the same task."
    )

    @field_validator("delay")
    @classmethod
    def _one_time(cls, delay: float | None, info: ValidationInfo) -> float | None:
        # On the field, not on the whole: it is then told together with whatever else is wrong.
        if delay is not None and info.data.get("run_at") is not None:
            raise ValueError("give run_at or delay, not both")
        return delay


class Lease(BaseModel):
    """Who runs the task, and until when unless renewed."""

    worker: str
    until: datetime


class TaskError(BaseModel):
    """Why an attempt failed. `code` is stable; `message` is for people."""

    code: str
    message: str
    traceback: str | None = None


class Progress(BaseModel):
    """What the handler last reported."""

    value: float = Field(ge=0, le=1)
    message: str
    at: datetime


class LogLine(BaseModel):
    """One line that the handler logged."""

    at: datetime
    attempt: int
    message: str


class Attempt(BaseModel):
    """One attempt that has ended."""

    round: int
    attempt: int
    worker: str
    started_at: datetime
    finished_at: datetime
    outcome: AttemptOutcome
    error: TaskError | None = None


class Origin(BaseModel):
    """The schedule that submitted the task, and the slot that it was submitted for."""

    name: str
    slot_at: datetime | None = Field(description="Null when a client had it run between two slots.")


class Task(BaseModel):
    """A task as the API shows it."""

    id: str = Field(description="24 hexadecimal digits.")
    type: str
    queue: str
    priority: int
    payload: JsonValue
    tags: list[str]
    status: Status
    run_at: datetime = Field(description="When it may start, or when the next attempt may.")
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = Field(description="When the current or last attempt started.")
    finished_at: datetime | None = Field(description="When it became completed, failed or cancelled.")
    max_attempts: int
    timeout: float = Field(description="Seconds that one attempt may take.")
    backoff: BackoffModel
    attempt: int = Field(description="The current or last attempt of this round; 0 before the first.")
    losses: int = Field(description="How many attempts ended because their worker was lost.")
    round: int = Field(description="Counts from 1; each retry asked for by a client starts another.")
    lease: Lease | None
    result: JsonValue = Field(description="What the handler returned.")
    error: TaskError | None = Field(description="Why the last attempt failed.")
    progress: Progress | None
    log: list[LogLine] = Field(description=f"The last {limits.MAX_LOG_LINES} lines that the handler logged.")
    history: list[Attempt] = Field(description=f"The last {limits.MAX_HISTORY} attempts that have ended.")
    cancel_requested_at: datetime | None
    start_before: datetime | None
    unique_key: str | None = Field(None, description="No other unfinished task has it.")
    idempotency_key: str | None = Field(None, description="What the task was submitted with.")
    expire_at: datetime | None = Field(description="When the finished task will be removed.")
    traceparent: str | None = Field(None, description="The trace it was submitted in, as W3C Trace Context writes it.")
    callback: Callback | None = Field(None, description="What was asked for, and how far it is.")
    callback_of: str | None = Field(None, description="The task whose callback this one delivers.")
    schedule: Origin | None = Field(None, description="Where it comes from, unless a client submitted it.")

    @classmethod
    def from_document(cls, document: "TaskDocument") -> Self:
        """The public form; the lease token stays inside."""
        stored = document["backoff"]
        return cls.model_validate(
            {
                **document,
                "id": str(document["_id"]),
                "timeout": document["timeout_s"],
                "idempotency_key": document["idempotency"]["key"] if "idempotency" in document else None,
                "backoff": {
                    "base": stored["base_s"],
                    "max": stored["max_s"],
                    "factor": stored["factor"],
                    "jitter": stored["jitter"],
                },
                **callback_fields(document),
            }
        )
