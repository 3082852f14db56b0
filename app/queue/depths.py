"""How many ids wait and run in queues, at a cost that does not grow with them."""

from collections.abc import Sequence
from dataclasses import dataclass

from arq.connections import ArqRedis

from app.core.clock import to_ms, utc_now
from app.core.ids import TaskId
from app.queue import keys
from app.queue.connect import queue_errors

HEADS = 3
"""Ids at the head of a queue that are named: one of them may just have been claimed or cancelled."""


@dataclass(frozen=True, slots=True)
class Depth:
    """One queue, as Redis has it.

    Attributes:
        ready: Ids whose time has come, those that nobody has claimed.
        deferred: Ids whose time is to come.
        running: Ids under a lease.
        heads: The ids that will be claimed next.
    """

    ready: int
    deferred: int
    running: int
    heads: tuple[TaskId, ...]


async def read_depths(redis: ArqRedis, names: Sequence[str]) -> dict[str, Depth] | None:
    """The depths of queues by name; None when this Redis has not been told of every waiting task.

    Raises:
        QueueUnavailable: Redis cannot serve.
    """
    now_ms = to_ms(utc_now())
    with queue_errors():
        async with redis.pipeline(transaction=False) as pipe:
            pipe.info("server")
            pipe.get(keys.EPOCH)
            for name in names:
                # The ready band lies below every due time, so one range has both what was moved there and what is due.
                pipe.zcount(keys.queue(name), "-inf", f"({now_ms + 1}")
                pipe.zcount(keys.queue(name), now_ms + 1, "+inf")
                pipe.zcard(keys.leases(name))
                pipe.zrange(keys.queue(name), 0, HEADS - 1)
            info, epoch, *figures = await pipe.execute()
    if epoch is None or epoch.decode() != info["run_id"]:
        return None
    each = iter(figures)
    return {
        name: Depth(ready, deferred, running, tuple(TaskId(head.decode()) for head in heads[:ready]))
        for name, ready, deferred, running, heads in zip(names, each, each, each, each, strict=False)
    }
