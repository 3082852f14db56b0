"""Queues over HTTP: list, read, pause and limit; and the workers that serve them."""

from datetime import timedelta
from typing import Any

import pytest

from app.core.clock import utc_now
from app.core.queue_settings import QueueSettings
from app.queue import keys
from app.store.workers import WorkerDocument
from tests.api.conftest import Api
from tests.waiting import wait_until

UNSET = {"paused": False, "max_running": None, "rate": None}
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def told(api: Api) -> Api:
    """An application whose Redis has been told of everything."""
    await wait_until(lambda: api.backend.queue.redis.exists(keys.EPOCH), what="reconcile has ended its first pass")
    return api


async def _patch(api: Api, name: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await api.call("PATCH", f"/queues/{name}", json=body)
    assert answer.status == 200, answer.raw
    queue: dict[str, Any] = answer.json
    return queue


def _settings(queue: dict[str, Any]) -> dict[str, Any]:
    return {name: queue[name] for name in UNSET}


async def _claims(api: Api, name: str = "default", limit: int = 50) -> int:
    claim, _ = await api.backend.queue.claim(name, limit=limit, lease=MINUTE)
    return len(claim.task_ids)


def _worker(**fields: Any) -> WorkerDocument:
    now = utc_now()
    worker: WorkerDocument = {
        "_id": "w1", "queues": ["mail", "idle"], "types": ["echo"], "concurrency": 5, "running": 2,
        "started_at": now - MINUTE, "seen_at": now,
    }  # fmt: skip
    worker.update(fields)  # type: ignore[typeddict-item]
    return worker


async def test_queues_are_listed_with_what_is_in_them(told: Api) -> None:
    await told.submit(queue="mail")
    await told.submit(queue="mail", delay=60)
    await told.submit(queue="default")
    assert await _claims(told) == 1
    await told.backend.workers.beat(_worker())
    await _patch(told, "planned", {"max_running": 3})
    answer = await told.get("/queues")
    assert answer.status == 200
    queues = {queue["name"]: queue for queue in answer.json["items"]}
    assert list(queues) == ["default", "idle", "mail", "planned"]
    figures = {name: (each["ready"], each["deferred"], each["running"]) for name, each in queues.items()}
    assert figures == {"default": (0, 0, 1), "idle": (0, 0, 0), "mail": (1, 1, 0), "planned": (0, 0, 0)}
    assert {name: each["workers"] for name, each in queues.items()} == {
        "default": 0,
        "idle": 1,
        "mail": 1,
        "planned": 0,
    }
    assert _settings(queues["mail"]) == UNSET
    assert _settings(queues["planned"]) == {**UNSET, "max_running": 3}
    assert queues["mail"]["oldest_ready_seconds"] > 0 == queues["idle"]["oldest_ready_seconds"]
    assert 0 <= answer.json["age_seconds"] < 300
    assert (await told.get("/queues/mail")).json["name"] == "mail"


async def test_a_patch_changes_what_it_names(api: Api) -> None:
    rate = {"per_second": 2.5, "burst": 3}
    assert _settings(await _patch(api, "mail", {})) == UNSET, "nothing of it has to exist before"
    assert _settings(await _patch(api, "mail", {"paused": True})) == {**UNSET, "paused": True}
    limited = await _patch(api, "mail", {"max_running": 4, "rate": {"per_second": 2.5}})
    assert _settings(limited) == {"paused": True, "max_running": 4, "rate": rate}
    assert _settings(await _patch(api, "mail", {})) == _settings(limited)
    resumed = await _patch(api, "mail", {"paused": False, "max_running": None})
    assert _settings(resumed) == {**UNSET, "rate": rate}
    assert _settings((await api.get("/queues/mail")).json) == _settings(resumed)
    assert _settings(await _patch(api, "mail", {"rate": None})) == UNSET


async def test_a_change_holds_at_once(told: Api) -> None:
    await told.post("/tasks/bulk", [{"type": "echo"}] * 10)
    await _patch(told, "default", {"paused": True})
    assert await _claims(told) == 0
    assert (await told.get("/stats")).json["queues"]["default"]["paused"] is True
    await _patch(told, "default", {"paused": False, "max_running": 2})
    assert await _claims(told) == 2
    await _patch(told, "default", {"max_running": None, "rate": {"per_second": 0.001, "burst": 3}})
    assert await _claims(told) == 3
    await _patch(told, "default", {"rate": None})
    assert await _claims(told) == 5
    assert (await told.get("/stats")).json["queues"]["default"]["paused"] is False


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"paused": None}, {"paused"}),
        ({"paused": "yes"}, {"paused"}),
        ({"paused": 1}, {"paused"}),
        ({"max_running": 0}, {"max_running"}),
        ({"max_running": 1.5}, {"max_running"}),
        ({"max_running": 10**9, "limit": 1}, {"max_running", "limit"}),
        ({"rate": 5}, {"rate"}),
        ({"rate": {"burst": 5}}, {"rate.per_second"}),
        ({"rate": {"per_second": 0}}, {"rate.per_second"}),
        (
            {"rate": {"per_second": 1e9, "burst": 0, "per_minute": 1}},
            {"rate.per_second", "rate.burst", "rate.per_minute"},
        ),
    ],
)
async def test_what_makes_no_sense_is_refused(api: Api, body: dict[str, Any], fields: set[str]) -> None:
    answer = await api.call("PATCH", "/queues/mail", json=body)
    assert (answer.status, answer.code, answer.fields) == (422, "invalid", fields)
    assert (await api.get("/queues/mail")).status == 404, "nothing was kept"


@pytest.mark.parametrize("name", ["nope", "-", "%20", "x" * 101])
async def test_a_queue_that_nobody_knows(api: Api, name: str) -> None:
    answer = await api.get(f"/queues/{name}")
    assert (answer.status, answer.code) == (404, "queue_not_found")


async def test_no_queue_can_have_such_a_name(api: Api) -> None:
    answer = await api.call("PATCH", "/queues/-x", json={})
    assert (answer.status, answer.code) == (404, "queue_not_found")


async def test_two_changes_at_once_are_both_kept(api: Api) -> None:
    """The second comes between the first's look and its write."""
    store = api.backend.queues
    await store.note({"mail"})
    late = QueueSettings("mail")
    assert await store.change(late, QueueSettings("mail", paused=True), now=utc_now()) is not None
    assert await store.change(late, QueueSettings("mail", max_running=1), now=utc_now()) is None
    assert _settings(await _patch(api, "mail", {"max_running": 1})) == {**UNSET, "paused": True, "max_running": 1}


async def test_workers_are_listed_while_they_are_alive(api: Api) -> None:
    now = utc_now()
    await api.backend.workers.beat(_worker())
    await api.backend.workers.beat(_worker(_id="older", started_at=now - 2 * MINUTE))
    await api.backend.workers.beat(_worker(_id="gone", seen_at=now - MINUTE))
    items = (await api.get("/workers")).json["items"]
    assert [item["id"] for item in items] == ["older", "w1"]
    assert items[1] | {"started_at": "", "seen_at": ""} == {
        "id": "w1", "queues": ["mail", "idle"], "types": ["echo"], "concurrency": 5, "running": 2,
        "started_at": "", "seen_at": "",
    }  # fmt: skip
    await api.backend.workers.leave("older")  # type: ignore[arg-type]
    assert [item["id"] for item in (await api.get("/workers")).json["items"]] == ["w1"]
