"""POST /tasks and POST /tasks/bulk."""

from http import HTTPStatus
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, ValidatorFunctionWrapHandler, WrapValidator

from app.api.endpoint import Reply
from app.api.problems import Problem, problem_of
from app.core import limits
from app.core.errors import FieldError, Invalid
from app.core.task_type import TaskTypes
from app.models import Submission, Task
from app.services.backend import Backend
from app.services.submit import refuse, submit


def _judge(value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo[TaskTypes]) -> object:
    try:
        return validate(value)
    except ValidationError as error:
        return refuse(value, error, info.context)


Judged = Annotated[Submission, WrapValidator(_judge)]
"""A Submission, or Invalid in its place; the context of the validation must be the registered types."""

Bulk = Annotated[list[Judged], Field(min_length=1, max_length=limits.MAX_BULK)]


class BulkResult(BaseModel):
    """What became of each, in order."""

    items: list[Task | Problem]


ONE_EXAMPLE = {
    "echo": {"summary": "Run as soon as possible", "value": {"type": "echo", "payload": {"hello": "world"}}},
    "later": {
        "summary": "In ten minutes, with a say in how it is retried",
        "value": {
            "type": "http.request",
            "payload": {"url": "https://example.com/hook", "json": {"order": 17}},
            "delay": 600,
            "max_attempts": 8,
            "timeout": 30,
            "backoff": {"base": 5, "max": 3600, "factor": 3},
            "tags": ["orders"],
        },
    },
}
BULK_EXAMPLE = {
    "two": {"summary": "Two tasks", "value": [{"type": "echo", "payload": {"n": 1}}, {"type": "sleep", "priority": 9}]}
}


async def submit_task(backend: Backend, body: Judged) -> Reply:
    """Accept one task."""
    [task] = await submit(backend, [body])
    if isinstance(task, Invalid):
        raise task
    return Reply(task, HTTPStatus.CREATED, {"Location": f"/tasks/{task.id}"})


async def submit_tasks(backend: Backend, body: Bulk) -> Reply:
    """Accept those of many tasks that can be accepted."""
    outcomes = await submit(backend, body)
    refused = sum(isinstance(outcome, Invalid) for outcome in outcomes)
    if refused == len(outcomes):
        status = HTTPStatus.UNPROCESSABLE_ENTITY
    else:
        status = HTTPStatus.MULTI_STATUS if refused else HTTPStatus.CREATED
    return Reply({"items": [_item(position, outcome) for position, outcome in enumerate(outcomes)]}, status)


def _item(position: int, outcome: Task | Invalid) -> object:
    if not isinstance(outcome, Invalid):
        return outcome
    return problem_of(Invalid([FieldError(_within(position, error.field), error.message) for error in outcome.errors]))


def _within(position: int, field: str) -> str:
    return f"[{position}]" if field == "body" else f"[{position}].{field}"
