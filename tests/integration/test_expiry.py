"""A task that cannot start in time fails, also where nobody claims it."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from bson import ObjectId

from app.core.clock import utc_now
from app.core.ids import QueueName, TaskId
from app.models import Submission, Task
from app.queue import keys
from app.services.backend import Backend
from app.services.queues import change_queue
from app.services.read import get_task
from app.services.reconcile import Reconciler
from app.services.submit import submit
from app.store import expiry
from tests.integration.conftest import ended, submit_one, too_late

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def reconciler(backend: Backend) -> Reconciler:
    """One that has made its first pass."""
    reconciler = Reconciler(backend.mongo, backend.queue, backend.callbacks, holder="one", retention=timedelta(days=1))
    await reconciler.run_once()
    return reconciler


async def test_a_task_expires_in_a_paused_queue_and_without_a_worker(backend: Backend, reconciler: Reconciler) -> None:
    await change_queue(backend, QueueName("default"), lambda old: replace(old, paused=True))
    late = await submit_one(backend, "echo", start_before=utc_now() + MINUTE)
    other = await submit_one(backend, "echo", start_before=utc_now() + MINUTE)
    waiting = asyncio.create_task(ended(backend, late))
    await reconciler.run_once()
    assert not waiting.done(), "its time has not come"
    await too_late(backend, late)
    await reconciler.run_once()
    done = await waiting
    assert done.error is not None
    assert (done.status, done.error.code, done.attempt, done.history) == ("failed", "expired", 0, [])
    assert done.finished_at is not None
    assert done.expire_at == done.finished_at + timedelta(days=1)
    assert await backend.queue.redis.zrange(keys.queue("default"), 0, -1) == [other.id.encode()]
    assert (await get_task(backend, TaskId(other.id))).status == "pending"


async def test_many_expire_in_pages_whatever_they_wait_for(
    backend: Backend, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "BATCH", 3)
    soon = utc_now() + MINUTE
    accepted = await submit(
        backend, [Submission(type="echo", queue=f"q{number % 2}", start_before=soon) for number in range(7)]
    )
    tasks = [task for task in accepted if isinstance(task, Task)]
    change = backend.mongo.collection("tasks").update_one
    await change({"queue": "q0"}, {"$set": {"status": "retrying", "attempt": 1, "run_at": utc_now() + MINUTE}})
    await too_late(backend, *tasks)
    await reconciler.run_once()
    assert len(tasks) == 7
    assert {(await get_task(backend, TaskId(task.id))).status for task in tasks} == {"failed"}
    assert await backend.queue.redis.keys("arq:*") == []


async def test_what_began_in_time_does_not_expire(backend: Backend, reconciler: Reconciler) -> None:
    """Nor is it taken out of Redis, should a worker begin it while reconcile looks."""
    task = await submit_one(backend, "echo", start_before=utc_now() + MINUTE)
    await too_late(backend, task)
    update = {"$set": {"status": "running", "lease": {"token": "t", "worker": "w", "until": utc_now() + MINUTE}}}
    await backend.mongo.collection("tasks").update_one({}, update)
    store = expiry.ExpiryStore(backend.mongo, retention=None)
    assert await store._expire([ObjectId(task.id)], utc_now()) == []
    await reconciler.run_once()
    assert (await get_task(backend, TaskId(task.id))).status == "running"
    assert await backend.queue.redis.zcard(keys.queue("default")) == 1
