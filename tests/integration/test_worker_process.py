"""A worker as a process of its own: how it starts, and how it stops."""

import asyncio
import signal
from pathlib import Path

from app.core.ids import TaskId
from app.models import Task
from app.queue import keys
from app.services.backend import Backend
from app.services.observe import check_health
from app.services.read import get_task
from settings import Settings
from tests.integration.conftest import ended, submit_one
from tests.processes import START_S, Process, started
from tests.waiting import wait_until


async def _is(backend: Backend, task: Task, status: str, timeout_s: float = START_S) -> Task:
    async def has_it() -> bool:
        return (await get_task(backend, TaskId(task.id))).status == status

    await wait_until(has_it, timeout_s, f"{task.type} is not {status}")
    return await get_task(backend, TaskId(task.id))


async def _exit_code(process: Process) -> int:
    return await asyncio.to_thread(process.wait)


async def _nothing_leased(backend: Backend) -> bool:
    leases = await backend.queue.redis.zcard(keys.leases("default"))
    return not leases and not await backend.queue.redis.keys(keys.IN_PROGRESS_PREFIX + "*")


async def test_sigterm_lets_a_running_task_finish(backend: Backend, settings: Settings, tmp_path: Path) -> None:
    with started("worker", settings, tmp_path) as worker:
        running = await submit_one(backend, "sleep", {"seconds": 1.5})
        await _is(backend, running, "running")
        worker.send(signal.SIGTERM)
        await wait_until(lambda: worker.logged("Stopping"))
        later = await submit_one(backend, "echo")
        assert await _exit_code(worker) == 0
    assert (await get_task(backend, TaskId(running.id))).status == "completed"
    assert (await get_task(backend, TaskId(later.id))).status == "pending", "it takes nothing new"
    assert await _nothing_leased(backend)


async def test_what_outlasts_the_grace_is_released(backend: Backend, settings: Settings, tmp_path: Path) -> None:
    with started("worker", settings, tmp_path, shutdown_grace_seconds=0.5) as worker:
        task = await submit_one(backend, "sleep", {"seconds": 60}, max_attempts=1)
        await _is(backend, task, "running")
        worker.send(signal.SIGTERM)
        assert await _exit_code(worker) == 0
    released = await get_task(backend, TaskId(task.id))
    assert (released.status, released.attempt) == ("pending", 0)
    assert [entry.outcome for entry in released.history] == ["released"]
    assert await _nothing_leased(backend)


async def test_a_second_signal_does_not_wait_for_the_grace(
    backend: Backend, settings: Settings, tmp_path: Path
) -> None:
    with started("worker", settings, tmp_path, shutdown_grace_seconds=60) as worker:
        task = await submit_one(backend, "sleep", {"seconds": 60})
        await _is(backend, task, "running")
        worker.send(signal.SIGINT)
        await wait_until(lambda: worker.logged("Stopping"))
        worker.send(signal.SIGINT)
        assert await _exit_code(worker) == 0
    assert (await get_task(backend, TaskId(task.id))).status == "pending"


async def test_a_thread_that_never_ends_does_not_keep_the_process(
    backend: Backend, settings: Settings, tmp_path: Path
) -> None:
    with started("worker", settings, tmp_path, shutdown_grace_seconds=0.2) as worker:
        task = await submit_one(backend, "test.thread_deaf")
        await _is(backend, task, "running")
        worker.send(signal.SIGTERM)
        assert await _exit_code(worker) == 0
        assert worker.logged("did not stop in their threads")
    assert (await get_task(backend, TaskId(task.id))).status == "pending"


async def test_sigterm_while_mongodb_is_away_ends_it(settings: Settings, tmp_path: Path, redis_url: str) -> None:
    away = settings.model_copy(update={"mongo_url": type(settings.mongo_url)("mongodb://127.0.0.1:1")})
    with started("worker", away, tmp_path) as worker:
        await wait_until(lambda: worker.logged("MongoDB is not available"), START_S)
        worker.send(signal.SIGTERM)
        assert await _exit_code(worker) == 0


async def test_sigterm_while_redis_is_away_ends_it(settings: Settings, tmp_path: Path) -> None:
    away = settings.model_copy(update={"redis_url": type(settings.redis_url)("redis://127.0.0.1:1")})
    with started("worker", away, tmp_path) as worker:
        await wait_until(lambda: worker.logged("Cannot claim"), START_S)
        worker.send(signal.SIGTERM)
        assert await _exit_code(worker) == 0


async def test_a_killed_worker_costs_seconds(backend: Backend, settings: Settings, tmp_path: Path) -> None:
    """Guarantee 7, whatever the handler's timeout."""
    with started("worker", settings, tmp_path, lease_seconds=2) as first:
        task = await submit_one(backend, "sleep", {"seconds": 3}, timeout=3600)
        await _is(backend, task, "running")
        first.send(signal.SIGKILL)
        await _exit_code(first)
    with started("worker", settings, tmp_path, lease_seconds=2):
        done = await ended(backend, task, timeout_s=START_S)
    assert [entry.outcome for entry in done.history] == ["lost", "completed"]


async def test_a_wiped_redis_loses_no_task(backend: Backend, settings: Settings, tmp_path: Path) -> None:
    waiting = [await submit_one(backend, "echo", {"n": number}) for number in range(5)]
    deferred = await submit_one(backend, "echo", delay=2)
    await backend.queue.redis.flushall()
    with started("worker", settings, tmp_path):
        for task in [*waiting, deferred]:
            assert (await ended(backend, task, timeout_s=START_S)).status == "completed"


async def test_health_knows_the_workers(backend: Backend, settings: Settings, tmp_path: Path) -> None:
    assert (await check_health(backend)).workers == "no worker is alive"
    with started("worker", settings, tmp_path) as worker:

        async def healthy() -> bool:
            return (await check_health(backend)).status == "ok"

        await wait_until(healthy, START_S)
        worker.send(signal.SIGTERM)
        await _exit_code(worker)
    assert (await check_health(backend)).workers == "no worker is alive", "it signs off"
