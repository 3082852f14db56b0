"""The connection to Redis."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import orjson
from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import RedisError

from app.core.errors import QueueUnavailable
from app.queue.redis_url import keepalive_of

CONNECT_TIMEOUT_S = 1.0
ANSWER_TIMEOUT_S = 5.0


def encode_job(body: dict[str, Any]) -> bytes:
    """The body of an arq job as JSON; arq would pickle it."""
    return orjson.dumps(body)


def decode_job(raw: bytes) -> dict[str, Any]:
    """The inverse of `encode_job`."""
    body: dict[str, Any] = orjson.loads(raw)
    return body


@asynccontextmanager
async def open_redis(url: str) -> AsyncIterator[ArqRedis]:
    """Connect, lazily: nothing is sent before the first command.

    Every wait has an end and idle connections are checked, since a pool without either can stay wedged after an outage.

    Args:
        url: A redis://, rediss:// or unix:// URL.
    """
    pool: ConnectionPool = ConnectionPool.from_url(
        url,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=ANSWER_TIMEOUT_S,
        health_check_interval=15,
        **keepalive_of(url),
    )
    redis = ArqRedis(pool, job_serializer=encode_job, job_deserializer=decode_job)
    try:
        yield redis
    finally:
        await redis.aclose()
        await pool.disconnect()


async def ping(url: str, timeout_s: float) -> bool:
    """Whether a Redis answers at `url` within `timeout_s` seconds."""
    client: Redis = Redis.from_url(url, socket_connect_timeout=timeout_s, socket_timeout=timeout_s)
    try:
        await client.ping()
    except (RedisError, OSError):
        return False
    else:
        return True
    finally:
        await client.aclose()


@contextmanager
def queue_errors() -> Iterator[None]:
    """Translate what the client raises when Redis cannot serve.

    Raises:
        QueueUnavailable: no connection, no answer in time, or an error answer such as read-only or out of memory.
    """
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise QueueUnavailable(f"Redis is not available: {type(error).__name__}: {error}") from error
