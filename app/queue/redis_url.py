"""Judges a Redis URL before anything is started with it."""

import re
from typing import Any

from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from app.core.errors import BadServerUrl

_UNKNOWN = re.compile(r"unexpected keyword argument '(\w+)'")


def check_redis_url(url: str) -> None:
    """Return when the client can use the URL; nothing is connected to.

    Raises:
        BadServerUrl: it cannot; one line that names REDIS_URL and shows no secret.
    """
    try:
        # from_url reads the URL, and only what makes a connection knows the options.
        pool: Any = ConnectionPool.from_url(url, **keepalive_of(url))
        pool.make_connection()
    except (RedisError, ValueError, TypeError) as error:
        unknown = _UNKNOWN.search(str(error))
        said = f"Unknown option: {unknown[1]}" if unknown else str(error).rstrip(".")
        raise BadServerUrl("REDIS_URL", said) from error


def keepalive_of(url: str) -> dict[str, Any]:
    """What has the kernel notice a peer that is gone; redis-py 5.3 has no such option for a socket of this machine."""
    return {} if url.startswith("unix://") else {"socket_keepalive": True}
