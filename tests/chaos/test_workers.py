"""What happens to tasks when their workers are killed, frozen, blocked, stopped again and again, or out of date."""

import asyncio
import signal
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from app.core.clock import utc_now
from app.core.ids import TaskId
from app.models import BackoffModel, Submission, Task
from app.queue import keys
from app.services.backend import Backend
from app.services.read import get_task
from app.services.submit import submit
from settings import Settings
from tests.integration.conftest import ended, submit_one
from tests.processes import START_S, Process, started
from tests.waiting import wait_until

pytestmark = pytest.mark.chaos

LEASE_S = 3.0
NOTICED_IN = timedelta(seconds=15)


async def _read(backend: Backend, task: Task) -> Task:
    return await get_task(backend, TaskId(task.id))


async def _ended(backend: Backend, task: Task) -> Task:
    """The task once it is terminal; a worker may have to start first."""
    return await ended(backend, task, timeout_s=START_S)


async def _until_running(backend: Backend, *tasks: Task) -> None:
    async def running() -> bool:
        return all([(await _read(backend, task)).status == "running" for task in tasks])

    await wait_until(running, START_S, "not all are running")


async def _until_in_handler(backend: Backend, task: Task) -> None:
    """A task is running as soon as MongoDB says so, which may be before its worker has heard of it."""

    async def reports() -> bool:
        return (await _read(backend, task)).progress is not None

    await wait_until(reports, START_S, "the handler has not begun")


async def _exit_code(process: Process) -> int:
    return await asyncio.to_thread(process.wait)


async def _nothing_leased(backend: Backend) -> bool:
    leases = await backend.queue.redis.zcard(keys.leases("default"))
    return not leases and not await backend.queue.redis.keys(keys.IN_PROGRESS_PREFIX + "*")


async def test_kill_9_with_twenty_running_tasks(backend: Backend, settings: Settings, tmp_path: Path) -> None:
    """All run again soon, whatever their timeouts, and each is completed once."""
    with ExitStack() as workers:
        victim = workers.enter_context(started("worker", settings, tmp_path, lease_seconds=LEASE_S))
        accepted = await submit(
            backend,
            [
                Submission(type="test.long_once", payload={"seconds": 3600}, timeout=timeout, max_attempts=1)
                for timeout in [60.0, 300.0, 3600.0, 86_400.0] * 5
            ],
        )
        tasks = [task for task in accepted if isinstance(task, Task)]
        await _until_running(backend, *tasks)
        other = workers.enter_context(started("worker", settings, tmp_path, lease_seconds=LEASE_S))
        await wait_until(lambda: other.logged("serves"), START_S)
        victim.send(signal.SIGKILL)
        await _exit_code(victim)
        killed_at = utc_now()
        done = [await _ended(backend, task) for task in tasks]
    assert len(done) == 20
    for task in done:
        assert [entry.outcome for entry in task.history] == ["lost", "completed"]
        assert task.history[1].started_at - killed_at < NOTICED_IN
        assert (task.status, task.losses, task.result) == ("completed", 1, other.pid)


async def test_a_frozen_worker_has_no_say_when_it_thaws(backend: Backend, settings: Settings, tmp_path: Path) -> None:
    """SIGSTOP past the lease, SIGCONT: the zombie's outcome changes nothing, and it takes new work."""
    with started("worker", settings, tmp_path, lease_seconds=LEASE_S) as frozen:
        task = await submit_one(backend, "test.who", {"seconds": 3})
        await _until_in_handler(backend, task)
        frozen.send(signal.SIGSTOP)
        with started("worker", settings, tmp_path, lease_seconds=LEASE_S) as other:
            done = await _ended(backend, task)
            assert done.result == other.pid
            other.send(signal.SIGTERM)
            assert await _exit_code(other) == 0
        frozen.send(signal.SIGCONT)
        await wait_until(lambda: frozen.logged("Lost the lease") or frozen.logged("came too late"))
        assert await _read(backend, task) == done, "the record is as the other worker left it"
        fresh = await ended(backend, await submit_one(backend, "test.who", {"seconds": 0}))
        assert fresh.result == frozen.pid
    assert [entry.outcome for entry in done.history] == ["lost", "completed"]


