"""What a submission led to: a new task, or one that is there already and stands for it."""

from enum import StrEnum
from http import HTTPStatus

from pydantic import Field

from app.client.connection import Answer
from app.models import Task

_EXISTING = "Existing-Task"


class AcceptedAs(StrEnum):
    """What a submission led to."""

    NEW = "new"  # a task that this call has made, perhaps by a try whose answer was lost
    REPLAYED = "replayed"  # nothing: its idempotency key says that it had been submitted before
    EXISTING = "existing"  # nothing: an unfinished task has its unique key


class AcceptedTask(Task):
    """The task that stands for a submission: a `Task` that also tells whether it is new.

    It equals every task with the same fields, however that was come by.
    """

    accepted_as: AcceptedAs = Field(description="Whether the task is new, and why it is not.")

    @property
    def is_new(self) -> bool:
        """Whether this submission has made it."""
        return self.accepted_as is AcceptedAs.NEW

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Task):
            return NotImplemented
        return {**dict(self), "accepted_as": None} == {**dict(other), "accepted_as": None}

    __hash__ = None  # type: ignore[assignment]  # like every model that can be changed


def accepted(task: Task, how: AcceptedAs) -> AcceptedTask:
    """The task, which has been checked, with what is known of it."""
    given = {*task.model_fields_set, "accepted_as"}
    return AcceptedTask.model_construct(given, **dict(task), accepted_as=how)


def how_of(answer: Answer, *, own_key: bool) -> AcceptedAs:
    """What the service says of a single submission.

    Args:
        answer: Its answer.
        own_key: Whether the caller has given the idempotency key. One that the client makes up is known to this call
            alone, so the task that is found by it was made by this call.
    """
    if answer.headers.get(_EXISTING, "").lower() == "true":
        return AcceptedAs.EXISTING
    return AcceptedAs.REPLAYED if own_key and answer.status == HTTPStatus.OK else AcceptedAs.NEW
