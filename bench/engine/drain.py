"""How fast workers empty a queue of jobs that do nothing."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import psutil
from redis.asyncio import Redis

from bench.counters import count
from bench.engine.fleet import open_fleet
from bench.engine.systems import Feed, Feeds, System
from bench.figures import spread

LOOK_S = 0.005
POLLS = 5
"""A round of stock arq lasts as many polls at least: it starts a handful of jobs at each."""

PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Setup:
    """What is varied: the system, its worker processes, and ids in the queue whose time is far off."""

    system: System
    workers: int
    deferred: int


@dataclass(frozen=True, slots=True)
class Round:
    """One queue emptied.

    Attributes:
        jobs: How many.
        seconds: From the word go until nothing waits or runs.
        commands: Redis commands a job, those inside scripts counted.
        sent: Redis commands a job that came over a connection.
        redis_us: CPU microseconds of Redis a job.
        worker_us: CPU microseconds of all workers a job.
    """

    jobs: int
    seconds: float
    commands: float
    sent: float
    redis_us: float
    worker_us: float

    @property
    def rate(self) -> float:
        """Jobs a second."""
        return self.jobs / self.seconds


@dataclass(frozen=True, slots=True)
class Drained:
    """The medians of all rounds of a setup; `spread` is the largest distance of a round's rate from the median."""

    rate: float
    spread: float
    commands: float
    sent: float
    redis_us: float
    worker_us: float
    rounds: int

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> "Drained":
        """Summarize."""
        rates = [each.rate for each in rounds]
        return cls(
            rate=median(rates),
            spread=spread(rates),
            commands=median(each.commands for each in rounds),
            sent=median(each.sent for each in rounds),
            redis_us=median(each.redis_us for each in rounds),
            worker_us=median(each.worker_us for each in rounds),
            rounds=len(rounds),
        )


class Drains:
    """Runs rounds and keeps what they gave.

    Args:
        redis_url: A Redis that holds nothing else.
        feeds: Fill its queues.
        redis: Looks at them.
        seconds: How long a round should take; the number of jobs is chosen for it from the rounds before.
    """

    def __init__(self, redis_url: str, feeds: Feeds, redis: Redis, *, seconds: float) -> None:
        self._redis_url = redis_url
        self._feeds = feeds
        self._redis = redis
        self._seconds = seconds
        self.rounds: dict[Setup, list[Round]] = defaultdict(list)
        self._rates: dict[tuple[System, int], float] = {}

    async def run(self, setup: Setup, tell: Callable[[str], None]) -> None:
        """One round; one that was over in half the time wanted is made again with more jobs."""
        seconds = max(self._seconds, POLLS * setup.system.poll_s)
        while True:
            key = (setup.system, setup.workers)
            jobs = round(self._rates.get(key, setup.system.expected) * seconds)
            done = await self._once(setup, jobs)
            self._rates[key] = done.rate
            if done.seconds >= seconds / 2:
                break
        self.rounds[setup].append(done)
        tell(
            f"{setup.system.label}: {setup.workers} workers, {setup.deferred:,} deferred: "
            f"{done.rate:,.0f} jobs/s ({jobs:,} in {done.seconds:.2f} s)"
        )

    def summary(self) -> dict[Setup, Drained]:
        """The medians."""
        return {setup: Drained.of(rounds) for setup, rounds in self.rounds.items()}

    async def _once(self, setup: Setup, jobs: int) -> Round:
        feed = self._feeds.of(setup.system)
        async with open_fleet(setup.system, setup.workers, self._redis_url) as fleet:
            await feed.preload(jobs)
            await fleet.ready()
            before, cpu_before = await count(self._redis), cpu_seconds(fleet.pids)
            started = time.perf_counter()
            fleet.go()
            await until_left(feed, setup.deferred)
            seconds = time.perf_counter() - started
            after, cpu_after = await count(self._redis), cpu_seconds(fleet.pids)
            await fleet.close()
        if fleet.count != jobs:
            raise RuntimeError(f"{setup.system.label} ran {fleet.count} of {jobs} jobs")
        work = after.since(before)
        in_scripts = 0 if setup.system.is_arq else work.in_scripts
        return Round(
            jobs=jobs,
            seconds=seconds,
            commands=work.commands / jobs,
            sent=(work.commands - in_scripts) / jobs,
            redis_us=work.cpu_s / jobs * 1e6,
            worker_us=(cpu_after - cpu_before) / jobs * 1e6,
        )


async def until_left(feed: Feed, left: int) -> None:
    """Return once no more than `left` jobs wait or run.

    Raises:
        TimeoutError: that takes longer than any round should.
    """
    async with asyncio.timeout(PATIENCE_S):
        while await feed.left() > left:  # noqa: ASYNC110 - another process empties it
            await asyncio.sleep(LOOK_S)


def cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time that processes have used so far."""
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(each.user + each.system for each in times)
