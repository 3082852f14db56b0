"""How the service is: health and counts."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum

from app.core.clock import utc_now
from app.core.errors import QueueUnavailable, StoreUnavailable
from app.core.states import Status
from app.services.backend import Backend
from app.services.queues import look
from app.store.counts import CountStore

PATIENCE_S = 2.0
"""How long a check waits for an answer."""


class HealthStatus(StrEnum):
    """How well the service works."""

    OK = "ok"
    DEGRADED = "degraded"  # tasks are accepted and kept, but run late or not at all now
    DOWN = "down"  # tasks are not accepted


@dataclass(frozen=True, slots=True)
class Health:
    """The whole, and one line a part: `ok`, or what is wrong."""

    status: HealthStatus
    mongo: str
    redis: str
    workers: str


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One queue. `oldest_ready_seconds` is how long the oldest ready task has been waiting; 0 when none is."""

    ready: int
    deferred: int
    running: int
    oldest_ready_seconds: float
    paused: bool


@dataclass(frozen=True, slots=True)
class Stats:
    """Tasks by status, queues by name, and how many workers are alive.

    Attributes:
        tasks: How many have each status; empty while the first count goes on.
        queues: What waits and runs in each; empty likewise.
        workers: How many are alive.
        tasks_age_seconds: How old the counts in `tasks` are; null when there are none.
        queues_age_seconds: How old those in `queues` are; null when they are not counted yet.
    """

    tasks: dict[Status, int]
    queues: dict[str, QueueStats]
    workers: int
    tasks_age_seconds: float | None = 0.0
    queues_age_seconds: float | None = 0.0


async def check_mongo(backend: Backend) -> str:
    """`ok`, or what is wrong with MongoDB."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await backend.mongo.ping()
    except (StoreUnavailable, TimeoutError):
        return "MongoDB does not answer"
    return "ok"


async def check_redis(backend: Backend) -> str:
    """`ok`, or what is wrong with Redis."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await backend.queue.ping()
    except (QueueUnavailable, TimeoutError):
        return "Redis does not answer"
    return "ok"


async def check_health(backend: Backend) -> Health:
    """Down without MongoDB; degraded without Redis or without a worker; else ok."""
    mongo, redis = await asyncio.gather(check_mongo(backend), check_redis(backend))
    if mongo != "ok":
        return Health(HealthStatus.DOWN, mongo, redis, "unknown without MongoDB")
    try:
        alive = await backend.workers.alive(now=utc_now(), within=backend.worker_silence)
    except StoreUnavailable:
        return Health(HealthStatus.DOWN, "MongoDB does not answer", redis, "unknown without MongoDB")
    workers = "ok" if alive else "no worker is alive"
    healthy = redis == "ok" and workers == "ok"
    return Health(HealthStatus.OK if healthy else HealthStatus.DEGRADED, mongo, redis, workers)


async def collect_stats(backend: Backend) -> Stats:
    """Counts, none of which makes an answer wait for a look at all tasks once there has been one.

    Raises:
        StoreUnavailable: MongoDB cannot serve.
    """
    overview = await look(backend)
    statuses = await backend.figures.statuses.get(CountStore(backend.mongo).by_status)
    return Stats(
        tasks={} if statuses is None else statuses.figures,
        tasks_age_seconds=None if statuses is None else statuses.age.total_seconds(),
        queues={
            queue.name: QueueStats(queue.ready, queue.deferred, queue.running, queue.oldest_ready_seconds, queue.paused)
            for queue in (overview.queues() if overview.figures else [])
        },
        queues_age_seconds=overview.age_s,
        workers=len(overview.workers),
    )
