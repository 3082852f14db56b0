"""The ids of events: they say which state of which task was told, so that no log of events has to be kept."""

import re
from dataclasses import dataclass
from datetime import datetime

from app.core.clock import from_ms, to_ms
from app.core.ids import TaskId

_EVENT_ID = re.compile(r"(?P<at>\d{1,13})(?:-(?P<task>[0-9a-f]{24})-(?P<status>[a-z]{1,20}))?")

PATTERN = r"^[0-9]{1,13}(-[0-9a-f]{24}-[a-z]{1,20})?$"
"""What an id looks like, for the OpenAPI document."""


@dataclass(frozen=True, slots=True)
class EventId:
    """A state of a task, or a place between two changes.

    Attributes:
        at_ms: When the task came into that state, in milliseconds since the Unix epoch.
        task_id: The task; empty for a mere place.
        status: The task's status; empty for a mere place.
    """

    at_ms: int
    task_id: str = ""
    status: str = ""

    def __str__(self) -> str:
        return f"{self.at_ms}-{self.task_id}-{self.status}" if self.task_id else str(self.at_ms)

    @property
    def at(self) -> datetime:
        """The moment."""
        return from_ms(self.at_ms)

    @classmethod
    def of(cls, task_id: TaskId, status: str, updated_at: datetime) -> "EventId":
        """The id of a state."""
        return cls(to_ms(updated_at), task_id, status)

    @classmethod
    def parse(cls, text: str) -> "EventId":
        """The inverse of `str`.

        Raises:
            ValueError: this was never an id.
        """
        match = _EVENT_ID.fullmatch(text)
        if match is None:
            raise ValueError("is not the id of an event that was sent from here")
        return cls(int(match["at"]), match["task"] or "", match["status"] or "")
