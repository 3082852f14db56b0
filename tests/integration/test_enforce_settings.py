"""Redis is kept to the settings of queues that MongoDB has."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from app.core.clock import utc_now
from app.core.ids import QueueName, TaskId
from app.core.queue_settings import QueueSettings
from app.queue import keys
from app.services import enforce_settings
from app.services.backend import Backend
from app.services.queues import change_queue
from app.services.reconcile import Reconciler
from tests.integration.conftest import submit_one

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def reconciler(backend: Backend) -> Reconciler:
    """One that has made its first pass."""
    reconciler = Reconciler(backend.mongo, backend.queue, backend.callbacks, holder="one", retention=timedelta(days=1))
    await reconciler.run_once()
    return reconciler


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No claim is on its way when these tests wipe Redis."""
    monkeypatch.setattr(enforce_settings, "BEGIN_PATIENCE_S", 0)


async def _set(backend: Backend, name: str = "default", **fields: Any) -> None:
    await change_queue(backend, QueueName(name), lambda old: replace(old, **fields))


async def _claim(backend: Backend, limit: int = 50) -> list[TaskId]:
    claim, _ = await backend.queue.claim("default", limit=limit, lease=MINUTE)
    return list(claim.task_ids)


async def test_settings_are_there_again_before_anything_is_offered(backend: Backend, reconciler: Reconciler) -> None:
    await _set(backend, paused=True)
    await submit_one(backend, "echo")
    await backend.queue.redis.flushall()
    [before] = await backend.queue.settings.told(["default"])
    await reconciler.run_once()
    [after] = await backend.queue.settings.told(["default"])
    assert (before, after.split()[1]) == ("", "1")
    assert await backend.queue.redis.zcard(keys.queue("default")) == 1
    assert await _claim(backend) == []


async def test_running_tasks_are_counted_again_before_others_start(backend: Backend, reconciler: Reconciler) -> None:
    """The leases of living workers, from MongoDB: their own renewals would come too late."""
    await _set(backend, max_running=2)
    for _ in range(4):
        await submit_one(backend, "echo")
    claim, _ = await backend.queue.claim("default", limit=1, lease=MINUTE)
    lease = {"token": claim.token, "worker": "w", "until": utc_now() + MINUTE}
    await backend.mongo.collection("tasks").update_one(
        {"_id": ObjectId(claim.task_ids[0])}, {"$set": {"status": "running", "lease": lease, "started_at": utc_now()}}
    )
    await backend.queue.redis.flushall()
    assert await _claim(backend) == [], "nobody can say what runs"
    await reconciler.run_once()
    assert await backend.queue.redis.get(keys.in_progress(claim.task_ids[0])) == claim.token.encode()
    assert len(await _claim(backend)) == 1
    assert await _claim(backend) == []


async def test_a_change_that_redis_missed_is_brought_by_the_next_pass(backend: Backend, reconciler: Reconciler) -> None:
    await submit_one(backend, "echo")
    settings = QueueSettings("default", paused=True)
    assert await backend.queues.change(QueueSettings("default"), settings, now=utc_now()) is not None
    await reconciler.run_once()
    assert await _claim(backend) == []


async def test_what_redis_remembers_of_another_mongodb_gives_way(backend: Backend, reconciler: Reconciler) -> None:
    await _set(backend, max_running=3)
    await backend.queue.settings.tell(QueueSettings("default", paused=True, version=10**15))
    await reconciler.run_once()
    [text] = await backend.queue.settings.told(["default"])
    assert text.split()[1:3] == ["0", "3"]


async def test_a_pass_with_nothing_to_tell_tells_nothing(backend: Backend, reconciler: Reconciler) -> None:
    await _set(backend, max_running=3)
    await _set(backend, "other", paused=True)
    [before] = await backend.queue.settings.told(["default"])
    told = (await backend.queue.redis.info("commandstats")).get("cmdstat_publish", {}).get("calls", 0)
    await reconciler.run_once()
    assert (await backend.queue.redis.info("commandstats")).get("cmdstat_publish", {}).get("calls", 0) == told
    assert await backend.queue.settings.told(["default"]) == [before]
