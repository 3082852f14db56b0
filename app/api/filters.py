"""Which tasks: the fields by which they are listed and changed alike."""

from pydantic import BaseModel, ConfigDict, Field

from app.core.outcomes import ErrorCode
from app.core.states import Status
from app.models import Moment, Name
from app.store.tasks import TaskFilter


class FilterFields(BaseModel):
    """What a query parameter and a field of a body are both called; what is None does not restrict."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    type: Name | None = Field(None, description="Exactly this type.")
    queue: Name | None = Field(None, description="Exactly this queue.")
    schedule: Name | None = Field(None, description="Submitted by this schedule.")
    created_after: Moment | None = Field(None, description="Created at this moment or later.")
    created_before: Moment | None = Field(None, description="Created before this moment.")
    error_code: ErrorCode | None = Field(None, description="Whose last attempt failed with this code.")

    def to_filter(self, statuses: tuple[Status, ...], tags: tuple[str, ...]) -> TaskFilter:
        """The filter of the store, with any of these statuses and all of these tags."""
        return TaskFilter(
            statuses=statuses,
            type=self.type,
            queue=self.queue,
            tags=tags,
            schedule=self.schedule,
            created_after=self.created_after,
            created_before=self.created_before,
            error=self.error_code,
        )
