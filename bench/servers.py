"""The servers of a run: its own, or those that REDIS_URL and MONGO_URL name."""

import os
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pymongo import MongoClient
from redis.asyncio import Redis

from app.embedded.servers import start_redis
from bench import mongo_server


class UnusableServerError(Exception):
    """A server that was named cannot be measured on. `str(error)` is one line that says why."""


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the servers are.

    Attributes:
        redis_url: A Redis without keys; the run empties it at its end.
        mongo_url: A MongoDB-wire server.
        database: Prefix of database names that nobody else uses.
        mongo_name: What people call it.
        own_mongo: Whether the run has started its MongoDB-wire server itself.
        directory: For logs.
    """

    redis_url: str
    mongo_url: str
    mongo_name: str
    database: str
    own_mongo: bool
    directory: Path


@asynccontextmanager
async def open_servers(mongo: str = mongo_server.EMBEDDED) -> AsyncIterator[Servers]:
    """Start what the environment does not name; all of it is gone again at the end.

    Args:
        mongo: The kind of MongoDB-wire server to start, where MONGO_URL names none.

    Raises:
        UnusableServerError: the Redis that was named holds keys.
        EmbeddedError: a server cannot be started.
    """
    redis_url, mongo_url = os.environ.get("REDIS_URL", ""), os.environ.get("MONGO_URL", "")
    own_mongo = not mongo_url
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="arqive-bench-")))
        if not redis_url:
            server = await start_redis(directory, persistent=False)
            stack.push_async_callback(server.stop, 2.0)
            redis_url = server.url
        mongo_name = "the server that MONGO_URL names"
        if own_mongo:
            started = await mongo_server.start(mongo, directory)
            stack.push_async_callback(started.server.stop, 0)
            mongo_url, mongo_name = started.server.url, started.name
        await _refuse_keys(redis_url)
        stack.push_async_callback(_empty, redis_url)
        database = f"arqive_bench_{secrets.token_hex(4)}"
        if not own_mongo:
            stack.callback(_drop, mongo_url, database)
        yield Servers(redis_url, mongo_url, mongo_name, database, own_mongo, directory)


async def _refuse_keys(url: str) -> None:
    async with Redis.from_url(url) as redis:
        keys = await redis.dbsize()
    if keys:
        raise UnusableServerError(
            f"REDIS_URL names a Redis with {keys} keys; it must be empty, and is emptied at the end"
        )


async def _empty(url: str) -> None:
    async with Redis.from_url(url) as redis:
        await redis.flushdb()


def _drop(url: str, database: str) -> None:
    with MongoClient[dict[str, object]](url) as client:
        for name in client.list_database_names():
            if name.startswith(database):
                client.drop_database(name)
