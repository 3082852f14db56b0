"""POST /tasks and POST /tasks/bulk."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, ValidatorFunctionWrapHandler, WrapValidator

from app.api.endpoint import Reply
from app.api.problems import Problem, problem_of
from app.api.request_headers import IDEMPOTENCY_KEY, IdempotencyKey
from app.core import limits
from app.core.errors import FieldError, Invalid
from app.core.task_type import TaskTypes
from app.models import Submission, Task
from app.services.backend import Backend
from app.services.replay import Accepted, How
from app.services.submit import refuse, submit_each


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
    replayed: list[int] = Field(
        description="Positions of those that had been submitted before, as their idempotency keys say."
    )
    existing: list[int] = Field(
        description="Positions of those for which there is an unfinished task with their unique key."
    )


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
    "two": {"summary": "Two tasks", "value": [{"type": "echo", "payload": {"n": 1}}, {"type": "sleep", "priority": 9}]},
    "keys": {
        "summary": "Safe to send again, and one refresh at a time",
        "value": [
            {"type": "echo", "payload": {"order": 17}, "idempotency_key": "order-17-paid"},
            {"type": "echo", "payload": {"feed": 3}, "unique_key": "feed-3"},
        ],
    },
}


_HEADER_OF = {How.REPLAYED: "Idempotent-Replayed", How.EXISTING: "Existing-Task"}

INSTEAD = {
    "Idempotent-Replayed": "`true` where the idempotency key says that this had been submitted before.",
    "Existing-Task": "`true` where an unfinished task has the unique key.",
}
"""Which of these headers is there says why no task was made."""


async def submit_task(backend: Backend, body: Judged, idempotency_key: IdempotencyKey | None) -> Reply:
    """Accept one task."""
    [outcome] = await submit_each(backend, [_keyed(body, idempotency_key)])
    if isinstance(outcome, Invalid):
        raise outcome
    headers = {"Location": f"/tasks/{outcome.task.id}"}
    if outcome.how is How.MADE:
        return Reply(outcome.task, HTTPStatus.CREATED, headers)
    return Reply(outcome.task, HTTPStatus.OK, {**headers, _HEADER_OF[outcome.how]: "true"})


async def submit_tasks(backend: Backend, body: Bulk, idempotency_key: IdempotencyKey | None) -> Reply:
    """Accept those of many tasks that can be accepted."""
    submissions: Sequence[Submission | Invalid] = body
    if idempotency_key is not None:
        submissions = [
            item if _has_own_key(item) else _keyed(item, f"{idempotency_key}[{position}]")
            for position, item in enumerate(body)
        ]
    outcomes = await submit_each(backend, submissions)
    positions: dict[How | None, list[int]] = {None: [], **{how: [] for how in How}}
    for position, outcome in enumerate(outcomes):
        positions[None if isinstance(outcome, Invalid) else outcome.how].append(position)
    if positions[None]:
        refused = len(positions[None]) == len(outcomes)
        status = HTTPStatus.UNPROCESSABLE_ENTITY if refused else HTTPStatus.MULTI_STATUS
    else:
        status = HTTPStatus.CREATED if positions[How.MADE] else HTTPStatus.OK
    items = [_item(position, outcome) for position, outcome in enumerate(outcomes)]
    return Reply({"items": items, "replayed": positions[How.REPLAYED], "existing": positions[How.EXISTING]}, status)


def _has_own_key(body: Submission | Invalid) -> bool:
    return isinstance(body, Submission) and body.idempotency_key is not None


def _keyed(body: Submission | Invalid, key: str | None) -> Submission | Invalid:
    """The submission with the key of the header."""
    if key is None or isinstance(body, Invalid):
        return body
    if body.idempotency_key not in {None, key}:
        return Invalid([FieldError("idempotency_key", f"must be that of the header {IDEMPOTENCY_KEY}")])
    return body.model_copy(update={"idempotency_key": key})


def _item(position: int, outcome: Accepted | Invalid) -> object:
    if not isinstance(outcome, Invalid):
        return outcome.task
    return problem_of(outcome, lambda field: f"[{position}]" if field == "body" else f"[{position}].{field}")
