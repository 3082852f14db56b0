"""Idempotency keys and unique keys, alone and in bulk, over HTTP."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
from bson import ObjectId

from settings import Settings
from tests.api.conftest import Answer, Api
from tests.waiting import wait_until

MongoClient = pymongo.MongoClient[dict[str, Any]]
KEY = "Idempotency-Key"


async def submit(api: Api, key: str | None = None, type: str = "echo", **fields: Any) -> Answer:  # noqa: A002
    return await api.post("/tasks", {"type": type, **fields}, headers={} if key is None else {KEY: key})


@pytest.fixture
def count(mongo_client: MongoClient, settings: Settings) -> Any:
    return lambda: mongo_client[settings.mongo_database].tasks.count_documents({})


async def test_the_same_again_is_answered_with_the_same_task(api: Api, count: Any, change_task: Any) -> None:
    first = await submit(api, "order-17", payload={"n": 1}, tags=["a"])
    assert (first.status, first.json["idempotency_key"]) == (201, "order-17")
    assert "Idempotent-Replayed" not in first.headers
    change_task(first.json, status="completed", result={"done": True}, finished_at=datetime.now(UTC))
    again = await submit(api, "order-17", payload={"n": 1}, tags=["a"])
    assert (again.status, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert again.headers["Location"] == f"/tasks/{first.json['id']}"
    assert (again.json["id"], again.json["result"]) == (first.json["id"], {"done": True}), "the task as it is now"
    assert count() == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"payload": {"b": [1, 2], "a": {"y": 1.5, "x": "\\u00e9"}}, "delay": 60, "run_at": null, "type": "echo"}',
        b'{"type":"echo","delay":60.0,"run_at":null,"payload":{"a":{"x":"\xc3\xa9","y":1.5},"b":[1,2]}}',
    ],
)
async def test_how_json_is_written_does_not_matter(api: Api, count: Any, body: bytes) -> None:
    first = await submit(api, "k", payload={"a": {"x": "é", "y": 1.5}, "b": [1, 2]}, delay=60, run_at=None)
    again = await api.call("POST", "/tasks", data=body, headers={KEY: "k", "Content-Type": "application/json"})
    assert (again.status, again.json["id"], count()) == (200, first.json["id"], 1)


@pytest.mark.parametrize(
    "changed",
    [
        {"payload": {"n": 2}},
        {"payload": {"n": "1"}},
        {"payload": {"n": 1, "m": None}},
        {"payload": {"n": 1}, "priority": 0},
        {"payload": {"n": 1}, "tags": ["x"]},
        {"payload": {"n": 1}, "unique_key": "u"},
        {},
    ],
)
async def test_another_body_is_refused(api: Api, count: Any, changed: dict[str, Any]) -> None:
    first = await submit(api, "k", payload={"n": 1})
    answer = await submit(api, "k", **changed)
    assert (answer.status, answer.code, answer.fields) == (422, "idempotency_key_reused", {"idempotency_key"})
    assert first.json["id"] in answer.json["detail"]
    assert count() == 1


async def test_the_field_and_the_header_are_one_key(api: Api) -> None:
    by_header = await submit(api, "k", payload={"n": 1})
    by_field = await submit(api, payload={"n": 1}, idempotency_key="k")
    by_both = await submit(api, "k", payload={"n": 1}, idempotency_key="k")
    in_quotes = await submit(api, '"k"', payload={"n": 1})
    assert {each.json["id"] for each in (by_field, by_both, in_quotes)} == {by_header.json["id"]}
    differing = await submit(api, "k", payload={"n": 1}, idempotency_key="l")
    assert (differing.status, differing.fields) == (422, {"idempotency_key"})


async def test_a_quoted_key_is_what_is_inside(api: Api) -> None:
    assert (await submit(api, r'"a \"b\" \\ c"')).json["idempotency_key"] == r'a "b" \ c'
    assert (await submit(api, '"')).json["idempotency_key"] == '"'


@pytest.mark.parametrize("key", ["", '""', '" a"', "x" * 256, '"' + "x" * 256 + '"', "schlüssel", "a\tb"])
async def test_what_is_no_key_is_refused(api: Api, count: Any, key: str) -> None:
    answer = await submit(api, key)
    assert (answer.status, answer.code, answer.fields) == (422, "invalid", {KEY})
    if key.strip('"'):
        answer = await submit(api, idempotency_key=key if key.startswith(("x", "s", "a")) else " a")
        assert (answer.status, answer.fields) == (422, {"idempotency_key"})
        answer = await submit(api, unique_key=key if key.startswith(("x", "s", "a")) else " a")
        assert (answer.status, answer.fields) == (422, {"unique_key"})
    assert count() == 0


async def test_two_keys_are_refused(api: Api) -> None:
    answer = await api.post("/tasks", {"type": "echo"}, headers=[(KEY, "a"), (KEY, "b")])
    assert (answer.status, answer.fields) == (422, {KEY})


async def test_the_longest_key_is_taken(api: Api) -> None:
    assert (await submit(api, "x" * 255)).status == 201


async def test_a_refused_submission_leaves_its_key_free(api: Api) -> None:
    assert (await submit(api, "k", priority=10)).status == 422
    assert (await submit(api, "k", priority=9)).status == 201


async def test_a_submission_that_could_not_be_accepted_any_more_is_still_answered(api: Api, change_task: Any) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=0.3)
    soon = moment.isoformat()
    first = await submit(api, "k", start_before=soon)
    assert first.status == 201
    await wait_until(lambda: datetime.now(UTC) > moment)
    again = await submit(api, "k", start_before=soon)
    assert (again.status, again.json["id"]) == (200, first.json["id"])
    assert (await submit(api, "other", start_before=soon)).code == "invalid"
    assert (await submit(api, "k", start_before=soon, priority=1)).code == "invalid"


async def test_the_key_lives_as_long_as_the_task(api: Api, change_task: Any) -> None:
    first = await submit(api, "k")
    change_task(first.json, status="completed", finished_at=datetime.now(UTC))
    assert (await api.call("DELETE", f"/tasks/{first.json['id']}")).status == 204
    again = await submit(api, "k", payload={"n": 2})
    assert again.status == 201
    assert again.json["id"] != first.json["id"]


async def test_one_task_for_fifty_at_once(api: Api, count: Any) -> None:
    answers = await asyncio.gather(*(submit(api, "k", payload={"n": 1}) for _ in range(50)))
    assert Counter(answer.status for answer in answers) == {201: 1, 200: 49}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert count() == 1


async def test_a_unique_key_is_one_unfinished_task(api: Api, count: Any, change_task: Any) -> None:
    first = await submit(api, unique_key="feed 3", payload={"n": 1})
    assert (first.status, first.json["unique_key"]) == (201, "feed 3")
    for status in ("pending", "running", "retrying"):
        change_task(first.json, status=status)
        again = await submit(api, unique_key="feed 3", payload={"n": 2})
        assert (again.status, again.headers["Existing-Task"], again.json["id"]) == (200, "true", first.json["id"])
        assert "Idempotent-Replayed" not in again.headers
        assert again.json["payload"] == {"n": 1}
    assert count() == 1
    change_task(first.json, status="failed", finished_at=datetime.now(UTC))
    second = await submit(api, unique_key="feed 3")
    assert (second.status, count()) == (201, 2)


async def test_one_unfinished_task_for_fifty_at_once(api: Api, count: Any) -> None:
    answers = await asyncio.gather(*(submit(api, unique_key="u", payload={"n": n}) for n in range(50)))
    assert Counter(answer.status for answer in answers) == {201: 1, 200: 49}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert count() == 1


async def test_the_idempotency_key_is_looked_at_first(api: Api, change_task: Any) -> None:
    first = await submit(api, "k", unique_key="u")
    change_task(first.json, status="completed", finished_at=datetime.now(UTC))
    other = await submit(api, "l", unique_key="u")
    assert other.status == 201
    again = await submit(api, "k", unique_key="u")
    assert (again.headers.get("Idempotent-Replayed"), again.json["id"]) == ("true", first.json["id"])
    third = await submit(api, "m", unique_key="u")
    assert (third.headers.get("Existing-Task"), third.json["id"]) == ("true", other.json["id"])


async def test_each_of_many_has_its_own_keys(api: Api, count: Any) -> None:
    before = await submit(api, "a", payload={"n": 1})
    held = await submit(api, unique_key="u")
    answer = await api.post(
        "/tasks/bulk",
        [
            {"type": "echo", "payload": {"n": 1}, "idempotency_key": "a"},
            {"type": "echo", "payload": {"n": 2}, "idempotency_key": "a"},
            {"type": "echo", "unique_key": "u"},
            {"type": "echo", "payload": {"n": 3}, "idempotency_key": "b", "unique_key": "v"},
            {"type": "echo", "payload": {"n": 3}, "idempotency_key": "b", "unique_key": "v"},
            {"type": "echo", "unique_key": "v"},
            {"type": "echo", "idempotency_key": "c", "priority": 10},
        ],
    )
    assert answer.status == 207
    items = answer.json["items"]
    assert [item.get("id") for item in items[:3]] == [before.json["id"], None, held.json["id"]]
    assert items[1]["code"] == "idempotency_key_reused"
    assert items[1]["errors"][0]["field"] == "[1].idempotency_key"
    assert items[3]["id"] == items[4]["id"] == items[5]["id"]
    assert items[6]["errors"][0]["field"] == "[6].priority"
    assert (answer.json["replayed"], answer.json["existing"]) == ([0, 4], [2, 5])
    assert count() == 3


async def test_many_are_safe_to_send_again_with_one_header(api: Api, count: Any) -> None:
    many = [{"type": "echo", "payload": {"n": n}} for n in range(30)]
    first = await api.post("/tasks/bulk", many, headers={KEY: "batch"})
    assert (first.status, first.json["replayed"]) == (201, [])
    assert first.json["items"][2]["idempotency_key"] == "batch[2]"
    again = await api.post("/tasks/bulk", many, headers={KEY: "batch"})
    assert (again.status, again.json["replayed"]) == (200, list(range(30)))
    assert [item["id"] for item in again.json["items"]] == [item["id"] for item in first.json["items"]]
    longer = await api.post("/tasks/bulk", [*many, {"type": "echo"}], headers={KEY: "batch"})
    assert (longer.status, longer.json["replayed"], count()) == (201, list(range(30)), 31)
    other = await api.post("/tasks/bulk", [{"type": "echo"}], headers={KEY: "batch"})
    assert (other.status, other.json["items"][0]["code"]) == (422, "idempotency_key_reused")


async def test_a_task_of_many_may_have_a_key_of_its_own_beside_the_header(api: Api) -> None:
    answer = await api.post(
        "/tasks/bulk",
        [{"type": "echo", "idempotency_key": "mine"}, {"type": "echo"}, {"type": "no"}],
        headers={KEY: "b"},
    )
    assert answer.status == 207
    assert [item.get("idempotency_key") for item in answer.json["items"]] == ["mine", "b[1]", None]


async def test_a_retry_does_not_make_a_second_unfinished_task(
    api: Api, change_task: Any, mongo_client: MongoClient, settings: Settings
) -> None:
    failed = (await submit(api, unique_key="u")).json
    change_task(failed, status="failed", finished_at=datetime.now(UTC))
    other = (await submit(api, unique_key="u")).json
    refused = await api.post(f"/tasks/{failed['id']}/retry")
    assert (refused.status, refused.code, refused.json["holder"]) == (409, "unique_key_taken", other["id"])
    stored = mongo_client[settings.mongo_database].tasks.find_one({"_id": ObjectId(failed["id"])})
    assert stored is not None
    assert (stored["status"], stored["round"]) == ("failed", 1)
    await api.post(f"/tasks/{other['id']}/cancel")
    retried = await api.post(f"/tasks/{failed['id']}/retry")
    assert (retried.status, retried.json["status"]) == (200, "pending")
    assert (await submit(api, unique_key="u")).json["id"] == failed["id"]
