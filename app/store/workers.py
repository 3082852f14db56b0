"""The `workers` collection: who is alive. A document that is not renewed is removed by its TTL index."""

from datetime import datetime, timedelta
from typing import TypedDict

from app.core.ids import WorkerId
from app.store.mongo import Mongo


class WorkerDocument(TypedDict):
    """One worker process. `running` is how many tasks it runs, of at most `concurrency`."""

    _id: str
    queues: list[str]
    types: list[str]
    concurrency: int
    running: int
    started_at: datetime
    seen_at: datetime


class WorkerStore:
    """The workers. Every method raises StoreUnavailable when MongoDB cannot serve."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._workers = mongo.collection("workers")

    async def beat(self, worker: WorkerDocument) -> None:
        """Say that the worker is alive."""
        async with self._mongo.answering():
            await self._workers.replace_one({"_id": worker["_id"]}, worker, upsert=True)

    async def leave(self, worker_id: WorkerId) -> None:
        """Say that the worker has ended."""
        async with self._mongo.answering():
            await self._workers.delete_one({"_id": worker_id})

    async def alive(self, *, now: datetime, within: timedelta) -> list[WorkerDocument]:
        """The workers that were seen within the time before `now`."""
        async with self._mongo.answering():
            workers: list[WorkerDocument] = await self._workers.find({"seen_at": {"$gte": now - within}}).to_list(None)
        return workers
