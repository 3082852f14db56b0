"""How soon an idle worker starts a single job, and what it costs while there is none."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from bench.counters import count
from bench.engine.drain import cpu_seconds, until_left
from bench.engine.fleet import open_fleet
from bench.engine.systems import Feeds, System, new_job_id
from bench.figures import Latency

WARM_UP = 10
GAP_S = (0.01, 0.06)
SETTLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Idle:
    """What workers cost while they have nothing to do.

    Attributes:
        commands: Redis commands a second, those inside scripts counted.
        sent: Redis commands a second that came over a connection.
        cpu: Share of one core that the processes use.
        by_command: Calls by command over the whole time.
        seconds: How long was measured.
    """

    commands: float
    sent: float
    cpu: float
    by_command: dict[str, int]
    seconds: float


@dataclass(frozen=True, slots=True)
class Pickup:
    """One idle worker of a system: from just before the enqueue call to the handler's first line, and at rest."""

    latency: Latency
    idle: Idle


async def measure_pickup(
    system: System, feeds: Feeds, redis: Redis, redis_url: str, *, jobs: int, idle_s: float
) -> Pickup:
    """Enqueue single jobs at random moments, then none at all for a while."""
    feed = feeds.of(system)
    enqueued: dict[str, float] = {}
    async with open_fleet(system, 1, redis_url, keep_starts=True) as fleet:
        await fleet.ready()
        fleet.go()
        for number in range(WARM_UP + jobs):
            await asyncio.sleep(random.uniform(*GAP_S))
            job_id = new_job_id()
            if number >= WARM_UP:
                enqueued[job_id] = time.monotonic()
            await feed.enqueue(job_id)
        await until_left(feed, 0)
        idle = await measure_idle(redis, fleet.pids, in_scripts=not system.is_arq, seconds=idle_s)
        await fleet.close()
    # Both processes read the same clock: CLOCK_MONOTONIC is the system's on Linux, not the process'.
    return Pickup(Latency.of_seconds([fleet.starts[job_id] - at for job_id, at in enqueued.items()]), idle)


async def measure_idle(redis: Redis, pids: Sequence[int], *, in_scripts: bool, seconds: float) -> Idle:
    """Count for a while what processes do without being asked.

    Args:
        redis: What they talk to; nobody else may.
        pids: The processes.
        in_scripts: Whether they run Arqive's scripts.
        seconds: How long to count.
    """
    await asyncio.sleep(SETTLE_S)
    before, cpu_before, started = await count(redis), cpu_seconds(pids), time.perf_counter()
    await asyncio.sleep(seconds)
    after, cpu_after, took = await count(redis), cpu_seconds(pids), time.perf_counter() - started
    work = after.since(before)
    inside = work.in_scripts if in_scripts else 0
    return Idle(
        commands=work.commands / took,
        sent=(work.commands - inside) / took,
        cpu=(cpu_after - cpu_before) / took,
        by_command=work.by_command,
        seconds=took,
    )
