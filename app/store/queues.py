"""The `queues` collection: the name of every queue that a task was ever put in, and what is set on it."""

from collections.abc import Collection as Names
from dataclasses import replace
from datetime import datetime
from typing import Any, TypedDict

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from app.core.clock import to_ms
from app.core.queue_settings import QueueSettings, Rate
from app.store.mongo import Mongo


class RateDocument(TypedDict):
    """See `app.core.queue_settings.Rate`."""

    per_second: float
    burst: int


class QueueDocument(TypedDict):
    """One queue; `version` is 0 until something is set, and then grows with every change."""

    _id: str
    paused: bool
    max_running: int | None
    rate: RateDocument | None
    version: int


class QueueStore:
    """The queues. Every method raises StoreUnavailable when MongoDB cannot serve."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._queues = mongo.collection("queues")

    async def note(self, names: Names[str]) -> None:
        """Keep names of queues, so that nobody has to read all tasks to find them."""
        unset: dict[str, Any] = {"paused": False, "max_running": None, "rate": None, "version": 0}
        notes = [UpdateOne({"_id": name}, {"$setOnInsert": unset}, upsert=True) for name in sorted(names)]
        async with self._mongo.answering():
            try:
                await self._queues.bulk_write(notes, ordered=False)
            except BulkWriteError as error:
                # Another process was faster with the same name.
                if {each["code"] for each in (error.details or {}).get("writeErrors", [{"code": 0}])} != {11000}:
                    raise

    async def all(self) -> list[QueueSettings]:
        """Every queue that is known, by name."""
        return await self._find({})

    async def named(self, names: Names[str]) -> list[QueueSettings]:
        """Those of some queues that are known."""
        return await self._find({"_id": {"$in": sorted(names)}})

    async def get(self, name: str) -> QueueSettings | None:
        """One queue, or None when nothing was ever put in it or set on it."""
        async with self._mongo.answering():
            document: QueueDocument | None = await self._queues.find_one({"_id": name})
        return None if document is None else _settings_of(document)

    async def change(self, old: QueueSettings, new: QueueSettings, *, now: datetime) -> QueueSettings | None:
        """Replace settings; None when they are not the old ones any more.

        The version is a moment, and later than the last, so that it also grows when the collection was lost and Redis
        remembers more than MongoDB.
        """
        version = max(to_ms(now), old.version + 1)
        rate = None if new.rate is None else {"per_second": new.rate.per_second, "burst": new.rate.burst}
        fields = {"paused": new.paused, "max_running": new.max_running, "rate": rate, "version": version}
        async with self._mongo.answering():
            try:
                await self._queues.update_one({"_id": new.name, "version": old.version}, {"$set": fields}, upsert=True)
            except DuplicateKeyError:
                return None
        return replace(new, version=version)

    async def _find(self, where: dict[str, Any]) -> list[QueueSettings]:
        async with self._mongo.answering():
            documents: list[QueueDocument] = await self._queues.find(where).to_list(None)
        return sorted((_settings_of(document) for document in documents), key=lambda settings: settings.name)


def _settings_of(document: QueueDocument) -> QueueSettings:
    rate = document["rate"]
    return QueueSettings(
        name=document["_id"],
        paused=document["paused"],
        max_running=document["max_running"],
        rate=None if rate is None else Rate(rate["per_second"], rate["burst"]),
        version=document["version"],
    )
