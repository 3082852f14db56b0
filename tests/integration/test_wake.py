"""A worker is woken, not polling: how soon it starts, and what it costs while it has nothing to do."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.core.attempt import Attempt, Claim
from app.core.ids import TaskId
from app.queue import keys
from app.queue import worker as worker_room
from app.services.backend import Backend
from app.services.read import get_task
from app.worker import WorkerParts
from tests.integration.conftest import RunWorker, ended, submit_one
from tests.waiting import wait_until


async def _idle(parts: WorkerParts) -> None:
    await wait_until(lambda: parts.loop.claimed_within(10))


async def test_an_idle_worker_starts_at_once(
    backend: Backend, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a poll of an hour only the signal can have woken it."""
    async with run_worker() as parts:
        await ended(backend, await submit_one(backend, "echo"))
        await _idle(parts)
        monkeypatch.setattr(worker_room, "POLL_S", 3600)
        await ended(backend, await submit_one(backend, "echo"))
        for _ in range(10):
            await ended(backend, await submit_one(backend, "echo"))


async def test_a_deferred_task_has_a_timer(
    backend: Backend, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_room, "POLL_S", 3600)
    async with run_worker():
        late = await submit_one(backend, "echo", delay=1.5)
        early = await submit_one(backend, "echo", delay=0.5)
        for task in (early, late):
            assert (await ended(backend, task)).history[0].started_at >= task.run_at


async def test_a_busy_worker_does_not_take_the_signal_of_an_idle_one(
    backend: Backend, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_room, "POLL_S", 3600)
    async with run_worker(concurrency=1) as busy:
        await submit_one(backend, "sleep", {"seconds": 60})
        await wait_until(lambda: busy.loop.running == 1)
        async with run_worker(concurrency=1):
            for _ in range(5):
                await ended(backend, await submit_one(backend, "echo"))


async def test_a_slow_poll_finds_what_no_signal_told_of(backend: Backend, run_worker: RunWorker) -> None:
    async with run_worker() as parts:
        await _idle(parts)
        task = await submit_one(backend, "echo", delay=60)
        # As if the signal were lost: the id is made due behind the worker's back.
        await backend.mongo.collection("tasks").update_one({}, {"$set": {"run_at": task.created_at}})
        await backend.queue.redis.zadd("arq:queue:default", {task.id: 1})
        assert (await ended(backend, task)).status == "completed"


async def test_queues_are_served_in_order(backend: Backend, run_worker: RunWorker) -> None:
    """And only those that are named."""
    order = [
        await submit_one(backend, "test.who", {"seconds": 0}, queue=queue)
        for queue in ("default", "critical", "default", "critical", "other")
    ]
    async with run_worker(queues="critical,default", concurrency=1):
        done = [await ended(backend, task) for task in order[:4]]
    started = {task.id: task.history[0].started_at for task in done}
    critical = [started[task.id] for task in done if task.queue == "critical"]
    default = [started[task.id] for task in done if task.queue == "default"]
    assert max(critical) <= min(default)
    assert (await get_task(backend, TaskId(order[4].id))).status == "pending"


async def test_concurrency_bounds_a_worker(backend: Backend, run_worker: RunWorker) -> None:
    tasks = [await submit_one(backend, "sleep", {"seconds": 0.3}) for _ in range(9)]
    async with run_worker(concurrency=3):
        done = [await ended(backend, task) for task in tasks]
    runs = [attempt for task in done for attempt in task.history]
    at_once = [sum(run.started_at <= each.started_at < run.finished_at for run in runs) for each in runs]
    assert (len(runs), max(at_once)) == (9, 3)


async def test_an_idle_worker_costs_redis_almost_nothing(backend: Backend, run_worker: RunWorker) -> None:
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(run_worker())
        await _idle(parts)
        redis = backend.queue.redis
        await wait_until(lambda: redis.exists(keys.EPOCH), what="the first pass of reconcile has ended")
        before, began = (await redis.info("stats"))["total_commands_processed"], time.monotonic()
        await asyncio.sleep(4)  # the time is what is measured
        commands = (await redis.info("stats"))["total_commands_processed"] - before
        seconds = time.monotonic() - began
    assert commands / seconds <= 5


async def test_a_task_that_ends_costs_no_claim_while_slots_are_free(
    backend: Backend, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_room, "POLL_S", 3600)
    async with run_worker() as parts:
        await ended(backend, await submit_one(backend, "echo"))
        claims = _counted(parts, monkeypatch)
        for _ in range(5):
            await ended(backend, await submit_one(backend, "echo"))
        assert len(claims) == 5


async def test_what_comes_while_a_claim_is_begun_is_begun_together(
    backend: Backend, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_room, "POLL_S", 3600)
    monkeypatch.setattr(worker_room, "BEGIN_PATIENCE_S", 30)
    async with run_worker() as parts:
        await ended(backend, await submit_one(backend, "echo"))
        go_on, begin, sizes = asyncio.Event(), parts.runner.begin, []

        async def begin_late(claim: Claim) -> list[Attempt]:
            sizes.append(len(claim.task_ids))
            await go_on.wait()
            return await begin(claim)

        monkeypatch.setattr(parts.runner, "begin", begin_late)
        first = await submit_one(backend, "echo")
        await wait_until(lambda: sizes)
        others = [await submit_one(backend, "echo") for _ in range(4)]
        go_on.set()
        for task in (first, *others):
            await ended(backend, task)
        assert sizes == [1, 4]


async def test_a_begin_that_hangs_does_not_hold_claims_up(
    backend: Backend, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_worker() as parts:
        begin = parts.runner.begin
        hung: list[Claim] = []

        async def hang_once(claim: Claim) -> list[Attempt]:
            if not hung:
                hung.append(claim)
                await asyncio.Event().wait()
            return await begin(claim)

        monkeypatch.setattr(parts.runner, "begin", hang_once)
        await submit_one(backend, "echo")
        await wait_until(lambda: hung)
        await ended(backend, await submit_one(backend, "echo"))
        for task in parts.loop._starting:
            task.cancel()


def _counted(parts: WorkerParts, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queues that are claimed from, one entry for each claim from now on."""
    claims: list[str] = []
    claim = parts.queue.claim

    async def count(queue: str, **options: Any) -> Any:
        claims.append(queue)
        return await claim(queue, **options)

    monkeypatch.setattr(parts.queue, "claim", count)
    return claims
