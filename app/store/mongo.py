"""The connection to MongoDB. The only file that names Motor, which is in its last support year."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from bson.errors import InvalidDocument
from motor.frameworks.asyncio import run_on_executor
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorCursor, AsyncIOMotorDatabase
from pymongo import MongoClient, WriteConcern
from pymongo.collection import Collection as PyMongoCollection
from pymongo.database import Database
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)
from pymongo.uri_parser import parse_uri

from app.core.errors import StoreRefused, StoreUnavailable

Collection = AsyncIOMotorCollection[Any]
Cursor = AsyncIOMotorCursor[Any]
SyncDatabase = Database[Any]
SyncCollection = PyMongoCollection[Any]
Answer = TypeVar("Answer")

SERVER_SELECTION_MS = 2_000
"""How long an operation looks for a server before it says that there is none."""

AWAY_S = 1.0
"""Without a server for this long, MongoDB is known to be away, and nobody new waits for it."""

_TIME_LIMITS: dict[str, Any] = {
    "serverSelectionTimeoutMS": SERVER_SELECTION_MS,
    # With the two below a server that hangs is noticed within three seconds, and what waits for it is interrupted.
    "connectTimeoutMS": 2_000,
    "heartbeatFrequencyMS": 1_000,
    "socketTimeoutMS": 20_000,
}

_THREADS = 5 * (os.cpu_count() or 1)
"""As many as Motor has: what would only queue for one of them waits here, where it can be sent away."""

_PASSING = frozenset({91, 189, 11600, 11602, 10107, 13435, 13436, 262, 50, 24, 112, 6, 7, 89, 9001, 64})
"""Server error codes of step-downs, shutdowns and time-outs: the same write may succeed later."""

_TOO_LARGE = frozenset({10334, 17419})
"""Server error codes of documents and updates that are too large."""


class Presence:
    """Whether there is a server that takes writes, as the driver's own monitors see it."""

    def __init__(self, client: AsyncIOMotorClient[Any]) -> None:
        self._client = client
        self._away_since: float | None = None

    @property
    def is_there(self) -> bool:
        """Whether there is one at the moment."""
        # Not by a listener: PyMongo 4 hands its events on up to a second late.
        return bool(self._client.delegate.topology_description.has_writable_server())

    def away_for(self, seconds: float) -> bool:
        """Whether there has been none for that long, counted from when this was first asked."""
        if self.is_there:
            self._away_since = None
            return False
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        return now - self._away_since >= seconds


@dataclass(frozen=True, slots=True)
class Mongo:
    """An open connection and the database it is used with."""

    client: AsyncIOMotorClient[Any]
    database: AsyncIOMotorDatabase[Any]
    presence: Presence
    _threads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_THREADS))
    _build: dict[str, Any] = field(default_factory=dict)

    def collection(self, name: str) -> Collection:
        """A collection whose writes are acknowledged once a majority has journaled them."""
        return self.database[name]

    async def at_one_go(self, name: str, work: Callable[[SyncCollection], Answer]) -> Answer:
        """What `work` does with a collection, in one of Motor's threads.

        Motor takes each operation, and each cursor once more, to a thread and back: several that follow one another go
        here together, and a find is read to its end.

        Args:
            name: The collection's.
            work: Operations of PyMongo, one after another. What it raises passes.
        """
        answer: Answer = await run_on_executor(  # type: ignore[no-untyped-call]  # Motor's own door
            asyncio.get_running_loop(), work, self.database[name].delegate
        )
        return answer

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """`store_errors` for what clients wait for: while MongoDB is known to be away, nobody waits for it.

        Without this, requests that come while MongoDB is away would queue for Motor's few threads, each of which looks
        for a server as long as it may.

        Raises:
            StoreUnavailable: MongoDB cannot serve.
            StoreRefused: what was to be written is not a document that MongoDB can keep.
        """
        async with self._threads:
            if self.presence.away_for(AWAY_S):
                raise StoreUnavailable("MongoDB is not available: it has not answered for a while")
            with store_errors():
                yield

    async def takes_whole_ranges(self) -> bool:
        """Whether the server takes all that is in the range of an index before it takes what was asked for of it.

        Only the server for development does. What it says of itself is asked for once.
        """
        if not self._build:
            self._build.update(await self.client.admin.command("buildInfo"))
        return "secantusVersion" in self._build

    async def ping(self) -> None:
        """Return when the server answers.

        Raises:
            StoreUnavailable: it does not.
        """
        async with self.answering():
            await self.client.admin.command("ping")


@asynccontextmanager
async def open_mongo(url: str, database: str) -> AsyncIterator[Mongo]:
    """Connect, lazily: nothing is sent before the first operation.

    Args:
        url: A MongoDB connection string; options in it win over the time limits here.
        database: Its name.
    """
    client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(
        url,
        tz_aware=True,
        tzinfo=UTC,
        appname="arqive",
        **_unless_given(url, _TIME_LIMITS),
    )
    try:
        acknowledged = client.get_database(database, write_concern=WriteConcern("majority", j=True))
        yield Mongo(client, acknowledged, Presence(client))
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
            if _is_refused(url, timeout_s):
                return False
            with MongoClient[Any](
                url, serverSelectionTimeoutMS=milliseconds, connectTimeoutMS=milliseconds, socketTimeoutMS=milliseconds
            ) as client:
                client.admin.command("ping")
        except PyMongoError:
            return False
        return True

    return await asyncio.to_thread(answers)


def _is_refused(url: str, timeout_s: float) -> bool:
    """Whether nothing listens at any of the addresses. The driver would go on asking until its time is over."""
    if url.startswith("mongodb+srv:"):
        return False
    for host, port in parse_uri(url)["nodelist"]:
        try:
            socket.create_connection((host, port), timeout_s).close()
        except ConnectionRefusedError:
            continue
        except OSError:
            pass
        return False
    return True


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
    except ConfigurationError as error:
        # The URL was found to be sound at the start: a name of mongodb+srv:// cannot be looked up just now.
        raise StoreUnavailable(f"MongoDB is not available: {error}") from error
    except BulkWriteError as error:
        details = error.details or {}
        codes = {each.get("code") for each in details.get("writeErrors", [])}
        if codes & _PASSING or (details.get("writeConcernErrors") and not codes):
            raise StoreUnavailable("MongoDB did not acknowledge the write in time") from error
        raise StoreRefused(f"MongoDB refused the write: {_first_message(details)}") from error
    except (InvalidDocument, DocumentTooLarge, OverflowError) as error:
        raise StoreRefused(f"this cannot be stored: {error}") from error
    except OperationFailure as error:
        if error.code in _PASSING:
            raise StoreUnavailable(f"MongoDB cannot serve now: {error.code}") from error
        if error.code in _TOO_LARGE:
            raise StoreRefused(f"this is too large to be stored: {error}") from error
        raise


def _first_message(details: Mapping[str, Any]) -> str:
    errors = details.get("writeErrors") or [{}]
    return str(errors[0].get("errmsg", "no reason given"))
