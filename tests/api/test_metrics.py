"""GET /metrics of web."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pymongo
import pytest

from app.core.clock import utc_now
from app.queue import keys
from app.services import expose
from settings import Settings
from tests.api.conftest import Api, RunApi
from tests.scraping import Scrape
from tests.waiting import wait_until

NOBODY = "127.0.0.1:1"  # nothing listens there


async def scrape(api: Api) -> Scrape:
    answer = await api.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return Scrape(answer.raw)


async def test_accepted_tasks_are_counted_and_refused_ones_not(api: Api) -> None:
    await api.submit()
    await api.submit(queue="mail")
    await api.post("/tasks", {"type": "no.such"})
    await api.post("/tasks/bulk", [{"type": "echo"}, {"type": "no.such"}, {"type": "sleep"}])
    told = await scrape(api)
    assert told.value("arqive_tasks_accepted_total") == 4
    assert told.value("arqive_tasks_accepted_total", type="echo", queue="default") == 2
    assert told.value("arqive_tasks_accepted_total", type="echo", queue="mail") == 1
    assert told.value("arqive_tasks_accepted_total", type="sleep", queue="default") == 1
    assert told.value("arqive_batch_size_sum", operation="insert") == 4
    assert told.value("arqive_batch_size_count", operation="insert") == 3
    assert told.value("arqive_batch_size_sum", operation="dispatch") == 4


async def test_requests_are_counted_by_what_they_ask_for(api: Api) -> None:
    task = await api.submit()
    for _ in range(2):
        await api.get(f"/tasks/{task['id']}")
    await api.get("/tasks/" + "0" * 24)
    await api.get(f"/tasks/{task['id']}?wait=0.1")
    await api.get("/no/such/path")
    await api.call("PROPFIND", "/tasks")
    await api.call("HEAD", f"/tasks/{task['id']}")
    told = await scrape(api)
    counted = {
        (sample.labels["method"], sample.labels["endpoint"], sample.labels["status"]): sample.value
        for sample in told.samples
        if sample.name == "arqive_http_requests_total"
    }
    assert counted == {
        ("GET", "/openapi.json", "200"): 1,  # the client of the tests
        ("POST", "/tasks", "201"): 1,
        ("GET", "/tasks/{task_id}", "200"): 2,
        ("GET", "/tasks/{task_id}", "404"): 1,
        ("GET", "/tasks/{task_id}?wait", "200"): 1,
        ("GET", "(unmatched)", "404"): 1,
        ("(other)", "/tasks", "405"): 1,
        ("HEAD", "/tasks/{task_id}", "200"): 1,
    }
    assert told.value("arqive_http_request_seconds_count", method="GET", endpoint="/tasks/{task_id}") == 3
    waited = told.value("arqive_http_request_seconds_sum", endpoint="/tasks/{task_id}?wait")
    assert 0.1 <= waited < 60, "seconds"
    again = await scrape(api)
    assert again.value("arqive_http_requests_total", endpoint="/metrics") == 1, "the first scrape"


async def test_what_waits_and_runs_is_told_by_queue(api: Api, change_task: Callable[..., None]) -> None:
    redis = api.backend.queue.redis
    await wait_until(lambda: redis.exists(keys.EPOCH), what="the first pass of reconcile has ended")
    change_task(await api.submit(), status="running")
    await api.backend.queue.claim("default", limit=1, lease=timedelta(minutes=1))
    late = await api.submit(queue="mail")
    change_task(late, run_at=utc_now() - timedelta(seconds=30))
    await api.submit(queue="mail")
    await api.submit(queue="mail", delay=60)
    told = await scrape(api)
    assert told.value("arqive_queue_ready", queue="mail") == 2
    assert told.value("arqive_queue_deferred", queue="mail") == 1
    assert told.value("arqive_queue_running", queue="default") == 1
    assert 30 <= told.value("arqive_queue_oldest_ready_seconds", queue="mail") < 300
    assert told.value("arqive_queue_oldest_ready_seconds", queue="default") == 0
    assert (told.value("arqive_tasks", status="pending"), told.value("arqive_tasks", status="running")) == (3, 1)
    assert told.value("arqive_workers") == 0
    assert {*told.labels("arqive_counts_age_seconds", "of")} == {"queues", "tasks"}
    assert 0 <= max(told.values("arqive_counts_age_seconds")) < 300


async def test_a_cancel_of_what_waits_is_counted_here(api: Api) -> None:
    task = await api.submit(queue="mail")
    for _ in range(2):
        await api.post(f"/tasks/{task['id']}/cancel")
    told = await scrape(api)
    assert told.value("arqive_tasks_finished_total") == 1
    assert told.value("arqive_tasks_finished_total", type="echo", queue="mail", outcome="cancelled") == 1


async def test_without_mongodb_a_scrape_tells_what_is_counted_here(
    run_api: RunApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expose, "PATIENCE_S", 0.3)
    async with run_api(mongo_url=f"mongodb://{NOBODY}/?serverSelectionTimeoutMS=100") as api:
        told = await scrape(api)
    assert "arqive_queue_ready" not in told.families
    assert told.value("arqive_http_requests_total", endpoint="/openapi.json") == 1


async def test_a_schedule_that_is_late_is_told(
    api: Api, mongo_client: pymongo.MongoClient[dict[str, Any]], settings: Settings
) -> None:
    assert (await scrape(api)).value("arqive_schedule_oldest_due_seconds") == 0
    await api.call("PUT", "/schedules/a", json={"interval": 3600, "task": {"type": "echo"}})
    # Of a type that no process knows any more, so that it stays as it is.
    due_at = utc_now() - timedelta(seconds=90)
    mongo_client[settings.mongo_database].schedules.update_one(
        {"_id": "a"}, {"$set": {"task.type": "gone", "due_at": due_at, "next_run_at": due_at}}
    )
    told = await scrape(api)
    assert 90 <= told.value("arqive_schedule_oldest_due_seconds") < 120
    assert {*told.labels("arqive_schedule_slots_total", "outcome")} == {"submitted", "existing", "missed"}
