"""One stack, running on the servers: its processes, its tasks, what they cost."""

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pymongo import MongoClient
from redis.asyncio import Redis

from app.embedded.servers import free_port
from bench.load.__main__ import Options
from bench.load.connection import Connection, connect, get, post
from bench.meter import Meter
from bench.processes import Program, ProgramError, cpu_seconds, reason_in, resident_mib, running
from bench.servers import Servers
from bench.service.stacks import Stack, Work

WARM_UP = 5
WARM_UP_CLIENTS = 50
WARM_UP_BURST = 200
"""Tasks at once, after those one by one: drivers open their connections when they are first needed."""
ASK_S = 0.005
WAIT_S = 20
LOOK_S = 0.01
QUIET_LOOK_S = 0.15
QUIET_CPU = 0.2
QUIET_S = 20.0
"""All processes together use less than this share of a core in two looks: what they do once, such as importing and
making indexes, is over. Whether it is or not, after so many seconds the trial goes on."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a load generator reached.

    Attributes:
        answered: Requests with an answer of 2xx.
        seconds: From the first request until the last answer.
        p50_ms: Of the time until the answer.
        p99_ms: The same.
        cpu_s: CPU seconds of the generator.
    """

    answered: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_s: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds


async def send_load(options: Options) -> Load:
    """Send requests from a process of its own.

    Raises:
        ProgramError: the generator has failed, or a request was refused.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.load", options.to_json()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for this process, which then ends it
    )
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise ProgramError(f"the load generator failed: {reason_in(errors)}")
    totals = json.loads(output)
    if totals["refused"]:
        raise ProgramError(f"{totals['refused']} of {totals['answered'] + totals['refused']} requests were refused")
    return Load(totals["answered"], totals["seconds"], totals["p50_ms"], totals["p99_ms"], totals["cpu_s"])


@dataclass(frozen=True, slots=True)
class Lab:
    """What every trial stands on."""

    servers: Servers
    redis: Redis
    mongo: MongoClient[dict[str, Any]]
    meter: Meter


class Trial:
    """A stack that runs."""

    def __init__(
        self, stack: Stack, lab: Lab, database: str, url: str, web: Program, workers: Sequence[Program]
    ) -> None:
        self.stack = stack
        self.database = database
        self.url = url
        self._lab = lab
        self._web = web
        self._workers = workers

    @property
    def roles(self) -> Mapping[str, list[int]]:
        """Process ids by role."""
        return {"web": [self._web.pid], "worker": [worker.pid for worker in self._workers]}

    def memory_mib(self) -> dict[str, float]:
        """What each process holds: web, one worker, and the servers that are on this machine."""
        pids = {"web": self._web.pid, "worker": self._workers[0].pid} if self._workers else {"web": self._web.pid}
        return {role: resident_mib([pid]) for role, pid in {**pids, **self._lab.meter.server_pids}.items()}

    def hold_workers(self) -> None:
        """Freeze them: what is accepted from now on waits."""
        for worker in self._workers:
            worker.hold()

    def release_workers(self) -> None:
        """Let them go on."""
        for worker in self._workers:
            worker.go_on()

    def check(self) -> None:
        """Raise ProgramError if a process has ended."""
        for program in (self._web, *self._workers):
            program.check()

    async def until_quiet(self) -> None:
        """Return once the processes have nothing to do."""
        pids = [pid for of_role in self.roles.values() for pid in of_role]
        end, used, quiet = time.perf_counter() + QUIET_S, cpu_seconds(pids), 0
        while quiet < 2 and time.perf_counter() < end:
            await asyncio.sleep(QUIET_LOOK_S)
            self.check()
            now = cpu_seconds(pids)
            quiet = quiet + 1 if now - used < QUIET_CPU * QUIET_LOOK_S else 0
            used = now

    async def load(self, options: Options) -> Load:
        """`send_load`, and it is no wonder that it fails when a process has ended."""
        try:
            return await send_load(options)
        finally:
            self.check()

    async def accept(self, clients: int, seconds: float, work: Work = Work.NOTHING, **more: Any) -> Load:
        """POST single tasks as fast as the clients are answered, or at a rate."""
        return await self.load(Options(f"{self.url}/tasks", work.value, clients, seconds, **more))

    async def left(self) -> int:
        """How many tasks still wait or run."""
        async with self._lab.redis.pipeline(transaction=False) as pipe:
            for command, key in self.stack.sizes:
                pipe.execute_command(command, key)
            return sum(await pipe.execute())

    async def until_drained(self, seconds: float) -> bool:
        """Whether nothing waits or runs any more before that many seconds are over."""
        end = time.perf_counter() + seconds
        while await self.left():
            if time.perf_counter() > end:
                return False
            self.check()
            await asyncio.sleep(LOOK_S)
        return True

    def completed(self) -> int:
        """How many tasks are recorded as completed."""
        return self._lab.mongo[self.database].tasks.count_documents({"status": "completed"})

    async def one_task(self, connection: Connection) -> float:
        """Seconds from just before the POST until the completed task has been read.

        Raises:
            ProgramError: it has not completed in time.
        """
        started = time.perf_counter()
        _, body = await connection.request(post(f"{self.url}/tasks", Work.NOTHING.value.encode()))
        task: dict[str, Any] = json.loads(body)
        look = get(f"{self.url}/tasks/{task['id']}" + ("?wait=10" if self.stack.waits else ""))
        while task["status"] != "completed":
            if time.perf_counter() - started > WAIT_S:
                raise ProgramError(f"a task is still {task['status']} after {WAIT_S} s")
            if not self.stack.waits:
                await asyncio.sleep(ASK_S)
            task = json.loads((await connection.request(look))[1])
        return time.perf_counter() - started

    async def tasks_one_by_one(self, count: int, gap_s: tuple[float, float]) -> list[float]:
        """Seconds that single tasks took, with a pause of random length before each."""
        connection = await connect(self.url)
        try:
            durations = []
            for _ in range(count):
                await asyncio.sleep(random.uniform(*gap_s))
                durations.append(await self.one_task(connection))
        finally:
            connection.close()
        return durations


@asynccontextmanager
async def started(stack: Stack, lab: Lab, *, workers: int = 1, database: str = "") -> AsyncIterator[Trial]:
    """A stack on an empty Redis, warm; all that it kept is gone at the end, unless the database was named.

    Args:
        stack: Which.
        lab: Its servers.
        workers: Worker processes.
        database: Where it keeps tasks; a new one, unless named.

    Raises:
        ProgramError: a process does not start, or its tasks do not complete.
    """
    await lab.redis.flushdb()
    name = database or f"{lab.servers.database}_{random.randrange(16**8):08x}"
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "MONGO_URL": lab.servers.mongo_url,
        "MONGO_DATABASE": name,
        "REDIS_URL": lab.servers.redis_url,
        "PORT": str(port),
        **dict(stack.environment),
    }
    async with AsyncExitStack() as undo:
        if not database:
            undo.callback(lab.mongo.drop_database, name)

        async def run(role: str, command: Sequence[str]) -> Program:
            return await undo.enter_async_context(
                running(f"{stack.key}-{role}", command, lab.servers.directory, environment)
            )

        web = await run("web", stack.web)
        await web.answers_at(url)
        trial = Trial(stack, lab, name, url, web, [await run(f"worker-{n}", stack.worker) for n in range(workers)])
        if workers:
            await trial.tasks_one_by_one(WARM_UP, (0.0, 0.01))
        await trial.accept(WARM_UP_CLIENTS, QUIET_S, most=WARM_UP_BURST)
        if workers and not await trial.until_drained(QUIET_S):
            raise ProgramError(f"a burst of {WARM_UP_BURST} tasks was not done after {QUIET_S:g} s")
        await trial.until_quiet()
        yield trial
