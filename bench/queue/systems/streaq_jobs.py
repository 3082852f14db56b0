"""streaQ: 100 jobs at a time, as many fetched ahead, no results."""

import logging

from streaq import Worker
from tape import REDIS_URL, main, started

worker = Worker(redis_url=REDIS_URL, concurrency=100, prefetch=100)


@worker.task(ttl=0, silent=True)
async def noop() -> None:
    started()


async def fill(count: int) -> None:
    for start in range(0, count, 1000):
        await worker.enqueue_many([noop.enqueue() for _ in range(min(1000, count - start))])


async def one() -> None:
    await noop.enqueue()


def work() -> None:
    logging.getLogger("streaq").setLevel(logging.WARNING)
    worker.run_sync()


if __name__ == "__main__":
    main(fill=fill, one=one, work=work, opened=lambda: worker)
