"""The Python client about what is not one task: queues, schedules, workers, and changes to all that match."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from app.api.tasks import ListQuery
from app.client import (
    Client,
    Invalid,
    NotFound,
    Rate,
    Schedule,
    ScheduledTask,
    Submission,
    TaskFilter,
    answers,
    changes,
)
from app.client.queues import Queue, QueueList
from app.client.schedules import SchedulePage, Times
from app.client.selection import EventFilter
from app.schedule_models import ScheduleSpec
from settings import Settings
from tests.api.conftest import Api, a_worker
from tests.waiting import wait_until


async def test_queues_are_limited_paused_and_listed(client: Client) -> None:
    limited = await client.queues.set("mail", max_running=5, rate={"per_second": 10})
    assert (limited.max_running, limited.rate, limited.paused) == (5, Rate(10, 10), False)
    assert (await client.queues.pause("mail")).paused
    assert (await client.queues.set("mail", rate=Rate(0.5, 3))).rate == Rate(0.5, 3)
    await client.submit("echo", queue="other")
    assert [queue.name for queue in await client.queues.list()] == ["mail", "other"]
    assert not (await client.queues.resume("mail")).paused
    free = await client.queues.set("mail", max_running=None, rate=None)
    assert await client.queues.get("mail") == free
    assert (free.max_running, free.rate) == (None, None)
    with pytest.raises(NotFound):
        await client.queues.get("nope")
    with pytest.raises(Invalid):
        await client.queues.set("mail", max_running=0)


async def test_schedules_are_put_paused_run_and_deleted(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    put = await client.schedules.put("b", {"type": "echo", "payload": {"n": 1}}, interval=timedelta(hours=1))
    assert (put.interval, put.catch_up, put.paused) == (3600, "one", False)
    again = await client.schedules.put(
        "a", ScheduledTask(type="echo"), cron="0 9 * * *", time_zone="Europe/Berlin", catch_up="skip"
    )
    assert (again.cron, again.next_run_at is None) == ("0 9 * * *", False)
    monkeypatch.setattr("app.client.schedules.PAGE", 1)
    assert [schedule.name async for schedule in client.schedules.list()] == ["a", "b"]
    assert (await client.schedules.pause("a")).next_run_at is None
    assert (await client.schedules.resume("a")).next_run_at is not None
    task = await client.schedules.run("b")
    assert task.payload == {"n": 1}
    assert [each.id async for each in client.list(schedule="b")] == [task.id]
    await client.schedules.delete("a")
    for call in (client.schedules.get, client.schedules.delete, client.schedules.run, client.schedules.pause):
        with pytest.raises(NotFound):
            await call("a")
    with pytest.raises(Invalid) as caught:
        await client.schedules.put("c", Submission(type="echo", delay=3), cron="x")
    assert {bad.field for bad in caught.value.fields} == {"task.delay"}


async def test_all_that_match_are_cancelled_and_retried(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await client.submit_many({"type": "echo", "delay": 60, "tags": ["x"], "payload": {"n": n}} for n in range(5))
    other = await client.submit("echo", delay=60)
    assert (await client.cancel_all(tags=["x"], dry_run=True)).matched == 5
    monkeypatch.setattr(changes, "PAGE", 2)
    seen: list[int] = []
    cancelled = await client.cancel_all(tags=["x"], type=None, so_far=lambda total: seen.append(total.changed))
    assert (cancelled.matched, cancelled.changed, cancelled.requested) == (5, 5, 0)
    assert seen[0] == 2
    assert seen[-1] == 5
    assert (await client.retry_all(tags=["x"])).matched == 0, "only failed ones unless status says otherwise"
    retried = await client.retry_all(status="cancelled", everything=False)
    assert (retried.changed, retried.conflicts) == (5, 0)
    assert (await client.cancel_all(everything=True)).changed == 6
    assert (await client.get(other.id)).status == "cancelled"
    with pytest.raises(Invalid, match="at least one of"):
        await client.cancel_all()


async def test_failed_tasks_are_found_by_why(client: Client, change_task: Any) -> None:
    task = await client.submit("echo")
    error = {"code": "timed_out", "message": "60 s", "traceback": None}
    change_task(task.model_dump(), status="failed", error=error, finished_at=task.created_at, attempt=1)
    assert [each.id async for each in client.list(error_code="timed_out", status=["failed"])] == [task.id]
    assert [each.id async for each in client.list(error_code="permanent")] == []
    assert (await client.retry_all(error_code="timed_out")).changed == 1


async def test_workers_are_listed(client: Client, settings: Settings) -> None:
    assert await client.workers() == []
    async with a_worker(settings):
        await wait_until(client.workers, what="a worker")
        [worker] = await client.workers()
    assert worker.queues == ["default"]
    assert worker.types == [kind.name for kind in await client.types()]


@pytest.mark.parametrize(
    ("model", "schema"),
    [
        (answers.TaskPage, "TaskPage"),
        (answers.TypeInfo, "TypeInfo"),
        (answers.TypeList, "TypeList"),
        (answers.Worker, "Worker"),
        (answers.WorkerList, "WorkerList"),
        (answers.Stats, "Stats"),
        (answers.QueueStats, "QueueStats"),
        (answers.Health, "HealthReport"),
        (answers.HealthChecks, "HealthChecks"),
        (Queue, "Queue"),
        (QueueList, "QueueList"),
        (SchedulePage, "SchedulePage"),
        (Schedule, "Schedule"),
    ],
)
async def test_the_models_have_every_field_of_the_document(api: Api, model: type[BaseModel], schema: str) -> None:
    document = (await api.get("/openapi.json")).json
    assert set(model.model_fields) == set(document["components"]["schemas"][schema]["properties"])


async def test_the_results_of_changes_have_every_field_of_the_document(api: Api) -> None:
    schemas = (await api.get("/openapi.json")).json["components"]["schemas"]
    for model, name in ((changes.Cancelled, "CancelResult"), (changes.Retried, "RetryResult")):
        assert {*model.model_fields, "next_cursor"} == set(schemas[name]["properties"])


async def test_the_filters_and_times_are_those_of_the_document(api: Api) -> None:
    document = (await api.get("/openapi.json")).json
    own = set(TaskFilter.__annotations__) - {"tags"} | {"tag"}
    assert own == set(ListQuery.model_fields) - {"limit", "cursor"}
    filters = set(document["components"]["schemas"]["RetryFilter"]["properties"])
    assert set(TaskFilter.__annotations__) == filters - {"all", "dry_run", "limit", "cursor"}
    parameters = {each["name"] for each in document["paths"]["/events"]["get"]["parameters"] if each["in"] == "query"}
    assert set(EventFilter.__annotations__) - {"tags"} | {"tag"} == parameters - {"last_event_id"}
    assert set(Times.__annotations__) == set(ScheduleSpec.model_fields) - {"task"}
