"""What the service tells of itself: types, counts, health."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator

from app.core.clock import utc_now
from app.queue import keys
from app.store.workers import WorkerDocument
from tests.api.conftest import Api, RunApi
from tests.waiting import wait_until

ChangeTask = Callable[..., None]
NOBODY = "127.0.0.1:1"  # nothing listens there


def _worker(**fields: Any) -> WorkerDocument:
    now = utc_now()
    worker: WorkerDocument = {
        "_id": "w1", "queues": ["default", "idle"], "types": ["echo"], "concurrency": 5, "running": 0,
        "started_at": now, "seen_at": now,
    }  # fmt: skip
    worker.update(fields)  # type: ignore[typeddict-item]
    return worker


async def test_types_tell_what_can_be_submitted(api: Api) -> None:
    answer = await api.get("/types")
    types = {item["name"]: item for item in answer.json["items"]}
    assert list(types) == sorted(types)
    assert {"echo", "http.request", "sleep"} <= set(types)
    assert (types["sleep"]["max_attempts"], types["sleep"]["timeout"]) == (3, 3600)
    assert types["sleep"]["backoff"] == {"base": 2, "max": 600, "factor": 2, "jitter": True}
    assert types["sleep"]["summary"].startswith("Wait")
    schema = OAS31Validator(types["sleep"]["payload_schema"])
    assert schema.is_valid({"seconds": 1})
    assert not schema.is_valid({"seconds": -1})


async def test_users_types_are_there(run_api: RunApi) -> None:
    async with run_api(task_modules="tests.sample_tasks") as api:
        names = [item["name"] for item in (await api.get("/types")).json["items"]]
    assert len(names) > 3


async def test_stats_count(api: Api, change_task: ChangeTask) -> None:
    redis = api.backend.queue.redis
    await wait_until(lambda: redis.exists(keys.EPOCH), what="the first pass of reconcile has ended")
    change_task(await api.submit(), status="running")
    await api.backend.queue.claim("default", limit=1, lease=timedelta(minutes=1))
    ended = await api.submit()
    change_task(ended, status="failed")
    await api.backend.queue.withdraw("default", [ended["id"]])
    await api.submit(queue="mail")
    await api.submit(queue="mail", delay=60)
    change_task(await api.submit(), run_at=utc_now() - timedelta(seconds=30))
    await api.backend.workers.beat(_worker())
    await api.backend.workers.beat(_worker(_id="gone", seen_at=utc_now() - timedelta(minutes=1)))
    stats = (await api.get("/stats")).json
    assert stats["tasks"] == {
        "pending": 3, "running": 1, "retrying": 0, "completed": 0, "failed": 1, "cancelled": 0
    }  # fmt: skip
    assert stats["workers"] == 1
    assert list(stats["queues"]) == ["default", "idle", "mail"]
    late_s = stats["queues"]["default"].pop("oldest_ready_seconds")
    assert 30 <= late_s < 300
    assert stats["queues"]["default"] == {"ready": 1, "deferred": 0, "running": 1, "paused": False}
    assert stats["queues"]["mail"]["ready"] == stats["queues"]["mail"]["deferred"] == 1
    assert stats["queues"]["idle"]["oldest_ready_seconds"] == 0


async def test_health_is_ok_with_a_worker(api: Api) -> None:
    await api.backend.workers.beat(_worker())
    answer = await api.get("/health")
    assert answer.status == 200
    assert answer.json == {
        "status": "ok",
        "checks": {"mongo": "ok", "redis": "ok", "workers": "ok"},
        "access": "open",
    }


async def test_health_is_degraded_without_a_worker(api: Api) -> None:
    answer = await api.get("/health")
    assert (answer.status, answer.json["status"]) == (200, "degraded")
    assert answer.json["checks"]["workers"] == "no worker is alive"


async def test_health_is_degraded_without_redis(run_api: RunApi) -> None:
    async with run_api(redis_url=f"redis://{NOBODY}") as api:
        answer = await api.get("/health")
        assert (answer.status, answer.json["status"]) == (200, "degraded")
        assert answer.json["checks"] == {
            "mongo": "ok", "redis": "Redis does not answer", "workers": "no worker is alive"
        }  # fmt: skip
        assert (await api.get("/health/ready")).status == 200


async def test_health_is_down_without_mongodb(run_api: RunApi) -> None:
    async with run_api(mongo_url=f"mongodb://{NOBODY}/?serverSelectionTimeoutMS=100") as api:
        answer = await api.get("/health")
        assert (answer.status, answer.json["status"]) == (503, "down")
        assert answer.json["checks"]["mongo"] == "MongoDB does not answer"
        ready = await api.get("/health/ready")
        assert (ready.status, ready.json["status"]) == (503, "down")
        assert (await api.get("/health/live")).status == 200


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
async def test_probes_answer_when_all_is_well(api: Api, path: str) -> None:
    answer = await api.get(path)
    assert (answer.status, answer.json["status"]) == (200, "ok")
