"""What the service tells about itself, as a client reads it. Tasks are `app.models.Task`.

A field that this version does not know is ignored, so that a newer service can be read.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from app.models import BackoffModel, Task


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class TaskPage(_Answer):
    """Tasks, newest first."""

    items: list[Task]
    next_cursor: str | None


class TypeInfo(_Answer):
    """A task type, and what a task of it gets unless it says otherwise.

    Attributes:
        name: What `type` says.
        summary: The first line of the handler's docstring.
        max_attempts: How often to try.
        timeout: Seconds that one attempt may take.
        backoff: Delay between attempts.
        payload_schema: JSON Schema of the payload.
    """

    name: str
    summary: str
    max_attempts: int
    timeout: float
    backoff: BackoffModel
    payload_schema: dict[str, Any]


class TypeList(_Answer):
    """Every type, by name."""

    items: list[TypeInfo]


class Worker(_Answer):
    """One worker process that is alive.

    Attributes:
        id: Host, process id and a random part.
        queues: What it serves, in order of preference.
        types: The task types that it knows and clients can submit.
        concurrency: The most tasks that it runs at the same time.
        running: Tasks that it ran when it was last seen.
        started_at: Since when it serves.
        seen_at: When it last said that it is alive, which it does every five seconds.
    """

    id: str
    queues: list[str]
    types: list[str]
    concurrency: int
    running: int
    started_at: datetime
    seen_at: datetime


class WorkerList(_Answer):
    """Every worker, the one that has been there longest first."""

    items: list[Worker]


class QueueStats(_Answer):
    """One queue; `oldest_ready_seconds` is how long the oldest ready task has been waiting, 0 when none is."""

    ready: int
    deferred: int
    running: int
    oldest_ready_seconds: float
    paused: bool


class Stats(_Answer):
    """Tasks by status, queues by name, and how many workers are alive."""

    tasks: dict[str, int]
    queues: dict[str, QueueStats]
    workers: int
    tasks_age_seconds: float | None
    queues_age_seconds: float | None


class HealthChecks(_Answer):
    """A line for each part: `ok`, or what is wrong."""

    mongo: str
    redis: str
    workers: str


class Health(_Answer):
    """How well the service works. degraded: tasks are accepted, but run late. down: they are not accepted.

    `access` is `keys` where the service wants one, else `open`.
    """

    status: Literal["ok", "degraded", "down"]
    checks: HealthChecks
    access: str = ""
