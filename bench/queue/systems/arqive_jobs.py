"""Arqive's own loop with its claims, wake signals and batched finishes, without MongoDB: 1,000 slots."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import uvloop
from tape import REDIS_URL, main, started

from app.core.clock import utc_now
from app.queue import keys
from app.queue.connect import open_redis
from app.queue.signals import Signals
from app.queue.task_queue import Entry, TaskQueue
from app.queue.worker import LeasedWorker
from bench.engine.runners import EmptyRunner
from bench.engine.systems import QUEUE, new_job_id

queues: list[TaskQueue] = []


class Tape:
    """Keeps the moments where every system keeps them."""

    def started(self, _job_id: str) -> None:
        started()


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    async with open_redis(REDIS_URL) as redis:
        queues.append(TaskQueue(redis))
        yield


async def fill(count: int) -> None:
    for start in range(0, count, 1000):
        await _queue(min(1000, count - start))


async def one() -> None:
    await _queue(1)


async def _queue(count: int) -> None:
    now = utc_now()
    await queues[0].dispatch([Entry(new_job_id(), QUEUE, now, 0) for _ in range(count)])


async def _work() -> None:
    async with open_redis(REDIS_URL) as redis:
        queue = TaskQueue(redis)
        runner = EmptyRunner(queue, Tape())
        loop = LeasedWorker(queue, runner, names=(QUEUE,), concurrency=1000, lease=timedelta(seconds=10))
        signals = Signals(redis, {keys.wake_channel(QUEUE): loop.wake_at}, on_connect=loop.wake)
        await asyncio.gather(signals.run(), loop.main())


if __name__ == "__main__":
    main(fill=fill, one=one, work=lambda: uvloop.run(_work()), opened=connected)
