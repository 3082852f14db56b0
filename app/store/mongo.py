"""The connection to MongoDB. The only file that names Motor, which is in its last support year."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bson.errors import InvalidDocument
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorCursor, AsyncIOMotorDatabase
from pymongo import MongoClient, WriteConcern
from pymongo.database import Database
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)

from app.core.errors import StoreRefused, StoreUnavailable

Collection = AsyncIOMotorCollection[Any]
Cursor = AsyncIOMotorCursor[Any]
SyncDatabase = Database[Any]

SERVER_SELECTION_MS = 3_000
"""How long an operation looks for a server before it says that there is none: the longest wait for a 503."""

_TIME_LIMITS: dict[str, Any] = {
    "serverSelectionTimeoutMS": SERVER_SELECTION_MS,
    "connectTimeoutMS": SERVER_SELECTION_MS,
    "socketTimeoutMS": 20_000,
}

_PASSING = frozenset({91, 189, 11600, 11602, 10107, 13435, 13436, 262, 50, 24, 112, 6, 7, 89, 9001, 64})
"""Server error codes of step-downs, shutdowns and time-outs: the same write may succeed later."""


@dataclass(frozen=True, slots=True)
class Mongo:
    """An open connection and the database it is used with."""

    client: AsyncIOMotorClient[Any]
    database: AsyncIOMotorDatabase[Any]

    def collection(self, name: str) -> Collection:
        """A collection whose writes are acknowledged once a majority has journaled them."""
        return self.database[name]

    async def ping(self) -> None:
        """Return when the server answers.

        Raises:
            StoreUnavailable: it does not.
        """
        with store_errors():
            await self.client.admin.command("ping")


@asynccontextmanager
async def open_mongo(url: str, database: str) -> AsyncIterator[Mongo]:
    """Connect, lazily: nothing is sent before the first operation.

    Args:
        url: A MongoDB connection string; options in it win over the time limits here.
        database: Its name.
    """
    client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(
        url, tz_aware=True, tzinfo=UTC, appname="arqive", **_unless_given(url, _TIME_LIMITS)
    )
    try:
        yield Mongo(client, client.get_database(database, write_concern=WriteConcern("majority", j=True)))
    finally:
        # It says goodbye to the server, which may not be there to listen.
        await asyncio.to_thread(client.close)


def _unless_given(url: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options that the connection string does not set; pymongo would let ours win."""
    given = {name.lower() for name in parse_qs(urlsplit(url).query)}
    return {name: value for name, value in options.items() if name.lower() not in given}


@contextmanager
def open_mongo_for_thread(url: str, database: str, *, timeout: timedelta) -> Iterator[SyncDatabase]:
    """A connection of its own for a thread that must not wait for what the event loop does.

    Args:
        url: A MongoDB connection string.
        database: Its name.
        timeout: No operation takes longer.
    """
    client: MongoClient[Any] = MongoClient(
        url,
        tz_aware=True,
        tzinfo=UTC,
        appname="arqive-leases",
        maxPoolSize=1,
        timeoutMS=round(timeout.total_seconds() * 1000),
    )
    try:
        yield client.get_database(database, write_concern=WriteConcern("majority", j=True))
    finally:
        client.close()


async def ping(url: str, timeout_s: float) -> bool:
    """Whether a MongoDB-wire server answers at `url` within `timeout_s` seconds."""
    milliseconds = int(timeout_s * 1000)

    def answers() -> bool:
        try:
            with MongoClient[Any](
                url, serverSelectionTimeoutMS=milliseconds, connectTimeoutMS=milliseconds, socketTimeoutMS=milliseconds
            ) as client:
                client.admin.command("ping")
        except PyMongoError:
            return False
        return True

    return await asyncio.to_thread(answers)


@contextmanager
def store_errors() -> Iterator[None]:
    """Translate what the driver raises when MongoDB cannot serve; everything else passes.

    Raises:
        StoreUnavailable: no server, no primary, or no acknowledgement in time.
        StoreRefused: what was to be written is not a document that MongoDB can keep.
    """
    try:
        yield
    except (ConnectionFailure, ExecutionTimeout, WTimeoutError) as error:
        raise StoreUnavailable(f"MongoDB is not available: {type(error).__name__}") from error
    except BulkWriteError as error:
        details = error.details or {}
        if details.get("writeConcernErrors") and not details.get("writeErrors"):
            raise StoreUnavailable("MongoDB did not acknowledge the write in time") from error
        raise StoreRefused(f"MongoDB refused the write: {_first_message(details)}") from error
    except (InvalidDocument, DocumentTooLarge, OverflowError) as error:
        raise StoreRefused(f"this cannot be stored: {error}") from error
    except OperationFailure as error:
        if error.code in _PASSING:
            raise StoreUnavailable(f"MongoDB cannot serve now: {error.code}") from error
        raise


def _first_message(details: Mapping[str, Any]) -> str:
    errors = details.get("writeErrors") or [{}]
    return str(errors[0].get("errmsg", "no reason given"))
