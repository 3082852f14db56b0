"""The Python client of a service, typed and for asyncio.

    async with Client("http://localhost:4000") as client:
        task = await client.submit("email.send", {"to": "ada@example.com"}, tags=["mail"])
        task = await client.wait(task.id, timeout=60)

Importing it loads neither the server's code nor the drivers of MongoDB and Redis. Tasks are the models that the service
itself writes its answers with, `app.models`; the rest of its answers have small models here, so that what the REST API
says stays the only thing that client and server share.
"""

from app.client.accepted import AcceptedAs, AcceptedTask
from app.client.answers import Health, HealthChecks, QueueStats, Stats, TypeInfo, Worker
from app.client.changes import Cancelled, Retried
from app.client.client import Client
from app.client.errors import (
    Conflict,
    Forbidden,
    IdempotencyKeyReused,
    Invalid,
    NotEnded,
    NotFound,
    RateLimited,
    Refusal,
    RequestFailed,
    Unauthorized,
    Unavailable,
    UniqueKeyTaken,
    Unreachable,
    WrongState,
)
from app.client.events import Event
from app.client.queues import Queue, QueueChange
from app.client.schedules import Times
from app.client.selection import EventFilter, TaskFilter
from app.client.submission import NewTask, TaskOptions
from app.core.errors import FieldError
from app.core.queue_settings import Rate
from app.core.states import Status
from app.event_models import EventName, TaskEvent
from app.models import Submission, Task, TaskError
from app.schedule_models import Schedule, ScheduledTask

__all__ = [
    "AcceptedAs",
    "AcceptedTask",
    "Cancelled",
    "Client",
    "Conflict",
    "Event",
    "EventFilter",
    "EventName",
    "FieldError",
    "Forbidden",
    "Health",
    "HealthChecks",
    "IdempotencyKeyReused",
    "Invalid",
    "NewTask",
    "NotEnded",
    "NotFound",
    "Queue",
    "QueueChange",
    "QueueStats",
    "Rate",
    "RateLimited",
    "Refusal",
    "RequestFailed",
    "Retried",
    "Schedule",
    "ScheduledTask",
    "Stats",
    "Status",
    "Submission",
    "Task",
    "TaskError",
    "TaskEvent",
    "TaskFilter",
    "TaskOptions",
    "Times",
    "TypeInfo",
    "Unauthorized",
    "Unavailable",
    "UniqueKeyTaken",
    "Unreachable",
    "Worker",
    "WrongState",
]
