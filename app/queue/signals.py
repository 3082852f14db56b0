"""Listens to Redis channels for the life of a process, over one connection."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from arq.connections import ArqRedis
from redis.exceptions import RedisError

from app.core.cancellation import cancel_is_due

logger = logging.getLogger(__name__)

RECONNECT_S = 1.0
IDLE_CHECK_S = 5.0


class Signals:
    """Calls a callback for each message of each channel.

    Messages sent while the connection is down are not seen: after every connect `on_connect` is called, so that
    listeners look at the truth once.

    Args:
        redis: The pool to take one connection from.
        callbacks: By channel; each gets the message as text and must not block.
        on_connect: Called after each successful subscribe.
    """

    def __init__(
        self, redis: ArqRedis, callbacks: Mapping[str, Callable[[str], None]], on_connect: Callable[[], None]
    ) -> None:
        self._redis = redis
        self._callbacks = dict(callbacks)
        self._on_connect = on_connect

    async def run(self) -> None:
        """Listen until cancelled."""
        while not cancel_is_due():
            try:
                await self._listen()
            except (RedisError, OSError, TimeoutError) as error:
                logger.warning("Lost the connection for signals, trying again: %s", error)
            if not cancel_is_due():
                await asyncio.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(*self._callbacks)
            self._on_connect()
            while not cancel_is_due():
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=IDLE_CHECK_S)
                if message is not None:
                    self._callbacks[message["channel"].decode()](message["data"].decode())
