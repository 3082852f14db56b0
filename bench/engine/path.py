"""The whole path at idle: from POST until `completed` has been read back."""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from redis.asyncio import Redis

from app.embedded.servers import free_port
from bench.engine.pickup import Idle, measure_idle
from bench.figures import Latency
from bench.servers import Servers

START_S = 30.0
STOP_S = 5.0
POLL_S = 0.005
WAIT_S = 10
GAP_S = (0.0, 0.5)
"""Between tasks: as long as stock arq's poll, so that tasks do not fall in step with it."""

WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Stack:
    """A web and a worker process.

    Attributes:
        label: What people call it.
        web: Module and arguments of the web process.
        worker: The same of the worker.
        waits: Whether its GET waits for the end; otherwise the client asks every 5 ms.
        options: Environment of both processes.
    """

    label: str
    web: tuple[str, ...]
    worker: tuple[str, ...]
    waits: bool
    options: tuple[tuple[str, str], ...] = ()


_PLAIN = (("bench.plain.web",), ("bench.plain.worker",))
ARQIVE = Stack(
    "Arqive",
    ("app", "web"),
    ("app", "worker"),
    waits=True,
    options=(("HEALTH_PORT", "0"), ("LOG_LEVEL", "WARNING"), ("HOST", "127.0.0.1")),
)
PLAIN = Stack(
    "aiohttp + arq default + one Motor write a step",
    *_PLAIN,
    waits=False,
    options=(("QUEUE", "arq:queue:plain"),),
)
PLAIN_TUNED = Stack(
    "the same, arq tuned (poll 10 ms)",
    *_PLAIN,
    waits=False,
    options=(("QUEUE", "arq:queue:plain-tuned"), ("POLL_DELAY", "0.01"), ("MAX_JOBS", "1000")),
)
STACKS = (ARQIVE, PLAIN, PLAIN_TUNED)


@dataclass(frozen=True, slots=True)
class PathResult:
    """The latency of each stack, and what Arqive's worker costs at rest, MongoDB included in its CPU time."""

    latency: dict[Stack, Latency]
    idle: Idle


async def measure_path(servers: Servers, redis: Redis, *, tasks: int, idle_s: float) -> PathResult:
    """Send single tasks to each stack in turn, so that a disturbance meets them all alike."""
    durations: dict[Stack, list[float]] = {stack: [] for stack in STACKS}
    async with aiohttp.ClientSession() as client:
        async with AsyncExitStack() as running:
            ports = {stack: (await running.enter_async_context(_started(stack, servers)))[0] for stack in STACKS}
            for stack in STACKS:
                await _until_it_works(client, stack, ports[stack])
            for _ in range(tasks):
                for stack in STACKS:
                    await asyncio.sleep(random.uniform(*GAP_S) if stack is PLAIN else GAP_S[0])
                    durations[stack].append(await _one_task(client, stack, ports[stack]))
        async with _started(ARQIVE, servers) as (port, pids):
            await _until_it_works(client, ARQIVE, port)
            # Its loops that come round every few seconds are to be in it a few times.
            idle = await measure_idle(redis, pids[1:], in_scripts=True, seconds=2 * idle_s)
    return PathResult({stack: Latency.of_seconds(values) for stack, values in durations.items()}, idle)


async def _one_task(client: aiohttp.ClientSession, stack: Stack, port: int) -> float:
    """Seconds from just before the POST until the completed task has been read."""
    tasks = f"http://127.0.0.1:{port}/tasks"
    started = time.perf_counter()
    async with client.post(tasks, json={"type": "echo", "payload": {"number": 1}}) as response:
        response.raise_for_status()
        task: dict[str, Any] = json.loads(await response.read())
    where = f"{tasks}/{task['id']}" + (f"?wait={WAIT_S}" if stack.waits else "")
    while task["status"] != "completed":
        if time.perf_counter() - started > WAIT_S:
            raise RuntimeError(f"{stack.label}: a task is still {task['status']} after {WAIT_S} s")
        if not stack.waits:
            await asyncio.sleep(POLL_S)
        async with client.get(where) as response:
            response.raise_for_status()
            task = json.loads(await response.read())
    return time.perf_counter() - started


async def _until_it_works(client: aiohttp.ClientSession, stack: Stack, port: int) -> None:
    """Return once the web process accepts connections and a few tasks have gone through."""
    async with asyncio.timeout(START_S):
        while True:
            try:
                async with client.get(f"http://127.0.0.1:{port}/"):
                    break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
    for _ in range(WARM_UP):
        await _one_task(client, stack, port)


@asynccontextmanager
async def _started(stack: Stack, servers: Servers) -> AsyncIterator[tuple[int, list[int]]]:
    """The port and the process ids, web first; both processes are ended at the end."""
    port = free_port()
    environment = {
        **os.environ,
        "MONGO_URL": servers.mongo_url,
        "MONGO_DATABASE": f"{servers.database}_{STACKS.index(stack)}",
        "REDIS_URL": servers.redis_url,
        "PORT": str(port),
        **dict(stack.options),
    }
    async with AsyncExitStack() as undo:
        pids = []
        for arguments in (stack.web, stack.worker):
            log = servers.directory / f"{port}-{arguments[-1]}.log"
            process = await _start(arguments, environment, log)
            undo.push(partial(_show_after_failure, log))
            undo.push_async_callback(_end, process)
            pids.append(process.pid)
        yield port, pids


async def _start(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> asyncio.subprocess.Process:
    with log.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", *arguments, env=environment, stdout=output, stderr=output, start_new_session=True
        )


def _show_after_failure(log: Path, kind: type[BaseException] | None, *_: object) -> None:
    """Otherwise nobody wants to see it: arq ends with a traceback when it is stopped between two commands."""
    if kind is not None and issubclass(kind, Exception):  # not where somebody has interrupted the run
        sys.stderr.write(log.read_text(encoding="utf-8"))


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
