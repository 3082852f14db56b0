"""taskiq with taskiq-redis: a list as the queue, no results, one worker process."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tape import REDIS_URL, main, started
from taskiq_redis import ListQueueBroker

broker = ListQueueBroker(REDIS_URL)


@broker.task("noop")
async def noop() -> None:
    started()


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    await broker.startup()
    yield
    await broker.shutdown()


async def fill(count: int) -> None:
    for _ in range(count):
        await noop.kiq()


async def one() -> None:
    await noop.kiq()


def work() -> None:
    here = Path(__file__)
    options = ("--workers", "1", "--max-async-tasks", "100", "--max-prefetch", "100", "--log-level", "WARNING")
    os.execvp("taskiq", ("taskiq", "worker", f"{here.stem}:broker", "--app-dir", str(here.parent), *options))  # noqa: S606 - no shell


if __name__ == "__main__":
    main(fill=fill, one=one, work=work, opened=connected)
