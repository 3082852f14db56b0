"""GET /types."""

from typing import Any

from pydantic import BaseModel, Field

from app.api.endpoint import Reply
from app.core.task_type import TaskType
from app.models import BackoffModel
from app.services.backend import Backend


class TypeInfo(BaseModel):
    """What is known of a task type, and what a task of it gets unless it says otherwise."""

    name: str
    summary: str = Field(description="The first line of the handler's docstring.")
    max_attempts: int
    timeout: float = Field(description="Seconds that one attempt may take.")
    backoff: BackoffModel
    payload_schema: dict[str, Any] = Field(description="JSON Schema of the payload.")

    @classmethod
    def from_type(cls, task_type: TaskType) -> "TypeInfo":
        """The public form."""
        return cls(
            name=task_type.name,
            summary=task_type.summary,
            max_attempts=task_type.max_attempts,
            timeout=task_type.timeout.total_seconds(),
            backoff=BackoffModel.from_backoff(task_type.backoff),
            payload_schema=task_type.payload.json_schema(),
        )


class TypeList(BaseModel):
    """Every registered type, by name."""

    items: list[TypeInfo]


async def list_types(backend: Backend) -> Reply:
    """Every type that can be submitted."""
    return Reply(TypeList(items=[TypeInfo.from_type(each) for each in backend.types.values() if not each.internal]))
