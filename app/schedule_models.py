"""A schedule as a client puts it, and as it is read. The stored shape is `app.store.schedules.ScheduleDocument`."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, Field

from app.core import limits
from app.core.slots import CatchUp
from app.models import Moment, Seconds, Strict, Submission, TaskFields

if TYPE_CHECKING:
    # As in app.models.
    from app.store.schedules import ScheduleDocument


class ScheduledTask(TaskFields):
    """What a schedule submits: a task without the fields that say when, which follows from the slot."""

    def to_submission(self) -> Submission:
        """What a client would have to send for it at the slot."""
        return Submission(**{name: getattr(self, name) for name in self.model_fields_set})

    def to_document(self) -> dict[str, Any]:
        """The stored form: what was given, so that a default of the type is taken anew for each task."""
        return self.model_dump(mode="json", exclude_unset=True)


class ScheduleSpec(Strict):
    """A schedule as a client puts it: either `cron` or `interval` says when."""

    cron: str | None = Field(
        None,
        max_length=limits.MAX_CRON,
        description="Minute, hour, day, month, day of week; or six fields with seconds first; or @hourly, @daily, "
        "@weekly, @monthly, @yearly.",
    )
    time_zone: str | None = Field(
        None, max_length=limits.MAX_NAME, description="Of `cron`, by its IANA name such as Europe/Berlin; else UTC."
    )
    interval: Seconds | None = Field(
        None,
        ge=limits.MIN_INTERVAL.total_seconds(),
        le=limits.MAX_INTERVAL.total_seconds(),
        description="Seconds from slot to slot, counted from `start_at` or else from when it was put first.",
    )
    start_at: Moment | None = Field(None, description="No slot is before this moment.")
    end_at: Moment | None = Field(None, description="No slot is after this moment.")
    catch_up: CatchUp = Field(
        CatchUp.ONE,
        description="What becomes of slots that were missed because nothing ran or the schedule was paused: the last "
        "of them is made up for, or none is.",
    )
    paused: bool | None = Field(
        None, strict=True, description="Whether it rests; what is left out stays as it was, at first false."
    )
    task: ScheduledTask


class ScheduleError(BaseModel):
    """Why the slot in `next_run_at` could not be submitted. `code` is stable; `message` is for people."""

    code: str = Field(description="unknown_type, invalid or store_refused.")
    message: str
    at: datetime


class Schedule(BaseModel):
    """A schedule as the API shows it."""

    name: str
    cron: str | None
    time_zone: str | None
    interval: float | None = Field(description="Seconds from slot to slot.")
    start_at: datetime | None
    end_at: datetime | None
    catch_up: CatchUp
    paused: bool
    task: ScheduledTask
    next_run_at: datetime | None = Field(description="The next slot; null while it is paused and after the last.")
    last_run_at: datetime | None = Field(description="The slot that was submitted last.")
    last_task_id: str | None = Field(description="The task of that slot.")
    last_error: ScheduleError | None = Field(description="Why the next slot could not be submitted so far.")
    created_at: datetime
    updated_at: datetime = Field(description="When a client changed it last.")

    @classmethod
    def from_document(cls, document: "ScheduleDocument") -> Self:
        """The public form."""
        return cls.model_validate(
            {
                **document,
                "name": document["_id"],
                "interval": document["interval_s"],
                "next_run_at": None if document["paused"] else document["next_run_at"],
            }
        )
