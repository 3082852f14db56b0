"""Limits of queues with several worker processes, also while Redis is wiped or restarted."""

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from app.core.clock import utc_now
from app.core.ids import QueueName, TaskId
from app.core.queue_settings import Rate
from app.models import Submission, Task
from app.queue import keys
from app.services.backend import Backend
from app.services.queues import change_queue, get_queue
from app.services.read import get_task
from app.services.submit import submit
from settings import Settings, load_settings
from tests.integration.conftest import ended
from tests.processes import started
from tests.servers import OwnServer, measured, own_redis
from tests.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]

WORKERS = 3
DEFAULT = QueueName("default")
BEHIND = QueueName("behind")


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[OwnServer]:
    """A Redis that forgets everything when it stops."""
    async with own_redis(tmp_path / "servers") as server:
        yield server


@pytest.fixture
def settings(own: OwnServer, mongo_url: str, mongo_database: str) -> Settings:
    """The settings of every process here."""
    return load_settings(
        mongo_url=mongo_url,
        redis_url=own.server.url,
        mongo_database=mongo_database,
        health_port=0,
        task_modules="tests.sample_tasks",
        queues=f"{DEFAULT},{BEHIND}",
        lease_seconds=3,
        shutdown_grace_seconds=5,
    )


@pytest.fixture
def redis_client(own: OwnServer) -> Iterator[redis_py.Redis]:
    """To look behind the curtain with."""
    with redis_py.Redis.from_url(own.server.url) as client:
        yield client


@pytest.fixture
async def workers(backend: Backend, settings: Settings, tmp_path: Path) -> AsyncIterator[None]:
    """Several processes that serve the default queue."""
    with ExitStack() as stack:
        for _ in range(WORKERS):
            stack.enter_context(started("worker", settings, tmp_path, concurrency=20, queues=",".join(settings.queues)))

        async def serving() -> bool:
            alive = await backend.workers.alive(now=utc_now(), within=backend.worker_silence)
            return len(alive) == WORKERS and bool(await backend.queue.redis.exists(keys.EPOCH))

        await wait_until(serving, 30, "all workers serve, and reconcile has made its first pass")
        yield
        leases = keys.leases(DEFAULT)
        await wait_until(lambda: _is_gone(backend, leases), 10, "Redis has been told of every end")


async def _is_gone(backend: Backend, key: str) -> bool:
    return not await backend.queue.redis.exists(key)


async def _set(backend: Backend, **fields: Any) -> None:
    await change_queue(backend, DEFAULT, lambda old: replace(old, **fields))


async def _some_run(backend: Backend) -> bool:
    return bool(await backend.mongo.collection("tasks").count_documents({"status": "running"}))


async def _submit(backend: Backend, count: int, *, seconds: float = 0.0, queue: QueueName = DEFAULT) -> list[Task]:
    accepted = await submit(backend, [Submission(type="test.who", payload={"seconds": seconds}, queue=queue)] * count)
    return [task for task in accepted if isinstance(task, Task)]


async def _all_ended(backend: Backend, tasks: Sequence[Task], timeout_s: float = 60) -> list[Task]:
    deadline = time.monotonic() + timeout_s
    return [await ended(backend, task, timeout_s=max(1, deadline - time.monotonic())) for task in tasks]


def _most_at_once(tasks: Sequence[Task]) -> int:
    """The most handlers that ran at the same moment."""
    changes: list[tuple[datetime, int]] = []
    for task in tasks:
        [attempt] = task.history
        changes += [(attempt.started_at, 1), (attempt.finished_at, -1)]
    running = most = 0
    for _, change in sorted(changes):  # of two in the same millisecond the end comes first
        running += change
        most = max(most, running)
    return most


@pytest.mark.usefixtures("workers")
async def test_max_running_is_never_exceeded_and_always_used(backend: Backend) -> None:
    await _set(backend, max_running=4)
    tasks = await _submit(backend, 60, seconds=0.2)
    begun = time.monotonic()
    done = await _all_ended(backend, tasks)
    seconds = time.monotonic() - begun
    measured(f"60 tasks of 0.2 s, 4 at a time, {WORKERS} workers: {seconds:.1f} s, 3 s at best")
    assert _most_at_once(done) == 4
    assert len({task.result for task in done}) > 1, "more than one process had some"
    assert seconds < 10, "a slot that gets free is told to all workers, not found by their poll"


