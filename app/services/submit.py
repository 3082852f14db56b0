"""Accepts tasks: validate, keep, dispatch."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from pydantic import ValidationError
from pydantic_core import to_json

from app.core import limits
from app.core.clock import utc_now
from app.core.errors import FieldError, Invalid, QueueUnavailable
from app.core.ids import TaskId
from app.core.json_value import problem_with
from app.core.states import SUBMIT
from app.core.task_type import TaskType, TaskTypes
from app.models import BackoffModel, Submission, Task
from app.queue.task_queue import Entry, TaskQueue
from app.services.backend import Backend
from app.store.documents import TaskDocument

logger = logging.getLogger(__name__)

DISPATCH_PATIENCE_S = 1.0
"""How long an accepted task's answer waits for Redis."""


async def submit(backend: Backend, submissions: Sequence[Submission]) -> list[Task | Invalid]:
    """Accept tasks: each comes back as the task that was kept or as what is wrong with it, in order.

    Returns once a majority has journaled all that are accepted.

    Raises:
        StoreUnavailable: MongoDB cannot serve; nothing is promised.
    """
    now = utc_now()
    prepared: list[TaskDocument | Invalid] = []
    for submission in submissions:
        try:
            prepared.append(new_document(submission, backend.types, now))
        except Invalid as invalid:
            prepared.append(invalid)
    documents = [item for item in prepared if not isinstance(item, Invalid)]
    if documents:
        await backend.tasks.insert(documents)
        await dispatch(backend.queue, documents)
    return [item if isinstance(item, Invalid) else Task.from_document(item) for item in prepared]


async def dispatch(queue: TaskQueue, documents: Sequence[TaskDocument]) -> None:
    """Queue tasks that are kept; without Redis they wait for reconcile, and their client need not know."""
    try:
        async with asyncio.timeout(DISPATCH_PATIENCE_S):
            await queue.dispatch(entry_of(document) for document in documents)
    except (QueueUnavailable, TimeoutError) as error:
        logger.warning("Kept %d tasks but could not queue them yet: %s", len(documents), str(error) or "Redis is slow")


def entry_of(document: TaskDocument) -> Entry:
    """The queue entry of a waiting task."""
    return Entry(TaskId(str(document["_id"])), document["queue"], document["run_at"], document["priority"])


def new_document(submission: Submission, types: TaskTypes, now: datetime) -> TaskDocument:
    """The document of a new task.

    Raises:
        Invalid: the type is unknown, its model refuses the payload, or a moment is out of bounds.
    """
    task_type = types.get(submission.type)
    if task_type is None:
        known = ", ".join(types)
        raise Invalid([FieldError("type", f"unknown type {submission.type!r}; known are {known}")])
    errors = _payload_errors(task_type, submission.payload)
    run_at = submission.run_at or now + timedelta(seconds=submission.delay or 0)
    if run_at > now + limits.MAX_DELAY:
        errors.append(FieldError("run_at", f"must be within {limits.MAX_DELAY.days} days from now"))
    if submission.start_before is not None and submission.start_before <= max(run_at, now):
        errors.append(FieldError("start_before", "must be later than run_at and now"))
    if errors:
        raise Invalid(errors)
    timeout_s = submission.timeout or task_type.timeout.total_seconds()
    return {
        "_id": ObjectId(),
        "type": submission.type,
        "queue": submission.queue,
        "priority": submission.priority,
        "payload": submission.payload,
        "tags": list(dict.fromkeys(submission.tags)),
        "status": SUBMIT.target,
        "run_at": max(run_at, now),
        "created_at": now,
        "updated_at": now,
        "started_at": None,
        "finished_at": None,
        "max_attempts": submission.max_attempts or task_type.max_attempts,
        "timeout_s": timeout_s,
        "backoff": (submission.backoff or BackoffModel.from_backoff(task_type.backoff)).to_document(),
        "attempt": 0,
        "losses": 0,
        "round": 1,
        "lease": None,
        "result": None,
        "error": None,
        "progress": None,
        "log": [],
        "history": [],
        "cancel_requested_at": None,
        "start_before": submission.start_before,
        "expire_at": None,
    }


def _payload_errors(task_type: TaskType, payload: dict[str, Any]) -> list[FieldError]:
    problem = problem_with(payload)
    if problem is not None:
        return [FieldError("payload", problem)]
    try:
        # As JSON, so that a model in strict mode still takes a date or a UUID from a string.
        task_type.payload.validate_json(to_json(payload))
    except ValidationError as error:
        return [
            FieldError(".".join(["payload", *(str(part) for part in item["loc"])]), item["msg"])
            for item in error.errors(include_url=False, include_input=False, include_context=False)
        ]
    return []
