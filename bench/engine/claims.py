"""What one claim of 50 ids costs, whatever else the queue holds."""

import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

from arq.connections import ArqRedis

from app.core.attempt import Claim
from app.core.clock import utc_now
from app.queue.scripts import Ending
from app.queue.task_queue import Entry, TaskQueue
from app.queue.worker import BATCH
from bench.counters import count
from bench.engine.systems import FAR, new_job_id
from bench.figures import Latency

LEASE = timedelta(minutes=10)
RUNNING = 10_000
CLAIMS_A_ROUND = 10


@dataclass(frozen=True, slots=True)
class Crowd:
    """What a queue holds beside the ids that are claimed.

    Attributes:
        queue: Its name.
        label: What people call it.
        deferred: Ids whose time is far off.
        running: Ids under a lease.
    """

    queue: str
    label: str
    deferred: int = 0
    running: int = 0


@dataclass(frozen=True, slots=True)
class ClaimCost:
    """One call that takes 50 ids: as the worker sees it, and the milliseconds that its script held Redis (median)."""

    seen: Latency
    script_ms: float


def crowds(deferred: int) -> tuple[Crowd, ...]:
    """The queues to compare; the first is the empty one."""
    return (
        Crowd("claim-alone", "nothing else"),
        Crowd("claim-deferred", f"{deferred:,} deferred", deferred=deferred),
        Crowd("claim-running", f"{RUNNING:,} running", running=RUNNING),
    )


async def measure_claims(redis: ArqRedis, *, rounds: int, deferred: int) -> dict[Crowd, ClaimCost]:
    """Claim from each queue in turn, so that a disturbance meets them all alike."""
    queue = TaskQueue(redis)
    seen: dict[Crowd, list[float]] = defaultdict(list)
    scripts_ms: dict[Crowd, list[float]] = defaultdict(list)
    all_crowds = crowds(deferred)
    for crowd in all_crowds:
        await _dispatch(queue, crowd.queue, crowd.deferred, FAR)
        await _dispatch(queue, crowd.queue, crowd.running, timedelta(0))
        taken = 0
        while taken < crowd.running:
            claim, _ = await queue.claim(crowd.queue, limit=500, lease=LEASE)
            taken += len(claim.task_ids)
    for _ in range(rounds):
        for crowd in all_crowds:
            await _dispatch(queue, crowd.queue, CLAIMS_A_ROUND * BATCH, timedelta(0))
            before = await count(redis)
            claims = []
            for _ in range(CLAIMS_A_ROUND):
                started = time.perf_counter()
                claim, _ = await queue.claim(crowd.queue, limit=BATCH, lease=LEASE)
                seen[crowd].append(time.perf_counter() - started)
                claims.append(claim)
            scripts_ms[crowd].append((await count(redis)).since(before).script_ms)
            await _settle(queue, claims)
    return {crowd: ClaimCost(Latency.of_seconds(seen[crowd]), median(scripts_ms[crowd])) for crowd in all_crowds}


async def _dispatch(queue: TaskQueue, name: str, number: int, delay: timedelta) -> None:
    run_at = utc_now() + delay
    for start in range(0, number, 1000):
        size = min(1000, number - start)
        await queue.dispatch(Entry(new_job_id(), name, run_at, 0) for _ in range(size))


async def _settle(queue: TaskQueue, claims: list[Claim]) -> None:
    for claim in claims:
        if len(claim.task_ids) != BATCH:
            raise RuntimeError(f"a claim of {BATCH} took {len(claim.task_ids)} ids")
        await queue.settle(claim.queue, [Ending(task_id, claim.token) for task_id in claim.task_ids])
