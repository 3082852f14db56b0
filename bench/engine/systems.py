"""The systems that are compared, and how each is fed."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Protocol

from arq.connections import ArqRedis
from arq.constants import default_queue_name, expires_extra_ms, job_key_prefix
from arq.jobs import serialize_job
from bson import ObjectId
from redis.asyncio import ConnectionPool

from app.core.clock import to_ms, utc_now
from app.core.ids import TaskId
from app.queue import keys
from app.queue.connect import open_redis
from app.queue.task_queue import Entry, TaskQueue

QUEUE = "bench"
FUNCTION = "noop"
CHUNK = 1000
FAR = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class System:
    """One system under test; the later attributes are those of `bench.engine.workers.Options`.

    Attributes:
        label: What people call it.
        expected: Jobs a second that one worker may reach: the size of the first round is taken from it.
    """

    label: str
    expected: float
    is_arq: bool
    slots: int
    poll_s: float = 0
    use_uvloop: bool = True
    wrap: bool = False


ARQIVE = System("Arqive, 1,000 slots", 25_000, is_arq=False, slots=1000)
ARQIVE_DEFAULT = System("Arqive, default (100 slots)", 25_000, is_arq=False, slots=100)
ARQIVE_PLAIN_LOOP = System("Arqive, 1,000 slots, no uvloop", 20_000, is_arq=False, slots=1000, use_uvloop=False)
ARQIVE_WRAPPED = System("Arqive, 1,000 slots, handler wrapper", 10_000, is_arq=False, slots=1000, wrap=True)
ARQ_DEFAULT = System("arq, default (10 slots, poll 0.5 s)", 190, is_arq=True, slots=10, poll_s=0.5)
ARQ_TUNED = System("arq, tuned (1,000 slots, poll 10 ms)", 1_500, is_arq=True, slots=1000, poll_s=0.01)


class Feed(Protocol):
    """Puts jobs where the workers of a system look for them."""

    async def preload(self, count: int, *, deferred: bool = False) -> None:
        """Queue many at once, due now or, if deferred, long after the run."""
        ...

    async def enqueue(self, job_id: TaskId) -> None:
        """Queue one the way a client does."""
        ...

    async def left(self) -> int:
        """How many jobs wait or run, those deferred included."""
        ...


class ArqiveFeed:
    """Arqive's own dispatch."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis
        self.queue = TaskQueue(redis)

    async def preload(self, count: int, *, deferred: bool = False) -> None:
        """Queue many at once."""
        run_at = utc_now() + (FAR if deferred else timedelta(0))
        for ids in _chunks(count):
            await self.queue.dispatch(Entry(job_id, QUEUE, run_at, 0) for job_id in ids)

    async def enqueue(self, job_id: TaskId) -> None:
        """Queue one."""
        await self.queue.dispatch([Entry(job_id, QUEUE, utc_now(), 0)])

    async def left(self) -> int:
        """Waiting and leased."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zcard(keys.queue(QUEUE))
            pipe.zcard(keys.leases(QUEUE))
            return sum(await pipe.execute())


class ArqFeed:
    """arq's `enqueue_job`, and its layout through pipelines with its own serializer."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis

    async def preload(self, count: int, *, deferred: bool = False) -> None:
        """Queue many at once."""
        now_ms = to_ms(utc_now())
        delay_ms = round(FAR.total_seconds() * 1000) if deferred else 0
        body = serialize_job(FUNCTION, (), {}, None, now_ms)
        for ids in _chunks(count):
            async with self._redis.pipeline(transaction=False) as pipe:
                for job_id in ids:
                    pipe.psetex(job_key_prefix + job_id, delay_ms + expires_extra_ms, body)
                pipe.zadd(default_queue_name, dict.fromkeys(ids, now_ms + delay_ms))
                await pipe.execute()

    async def enqueue(self, job_id: TaskId) -> None:
        """Queue one."""
        await self._redis.enqueue_job(FUNCTION, _job_id=job_id)

    async def left(self) -> int:
        """arq keeps an id in its queue until the job has ended."""
        return int(await self._redis.zcard(default_queue_name))


@dataclass(frozen=True, slots=True)
class Feeds:
    """How each system is fed, over connections of one process."""

    arqive: ArqiveFeed
    arq: ArqFeed

    def of(self, system: System) -> Feed:
        """The feed of a system."""
        return self.arq if system.is_arq else self.arqive


@asynccontextmanager
async def open_feeds(redis_url: str) -> AsyncIterator[Feeds]:
    """Connect to Redis."""
    pool: ConnectionPool = ConnectionPool.from_url(redis_url)
    plain = ArqRedis(pool)
    try:
        async with open_redis(redis_url) as redis:
            yield Feeds(ArqiveFeed(redis), ArqFeed(plain))
    finally:
        await plain.aclose()
        await pool.disconnect()


def new_job_id() -> TaskId:
    """An id of the form that tasks have; arq gets the same."""
    return TaskId(str(ObjectId()))


def _chunks(count: int) -> Iterator[list[TaskId]]:
    ids = (new_job_id() for _ in range(count))
    while chunk := list(islice(ids, CHUNK)):
        yield chunk
