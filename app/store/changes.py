"""The `tasks` collection as streams of events read it: what has changed, by id or by when."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from bson import ObjectId

from app.core.event_id import EventId
from app.core.ids import TaskId
from app.core.states import Status
from app.store.documents import ErrorDocument, ProgressDocument
from app.store.mongo import Mongo

BATCH = 500


class ChangeDocument(TypedDict):
    """The part of a task that events tell: neither its payload nor its result, its log or its history."""

    _id: ObjectId
    type: str
    queue: str
    tags: list[str]
    status: str
    attempt: int
    round: int
    max_attempts: int
    run_at: datetime
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    progress: ProgressDocument | None
    error: ErrorDocument | None


_FIELDS = dict.fromkeys(ChangeDocument.__annotations__, 1)


@dataclass(frozen=True, slots=True)
class ChangeFilter:
    """Which changes; what is None or empty does not restrict.

    Attributes:
        statuses: To any of them.
        type: Of tasks of exactly this type.
        queue: Of tasks in exactly this queue.
        tags: Of tasks with all of them.
    """

    statuses: tuple[Status, ...] = ()
    type: str | None = None
    queue: str | None = None
    tags: tuple[str, ...] = ()

    def matches(self, document: ChangeDocument) -> bool:
        """Whether a change is one of them."""
        return (
            (not self.statuses or document["status"] in self.statuses)
            and self.type in {None, document["type"]}
            and self.queue in {None, document["queue"]}
            and set(self.tags) <= set(document["tags"])
        )

    def to_query(self) -> dict[str, Any]:
        """The same as a MongoDB filter."""
        query: dict[str, Any] = {}
        if self.statuses:
            query["status"] = {"$in": sorted(self.statuses)}
        if self.type is not None:
            query["type"] = self.type
        if self.queue is not None:
            query["queue"] = self.queue
        if self.tags:
            query["tags"] = self.tags[0] if len(self.tags) == 1 else {"$all": list(self.tags)}
        return query


class ChangeStore:
    """What has changed. Every method raises StoreUnavailable when MongoDB cannot serve."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._tasks = mongo.collection("tasks")

    async def of(self, task_ids: Iterable[TaskId]) -> list[ChangeDocument]:
        """The state of tasks, of those that there are."""
        async with self._mongo.answering():
            documents: list[ChangeDocument] = await self._tasks.find(
                {"_id": {"$in": [ObjectId(task_id) for task_id in task_ids]}}, _FIELDS
            ).to_list(None)
        return documents

    async def since(self, moment: datetime) -> AsyncIterator[list[ChangeDocument]]:
        """The tasks that changed at a moment or later, in no order, in batches."""
        cursor = self._tasks.find({"updated_at": {"$gte": moment}}, _FIELDS).batch_size(BATCH)
        while True:
            async with self._mongo.answering():
                batch: list[ChangeDocument] = await cursor.to_list(BATCH)
            if not batch:
                return
            yield batch

    async def after(self, place: EventId, which: ChangeFilter) -> list[ChangeDocument]:
        """The next tasks that changed after a place, in the order of their changes; empty when there are none.

        Two queries and no `$or`, which some servers answer by reading everything: the rest of the same millisecond, in
        which a batch of any size may have been written, and then what is later.
        """
        found: list[ChangeDocument] = []
        query = which.to_query()
        if place.task_id:
            same = {**query, "updated_at": place.at, "_id": {"$gt": ObjectId(place.task_id)}}
            found = await self._page(same, BATCH)
        if len(found) < BATCH:
            later = {"$gt" if place.task_id else "$gte": place.at}
            found += await self._page({**query, "updated_at": later}, BATCH - len(found))
        return found

    async def _page(self, query: dict[str, Any], limit: int) -> list[ChangeDocument]:
        async with self._mongo.answering():
            page: list[ChangeDocument] = (
                await self._tasks.find(query, _FIELDS).sort([("updated_at", 1), ("_id", 1)]).limit(limit).to_list(limit)
            )
        return page
