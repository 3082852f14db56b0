"""Answers submissions whose key says that there is a task for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.core.errors import IdempotencyKeyReused, Invalid
from app.models import Submission, Task
from app.services.backend import Backend
from app.services.fingerprint import fingerprint_of
from app.store.documents import TaskDocument
from app.store.key_holders import Hold, Holder


class How(StrEnum):
    """What an accepted submission led to."""

    MADE = "made"  # a new task
    REPLAYED = "replayed"  # nothing: its idempotency key says that it had been submitted before
    EXISTING = "existing"  # nothing: an unfinished task has its unique key


@dataclass(frozen=True, slots=True)
class Accepted:
    """A submission that was accepted, and the task that stands for it."""

    task: Task
    how: How


def outcome_of(document: TaskDocument, holder: Holder | None) -> Accepted | Invalid:
    """What a submission led to.

    Args:
        document: The task that it asks for.
        holder: The task that has its key, so that none was made.
    """
    if holder is None:
        return Accepted(Task.from_document(document), How.MADE)
    if holder.hold is Hold.UNIQUE:
        return Accepted(Task.from_document(holder.document), How.EXISTING)
    own, first = document["idempotency"], holder.document["idempotency"]
    if own["fingerprint"] != first["fingerprint"]:
        return IdempotencyKeyReused(own["key"], str(holder.document["_id"]))
    return Accepted(Task.from_document(holder.document), How.REPLAYED)


async def replay_outdated(
    backend: Backend, submissions: Sequence[Submission | Invalid], outcomes: list[Accepted | Invalid]
) -> list[Accepted | Invalid]:
    """Answer what cannot be accepted any more, but was when it was first submitted: `start_before` has passed, say."""
    outdated = {
        position: submission
        for position, (submission, outcome) in enumerate(zip(submissions, outcomes, strict=True))
        if isinstance(submission, Submission) and submission.idempotency_key is not None and _was_refused(outcome)
    }
    if not outdated:
        return outcomes
    first = await backend.tasks.by_idempotency_key(str(each.idempotency_key) for each in outdated.values())
    for position, submission in outdated.items():
        document = first.get(str(submission.idempotency_key))
        if document is not None and document["idempotency"]["fingerprint"] == fingerprint_of(submission):
            outcomes[position] = Accepted(Task.from_document(document), How.REPLAYED)
    return outcomes


def _was_refused(outcome: Accepted | Invalid) -> bool:
    return isinstance(outcome, Invalid) and not isinstance(outcome, IdempotencyKeyReused)
