"""The `tasks` collection as expiry writes it: tasks that could not start before their `start_before` fail."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId

from app.core import limits
from app.core.ids import TaskId
from app.core.outcomes import ErrorCode
from app.core.states import EXPIRE
from app.store.mongo import Mongo, store_errors
from app.store.tasks import leaving

BATCH = 500

FIRST_MOMENT = datetime(limits.FIRST_YEAR, 1, 1, tzinfo=UTC)
"""No `start_before` is earlier. The index has only what is later, and serves only queries that say so too."""


@dataclass(frozen=True, slots=True)
class Expired:
    """A task that has just been failed as expired."""

    task_id: TaskId
    type: str
    queue: str


class ExpiryStore:
    """Fails what waited too long.

    Args:
        mongo: The connection.
        retention: How long a finished task is kept, or None for ever.
    """

    def __init__(self, mongo: Mongo, *, retention: timedelta | None) -> None:
        self._tasks = mongo.collection("tasks")
        self._retention = retention

    async def expire(self, *, now: datetime) -> AsyncIterator[list[Expired]]:
        """Fail every waiting task whose `start_before` has passed; yields those that were failed here, in batches.

        Raises:
            StoreUnavailable: MongoDB cannot serve.
        """
        # One status at a time: a range under one prefix of the index.
        for status in EXPIRE.source_names:
            late = {"status": status, "start_before": {"$gt": FIRST_MOMENT, "$lte": now}}
            full = True
            while full:
                with store_errors():
                    found = await self._tasks.find(late, {"_id": 1}).limit(BATCH).to_list(BATCH)
                full = len(found) == BATCH
                if found:
                    yield await self._expire([document["_id"] for document in found], now)

    async def _expire(self, ids: list[ObjectId], now: datetime) -> list[Expired]:
        which = {"_id": {"$in": ids}}
        with store_errors():
            await self._tasks.update_many(
                {**which, **leaving(EXPIRE), "start_before": {"$lte": now}}, {"$set": expired(now, self._retention)}
            )
            # A worker may have begun some of them meanwhile: those are not ours to take out of Redis.
            mine = {**which, "status": EXPIRE.target, "finished_at": now, "error.code": ErrorCode.EXPIRED}
            documents = await self._tasks.find(mine, {"type": 1, "queue": 1}).to_list(None)
        return [Expired(TaskId(str(each["_id"])), each["type"], each["queue"]) for each in documents]


def expired(now: datetime, retention: timedelta | None) -> dict[str, Any]:
    """The fields of a task that fails because it could not start in time."""
    error = {"code": ErrorCode.EXPIRED, "message": "the task could not start before start_before", "traceback": None}
    return {
        "status": EXPIRE.target,
        "lease": None,
        "finished_at": now,
        "updated_at": now,
        "expire_at": None if retention is None else now + retention,
        "error": error,
    }