async def test_a_handler_that_blocks_the_loop_keeps_its_lease(
    backend: Backend, settings: Settings, tmp_path: Path
) -> None:
    """For more than two leases, with another worker waiting for its chance."""
    with ExitStack() as workers:
        for _ in range(2):
            workers.enter_context(started("worker", settings, tmp_path, lease_seconds=2))
        task = await submit_one(backend, "test.block", {"seconds": 5})
        done = await _ended(backend, task)
    assert [entry.outcome for entry in done.history] == ["completed"]
    assert (done.attempt, done.losses) == (1, 0)


async def test_a_handler_that_hangs_the_loop_past_its_timeout_loses_its_lease(
    backend: Backend, settings: Settings, tmp_path: Path
) -> None:
    with started("worker", settings, tmp_path, lease_seconds=1) as hung:
        task = await submit_one(backend, "test.block_once", {"seconds": 60}, timeout=0.5)
        await _until_running(backend, task)
        with started("worker", settings, tmp_path, lease_seconds=1):
            done = await _ended(backend, task)
        hung.send(signal.SIGKILL)
    assert [entry.outcome for entry in done.history] == ["lost", "completed"]


async def test_a_task_that_kills_its_workers_is_set_aside(backend: Backend, settings: Settings, tmp_path: Path) -> None:
    """It takes three with it and no more; the fourth does other work."""
    task = await submit_one(backend, "test.kill")
    for _ in range(3):
        with started("worker", settings, tmp_path, lease_seconds=1) as victim:
            assert await _exit_code(victim) == -signal.SIGKILL
    with started("worker", settings, tmp_path, lease_seconds=1):
        done = await _ended(backend, task)
        assert (await ended(backend, await submit_one(backend, "echo"))).status == "completed"
    assert done.error is not None
    assert (done.status, done.error.code, done.losses) == ("failed", "lost", 3)
    assert [entry.outcome for entry in done.history] == ["lost"] * 3


async def test_five_deploys_under_one_long_task(backend: Backend, settings: Settings, tmp_path: Path) -> None:
    """SIGTERM does not use up an attempt, not even the only one."""
    task = await submit_one(backend, "sleep", {"seconds": 4}, max_attempts=1)
    for _ in range(5):
        with started("worker", settings, tmp_path, shutdown_grace_seconds=0) as worker:
            await _until_running(backend, task)
            worker.send(signal.SIGTERM)
            assert await _exit_code(worker) == 0
        assert await _nothing_leased(backend)
    with started("worker", settings, tmp_path):
        done = await _ended(backend, task)
    assert (done.status, done.attempt) == ("completed", 1)
    assert [entry.outcome for entry in done.history] == ["released"] * 5 + ["completed"]


async def test_a_rolling_deploy_with_a_new_type(backend: Backend, settings: Settings, tmp_path: Path) -> None:
    """The old workers do not know it, and nobody fails it: it waits for a worker that does."""
    with started("worker", settings, tmp_path, task_modules="") as old:
        task = await submit_one(backend, "test.numbers", {"low": 1})
        await wait_until(lambda: old.logged("serves"), START_S)
        assert (await ended(backend, await submit_one(backend, "echo"))).status == "completed"
        assert (await _read(backend, task)).status == "pending"
        with started("worker", settings, tmp_path):
            done = await _ended(backend, task)
    assert (done.status, done.attempt) == ("completed", 1)
    assert [entry.outcome for entry in done.history] == ["completed"]


async def test_two_workers_share_and_nothing_runs_twice(backend: Backend, settings: Settings, tmp_path: Path) -> None:
    with ExitStack() as workers:
        for _ in range(3):
            workers.enter_context(started("worker", settings, tmp_path, concurrency=5))
        accepted = await submit(
            backend,
            [
                Submission(type="test.flaky", payload={"succeed_on": 2}, backoff=BackoffModel(base=0.05, jitter=False))
                for _ in range(60)
            ],
        )
        done = [await _ended(backend, task) for task in accepted if isinstance(task, Task)]
    assert len(done) == 60
    assert {task.result for task in done} == {2}
    assert all([entry.outcome for entry in task.history] == ["failed", "completed"] for task in done)
