"""The `tasks` collection as reconcile reads it: what should be in Redis, by index and in pages."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.core.ids import TaskId
from app.core.states import WAITING, Status
from app.store.mongo import Mongo, store_errors

PAGE = 500

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
        """Every waiting task, oldest first, in pages."""
        for status in sorted(WAITING):
            last: dict[str, Any] = {}
            while True:
                page = await self._page({"status": status, **last}, [("_id", 1)])
                if not page:
                    break
                yield [_unfinished(document, document["run_at"]) for document in page]
                last = {"_id": {"$gt": page[-1]["_id"]}}

    async def became_due(self, *, since: datetime, until: datetime) -> AsyncIterator[list[Unfinished]]:
        """The waiting tasks whose time came between two moments, in pages."""
        with store_errors():
            queues: list[str] = await self._tasks.distinct("queue")
        for queue in queues:
            for status in sorted(WAITING):
                start, seen = since, 0
                while True:
                    where = {"queue": queue, "status": status, "run_at": {"$gte": start, "$lte": until}}
                    page = await self._page(where, [("run_at", 1), ("_id", 1)], skip=seen)
                    if not page:
                        break
                    yield [_unfinished(document, document["run_at"]) for document in page]
                    # Go on at the last moment of this page, past those of that same moment that were read.
                    last = page[-1]["run_at"]
                    same = sum(document["run_at"] == last for document in page)
                    start, seen = last, same if last != start else seen + same

    async def lapsed(self, *, before: datetime) -> AsyncIterator[list[Unfinished]]:
        """The running tasks whose lease ended before a moment, in pages."""
        last: dict[str, Any] = {}
        while True:
            where = {"status": Status.RUNNING, "lease.until": {"$lt": before}, **last}
            page = await self._page(where, [("_id", 1)])
            if not page:
                break
            yield [_unfinished(document, before) for document in page]
            last = {"_id": {"$gt": page[-1]["_id"]}}

    async def _page(
        self, where: dict[str, Any], order: list[tuple[str, int]], *, skip: int = 0
    ) -> list[dict[str, Any]]:
        with store_errors():
            page: list[dict[str, Any]] = (
                await self._tasks.find(where, _FIELDS).sort(order).skip(skip).limit(PAGE).to_list(None)
            )
        return page


def _unfinished(document: dict[str, Any], due_at: datetime) -> Unfinished:
    return Unfinished(TaskId(str(document["_id"])), document["queue"], document["priority"], due_at)
