"""The `tasks` collection as counts read it. Every query here is carried by an index."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId

from app.core.ids import TaskId
from app.core.states import WAITING, Status
from app.store.mongo import Mongo
from app.store.spans import FEW, Spans, noted_newest


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """What waits and runs in one queue."""

    ready: int
    deferred: int
    running: int


class CountStore:
    """Counts tasks. Every method raises StoreUnavailable when MongoDB cannot serve."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._tasks = mongo.collection("tasks")

    async def by_status(self) -> dict[Status, int]:
        """How many tasks have each status; reads as many entries of an index as there are tasks."""
        async with self._mongo.answering():
            if not await self._mongo.takes_whole_ranges():
                return {status: await self._tasks.count_documents({"status": status}) for status in Status}
        # Not in one of the turns that clients wait for: there are many spans.
        newest = await noted_newest(self._mongo)
        return {status: await self._count_in_spans({"status": status}, Spans(newest, want=FEW)) for status in Status}

    async def _count_in_spans(self, equality: dict[str, Any], spans: Spans) -> int:
        total = 0
        while (span := spans.next()) is not None:
            begun = time.monotonic()
            async with self._mongo.answering():
                some = await self._tasks.count_documents({**equality, "_id": span})
            spans.saw(some)
            total += some
            # The server does nothing else while it counts.
            await asyncio.sleep(time.monotonic() - begun if some > FEW else 0)
        return total

    async def of_queue(self, queue: str, *, now: datetime) -> QueueCounts:
        """What waits and runs in one queue at `now`; reads as many entries of an index as there are of these."""
        ready = deferred = 0
        async with self._mongo.answering():
            for status in sorted(WAITING):
                waiting = {"queue": queue, "status": status}
                ready += await self._tasks.count_documents({**waiting, "run_at": {"$lte": now}})
                deferred += await self._tasks.count_documents({**waiting, "run_at": {"$gt": now}})
            running = await self._tasks.count_documents({"queue": queue, "status": Status.RUNNING})
        return QueueCounts(ready, deferred, running)

    async def due_at(self, task_ids: Sequence[TaskId]) -> dict[TaskId, datetime]:
        """When those of some tasks that wait became due."""
        where = {"_id": {"$in": [ObjectId(task_id) for task_id in task_ids]}, "status": {"$in": sorted(WAITING)}}
        async with self._mongo.answering():
            documents = await self._tasks.find(where, {"run_at": 1}).to_list(None)
        return {TaskId(str(document["_id"])): document["run_at"] for document in documents}

    async def oldest_due(self, queue: str, *, before: datetime) -> datetime | None:
        """When the oldest waiting task of a queue became due; None when none became due before a moment."""
        oldest = []
        async with self._mongo.answering():
            for status in sorted(WAITING):
                where = {"queue": queue, "status": status, "run_at": {"$lt": before}}
                document = await self._tasks.find_one(where, {"run_at": 1}, sort=[("run_at", 1)])
                if document is not None:
                    oldest.append(document["run_at"])
        return min(oldest, default=None)
