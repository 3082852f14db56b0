"""The leases in Redis, renewed from a thread of its own: everything here blocks."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice

from redis import Redis

from app.core.ids import LeaseToken, TaskId
from app.queue.connect import queue_errors
from app.queue.redis_url import keepalive_of
from app.queue.scripts import RENEW, renew_arguments

CHUNK = 500
"""Leases a script renews at most, so that it holds Redis for a millisecond or so."""


class LeaseQueue:
    """The leases of one worker, over a connection that belongs to this thread."""

    def __init__(self, redis: Redis) -> None:
        self._renew = redis.register_script(RENEW)

    def renew(self, held: Iterable[tuple[str, TaskId, LeaseToken]], *, lease: timedelta) -> frozenset[TaskId]:
        """Extend leases, given as (queue, id, token), to `lease` from now; returns the ids that another lease holds.

        Raises:
            QueueUnavailable: Redis cannot serve.
        """
        by_queue: dict[str, list[tuple[TaskId, LeaseToken]]] = defaultdict(list)
        for queue, task_id, token in held:
            by_queue[queue].append((task_id, token))
        lost: set[TaskId] = set()
        with queue_errors():
            for queue, pairs in by_queue.items():
                rest = iter(pairs)
                while chunk := list(islice(rest, CHUNK)):
                    keys, args = renew_arguments(queue, chunk, lease_ms=round(lease.total_seconds() * 1000))
                    lost |= {TaskId(task_id.decode()) for task_id in self._renew(keys=keys, args=args)}
        return frozenset(lost)


@contextmanager
def open_lease_queue(url: str, *, timeout: timedelta) -> Iterator[LeaseQueue]:
    """Connect, lazily. No answer is waited for longer than `timeout`."""
    seconds = timeout.total_seconds()
    redis = Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds, **keepalive_of(url))
    try:
        yield LeaseQueue(redis)
    finally:
        redis.close()
