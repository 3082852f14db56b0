"""The Python client of a service, typed and for asyncio.

    async with Client("http://localhost:4000") as client:
        task = await client.submit("email.send", {"to": "ada@example.com"}, tags=["mail"])
        task = await client.wait(task.id, timeout=60)

Importing it loads neither the server's code nor the drivers of MongoDB and Redis. Tasks are the models that the service
itself writes its answers with, `app.models`; the rest of its answers have small models here, so that what the REST API
says stays the only thing that client and server share.
"""

from app.client.answers import Health, HealthChecks, QueueStats, Stats, TypeInfo
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
from app.client.submission import NewTask, TaskOptions
from app.core.errors import FieldError
from app.core.states import Status
from app.event_models import EventName, TaskEvent
from app.models import Submission, Task, TaskError

__all__ = [
    "Client",
    "Conflict",
    "Event",
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
    "QueueStats",
    "RateLimited",
    "Refusal",
    "RequestFailed",
    "Stats",
    "Status",
    "Submission",
    "Task",
    "TaskError",
    "TaskEvent",
    "TaskOptions",
    "TypeInfo",
    "Unauthorized",
    "Unavailable",
    "UniqueKeyTaken",
    "Unreachable",
    "WrongState",
]
