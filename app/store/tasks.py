"""The `tasks` collection as clients use it: insert, read, list, cancel, retry, delete, count."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.errors import BulkWriteError, DuplicateKeyError

from app.core.errors import StoreUnavailable, UniqueKeyTaken
from app.core.ids import TaskId
from app.core.outcomes import ErrorCode
from app.core.states import CANCEL, RETRY, TERMINAL, Status, Transition
from app.store.callbacks import OWED_AGAIN
from app.store.documents import TaskDocument
from app.store.key_holders import Holder, by_idempotency_key, find_holders, unique_key_holder
from app.store.mongo import Cursor, Mongo
from app.store.queues import QueueStore
from app.store.spans import SpanPages

DUPLICATE_KEY = 11000

_TRIES = 10
"""How often a write is tried whose key is another's and, when looked up, nobody's."""

_TOO_FAST = "a key changes hands faster than it can be looked up"

_INDEXED = frozenset({"status", "type", "queue", "tags", "schedule.name", "error.code"})
"""The fields of a filter that an index starts with."""


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks to list; what is None or empty does not restrict.

    Attributes:
        statuses: Any of them.
        type: Exactly this type.
        queue: Exactly this queue.
        tags: All of them.
        schedule: Submitted by this schedule.
        created_after: Created at this moment or later.
        created_before: Created before this moment.
        error: Whose last attempt failed with this code.
    """

    statuses: tuple[Status, ...] = ()
    type: str | None = None
    queue: str | None = None
    tags: tuple[str, ...] = ()
    schedule: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    error: ErrorCode | None = None

    def to_query(self) -> dict[str, Any]:
        """The MongoDB filter.

        The id of a task is made right after its `created_at` is read, so its seconds bound the search by `_id`, and the
        index that carries the order carries the range too.
        """
        query: dict[str, Any] = {}
        if self.statuses:
            # Not every server sees that `$in` of one is an equality, which an index serves best.
            query["status"] = self.statuses[0] if len(self.statuses) == 1 else {"$in": sorted(self.statuses)}
        if self.type is not None:
            query["type"] = self.type
        if self.queue is not None:
            query["queue"] = self.queue
        if self.tags:
            query["tags"] = self.tags[0] if len(self.tags) == 1 else {"$all": list(self.tags)}
        if self.schedule is not None:
            query["schedule.name"] = self.schedule
        if self.error is not None:
            query["error.code"] = self.error
        created: dict[str, datetime] = {}
        if self.created_after is not None:
            created["$gte"] = self.created_after
            query.setdefault("_id", {})["$gte"] = ObjectId.from_datetime(self.created_after)
        if self.created_before is not None:
            created["$lt"] = self.created_before
            query.setdefault("_id", {})["$lt"] = ObjectId.from_datetime(self.created_before + timedelta(seconds=2))
        if created:
            query["created_at"] = created
        return query


def leaving(transition: Transition) -> dict[str, Any]:
    """The part of a filter that makes a write happen only from where the transition starts."""
    names = transition.source_names
    return {"status": names[0] if len(names) == 1 else {"$in": names}}


def cancel_update(now: datetime, expire_at: datetime | None) -> dict[str, Any]:
    """The update that cancels a waiting task."""
    return {
        "$set": {
            "status": CANCEL.target,
            "cancel_requested_at": now,
            "finished_at": now,
            "updated_at": now,
            "expire_at": expire_at,
        }
    }


def request_cancel_update(now: datetime) -> dict[str, Any]:
    """The update that notes on a running task that a client wants it stopped."""
    return {"$set": {"cancel_requested_at": now, "updated_at": now}}


def retry_update(now: datetime) -> dict[str, Any]:
    """The update that starts a new round of attempts."""
    return {
        "$set": {
            "status": RETRY.target,
            "run_at": now,
            "updated_at": now,
            "finished_at": None,
            "expire_at": None,
            "cancel_requested_at": None,
            "start_before": None,
            "error": None,
            "progress": None,
            "attempt": 0,
            "losses": 0,
        },
        "$inc": {"round": 1},
        "$rename": OWED_AGAIN,
    }


