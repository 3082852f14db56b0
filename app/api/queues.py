"""Queues: list, read, set."""

from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.api.endpoint import Reply
from app.core import limits
from app.core.ids import QueueName
from app.core.queue_settings import QueueSettings, Rate, usual_burst
from app.models import Seconds
from app.services import queues
from app.services.backend import Backend
from app.services.queues import Queue

EXAMPLES = {
    "pause": {"summary": "Start nothing more", "value": {"paused": True}},
    "limit": {
        "summary": "Five at a time, ten a second",
        "value": {"max_running": 5, "rate": {"per_second": 10, "burst": 20}},
    },
    "unlimited": {"summary": "Remove both limits", "value": {"max_running": None, "rate": None}},
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RateModel(_Body):
    """How many tasks may start: so many a second in the long run, and so many at once after a quiet time."""

    per_second: Seconds = Field(
        ge=limits.MIN_RATE, le=limits.MAX_RATE, description="Tasks a second; 0.1 is one in ten seconds."
    )
    burst: int | None = Field(
        None,
        ge=1,
        le=limits.MAX_RATE,
        strict=True,
        description="Tasks that may start at once; those of one second, and at least 1, unless given.",
    )

    def to_rate(self) -> Rate:
        """The rate with its burst."""
        return Rate(self.per_second, self.burst or usual_burst(self.per_second))


MaxRunning = Annotated[int, Field(ge=1, le=limits.MAX_RUNNING, strict=True)]


def _without_default(schema: JsonDict) -> None:
    """What is left out stays as it is: the document must not say that it becomes something."""
    del schema["default"]


class QueueChange(_Body):
    """What to set; what is left out stays as it is, and null removes a limit."""

    paused: bool = Field(
        default=False,  # never used: only what is given is applied
        strict=True,
        description="Whether nothing may start; what runs goes on.",
        json_schema_extra=_without_default,
    )
    max_running: MaxRunning | None = Field(
        None, description="The most tasks that run at the same time, over all workers; null for no limit."
    )
    rate: RateModel | None = Field(None, description="How many tasks start in a time; null for no limit.")

    def apply(self, old: QueueSettings) -> QueueSettings:
        """The settings after the change."""
        given: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set}
        if self.rate is not None:
            given["rate"] = self.rate.to_rate()
        return replace(old, **given)


class QueueList(BaseModel):
    """Every queue, by name."""

    items: list[Queue]
    age_seconds: float | None = Field(
        description="How old the figures are; null while there are none, since the first count takes long."
    )


async def list_queues(backend: Backend) -> Reply:
    """Every queue."""
    overview = await queues.look(backend)
    return Reply({"items": overview.queues(), "age_seconds": overview.age_s})


async def get_queue(backend: Backend, name: QueueName) -> Reply:
    """One queue."""
    return Reply(await queues.get_queue(backend, name))


async def change_queue(backend: Backend, name: QueueName, body: QueueChange) -> Reply:
    """Pause, resume, limit."""
    return Reply(await queues.change_queue(backend, name, body.apply))
