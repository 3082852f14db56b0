"""POST /tasks/cancel and POST /tasks/retry."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
import redis
from bson import ObjectId

from app.queue import keys
from app.services import change_many
from settings import Settings
from tests.api.conftest import Answer, Api
from tests.waiting import PATIENCE_S, wait_until

ChangeTask = Callable[..., None]
MongoClient = pymongo.MongoClient[dict[str, Any]]

FAILED = {"code": "handler_error", "message": "no", "traceback": None}
TIMED_OUT = {"code": "timed_out", "message": "late", "traceback": None}


@pytest.fixture(autouse=True)
async def _rebuilt(api: Api, redis_client: redis.Redis) -> None:
    """Web's first rebuild may read a task before a test changes it, and offer it after."""
    await wait_until(lambda: redis_client.exists(keys.EPOCH), what="the first rebuild is over")


@pytest.fixture
def statuses(mongo_client: MongoClient, settings: Settings) -> Callable[[], dict[str, str]]:
    """The status of each task by its id."""
    tasks = mongo_client[settings.mongo_database].tasks
    return lambda: {str(task["_id"]): task["status"] for task in tasks.find()}


def _numbers(answer: Answer) -> tuple[int, int]:
    assert answer.status == 200, answer.raw
    return answer.json["matched"], answer.json["changed"]


async def _bulk(api: Api, count: int, **fields: Any) -> list[str]:
    answer = await api.post("/tasks/bulk", [{"type": "echo", **fields} for _ in range(count)])
    assert answer.status == 201
    return [task["id"] for task in answer.json["items"]]


async def _failed(api: Api, change_task: ChangeTask, error: dict[str, Any] = FAILED, **fields: Any) -> str:
    task = await api.submit(**fields)
    change_task(task, status="failed", error=error, finished_at=datetime.now(UTC))
    task_id: str = task["id"]
    return task_id


async def test_everything_of_a_queue_is_cancelled(
    api: Api, statuses: Callable[[], dict[str, str]], redis_client: redis.Redis
) -> None:
    mine, others = await _bulk(api, 5, queue="mail"), await _bulk(api, 2)
    answer = await api.post("/tasks/cancel", {"queue": "mail"})
    assert answer.json == {"matched": 5, "changed": 5, "requested": 0, "next_cursor": None}
    assert statuses() == {**dict.fromkeys(mine, "cancelled"), **dict.fromkeys(others, "pending")}
    assert redis_client.zcard(keys.queue("mail")) == 0
    assert redis_client.zcard(keys.queue("default")) == 2
    assert not any(redis_client.exists(keys.job(each)) for each in mine)  # type: ignore[arg-type]
    [shown] = (await api.get("/tasks?queue=mail&limit=1")).json["items"]
    assert shown["finished_at"] == shown["cancel_requested_at"]
    assert shown["expire_at"] is not None
    assert _numbers(await api.post("/tasks/cancel", {"queue": "mail"})) == (0, 0)


async def test_running_tasks_are_asked_to_stop_once(
    api: Api, change_task: ChangeTask, redis_client: redis.Redis
) -> None:
    ids = await _bulk(api, 3, tags=["a"])
    for task_id in ids[:2]:
        change_task({"id": task_id}, status="running")
    with redis_client.pubsub() as heard:  # type: ignore[no-untyped-call]
        heard.subscribe(keys.CANCEL_CHANNEL)
        assert heard.get_message(timeout=PATIENCE_S)
        answer = await api.post("/tasks/cancel", {"tags": ["a"]})
        told = {heard.get_message(timeout=PATIENCE_S)["data"].decode() for _ in range(2)}
    assert answer.json == {"matched": 3, "changed": 3, "requested": 2, "next_cursor": None}
    assert told == set(ids[:2])
    shown = (await api.get(f"/tasks/{ids[0]}")).json
    assert (shown["status"], shown["finished_at"]) == ("running", None)
    assert shown["cancel_requested_at"] is not None
    assert _numbers(await api.post("/tasks/cancel", {"tags": ["a"]})) == (0, 0)


