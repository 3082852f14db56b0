"""The `schedules` collection."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from pymongo import UpdateOne
from pymongo.errors import DuplicateKeyError

from app.core.ids import ScheduleName
from app.store.mongo import Mongo, store_errors


class TakenDocument(TypedDict):
    """Slots that somebody is about to submit; `token` names who, `at` is when they were first taken."""

    token: str
    at: datetime
    slots: list[datetime]


class ScheduleErrorDocument(TypedDict):
    """Why a slot could not be submitted."""

    code: str
    message: str
    at: datetime


class ScheduleDocument(TypedDict):
    """One schedule.

    `creation` tells it from others that had its name before. `revision` grows with every write but those of
    `last_error`. `next_run_at` is the first slot that nobody has taken, also while it is paused. `due_at` is when
    somebody should look at it: the next slot, or when slots that were taken are to be taken over; null when there is
    nothing to do. `anchor_at` is the first slot of an interval.
    """

    _id: str
    creation: str
    revision: int
    cron: str | None
    time_zone: str | None
    interval_s: float | None
    anchor_at: datetime | None
    start_at: datetime | None
    end_at: datetime | None
    catch_up: str
    paused: bool
    task: dict[str, Any]
    next_run_at: datetime | None
    due_at: datetime | None
    taken: TakenDocument | None
    last_run_at: datetime | None
    last_task_id: str | None
    last_error: ScheduleErrorDocument | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Taking:
    """What is to become of one schedule: slots that are taken now, possibly none, and the one after them.

    Attributes:
        name: The schedule.
        revision: In which it was read; in another nothing is taken.
        slots: Oldest first.
        at: When they were first taken.
        next_run_at: The slot after them.
        last_task_id: The task of the last of them.
    """

    name: str
    revision: int
    slots: tuple[datetime, ...]
    at: datetime
    next_run_at: datetime | None
    last_task_id: str | None


class ScheduleStore:
    """The schedules. Every method raises StoreUnavailable when MongoDB cannot serve."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._schedules = mongo.collection("schedules")

    async def get(self, name: ScheduleName) -> ScheduleDocument | None:
        """The schedule, or None."""
        async with self._mongo.answering():
            document: ScheduleDocument | None = await self._schedules.find_one({"_id": name})
        return document

    async def page(self, *, limit: int, after: ScheduleName | None) -> list[ScheduleDocument]:
        """Up to `limit` schedules by name, those after a name."""
        where = {} if after is None else {"_id": {"$gt": after}}
        async with self._mongo.answering():
            found = self._schedules.find(where).hint("_id_").sort("_id", 1).limit(limit)
            documents: list[ScheduleDocument] = await found.to_list(limit)
        return documents

    async def insert(self, document: ScheduleDocument) -> bool:
        """Keep a new schedule; False when there is one of its name.

        Raises:
            StoreRefused: it cannot be stored.
        """
        async with self._mongo.answering():
            try:
                await self._schedules.insert_one(document)
            except DuplicateKeyError:
                return False
        return True

    async def replace(self, document: ScheduleDocument, *, revision: int) -> bool:
        """Put a schedule in the place of its revision; False when that is no longer there.

        Raises:
            StoreRefused: it cannot be stored.
        """
        async with self._mongo.answering():
            result = await self._schedules.replace_one({"_id": document["_id"], "revision": revision}, document)
        return result.matched_count == 1

    async def delete(self, name: ScheduleName) -> bool:
        """Remove a schedule; False when there was none."""
        async with self._mongo.answering():
            result = await self._schedules.delete_one({"_id": name})
        return result.deleted_count == 1

    async def due(
        self, *, until: datetime, types: Collection[str], without: Collection[str], limit: int
    ) -> list[ScheduleDocument]:
        """Up to `limit` schedules that somebody should look at by then, in no order.

        Args:
            until: The moment.
            types: Only those that submit a task of these types.
            without: The names of some that are not wanted.
            limit: The most that are returned.
        """
        where: dict[str, Any] = {"due_at": {"$lte": until}, "task.type": {"$in": list(types)}}
        if without:
            where["_id"] = {"$nin": list(without)}
        with store_errors():
            documents: list[ScheduleDocument] = await self._schedules.find(where).limit(limit).to_list(limit)
        return documents

    async def due_longest(self, *, now: datetime) -> datetime | None:
        """Since when the slot that has been due longest waits, or None when none does."""
        with store_errors():
            late = await self._schedules.find({"due_at": {"$lt": now}}, {"due_at": 1}).limit(1_000).to_list(None)
        return min((document["due_at"] for document in late), default=None)

    async def take(self, takings: Sequence[Taking], *, token: str, until: datetime) -> set[str]:
        """Take slots, and with them the duty to submit them; the names of the schedules where that was won.

        A schedule that was changed or deleted since it was read, or whose slots somebody else has taken, stays as it
        is. What was won and is not reported with `finish` is due again at `until`, for anybody.

        Args:
            takings: What to take.
            token: A name for this call, never used again.
            until: When others may take the slots over.
        """
        updates = [
            UpdateOne({"_id": taking.name, "revision": taking.revision}, _update(taking, token, until))
            for taking in takings
        ]
        with store_errors():
            await self._schedules.bulk_write(updates, ordered=False)
            names = [taking.name for taking in takings if taking.slots]
            won = self._schedules.find({"_id": {"$in": names}, "taken.token": token}, {"_id": 1})
            return {document["_id"] for document in await won.to_list(None)}

    async def finish(self, names: Collection[str], *, token: str) -> None:
        """Say that slots have been submitted; the schedules are due again at their next slot."""
        finished = {
            "taken": None,
            "due_at": {"$cond": ["$paused", None, "$next_run_at"]},
            "last_error": None,
            "revision": {"$add": ["$revision", 1]},
        }
        with store_errors():
            await self._schedules.update_many({"_id": {"$in": list(names)}, "taken.token": token}, [{"$set": finished}])

    async def note_task(self, name: str, task_id: str, *, token: str) -> None:
        """Say that another task stands for that of a slot, since it has its unique key."""
        with store_errors():
            await self._schedules.update_one({"_id": name, "taken.token": token}, {"$set": {"last_task_id": task_id}})

    async def note_error(self, name: str, error: ScheduleErrorDocument, *, revision: int) -> None:
        """Say why a slot could not be submitted, unless the schedule was changed since."""
        with store_errors():
            await self._schedules.update_one({"_id": name, "revision": revision}, {"$set": {"last_error": error}})

    async def note_stranded(self, *, before: datetime, types: Collection[str], error: ScheduleErrorDocument) -> int:
        """Say of every schedule that was due before a moment, and submits none of some types, why nothing happens.

        Returns:
            Of how many that was news.
        """
        where = {
            "due_at": {"$lte": before},
            "task.type": {"$nin": list(types)},
            "last_error.code": {"$ne": error["code"]},
        }
        with store_errors():
            result = await self._schedules.update_many(where, {"$set": {"last_error": error}})
        return result.modified_count


def _update(taking: Taking, token: str, until: datetime) -> dict[str, Any]:
    fields: dict[str, Any] = {"next_run_at": taking.next_run_at}
    if taking.slots:
        taken: TakenDocument = {"token": token, "at": taking.at, "slots": list(taking.slots)}
        fields |= {
            "taken": taken,
            "due_at": until,
            "last_run_at": taking.slots[-1],
            "last_task_id": taking.last_task_id,
        }
    else:
        fields |= {"due_at": taking.next_run_at, "last_error": None}
    return {"$set": fields, "$inc": {"revision": 1}}
