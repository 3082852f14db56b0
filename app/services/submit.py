"""Accepts tasks: validate, keep, dispatch."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from bson import encode as to_bson
from pydantic import ValidationError
from pydantic_core import to_json

from app.core import limits
from app.core.clock import utc_now
from app.core.errors import FieldError, Invalid
from app.core.field_errors import field_errors
from app.core.ids import TaskId
from app.core.json_value import problem_with
from app.core.task_type import TaskType, TaskTypes
from app.models import Submission, Task
from app.services.backend import Backend
from app.services.create import document_of
from app.services.replay import Accepted, outcome_of, replay_outdated
from app.store.documents import TaskDocument


async def submit(backend: Backend, submissions: Sequence[Submission | Invalid]) -> list[Task | Invalid]:
    """As `submit_each`, for those who need not know whether a task is new.

    Raises:
        StoreUnavailable: MongoDB cannot serve; nothing is promised.
    """
    outcomes = await submit_each(backend, submissions)
    return [outcome if isinstance(outcome, Invalid) else outcome.task for outcome in outcomes]


async def submit_each(backend: Backend, submissions: Sequence[Submission | Invalid]) -> list[Accepted | Invalid]:
    """Accept tasks: each comes back as the task that stands for it or as what is wrong with it, in order.

    What was found wrong before comes back as it is.

    Returns once a majority has journaled all that are accepted.

    Raises:
        StoreUnavailable: MongoDB cannot serve; nothing is promised.
    """
    now = utc_now()
    prepared: list[TaskDocument | Invalid] = []
    for submission in submissions:
        try:
            prepared.append(
                submission
                if isinstance(submission, Invalid)
                else new_document(submission, backend.types, now, can_call_back=backend.signs_callbacks)
            )
        except Invalid as invalid:
            prepared.append(invalid)
    documents = [item for item in prepared if not isinstance(item, Invalid)]
    traceparent = backend.tracing.submitting([(str(each["_id"]), each["queue"]) for each in documents])
    if traceparent is not None:
        for document in documents:
            document["traceparent"] = traceparent
    backend.endings.expect([TaskId(str(document["_id"])) for document in documents])
    instead = await backend.acceptor.accept(documents) if documents else {}
    outcomes = [item if isinstance(item, Invalid) else outcome_of(item, instead.get(item["_id"])) for item in prepared]
    if len(documents) == len(prepared):
        return outcomes
    return await replay_outdated(backend, submissions, outcomes)


def new_document(
    submission: Submission, types: TaskTypes, now: datetime, *, can_call_back: bool = True
) -> TaskDocument:
    """The document of a new task.

    Args:
        submission: What the client asks for.
        types: The registered types.
        now: The moment.
        can_call_back: Whether callbacks can be signed.

    Raises:
        Invalid: the type is unknown, its model refuses the payload, a moment is out of bounds, or it wants a callback
            where none can be signed.
    """
    task_type = types.get(submission.type)
    errors = _type_errors(types, submission.type, submission.payload)
    run_at = submission.run_at or now + timedelta(seconds=submission.delay or 0)
    if run_at > now + limits.MAX_DELAY:
        errors.append(
            FieldError(
                "run_at" if submission.run_at else "delay", f"must be within {limits.MAX_DELAY.days} days from now"
            )
        )
    if submission.start_before is not None and submission.start_before <= max(run_at, now):
        errors.append(FieldError("start_before", "must be later than run_at and now"))
    if submission.callback is not None and not can_call_back:
        errors.append(FieldError("callback", "this service sends no callbacks: CALLBACK_SECRETS is not set"))
    if errors or task_type is None:
        raise Invalid(errors)
    return document_of(submission, task_type, now)


def refuse(value: object, error: ValidationError, types: TaskTypes) -> Invalid:
    """Everything that is wrong with what is not a submission: also a type or a payload that the model lets pass.

    Args:
        value: What was sent.
        error: Why the model refuses it.
        types: The registered types.
    """
    errors = field_errors(error)
    bad = {item["loc"][0] for item in error.errors(include_url=False) if item["loc"]}
    if isinstance(value, dict) and "type" in value and "type" not in bad:
        errors += _type_errors(types, value["type"], None if "payload" in bad else value.get("payload", {}))
    return Invalid(errors)


def _type_errors(types: TaskTypes, name: str, payload: dict[str, Any] | None) -> list[FieldError]:
    """What is wrong with a type and, unless it is None, its payload."""
    task_type = types.get(name)
    if task_type is None or task_type.internal:
        known = ", ".join(each.name for each in types.values() if not each.internal)
        return [FieldError("type", f"unknown type {name!r}; known are {known}")]
    return [] if payload is None else _payload_errors(task_type, payload)


def _payload_errors(task_type: TaskType, payload: dict[str, Any]) -> list[FieldError]:
    problem = problem_with(payload)
    if problem is not None:
        return [FieldError("payload", problem)]
    raw = to_json(payload)
    if len(raw) > limits.MAX_STORED_PAYLOAD // 8 and len(to_bson(payload)) > limits.MAX_STORED_PAYLOAD:
        return [FieldError("payload", f"takes more than {limits.MAX_STORED_PAYLOAD:,} bytes as it is stored")]
    try:
        # As JSON, so that a model in strict mode still takes a date or a UUID from a string.
        task_type.payload.validate_json(raw)
    except ValidationError as error:
        return field_errors(error, "payload")
    return []