async def test_only_failed_tasks_are_retried_unless_cancelled_ones_are_named(
    api: Api, change_task: ChangeTask, statuses: Callable[[], dict[str, str]], redis_client: redis.Redis
) -> None:
    failed = await _failed(api, change_task, queue="mail", priority=3, start_before="2090-01-01T00:00:00Z")
    cancelled = (await api.submit(queue="mail", delay=60))["id"]
    await api.post(f"/tasks/{cancelled}/cancel")
    completed = (await api.submit(queue="mail"))["id"]
    change_task({"id": completed}, status="completed", finished_at=datetime.now(UTC))
    redis_client.delete(keys.queue("mail"))
    answer = await api.post("/tasks/retry", {"queue": "mail"})
    assert answer.json == {"matched": 1, "changed": 1, "conflicts": 0, "next_cursor": None}
    assert statuses() == {failed: "pending", cancelled: "cancelled", completed: "completed"}
    assert redis_client.zrange(keys.queue("mail"), 0, -1) == [failed.encode()]
    shown = (await api.get(f"/tasks/{failed}")).json
    assert (shown["round"], shown["attempt"], shown["error"]) == (2, 0, None)
    assert (shown["finished_at"], shown["expire_at"], shown["start_before"]) == (None, None, None)
    assert _numbers(await api.post("/tasks/retry", {"queue": "mail", "status": ["failed", "cancelled"]})) == (1, 1)
    assert statuses()[cancelled] == "pending"


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ({"type": "sleep"}, {"sleep"}),
        ({"queue": "mail"}, {"mail"}),
        ({"tags": ["a"]}, {"a", "ab"}),
        ({"tags": ["a", "b"]}, {"ab"}),
        ({"schedule": "night"}, {"nightly"}),
        ({"error_code": "timed_out"}, {"late"}),
        ({"error_code": "timed_out", "queue": "mail"}, set()),
        ({"created_before": "2020-01-01T00:00:00Z"}, {"old"}),
        ({"created_after": "2020-01-01T00:00:00Z"}, {"sleep", "mail", "a", "ab", "late", "nightly"}),
        ({"status": ["failed"]}, {"sleep", "mail", "a", "ab", "late", "nightly", "old"}),
        ({"all": True}, {"sleep", "mail", "a", "ab", "late", "nightly", "old"}),
    ],
)
async def test_each_filter(
    api: Api,
    change_task: ChangeTask,
    statuses: Callable[[], dict[str, str]],
    mongo_client: MongoClient,
    settings: Settings,
    which: dict[str, Any],
    expected: set[str],
) -> None:
    named = {
        "sleep": await _failed(api, change_task, type="sleep", payload={"seconds": 1}),
        "mail": await _failed(api, change_task, queue="mail"),
        "a": await _failed(api, change_task, tags=["a"]),
        "ab": await _failed(api, change_task, tags=["b", "a"]),
        "late": await _failed(api, change_task, TIMED_OUT),
        "nightly": await _failed(api, change_task),
    }
    change_task({"id": named["nightly"]}, schedule={"name": "night", "slot_at": None})
    tasks = mongo_client[settings.mongo_database].tasks
    made = datetime(2019, 5, 1, tzinfo=UTC)
    old = tasks.find_one({"_id": ObjectId(named["late"])}, {"_id": 0})
    assert old is not None
    old_id = ObjectId.from_datetime(made)
    tasks.insert_one({**old, "_id": old_id, "created_at": made, "error": FAILED})
    named["old"] = str(old_id)
    dry = await api.post("/tasks/retry", {**which, "dry_run": True})
    assert (_numbers(dry), dry.json["next_cursor"]) == ((len(expected), 0), None)
    assert "pending" not in statuses().values()
    assert _numbers(await api.post("/tasks/retry", which)) == (len(expected), len(expected))
    assert {name for name, task_id in named.items() if statuses()[task_id] == "pending"} == expected
    listed = await api.get("/tasks?error_code=timed_out")
    assert {task["id"] for task in listed.json["items"]} == ({named["late"]} - {named[name] for name in expected})


@pytest.mark.parametrize("verb", ["cancel", "retry"])
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"all": False}, "body"),
        ({"dry_run": True}, "body"),
        ({"tags": [], "status": []}, "body"),
        ({"type": None}, "body"),
        ({"all": True, "queue": "mail"}, "body"),
        ({"all": "true"}, "all"),
        ({"all": 1}, "all"),
        ({"status": ["completed"]}, "status[0]"),
        ({"status": "failed"}, "status"),
        ({"queue": "a b"}, "queue"),
        ({"error_code": "nonsense"}, "error_code"),
        ({"all": True, "limit": 0}, "limit"),
        ({"all": True, "limit": 10_001}, "limit"),
        ({"all": True, "cursor": "x"}, "cursor"),
        ({"all": True, "cursor": "_" * 28}, "cursor"),
        ({"all": True, "tag": ["a"]}, "tag"),
        ([], "body"),
    ],
)
async def test_what_does_not_say_which_tasks_changes_none(
    api: Api, statuses: Callable[[], dict[str, str]], change_task: ChangeTask, verb: str, body: Any, field: str
) -> None:
    waiting, failed = (await api.submit(queue="mail"))["id"], await _failed(api, change_task, queue="mail")
    answer = await api.post(f"/tasks/{verb}", body)
    assert (answer.status, answer.fields) == (422, {field}), answer.raw
    assert statuses() == {waiting: "pending", failed: "failed"}


@pytest.mark.parametrize(("verb", "status"), [("cancel", "failed"), ("retry", "pending"), ("retry", "running")])
async def test_a_status_that_cannot_be_changed_is_refused(api: Api, verb: str, status: str) -> None:
    answer = await api.post(f"/tasks/{verb}", {"status": [status]})
    assert (answer.status, answer.fields) == (422, {"status[0]"})


