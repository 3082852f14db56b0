"""The `tasks` collection as reconcile reads it: what should be in Redis, by index and in batches."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.core.ids import LeaseToken, TaskId
from app.core.states import WAITING, Status
from app.store.mongo import Mongo, store_errors

BATCH = 500

_FIELDS = {"queue": 1, "priority": 1, "run_at": 1}


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A task that should be offered to workers from `due_at` on."""

    task_id: TaskId
    queue: str
    priority: int
    due_at: datetime


class UnfinishedStore:
    """Unfinished tasks. Every method raises StoreUnavailable when MongoDB cannot serve."""

    def __init__(self, mongo: Mongo) -> None:
        self._tasks = mongo.collection("tasks")

    async def waiting(self) -> AsyncIterator[list[Unfinished]]:
        """Every waiting task, in batches."""
        async for batch in self._batches({"status": {"$in": sorted(WAITING)}}):
            yield [_unfinished(document, document["run_at"]) for document in batch]

    async def became_due(self, *, since: datetime, until: datetime) -> AsyncIterator[list[Unfinished]]:
        """The waiting tasks whose time came between two moments, in batches."""
        # One status at a time: a range under one prefix of the index.
        for status in sorted(WAITING):
            async for batch in self._batches({"status": status, "run_at": {"$gte": since, "$lte": until}}):
                yield [_unfinished(document, document["run_at"]) for document in batch]

    async def lapsed(self, *, before: datetime) -> AsyncIterator[list[Unfinished]]:
        """The running tasks whose lease ended before a moment, in batches."""
        async for batch in self._batches({"status": Status.RUNNING, "lease.until": {"$lt": before}}):
            yield [_unfinished(document, before) for document in batch]

    async def leased(self, queue: str, *, now: datetime) -> AsyncIterator[list[tuple[TaskId, LeaseToken, datetime]]]:
        """The leases of a queue that last longer than `now`, in batches: the task, the token, the end."""
        async for batch in self._batches({"queue": queue, "status": Status.RUNNING}, {"lease": 1}):
            held = [(TaskId(str(document["_id"])), document["lease"]) for document in batch]
            yield [
                (task_id, LeaseToken(lease["token"]), lease["until"]) for task_id, lease in held if lease["until"] > now
            ]

    async def _batches(
        self, where: dict[str, Any], fields: dict[str, Any] = _FIELDS
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """What matches, in no order, as the server's cursor gives it: never more than a batch in memory."""
        with store_errors():
            cursor = self._tasks.find(where, fields).batch_size(BATCH)
            while batch := await cursor.to_list(BATCH):
                yield batch


def _unfinished(document: dict[str, Any], due_at: datetime) -> Unfinished:
    return Unfinished(TaskId(str(document["_id"])), document["queue"], document["priority"], due_at)
