"""The `tasks` collection as changes by filter use it: pick some that match, change those that still can be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from app.core.ids import TaskId
from app.core.states import CANCEL, RETRY, Status
from app.store.mongo import Mongo
from app.store.tasks import (
    DUPLICATE_KEY,
    TaskFilter,
    cancel_update,
    leaving,
    request_cancel_update,
    retry_update,
)

_FIELDS = {"type": 1, "queue": 1, "priority": 1, "unique_key": 1, "callback.owed": 1}

_MOVES = 5
"""How often a task that moves on while it is being cancelled is tried again; the next call finds it otherwise."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which tasks to change.

    Attributes:
        which: The filter.
        until: None that was created after this moment.
        after: Only those whose id is greater.
        unasked: None that is being cancelled already.

    Tasks that deliver callbacks are only among them when the filter names their type: they tell of the end of others.
    """

    which: TaskFilter
    until: datetime
    after: TaskId | None = None
    unasked: bool = False

    def to_query(self) -> dict[str, Any]:
        """The MongoDB filter."""
        query = self.which.to_query()
        query["created_at"] = {**query.get("created_at", {}), "$lte": self.until}
        if self.after is not None:
            query["_id"] = {**query.get("_id", {}), "$gt": ObjectId(self.after)}
        if self.which.type is None:
            query["callback.of"] = None
        if self.unasked:
            query["cancel_requested_at"] = None
        return query


@dataclass(frozen=True, slots=True)
class Picked:
    """A task that matched a moment ago."""

    task_id: TaskId
    type: str
    queue: str
    priority: int
    has_unique_key: bool
    has_callback: bool


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What became of the cancel of some tasks.

    Attributes:
        waiting: How many of them waited, and have ended now.
        running: How many of them ran, and are to be stopped.
        ended_ids: Those that this may have ended; none that has not ended is among them.
        running_ids: Those whose workers should be told.
    """

    waiting: int
    running: int
    ended_ids: Sequence[TaskId]
    running_ids: Sequence[TaskId]


@dataclass(frozen=True, slots=True)
class Retried:
    """What became of the retry of some tasks.

    Attributes:
        count: How many of them wait again by this.
        conflicts: How many could not, since an unfinished task has their unique key.
        ids: Those that wait from the moment of this retry on.
    """

    count: int
    conflicts: int
    ids: Sequence[TaskId]


class SelectionStore:
    """Tasks by filter. Every method raises StoreUnavailable when MongoDB cannot serve."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._tasks = mongo.collection("tasks")

    async def count(self, selection: Selection) -> int:
        """How many there are."""
        async with self._mongo.answering():
            return await self._tasks.count_documents(selection.to_query())

    async def pick(self, selection: Selection, *, limit: int) -> list[Picked]:
        """Up to `limit` of them, oldest first."""
        async with self._mongo.answering():
            found = self._tasks.find(selection.to_query(), _FIELDS).sort("_id", 1).limit(limit)
            return [_picked(document) for document in await found.to_list(limit)]

    async def cancel(self, task_ids: Sequence[TaskId], *, now: datetime, expire_at: datetime | None) -> Cancelled:
        """Cancel those that wait, and note on those that run that they are to be stopped."""
        open_ids = [ObjectId(task_id) for task_id in task_ids]
        waiting = running = 0
        async with self._mongo.answering():
            for _ in range(_MOVES):
                ended = await self._tasks.update_many(
                    {"_id": {"$in": open_ids}, **leaving(CANCEL)}, cancel_update(now, expire_at)
                )
                waiting += ended.matched_count
                if waiting == len(task_ids):
                    return Cancelled(waiting, 0, task_ids, ())
                asked = await self._tasks.update_many(
                    {"_id": {"$in": open_ids}, "status": Status.RUNNING, "cancel_requested_at": None},
                    request_cancel_update(now),
                )
                running += asked.matched_count
                open_ids = await self._ids({"_id": {"$in": open_ids}, "finished_at": None, "cancel_requested_at": None})
                if not open_ids:
                    break
                # They moved between the two writes, from running to retrying say.
            own = {"_id": {"$in": [ObjectId(task_id) for task_id in task_ids]}, "cancel_requested_at": now}
            ended_ids = await self._ids({**own, "status": CANCEL.target, "finished_at": now})
            running_ids = await self._ids({**own, "status": Status.RUNNING})
        return Cancelled(waiting, running, _task_ids(ended_ids), _task_ids(running_ids))

    async def retry(self, picked: Sequence[Picked], *, now: datetime) -> Retried:
        """Start a new round of attempts of those that are failed or cancelled."""
        plain = [ObjectId(task.task_id) for task in picked if not task.has_unique_key]
        keyed = [ObjectId(task.task_id) for task in picked if task.has_unique_key]
        update, count, conflicts = retry_update(now), 0, 0
        async with self._mongo.answering():
            if plain:
                written = await self._tasks.update_many({"_id": {"$in": plain}, **leaving(RETRY)}, update)
                count += written.matched_count
            if keyed:
                # Each for itself: a duplicate key would end an update of many half-way.
                retried, conflicts = await self._retry_keyed(keyed, update)
                count += retried
            if count == len(picked):
                return Retried(count, 0, [task.task_id for task in picked])
            own = {"_id": {"$in": plain + keyed}, "status": RETRY.target, "run_at": now}
            return Retried(count, conflicts, _task_ids(await self._ids(own)))

    async def _retry_keyed(self, ids: Sequence[ObjectId], update: Mapping[str, Any]) -> tuple[int, int]:
        operations = [UpdateOne({"_id": own_id, **leaving(RETRY)}, update) for own_id in ids]
        try:
            return (await self._tasks.bulk_write(operations, ordered=False)).matched_count, 0
        except BulkWriteError as error:
            details: Mapping[str, Any] = error.details or {}
            failed = details.get("writeErrors", [])
            if details.get("writeConcernErrors") or any(each["code"] != DUPLICATE_KEY for each in failed):
                raise
            return details["nModified"], len(failed)

    async def _ids(self, where: dict[str, Any]) -> list[ObjectId]:
        return [document["_id"] for document in await self._tasks.find(where, {"_id": 1}).to_list(None)]


def _picked(document: dict[str, Any]) -> Picked:
    return Picked(
        TaskId(str(document["_id"])),
        document["type"],
        document["queue"],
        document["priority"],
        has_unique_key="unique_key" in document,
        has_callback=bool(document.get("callback")),
    )


def _task_ids(ids: Sequence[ObjectId]) -> list[TaskId]:
    return [TaskId(str(each)) for each in ids]
