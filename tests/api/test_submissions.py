"""POST /tasks and POST /tasks/bulk: what is accepted, and what everything else gets."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
import redis

from app.queue import keys
from settings import Settings
from tests.api.conftest import Answer, Api

MongoClient = pymongo.MongoClient[dict[str, Any]]


async def test_a_task_is_accepted_kept_and_queued(
    api: Api, settings: Settings, mongo_client: MongoClient, redis_client: redis.Redis
) -> None:
    answer = await api.post("/tasks", {"type": "echo", "payload": {"hello": "wörld", "n": [1, 2.5, None, True]}})
    assert answer.status == 201
    task = answer.json
    assert answer.headers["Location"] == f"/tasks/{task['id']}"
    assert (task["status"], task["queue"], task["priority"], task["attempt"]) == ("pending", "default", 0, 0)
    assert (task["max_attempts"], task["timeout"]) == (1, 10)  # echo's own
    assert task["payload"] == {"hello": "wörld", "n": [1, 2.5, None, True]}
    [stored] = mongo_client[settings.mongo_database].tasks.find()
    assert (str(stored["_id"]), stored["payload"]) == (task["id"], task["payload"])
    assert redis_client.zrange(keys.queue("default"), 0, -1) == [task["id"].encode()]
    assert (await api.get(answer.headers["Location"])).json == task


async def test_every_field_is_taken(api: Api) -> None:
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    task = await api.submit(
        "http.request",
        payload={"url": "https://example.com/"},
        queue="mail",
        priority=9,
        run_at=later.astimezone().isoformat(),
        max_attempts=7,
        timeout=12.5,
        backoff={"base": 1, "max": 9, "factor": 1.5, "jitter": False},
        start_before=(later + timedelta(hours=1)).isoformat(),
        tags=["a", "b", "a"],
    )
    assert (task["queue"], task["priority"], task["max_attempts"], task["timeout"]) == ("mail", 9, 7, 12.5)
    assert task["backoff"] == {"base": 1, "max": 9, "factor": 1.5, "jitter": False}
    assert datetime.fromisoformat(task["run_at"]) == later
    assert datetime.fromisoformat(task["start_before"]) == later + timedelta(hours=1)
    assert task["tags"] == ["a", "b"]


async def test_a_delay_moves_run_at(api: Api) -> None:
    task = await api.submit(delay=90)
    waits = datetime.fromisoformat(task["run_at"]) - datetime.fromisoformat(task["created_at"])
    assert waits == timedelta(seconds=90)


@pytest.mark.parametrize("media_type", ["application/json", "application/JSON; charset=UTF-8", "application/x.y+json"])
async def test_json_may_call_itself_so(api: Api, media_type: str) -> None:
    answer = await api.call("POST", "/tasks", data=b'{"type": "echo"}', headers={"Content-Type": media_type})
    assert answer.status == 201


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        ({"type": "nope"}, {"type"}),
        ({"type": "x" * 101}, {"type"}),
        ({"type": 7}, {"type"}),
        ({"surprise": 1}, {"surprise"}),
        ({"payload": []}, {"payload"}),
        ({"payload": {"seconds": "x", "to": 1}}, {"payload.seconds", "payload.to"}),
        ({"payload": {"seconds": -1}}, {"payload.seconds"}),
        ({"queue": ""}, {"queue"}),
        ({"queue": "a b"}, {"queue"}),
        ({"priority": 10}, {"priority"}),
        ({"priority": -1}, {"priority"}),
        ({"priority": True}, {"priority"}),
        ({"priority": "1"}, {"priority"}),
        ({"priority": 1.5}, {"priority"}),
        ({"priority": 10**60}, {"priority"}),
        ({"delay": -1}, {"delay"}),
        ({"delay": True}, {"delay"}),
        ({"delay": "5"}, {"delay"}),
        ({"delay": 1e12}, {"delay"}),
        ({"run_at": 1_900_000_000}, {"run_at"}),
        ({"run_at": "1900000000"}, {"run_at"}),
        ({"run_at": "2030-01-01"}, {"run_at"}),
        ({"run_at": "2030-01-01T00:00:00"}, {"run_at"}),
        ({"run_at": "2030-13-01T00:00:00Z"}, {"run_at"}),
        ({"run_at": "0001-01-01T00:00:00+14:00"}, {"run_at"}),
        ({"run_at": "9999-12-31T23:59:59-14:00"}, {"run_at"}),
        ({"run_at": "2099-01-01T00:00:00Z"}, {"run_at"}),
        ({"run_at": "2026-12-01T00:00:00Z", "delay": 0}, {"delay"}),
        ({"max_attempts": 0}, {"max_attempts"}),
        ({"max_attempts": 1_001}, {"max_attempts"}),
        ({"timeout": 0}, {"timeout"}),
        ({"timeout": 86_401}, {"timeout"}),
        ({"backoff": {"factor": 0.5, "base": "1", "jitter": 1, "steps": 3}},
         {"backoff.factor", "backoff.base", "backoff.jitter", "backoff.steps"}),
        ({"start_before": "2020-01-01T00:00:00Z"}, {"start_before"}),
        ({"tags": ["ok", "not ok", 3]}, {"tags[1]", "tags[2]"}),
        ({"tags": ["t"] * 21}, {"tags"}),
        ({"tags": "t"}, {"tags"}),
        # All at once, whoever finds it.
        ({"type": "nope", "delay": -1, "colour": "red", "priority": True}, {"type", "delay", "colour", "priority"}),
        ({"delay": -1, "payload": {"seconds": -1}}, {"delay", "payload.seconds"}),
        ({"type": "nope", "start_before": "2020-01-01T00:00:00Z"}, {"type", "start_before"}),
        ({"type": "nope", "payload": 1}, {"type", "payload"}),
    ],
)  # fmt: skip
async def test_a_refusal_names_every_bad_field(
    api: Api, fields: dict[str, Any], bad: set[str], settings: Settings, mongo_client: MongoClient
) -> None:
    answer = await api.post("/tasks", {"type": "sleep", **fields})
    assert (answer.status, answer.code) == (422, "invalid")
    assert answer.fields == bad
    assert mongo_client[settings.mongo_database].tasks.count_documents({}) == 0


RAW = [
    (b"", 400, "bad_json"),
    (b"{", 400, "bad_json"),
    (b'{"type": "echo"} x', 400, "bad_json"),
    (b"{'type': 'echo'}", 400, "bad_json"),
    (b'\xef\xbb\xbf{"type": "echo"}', 400, "bad_json"),  # a byte order mark
    (b'{"type": "\xff"}', 400, "bad_json"),  # not UTF-8
    (b'{"type": "echo", "payload": {"a": "\\ud800"}}', 400, "bad_json"),  # a lone surrogate
    (b'{"type": "echo", "payload": {"a": ' + b"9" * 5_000 + b"}}", 400, "bad_json"),
    (b"[" * 50_000, 400, "bad_json"),
    (b'{"type": "echo", "payload": {"a": ' + b"[" * 100 + b"]" * 100 + b"}}", 422, "invalid"),
    (b'{"type": "echo", "payload": {"a": NaN}}', 422, "invalid"),
    (b'{"type": "echo", "payload": {"a": [-Infinity]}}', 422, "invalid"),
    (b'{"type": "echo", "payload": {"a": 1e999}}', 422, "invalid"),
    (b'{"type": "echo", "payload": {"a": 9223372036854775808}}', 422, "invalid"),
    (b'{"type": "echo", "payload": {"a\\u0000b": 1}}', 422, "invalid"),
    (b'{"type": "echo", "delay": NaN}', 422, "invalid"),
    (b'{"type": "echo", "timeout": Infinity}', 422, "invalid"),
    (b"null", 422, "invalid"),
    (b"[]", 422, "invalid"),
    (b'"echo"', 422, "invalid"),
]


@pytest.mark.parametrize(("raw", "status", "code"), RAW, ids=lambda value: str(value)[:40])
async def test_odd_json_is_refused_cleanly(api: Api, raw: bytes, status: int, code: str) -> None:
    answer = await api.call("POST", "/tasks", data=raw, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.code) == (status, code)


async def test_what_json_allows_is_kept_as_it_is(api: Api) -> None:
    payload = {"": 1, "$set": {"a.b": 2}, "nul": "a\0b", "emoji": "😀", "big": 2**63 - 1, "__proto__": {}, "_id": 3}
    task = await api.submit(payload=payload)
    assert task["payload"] == payload
    assert (await api.get(f"/tasks/{task['id']}")).json["payload"] == payload


async def test_of_a_key_given_twice_the_last_counts(api: Api) -> None:
    raw = b'{"type": "sleep", "type": "echo", "payload": {"a": 1, "a": 2}}'
    answer = await api.call("POST", "/tasks", data=raw, headers={"Content-Type": "application/json"})
    assert (answer.json["type"], answer.json["payload"]) == ("echo", {"a": 2})


async def test_a_refusal_of_very_many_fields_stays_short(api: Api) -> None:
    answer = await api.post("/tasks", {"type": "echo", **{f"{number:0100}": 1 for number in range(500)}})
    assert answer.status == 422
    assert len(answer.json["errors"]) == 100
    assert "500 fields" in answer.json["detail"]


def _statuses(answer: Answer) -> list[Any]:
    return [item["status"] for item in answer.json["items"]]


async def test_bulk_accepts_all(api: Api) -> None:
    answer = await api.post("/tasks/bulk", [{"type": "echo", "payload": {"n": n}} for n in range(5)])
    assert answer.status == 201
    assert [item["payload"]["n"] for item in answer.json["items"]] == [0, 1, 2, 3, 4]
    assert len((await api.get("/tasks")).json["items"]) == 5


async def test_bulk_accepts_some_and_says_why_not_the_others(api: Api) -> None:
    answer = await api.post(
        "/tasks/bulk", [{"type": "echo"}, {"type": "nope", "x": 1}, 5, {"type": "sleep", "payload": {"seconds": -1}}]
    )
    assert answer.status == 207
    assert _statuses(answer) == ["pending", 422, 422, 422]
    named = [{error["field"] for error in item["errors"]} for item in answer.json["items"][1:]]
    assert named == [{"[1].type", "[1].x"}, {"[2]"}, {"[3].payload.seconds"}]
    assert {item["code"] for item in answer.json["items"][1:]} == {"invalid"}
    [kept] = (await api.get("/tasks")).json["items"]
    assert kept == answer.json["items"][0]


async def test_bulk_accepts_none(api: Api) -> None:
    answer = await api.post("/tasks/bulk", [{"type": "nope"}, {}])
    assert (answer.status, answer.media_type) == (422, "application/json")
    assert _statuses(answer) == [422, 422]
    assert (await api.get("/tasks")).json["items"] == []


async def test_bulk_takes_a_thousand_and_no_more(api: Api) -> None:
    thousand = [{"type": "echo"}] * 1_000
    answer = await api.post("/tasks/bulk", thousand)
    assert answer.status == 201
    assert len({item["id"] for item in answer.json["items"]}) == 1_000
    assert (await api.post("/tasks/bulk", [*thousand, {"type": "echo"}])).code == "invalid"


@pytest.mark.parametrize("body", [[], {}, {"items": []}, "x", 1])
async def test_bulk_wants_an_array_with_something_in_it(api: Api, body: Any) -> None:
    answer = await api.post("/tasks/bulk", body)
    assert (answer.status, answer.code, answer.fields) == (422, "invalid", {"body"})