@pytest.mark.parametrize("verb", ["cancel", "retry"])
async def test_no_body_changes_nothing(api: Api, statuses: Callable[[], dict[str, str]], verb: str) -> None:
    task_id = (await api.submit())["id"]
    assert (await api.call("POST", f"/tasks/{verb}")).code == "unsupported_media_type"
    empty = await api.call("POST", f"/tasks/{verb}", data=b"", headers={"Content-Type": "application/json"})
    assert empty.code == "bad_json"
    assert statuses() == {task_id: "pending"}


async def test_a_call_goes_on_where_the_last_one_ended(
    api: Api, statuses: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.selections.CLOCK_TOLERANCE", timedelta(0))
    ids = await _bulk(api, 12)
    body: dict[str, Any] = {"all": True, "limit": 5}
    matched, changed, calls = 0, 0, 0
    while True:
        answer = await api.post("/tasks/cancel", body)
        assert answer.json["changed"] == list(statuses().values()).count("cancelled") - changed
        matched, changed, calls = matched + answer.json["matched"], changed + answer.json["changed"], calls + 1
        if answer.json["next_cursor"] is None:
            break
        body["cursor"] = answer.json["next_cursor"]
        ids += await _bulk(api, 5)
    assert (matched, changed, calls) == (12, 12, 3), "what came later is not chased"
    assert list(statuses().values()).count("pending") == 10


async def test_the_oldest_come_first(api: Api, statuses: Callable[[], dict[str, str]]) -> None:
    ids = sorted(await _bulk(api, 6))
    await api.post("/tasks/cancel", {"all": True, "limit": 2})
    assert [task_id for task_id in ids if statuses()[task_id] == "cancelled"] == ids[:2]


async def test_a_call_that_takes_long_ends_early(
    api: Api, statuses: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_many, "PAGE", 4)
    monkeypatch.setattr(change_many, "BUDGET_S", 0.0)
    await _bulk(api, 10)
    answer = await api.post("/tasks/cancel", {"all": True})
    assert _numbers(answer) == (4, 4)
    rest = await api.post("/tasks/cancel", {"all": True, "cursor": answer.json["next_cursor"]})
    assert _numbers(rest) == (4, 4)
    last = await api.post("/tasks/cancel", {"all": True, "cursor": rest.json["next_cursor"]})
    assert (_numbers(last), last.json["next_cursor"]) == ((2, 2), None)


async def test_of_tasks_with_one_unique_key_one_is_retried(
    api: Api, change_task: ChangeTask, statuses: Callable[[], dict[str, str]], redis_client: redis.Redis
) -> None:
    twins = [await _failed(api, change_task, unique_key="u") for _ in range(3)]
    held = await _failed(api, change_task, unique_key="v")
    holder = (await api.submit(unique_key="v"))["id"]
    plain = await _failed(api, change_task)
    redis_client.delete(keys.queue("default"))
    answer = await api.post("/tasks/retry", {"all": True})
    assert answer.json == {"matched": 5, "changed": 2, "conflicts": 3, "next_cursor": None}
    after = statuses()
    assert sorted(after[task_id] for task_id in twins) == ["failed", "failed", "pending"]
    assert (after[held], after[holder], after[plain]) == ("failed", "pending", "pending")
    queued: Any = redis_client.zrange(keys.queue("default"), 0, -1)
    assert {task_id.decode() for task_id in queued} == {
        task_id for task_id in [*twins, plain] if after[task_id] == "pending"
    }


@pytest.mark.parametrize("verb", ["cancel", "retry"])
async def test_two_calls_at_once_share_the_work(
    api: Api, change_task: ChangeTask, monkeypatch: pytest.MonkeyPatch, statuses: Any, verb: str
) -> None:
    monkeypatch.setattr(change_many, "PAGE", 7)
    ids = await _bulk(api, 60)
    if verb == "retry":
        await api.post("/tasks/cancel", {"all": True})
    body = {"status": ["cancelled"] if verb == "retry" else ["pending"]}
    answers = await asyncio.gather(*(api.post(f"/tasks/{verb}", body) for _ in range(4)))
    assert sum(answer.json["changed"] for answer in answers) == 60
    assert set(statuses().values()) == {"cancelled" if verb == "cancel" else "pending"}
    rounds = [(await api.get(f"/tasks/{task_id}")).json["round"] for task_id in ids[:5]]
    assert set(rounds) == {1 if verb == "cancel" else 2}


async def test_a_moment_in_the_cursor_bounds_what_is_created(api: Api, change_task: ChangeTask) -> None:
    """Clocks may be a little apart; what was made far ahead was made after the call began."""
    ahead = [await api.submit(), await api.submit()]
    change_task(ahead[0], created_at=datetime.now(UTC) + timedelta(seconds=2))
    change_task(ahead[1], created_at=datetime.now(UTC) + timedelta(seconds=30))
    assert _numbers(await api.post("/tasks/cancel", {"all": True})) == (1, 1)