@pytest.mark.usefixtures("workers")
async def test_a_rate_holds_over_all_workers(backend: Backend) -> None:
    await _set(backend, rate=Rate(20, 5))
    done = await _all_ended(backend, await _submit(backend, 100))
    starts = sorted(task.history[0].started_at for task in done)
    seconds = (starts[-1] - starts[0]).total_seconds()
    measured(f"100 tasks at 20 a second and a burst of 5: {seconds:.1f} s, 4.75 s at best")
    assert 4.5 <= seconds < 8
    late_s = 0.3  # from the claim, which is what the rate bounds, to the start in MongoDB
    for first, start in enumerate(starts):
        for last in range(first + 1, len(starts)):
            within = (starts[last] - start).total_seconds() + late_s
            assert last - first + 1 <= 5 + 20 * within + 1


@pytest.mark.usefixtures("workers")
async def test_a_pause_holds_through_a_wipe(backend: Backend) -> None:
    await _set(backend, paused=True)
    tasks = await _submit(backend, 20)
    await backend.queue.redis.flushall()
    tasks += await _submit(backend, 20)
    await wait_until(lambda: backend.queue.redis.exists(keys.EPOCH), 20, "Redis has been rebuilt")
    tasks += await _submit(backend, 20)
    # A claim looks into the queues in turn, so whoever ran these has looked into the paused one each time.
    for _ in range(20):
        await _all_ended(backend, await _submit(backend, 3, queue=BEHIND))
    assert {(await get_task(backend, TaskId(task.id))).status for task in tasks} == {"pending"}
    assert (await get_queue(backend, DEFAULT)).paused
    resumed = utc_now()
    await _set(backend, paused=False)
    done = await _all_ended(backend, tasks)
    first = min(task.history[0].started_at for task in done)
    measured(f"resumed, the first task started after {(first - resumed).total_seconds():.2f} s")
    assert (first - resumed).total_seconds() < 1


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("how", ["wiped", "restarted"])
async def test_max_running_holds_when_redis_forgets_what_runs(backend: Backend, own: OwnServer, how: str) -> None:
    """Fails when a limited queue does not wait for its leases to be counted (`knows_leases` in claim.lua)."""
    await _set(backend, max_running=4)
    tasks = await _submit(backend, 24, seconds=1.5)

    async def some_run() -> bool:
        return (await get_queue(backend, DEFAULT)).running == 4

    await wait_until(some_run, 10)
    begun = utc_now()
    if how == "wiped":
        await backend.queue.redis.flushall()
    else:
        await own.kill()
        await own.start()
    tasks += await _submit(backend, 4, seconds=1.5)
    done = await _all_ended(backend, tasks, 90)
    assert _most_at_once(done) == 4
    starts = sorted(task.history[0].started_at for task in done)
    pause_s = max((after - before).total_seconds() for before, after in pairwise(starts) if after > begun)
    measured(f"Redis was {how}: nothing new started for {pause_s:.1f} s")
    assert pause_s < 15


@pytest.mark.usefixtures("workers")
async def test_a_change_holds_within_a_second(backend: Backend) -> None:
    tasks = await _submit(backend, 400, seconds=0.3)
    await wait_until(lambda: _some_run(backend), 10)
    await _set(backend, paused=True)
    paused = utc_now()
    await wait_until(lambda: _is_gone(backend, keys.leases(DEFAULT)), 20, "what was claimed has ended")
    begun = [task for task in [await get_task(backend, TaskId(task.id)) for task in tasks] if task.started_at]
    assert 0 < len(begun) < 400
    last = max(task.started_at for task in begun if task.started_at)
    measured(f"paused, the last task started {(last - paused).total_seconds():.2f} s later")
    assert (last - paused).total_seconds() < 1
    await _set(backend, paused=False)
    await _all_ended(backend, tasks)
