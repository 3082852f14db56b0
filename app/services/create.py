"""Makes the document of a new task from what is known to be sound."""

from datetime import datetime, timedelta

from bson import ObjectId

from app.core.states import SUBMIT
from app.core.task_type import TaskType
from app.models import BackoffModel, Submission
from app.services.fingerprint import fingerprint_of
from app.store.documents import TaskDocument


def document_of(submission: Submission, task_type: TaskType, now: datetime) -> TaskDocument:
    """The document of a new task that is known to be sound."""
    run_at = submission.run_at or now + timedelta(seconds=submission.delay or 0)
    timeout_s = submission.timeout or task_type.timeout.total_seconds()
    document: TaskDocument = {
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
    if submission.unique_key is not None:
        document["unique_key"] = submission.unique_key
    if submission.idempotency_key is not None:
        document["idempotency"] = {"key": submission.idempotency_key, "fingerprint": fingerprint_of(submission)}
    if submission.callback is not None:
        document["callback"] = {
            "url": submission.callback.url,
            "events": sorted(set(submission.callback.events)),
            "owed": True,
        }
    return document
