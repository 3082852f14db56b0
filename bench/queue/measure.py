"""Fill a queue, let one worker empty it, queue single jobs to it at rest; for every system alike."""

import asyncio
import contextlib
import json
import os
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from redis.asyncio import Redis

from bench.counters import count
from bench.processes import ProgramError, reason_in, running
from bench.queue.peers import PEERS, Peer
from bench.rounds import Rounds
from bench.servers import Servers

MOMENT = struct.Struct("d")
LOOK_S = 0.02
START_S = 60.0
"""A first start may have to fetch packages."""

MOST_S = 20.0
"""No round is watched longer: what is done by then is the figure."""

REST_S = 1.5
"""A worker that has just come up is at rest after that."""


@dataclass(frozen=True, slots=True)
class Emptied:
    """One queue emptied by one worker.

    Attributes:
        jobs: How many were started.
        seconds: From the first until the last.
        commands: Redis commands a job, those inside scripts counted; with those of the worker's start.
    """

    jobs: int
    seconds: float
    commands: float

    @property
    def rate(self) -> float:
        """Jobs a second."""
        return self.jobs / self.seconds


@dataclass(slots=True)
class QueueLayer:
    """All that was found: how fast, and the seconds that single jobs took until they were started."""

    drains: Rounds[Peer, Emptied]
    pickups: Rounds[Peer, list[float]]


async def measure_queue(
    servers: Servers, redis: Redis, layer: QueueLayer, *, jobs_s: float, pickups: int, tell: Callable[[str], None]
) -> None:
    """One round: each system in turn."""
    for peer in PEERS:
        missing = peer.why_not(tell)
        if missing:
            layer.drains.failed[peer] = layer.pickups.failed[peer] = missing
            continue
        bench = _Bench(peer, servers, redis)
        known = [found.rate for found in layer.drains.found[peer]]
        drain = partial(bench.drain, known[-1] if known else peer.expected, jobs_s)
        emptied = await layer.drains.add(peer, drain, tell)
        picked = await layer.pickups.add(peer, partial(bench.pick, pickups), tell)
        if emptied and picked:
            p50 = sorted(picked)[len(picked) // 2] * 1000
            tell(f"queue: {peer.label}: {emptied.rate:,.0f} jobs/s ({emptied.jobs:,}), pickup {p50:.1f} ms")


class _Bench:
    """Runs one system."""

    def __init__(self, peer: Peer, servers: Servers, redis: Redis) -> None:
        self._peer = peer
        self._servers = servers
        self._redis = redis
        self._tape = servers.directory / "tape"

    async def drain(self, expected: float, jobs_s: float) -> Emptied:
        """Empty a queue; one that was empty in half the time wanted is filled again with more."""
        while True:
            emptied = await self._drain(max(20, round(expected * jobs_s)))
            if emptied.seconds >= jobs_s / 2 or emptied.rate <= expected:
                return emptied
            expected = emptied.rate

    async def _drain(self, jobs: int) -> Emptied:
        await self._reset()
        await self._run("fill", str(jobs))
        before = await count(self._redis)
        async with self._worker() as check:
            await self._watch(jobs, check)
            after = await count(self._redis)
        moments = sorted(moment for (moment,) in MOMENT.iter_unpack(self._tape.read_bytes()))
        if len(moments) < 2:
            raise ProgramError(f"{len(moments)} of {jobs} jobs were started")
        commands = after.since(before).commands / len(moments)
        return Emptied(len(moments) - 1, moments[-1] - moments[0], commands)

    async def _watch(self, jobs: int, check: Callable[[], None]) -> None:
        """Return when all are started, or enough time has gone by since the first."""
        begun, first = time.monotonic(), None
        while (done := self._done()) < jobs:
            check()
            now = time.monotonic()
            first = now if first is None and done else first
            if (first is None and now - begun > START_S) or (first is not None and now - first > MOST_S):
                return
            await asyncio.sleep(LOOK_S)

    async def pick(self, number: int) -> list[float]:
        """Seconds until single jobs were started by a worker at rest."""
        await self._reset()
        async with self._worker():
            await asyncio.sleep(REST_S)
            found: list[float] = json.loads(await self._run("pick", str(number)))
        return found

    def _done(self) -> int:
        return self._tape.stat().st_size // MOMENT.size

    async def _reset(self) -> None:
        await self._redis.flushdb()
        self._tape.write_bytes(b"")

    @property
    def _environment(self) -> dict[str, str]:
        return {"REDIS_URL": self._servers.redis_url, "TAPE": str(self._tape), **self._peer.variables()}

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[Callable[[], None]]:
        name = f"queue-{Path(self._peer.script).stem}"
        command = self._peer.command("work")
        async with running(name, command, self._servers.directory, self._environment, stop_s=0) as program:
            yield program.check

    async def _run(self, *arguments: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *self._peer.command(*arguments),
            env={**os.environ, **self._environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(START_S + MOST_S):
                output, errors = await process.communicate()
        except TimeoutError as error:
            raise ProgramError(f"{arguments[0]} did not end in time") from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        if process.returncode:
            raise ProgramError(f"{arguments[0]} failed: {reason_in(errors)}")
        return output
