"""arq: 1,000 slots and a poll of 10 ms, or with ARQ_DEFAULT as it comes."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.worker import Worker
from tape import REDIS_URL, main, started

settings = RedisSettings.from_dsn(REDIS_URL)
options: dict[str, Any] = (
    {} if "ARQ_DEFAULT" in os.environ else {"max_jobs": 1000, "poll_delay": 0.01, "keep_result": 0}
)
pools: list[ArqRedis] = []


async def noop(_context: dict[Any, Any]) -> None:
    started()


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    pools.append(await create_pool(settings))
    yield
    await pools[0].aclose()


async def fill(count: int) -> None:
    for start in range(0, count, 10):
        await asyncio.gather(*(one() for _ in range(min(10, count - start))))


async def one() -> object:
    return await pools[0].enqueue_job("noop")


def work() -> None:
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.set_event_loop(asyncio.new_event_loop())
    Worker([noop], redis_settings=settings, **options).run()


if __name__ == "__main__":
    main(fill=fill, one=one, work=work, opened=connected)