class TaskStore:
    """The tasks. Every method raises StoreUnavailable when MongoDB cannot serve."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._tasks = mongo.collection("tasks")
        self._queues = QueueStore(mongo)
        self._noted: set[str] = set()
        self._pages = SpanPages(mongo)

    async def insert(self, documents: Sequence[TaskDocument]) -> dict[ObjectId, Holder]:
        """Keep new tasks; returns once a majority has journaled them all, and those that are answered instead.

        Inserting again what is there already changes nothing.

        Returns:
            For each that was not inserted, since another task has its key: that task.

        Raises:
            StoreRefused: one of them cannot be stored; the others are.
        """
        queues = {document["queue"] for document in documents} - self._noted
        if queues:
            # Before the first task: a queue without tasks harms nobody, one that nobody knows of would not be counted.
            await self._queues.note(queues)
            self._noted |= queues
        instead: dict[ObjectId, Holder] = {}
        remaining: Sequence[TaskDocument] = documents
        for _ in range(_TRIES):
            async with self._mongo.answering():
                refused = await self._insert(remaining)
                await self._pages.saw(max(document["_id"] for document in documents))
                if not refused:
                    return instead
                reasons = await find_holders(self._tasks, refused)
            instead.update({own_id: holder for own_id, holder in reasons.items() if holder is not None})
            remaining = [document for document in refused if document["_id"] not in reasons]
            if not remaining:
                return instead
        raise StoreUnavailable(_TOO_FAST)

    async def _insert(self, documents: Sequence[TaskDocument]) -> list[TaskDocument]:
        """Insert what can be; returns those whose id or key is in the collection already."""
        try:
            await self._tasks.insert_many(list(documents), ordered=False)
        except BulkWriteError as error:
            details = error.details or {}
            failed = details.get("writeErrors", [])
            if details.get("writeConcernErrors") or any(each["code"] != DUPLICATE_KEY for each in failed):
                raise
            return [documents[each["index"]] for each in failed]
        return []

    async def by_idempotency_key(self, keys: Iterable[str]) -> dict[str, TaskDocument]:
        """The tasks that were submitted with these keys."""
        async with self._mongo.answering():
            return await by_idempotency_key(self._tasks, keys)

    async def get(self, task_id: TaskId) -> TaskDocument | None:
        """The task, or None."""
        async with self._mongo.answering():
            document: TaskDocument | None = await self._tasks.find_one({"_id": ObjectId(task_id)})
        return document

    async def status(self, task_id: TaskId) -> Status | None:
        """The task's status alone, or None."""
        async with self._mongo.answering():
            document = await self._tasks.find_one({"_id": ObjectId(task_id)}, {"status": 1})
        return None if document is None else Status(document["status"])

    async def page(self, which: TaskFilter, *, limit: int, after: TaskId | None) -> list[TaskDocument]:
        """Up to `limit` tasks, newest first; with `after`, those that are older than it."""
        query = which.to_query()
        if after is not None:
            bounds = query.setdefault("_id", {})
            bounds["$lt"] = min(ObjectId(after), bounds.get("$lt", ObjectId(after)))
        async with self._mongo.answering():
            if await self._pages.wanted():
                return await self._pages.page(query, limit=limit)
            with self._pages.whole():
                documents: list[TaskDocument] = await self._newest(query).limit(limit).to_list(length=limit)
        return documents

    def _newest(self, query: dict[str, Any]) -> Cursor:
        found = self._tasks.find(query).sort("_id", -1)
        # With nothing else to go by, the order is the index. Not every server sees that by itself.
        return found if query.keys() & _INDEXED else found.hint("_id_")

    async def cancel_waiting(self, task_id: TaskId, *, now: datetime, expire_at: datetime | None) -> bool:
        """Make a waiting task cancelled; False when it was not waiting."""
        return await self._move(task_id, leaving(CANCEL), cancel_update(now, expire_at))

    async def request_cancel(self, task_id: TaskId, *, now: datetime) -> bool:
        """Note on a running task that a client wants it stopped; False when it was not running."""
        return await self._move(task_id, {"status": Status.RUNNING}, request_cancel_update(now))

    async def retry(self, task_id: TaskId, *, now: datetime) -> bool:
        """Start a new round of attempts; the history stays. False when the task was neither failed nor cancelled.

        Raises:
            UniqueKeyTaken: an unfinished task has its unique key.
        """
        for _ in range(_TRIES):
            try:
                return await self._move(task_id, leaving(RETRY), retry_update(now))
            except DuplicateKeyError as error:
                async with self._mongo.answering():
                    own = await self._tasks.find_one({"_id": ObjectId(task_id)}, {"unique_key": 1})
                    holder = None if own is None else await unique_key_holder(self._tasks, own["unique_key"])
                if own is not None and holder is not None:
                    raise UniqueKeyTaken(own["unique_key"], str(holder["_id"])) from error
        raise StoreUnavailable(_TOO_FAST)

    async def delete(self, task_id: TaskId) -> bool:
        """Remove a finished task; False when it was not finished or not there."""
        async with self._mongo.answering():
            result = await self._tasks.delete_one({"_id": ObjectId(task_id), "status": {"$in": sorted(TERMINAL)}})
        return result.deleted_count == 1

    async def _move(self, task_id: TaskId, where: dict[str, Any], update: dict[str, Any]) -> bool:
        async with self._mongo.answering():
            result = await self._tasks.update_one({"_id": ObjectId(task_id), **where}, update)
        return result.matched_count == 1
