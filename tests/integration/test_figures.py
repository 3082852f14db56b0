"""What waits and runs, from Redis where it knows all and from MongoDB where not; and what has waited longest."""

from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from app.core.clock import to_ms, utc_now
from app.core.errors import QueueUnavailable
from app.core.ids import TaskId
from app.models import Task
from app.queue.scripts import Ending
from app.queue.task_queue import Entry
from app.services import figures
from app.services.backend import Backend
from app.services.figures import QueueFigures, count_queues
from app.store.counts import CountStore
from tests.integration.conftest import submit_one

MINUTE = timedelta(minutes=1)


@pytest.fixture(params=[True, False], ids=["redis knows all", "redis was wiped"])
async def known(request: pytest.FixtureRequest, backend: Backend) -> bool:
    """Whether Redis has been told of everything."""
    if request.param:
        await backend.queue.end_rebuild(await backend.queue.begin_rebuild(await backend.queue.identity()))
    return bool(request.param)


async def _count(backend: Backend) -> QueueFigures:
    return (await count_queues(CountStore(backend.mongo), backend.queue, ["default"]))["default"]


async def _change(backend: Backend, task: Task, **fields: Any) -> None:
    await backend.mongo.collection("tasks").update_one({"_id": ObjectId(task.id)}, {"$set": fields})


async def _age(backend: Backend, task: Task, minutes: float, priority: int = 0, **fields: Any) -> None:
    """Let a task have become due some minutes ago, in both places."""
    due = utc_now() - minutes * MINUTE
    await _change(backend, task, run_at=due, priority=priority, **fields)
    await backend.queue.dispatch([Entry(TaskId(task.id), task.queue, due, priority)])


def _minutes(counted: QueueFigures) -> float:
    assert counted.oldest_ready_at is not None
    return (utc_now() - counted.oldest_ready_at) / MINUTE


@pytest.mark.usefixtures("known")
async def test_ready_and_deferred_are_told_apart(backend: Backend) -> None:
    assert await _count(backend) == QueueFigures()
    for delay in (0, 0, 60, 3600):
        await submit_one(backend, "echo", delay=delay)
    counted = await _count(backend)
    assert (counted.ready, counted.deferred, counted.running) == (2, 2, 0)
    assert _minutes(counted) < 1


@pytest.mark.usefixtures("known")
async def test_a_task_that_waits_for_its_next_attempt_is_late_from_its_time_on(backend: Backend) -> None:
    task = await submit_one(backend, "echo")
    await _age(backend, task, -5, status="retrying", attempt=1, created_at=utc_now() - 60 * MINUTE)
    counted = await _count(backend)
    assert (counted.ready, counted.deferred, counted.oldest_ready_at) == (0, 1, None)
    await _age(backend, task, 3, status="retrying", attempt=1)
    counted = await _count(backend)
    assert counted.ready == 1
    assert _minutes(counted) == pytest.approx(3, abs=0.2)


@pytest.mark.usefixtures("known")
async def test_the_oldest_is_not_always_the_next(backend: Backend) -> None:
    """Tasks with a priority go before older ones."""
    for minutes, priority in ((4, 0), (1, 9), (2, 5)):
        await _age(backend, await submit_one(backend, "echo"), minutes, priority)
    assert _minutes(await _count(backend)) == pytest.approx(4, abs=0.2)


async def test_what_every_worker_hands_back_is_late_all_the_same(backend: Backend) -> None:
    """Nobody knows its type: it goes back for two seconds, again and again."""
    await backend.queue.end_rebuild(await backend.queue.begin_rebuild(await backend.queue.identity()))
    await _age(backend, await submit_one(backend, "echo"), 7)
    claim, _ = await backend.queue.claim("default", limit=1, lease=MINUTE)
    again = to_ms(utc_now() + timedelta(seconds=30))
    await backend.queue.settle("default", [Ending(claim.task_ids[0], claim.token, 0, again)])
    assert _minutes(await _count(backend)) == pytest.approx(7, abs=0.2)


async def test_without_redis_mongodb_counts(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise QueueUnavailable("Redis is not available")

    await submit_one(backend, "echo")
    monkeypatch.setattr(figures, "read_depths", away)
    assert (await _count(backend)).ready == 1
