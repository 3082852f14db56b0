"""An event: what a task was changed to, as streams tell it."""

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, Field, Json, JsonValue

from app.core.event_id import PATTERN, EventId
from app.core.ids import TaskId
from app.core.states import Status
from app.models import Progress

if TYPE_CHECKING:
    # For types only: the client reads events too, where no driver of MongoDB needs to be installed.
    from app.store.changes import ChangeDocument


class EventName(StrEnum):
    """What an event is about; the `event:` field of the stream."""

    STATUS = "status"  # the task has come into another status, or its cancel was asked for
    PROGRESS = "progress"  # the handler has reported how far it is
    DELETED = "deleted"  # the task is no longer kept; the last event of its stream


class EventError(BaseModel):
    """Why the last attempt failed; the task itself has the traceback."""

    code: str
    message: str


class TaskEvent(BaseModel):
    """The state that a task came into: the `data:` field of the stream."""

    id: str = Field(description="The task's id.")
    type: str
    queue: str
    tags: list[str]
    status: Status
    attempt: int
    round: int
    max_attempts: int
    run_at: datetime
    created_at: datetime
    updated_at: datetime = Field(description="When the task came into this state.")
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    progress: Progress | None
    error: EventError | None
    result: JsonValue = Field(None, description="Only in the last event of a completed task's own stream.")

    @classmethod
    def from_document(cls, document: "ChangeDocument", **result: Any) -> Self:
        """What is told of a stored task, with its `result` if that is given."""
        told = {name: document[name] for name in cls.model_fields if name not in {"id", "result"}}  # type: ignore[literal-required]
        return cls.model_validate({**told, "id": str(document["_id"]), **result})

    def to_json(self) -> str:
        """What is sent: what was not told is left out, and not null."""
        return self.model_dump_json(exclude_unset=True)


class DeletedTask(BaseModel):
    """The task is no longer kept: the data of the event `deleted`."""

    id: str = Field(description="The task's id.")


class StreamedEvent(BaseModel):
    """One event of a stream, by the names that its lines have."""

    id: str = Field(pattern=PATTERN, description="Which state is told; what a client comes back with.")
    event: EventName = Field(description="What the event is about.")
    data: Json[TaskEvent | DeletedTask]


def event_id_of(document: "ChangeDocument") -> EventId:
    """The id of the state that a stored task is in."""
    return EventId.of(TaskId(str(document["_id"])), document["status"], document["updated_at"])


def event_name_of(document: "ChangeDocument") -> EventName:
    """What the last change of a stored task was about.

    A running task that has changed since its start made progress, unless its cancel was asked for just now.
    """
    started_at, progress = document["started_at"], document["progress"]
    if document["status"] != Status.RUNNING or started_at is None or progress is None:
        return EventName.STATUS
    reported = document["updated_at"] > started_at and progress["at"] >= started_at
    asked_at = document["cancel_requested_at"]
    return EventName.PROGRESS if reported and asked_at != document["updated_at"] else EventName.STATUS
