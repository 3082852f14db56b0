"""The shape of what is stored in `tasks`. Moments are aware UTC datetimes; durations are float seconds (`*_s`)."""

from datetime import datetime
from typing import Any, NotRequired, TypedDict

from bson import ObjectId


class BackoffDocument(TypedDict):
    """See `app.core.backoff.Backoff`."""

    base_s: float
    max_s: float
    factor: float
    jitter: bool


class LeaseDocument(TypedDict):
    """A worker's right to run the task until `until`; `token` fences every write of the attempt."""

    token: str
    worker: str
    until: datetime


class ErrorDocument(TypedDict):
    """Why an attempt failed; `code` is an `ErrorCode`."""

    code: str
    message: str
    traceback: str | None


class ProgressDocument(TypedDict):
    """What the handler last reported; `value` is 0..1."""

    value: float
    message: str
    at: datetime


class LogDocument(TypedDict):
    """One line of `ctx.log`."""

    at: datetime
    attempt: int
    message: str


class AttemptDocument(TypedDict):
    """One attempt that has ended; `outcome` is an `AttemptOutcome`. `traceparent` names its span, if it had one."""

    round: int
    attempt: int
    worker: str
    started_at: datetime
    finished_at: datetime
    outcome: str
    error: ErrorDocument | None
    traceparent: NotRequired[str]


class CallbackDocument(TypedDict, total=False):
    """What follows from the end of a task: a call to `url`, or word to the task `of` for which this one calls.

    There is `owed` until it was drawn, and then `done`. `state` and `task_id` are of the last end.
    """

    url: str
    events: list[str]
    state: str
    task_id: ObjectId
    of: ObjectId
    round: int
    owed: bool
    done: bool


class IdempotencyDocument(TypedDict):
    """What makes the same submission again be recognised; `fingerprint` is of what was submitted."""

    key: str
    fingerprint: str


class OriginDocument(TypedDict):
    """The schedule that submitted the task; `slot_at` is null when a client had it run between two slots."""

    name: str
    slot_at: datetime | None


class TaskDocument(TypedDict):
    """One task.

    `attempt` is the number of the current or last attempt in this round (0 before the first); `round` counts from 1 and
    grows by every retry that a client asks for. `lease` is null unless the status is running. `expire_at` is set when
    the status becomes terminal; a TTL index then removes the document. `finished_at` is null exactly as long as the
    task has not ended: the unique index over `unique_key` rests on that. Keys are left out where there are none.
    """

    _id: ObjectId
    type: str
    queue: str
    priority: int
    payload: Any
    tags: list[str]
    status: str
    run_at: datetime
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    max_attempts: int
    timeout_s: float
    backoff: BackoffDocument
    attempt: int
    losses: int
    round: int
    lease: LeaseDocument | None
    result: Any
    error: ErrorDocument | None
    progress: ProgressDocument | None
    log: list[LogDocument]
    history: list[AttemptDocument]
    cancel_requested_at: datetime | None
    start_before: datetime | None
    expire_at: datetime | None
    callback: NotRequired[CallbackDocument]
    idempotency: NotRequired[IdempotencyDocument]
    unique_key: NotRequired[str]
    schedule: NotRequired[OriginDocument]
    traceparent: NotRequired[str]
