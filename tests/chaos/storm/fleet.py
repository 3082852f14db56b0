"""The processes and servers of the storm: started, hurt, started again."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import redis

from app.embedded.process import ChildProcess
from app.embedded.servers import free_port, start_mongo, start_redis
from settings import Settings, load_settings
from tests.chaos.storm.plan import PATIENT
from tests.chaos.storm.schedule import Fault
from tests.processes import environment
from tests.waiting import wait_until

LEASE_S = 2.5
GRACE_S = 2.0
MAX_LOSSES = 10
STOP_PATIENCE_S = 60.0
"""A process that has not stopped this long after SIGTERM, with whatever is away meanwhile, does not stop."""

START_S = 60.0
WATCH_S = 0.5

READY = ("listening on", "serves")


@dataclass
class Place:
    """One place in the fleet; whoever fills it is replaced when it was ended."""

    name: str
    start: Callable[[], Awaitable[ChildProcess]]
    breaches: list[str]
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    starts: int = 0
    process: ChildProcess | None = None
    log: Path | None = None

    async def fill(self) -> None:
        """Start a process."""
        self.process = await self.start()
        self.starts += 1

    def is_ready(self) -> bool:
        """Whether the process has said in its log that it serves."""
        return self.log is not None and any(word in self.log.read_text() for word in READY)

    async def check(self) -> None:
        """Nobody ends by itself, whatever is away."""
        if self.process is not None and self.process.exit_code is not None:
            self.breaches.append(f"{self.name} (process {self.process.pid}) {self.process.how_it_ended()} by itself")
            await self.fill()

    async def kill(self, down_s: float) -> None:
        """SIGKILL, and a new one after a while."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()
        await asyncio.sleep(down_s)
        await self.fill()

    async def terminate(self, down_s: float) -> None:
        """SIGTERM, and a new one a while after it has ended."""
        await self.end()
        await asyncio.sleep(down_s)
        await self.fill()

    async def end(self) -> None:
        """SIGTERM ends it, with code 0 unless it was still being loaded."""
        assert self.process is not None
        ready = self.is_ready()
        code = await self.process.stop(STOP_PATIENCE_S)
        if code != 0 and (ready or code != -signal.SIGTERM):
            self.breaches.append(f"{self.name} (process {self.process.pid}) after SIGTERM: exit code {code}")

    async def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(self.process.pid, signal.SIGCONT)


class Fleet:
    """Two servers, webs and workers.

    Attributes:
        breaches: What no process may do, and one did.
        urls: Where the webs listen.
        settings: Those of every process.
    """

    def __init__(self, directory: Path, *, webs: int, workers: int) -> None:
        self.directory = directory
        self.runs = directory / "runs"
        self.logs = directory / "logs"
        self.breaches: list[str] = []
        self.events: list[str] = []
        mongo_port, redis_port, *ports = (free_port() for _ in range(2 + webs))
        self.urls = [f"http://127.0.0.1:{port}" for port in ports]
        self.settings = _settings(mongo_port, redis_port)
        self.mongo = self._place("mongo", lambda: _mongo(directory, mongo_port))
        self.redis = self._place("redis", lambda: _redis(directory, redis_port))
        self.webs = [self._member("web", number, {"PORT": port}) for number, port in enumerate(ports)]
        self.workers = [self._member("worker", number, {"CONCURRENCY": 40}) for number in range(workers)]
        self._latecomer = self._member("worker", workers, {"CONCURRENCY": 40, "QUEUES": PATIENT})
        self._began_at = time.monotonic()

    def _place(self, name: str, start: Callable[[], Awaitable[ChildProcess]]) -> Place:
        return Place(name, start, self.breaches)

    def _member(self, role: str, number: int, changes: dict[str, object]) -> Place:
        name = f"{role}-{number}"

        async def start() -> ChildProcess:
            env = environment(self.settings, **changes, MAX_LOSSES=MAX_LOSSES, STORM_RUNS=self.runs)
            log = self.logs / f"{name}-{place.starts:02}.log"
            command = [sys.executable, "-m", "app", role]
            place.log = log
            return ChildProcess(name, command, env=env, log=log, death_signal=signal.SIGKILL)

        place = self._place(name, start)
        return place

    @property
    def members(self) -> list[Place]:
        """Webs and workers."""
        return [*self.webs, *self.workers]

    async def start(self) -> None:
        """Start all; the storm begins when they serve."""
        self.runs.mkdir()
        self.logs.mkdir()
        for place in (self.mongo, self.redis, *self.members):
            await place.fill()
        await wait_until(lambda: all(place.is_ready() for place in self.members), START_S, "not all have started")
        self._began_at = time.monotonic()

    async def welcome_latecomer(self) -> None:
        """Start the worker that serves those who had to wait for the end of the storm."""
        await self._latecomer.fill()
        self.workers.append(self._latecomer)

    async def hurt(self, fault: Fault) -> None:
        """Do what the fault says, at its time; one after another where two want the same victim."""
        await asyncio.sleep(self._began_at + fault.at_s - time.monotonic())
        verb, role = fault.kind.split()
        victim = {"mongo": self.mongo, "redis": self.redis}.get(role)
        if victim is None:
            victim = (self.webs if role == "web" else self.workers)[fault.target]
        async with victim.lock:
            await victim.check()
            assert victim.process is not None
            self.events.append(f"{self._now()}  {verb} {victim.name}, process {victim.process.pid}")
            match verb:
                case "kill":
                    await victim.kill(fault.lasts_s)
                case "terminate":
                    await victim.terminate(fault.lasts_s)
                case "freeze":
                    await victim.freeze(fault.lasts_s)
                case "flush":
                    await asyncio.to_thread(self._flush)
            self.events.append(f"{self._now()}  {victim.name} is back as process {victim.process.pid}")

    def _flush(self) -> None:
        with redis.Redis.from_url(self.settings.redis_url.get_secret_value()) as client:
            client.flushall()

    def _now(self) -> str:
        return f"{time.strftime('%H:%M:%S')} {time.monotonic() - self._began_at:6.1f} s"

    async def watch(self) -> None:
        """See who ends by itself, until cancelled."""
        while True:
            for place in self.members:
                if not place.lock.locked():
                    async with place.lock:
                        await place.check()
            await asyncio.sleep(WATCH_S)

    async def stop(self) -> None:
        """End webs and workers politely."""
        await asyncio.gather(*(place.end() for place in self.members))

    async def clear(self) -> None:
        """End whatever is left at once."""
        for place in (*self.members, self.redis, self.mongo):
            if place.process is not None:
                await place.process.stop(0)


def _settings(mongo_port: int, redis_port: int) -> Settings:
    return load_settings(
        mongo_url=f"mongodb://127.0.0.1:{mongo_port}",
        redis_url=f"redis://127.0.0.1:{redis_port}/0",
        mongo_database="storm",
        health_port=0,
        task_modules="tests.storm_tasks",
        lease_seconds=LEASE_S,
        shutdown_grace_seconds=GRACE_S,
    )


async def _mongo(directory: Path, port: int) -> ChildProcess:
    return (await start_mongo(directory, port)).process


async def _redis(directory: Path, port: int) -> ChildProcess:
    return (await start_redis(directory, port, persistent=False)).process
