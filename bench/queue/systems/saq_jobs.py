"""SAQ: 100 jobs at a time, nothing kept of what has ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop
from saq import Queue, Worker
from tape import REDIS_URL, main, started

queue = Queue.from_url(REDIS_URL)


async def noop(_context: object) -> None:
    started()


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    await queue.connect()
    yield
    await queue.disconnect()


async def fill(count: int) -> None:
    for start in range(0, count, 100):
        await asyncio.gather(*(one() for _ in range(min(100, count - start))))


async def one() -> object:
    return await queue.enqueue("noop", ttl=-1)


def work() -> None:
    async def run() -> None:
        await Worker(queue, functions=[noop], concurrency=100).start()

    uvloop.run(run())


if __name__ == "__main__":
    main(fill=fill, one=one, work=work, opened=connected)
