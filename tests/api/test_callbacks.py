"""Callbacks over HTTP: what is accepted, what is refused, and what clients do not get to see."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.core.callbacks import DELIVER_TYPE
from app.core.clock import utc_now
from app.store.workers import WorkerDocument
from app.tasks.registry import load_task_modules
from tests.api.conftest import Api, RunApi
from tests.callback_receiver import SECRET

URL = "https://example.com/hook"


@pytest.fixture
async def signing(run_api: RunApi) -> AsyncIterator[Api]:
    async with run_api(callback_secrets=SECRET) as api:
        yield api


async def test_a_task_shows_its_callback(signing: Api) -> None:
    task = await signing.submit(callback={"url": URL, "events": ["failed", "failed"]}, delay=60)
    assert task["callback"] == {"url": URL, "events": ["failed"], "state": "waiting", "task_id": None}
    assert (await signing.get(f"/tasks/{task['id']}")).json["callback"] == task["callback"]
    assert (await signing.submit())["callback"] is None


async def test_a_cancel_hands_the_callback_over(signing: Api) -> None:
    task = await signing.submit(callback={"url": URL}, delay=60)
    callback = (await signing.post(f"/tasks/{task['id']}/cancel")).json["callback"]
    assert callback["state"] == "delivering"
    deliverer = (await signing.get(f"/tasks/{callback['task_id']}")).json
    assert (deliverer["type"], deliverer["callback_of"]) == ("callback.deliver", task["id"])
    listed = (await signing.get("/tasks?type=callback.deliver")).json["items"]
    assert [each["id"] for each in listed] == [deliverer["id"]]


async def test_each_task_of_a_bulk_has_its_own(signing: Api) -> None:
    answer = await signing.post("/tasks/bulk", [{"type": "echo", "callback": {"url": URL}}, {"type": "echo"}])
    assert [item["callback"] and item["callback"]["url"] for item in answer.json["items"]] == [URL, None]


@pytest.mark.parametrize(
    ("callback", "field"),
    [
        ({}, "callback.url"),
        ({"url": "ftp://example.com"}, "callback.url"),
        ({"url": "https://user:password@example.com"}, "callback.url"),
        ({"url": "https://example.com/" + "a" * 2048}, "callback.url"),
        ({"url": URL, "events": []}, "callback.events"),
        ({"url": URL, "events": ["failed", "pending"]}, "callback.events[1]"),
        ({"url": URL, "secret": "x"}, "callback.secret"),
        (URL, "callback"),
    ],
)
async def test_a_bad_callback_is_refused(signing: Api, callback: Any, field: str) -> None:
    answer = await signing.post("/tasks", {"type": "echo", "callback": callback})
    assert (answer.status, answer.fields) == (422, {field})


async def test_without_a_secret_there_are_no_callbacks(api: Api) -> None:
    answer = await api.post("/tasks", {"type": "echo", "callback": {"url": URL}, "delay": -1})
    assert answer.fields == {"delay"}
    answer = await api.post("/tasks", {"type": "nope", "callback": {"url": URL}})
    assert (answer.status, answer.fields) == (422, {"type", "callback"})
    assert "CALLBACK_SECRETS" in str(answer.json["errors"])


async def test_clients_cannot_have_something_signed(signing: Api) -> None:
    payload = {"url": URL, "event": "task.completed", "timestamp": "2026-01-01T00:00:00Z", "data": {}}
    answer = await signing.post("/tasks", {"type": "callback.deliver", "payload": payload})
    assert (answer.status, answer.fields) == (422, {"type"})
    [error] = answer.json["errors"]
    known = error["message"].split("known are ")[1].split(", ")
    assert "echo" in known
    assert "callback.deliver" not in known


async def test_what_tells_of_types_leaves_the_internal_one_out(signing: Api) -> None:
    types = list(load_task_modules(()))
    assert DELIVER_TYPE in types
    now = utc_now()
    worker: WorkerDocument = {
        "_id": "w1", "queues": ["default"], "types": types, "concurrency": 1, "running": 0, "started_at": now,
        "seen_at": now,
    }  # fmt: skip
    await signing.backend.workers.beat(worker)
    [told] = (await signing.get("/workers")).json["items"]
    assert told["types"] == [each["name"] for each in (await signing.get("/types")).json["items"]]
    for path in ("/types", "/workers", "/openapi.json", "/docs", "/docs/page.js", "/stats", "/queues"):
        assert DELIVER_TYPE not in (await signing.get(path)).raw.decode(), path
    refused = await signing.call("PUT", "/schedules/a", json={"interval": 9, "task": {"type": DELIVER_TYPE}})
    assert refused.fields == {"task.type"}
