"""The life of a task, as a client of the REST API sees it. Read it from top to bottom."""

from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.event_source import listening
from tests.fundamentals.conftest import Client, submit, wait_for


async def test_submit_it_and_read_what_came_of_it(http: Client) -> None:
    accepted = await submit(http, type="echo", payload={"hello": "world"})
    assert accepted["status"] == "pending"

    done = await wait_for(http, accepted)
    assert done["status"] == "completed"
    assert done["result"] == {"hello": "world"}


async def test_what_is_wrong_is_told_at_once_and_nothing_is_kept(http: Client) -> None:
    async with http.post("/tasks", json={"type": "email.send", "payload": {"to": "nobody"}, "delay": -1}) as response:
        assert response.status == 422
        problem = await response.json()
    assert {error["field"] for error in problem["errors"]} >= {"delay", "payload.to", "payload.subject"}
    async with http.get("/tasks") as response:
        assert (await response.json())["items"] == []


async def test_many_at_once(http: Client) -> None:
    async with http.post("/tasks/bulk", json=[{"type": "echo", "payload": {"n": n}} for n in range(100)]) as response:
        assert response.status == 201
        tasks = (await response.json())["items"]
    results = [(await wait_for(http, task))["result"]["n"] for task in tasks]
    assert results == list(range(100))


async def test_later(http: Client) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    accepted = await submit(http, type="echo", run_at=soon.isoformat())
    done = await wait_for(http, accepted)
    assert datetime.fromisoformat(done["started_at"]) >= soon - timedelta(milliseconds=1)


async def test_it_is_tried_again_when_it_fails(http: Client) -> None:
    accepted = await submit(http, type="test.flaky", payload={"succeed_on": 3}, backoff={"base": 0.1})
    done = await wait_for(http, accepted)
    assert (done["status"], done["attempt"]) == ("completed", 3)
    assert [attempt["outcome"] for attempt in done["history"]] == ["failed", "failed", "completed"]


async def test_follow_it_live(http: Client) -> None:
    accepted = await submit(http, type="test.progress", payload={"steps": 3, "pause": 0.6})
    async with listening(http, f"/tasks/{accepted['id']}/events") as source:
        told = await source.rest()
    assert told[-1].status == "completed"
    assert told[-1].data["result"] == 3
    assert [event.name for event in told].count("progress") >= 2
    values = [event.data["progress"]["value"] for event in told if event.name == "progress"]
    assert values == sorted(values)


async def test_it_fails_for_good_and_a_client_gives_it_another_round(http: Client) -> None:
    failed = await wait_for(http, await submit(http, type="test.raise", backoff={"base": 0}))
    assert failed["status"] == "failed"
    assert failed["error"]["message"] == "ValueError: boom"

    async with http.post(f"/tasks/{failed['id']}/retry") as response:
        assert response.status == 200
        again = await response.json()
    assert (again["status"], again["round"]) == ("pending", 2)
    assert (await wait_for(http, again))["status"] == "failed"


async def test_it_is_cancelled_while_it_runs(http: Client) -> None:
    accepted = await submit(http, type="sleep", payload={"seconds": 600})
    while (await (await http.get(f"/tasks/{accepted['id']}")).json())["status"] != "running":
        pass
    async with http.post(f"/tasks/{accepted['id']}/cancel") as response:
        assert response.status == 200
    assert (await wait_for(http, accepted))["status"] == "cancelled"


async def test_find_it_again(http: Client) -> None:
    for number in range(5):
        await wait_for(http, await submit(http, type="echo", payload={"n": number}, tags=["blue"]))
    async with http.get("/tasks", params={"tag": "blue", "status": "completed", "limit": 3}) as response:
        first = await response.json()
    async with http.get("/tasks", params={"tag": "blue", "cursor": first["next_cursor"]}) as response:
        second = await response.json()
    assert [task["payload"]["n"] for task in first["items"] + second["items"]] == [4, 3, 2, 1, 0]
    assert second["next_cursor"] is None


async def test_delete_it_when_it_has_ended(http: Client) -> None:
    done = await wait_for(http, await submit(http, type="echo"))
    async with http.delete(f"/tasks/{done['id']}") as response:
        assert response.status == 204
    async with http.get(f"/tasks/{done['id']}") as response:
        assert response.status == 404


async def test_any_language_can_be_the_worker(http: Client) -> None:
    """`http.request` calls a URL of yours: here one that is busy at first."""
    calls: list[dict[str, Any]] = []

    async def hook(request: web.Request) -> web.Response:
        calls.append(await request.json())
        if len(calls) == 1:
            return web.Response(status=503, headers={"Retry-After": "0"})
        return web.json_response({"ok": True})

    yours = web.Application()
    yours.router.add_post("/hook", hook)
    async with TestServer(yours) as server:
        url = str(server.make_url("/hook"))
        done = await wait_for(http, await submit(http, type="http.request", payload={"url": url, "json": {"a": 1}}))
    assert calls == [{"a": 1}, {"a": 1}]
    assert (done["status"], done["attempt"], done["result"]["status"]) == ("completed", 2, 200)


async def test_types_of_your_own(http: Client) -> None:
    async with http.get("/types") as response:
        types = {each["name"]: each for each in (await response.json())["items"]}
    assert "to" in types["email.send"]["payload_schema"]["properties"]
    mail = {"to": "ada@example.com", "subject": "Hi", "body": "Dear $name", "values": {"name": "Ada"}}
    done = await wait_for(http, await submit(http, type="email.send", payload=mail))
    assert done["result"] == {"message_id": f"<{done['id']}@shop.example>"}
    assert "Dear Ada" in done["log"][0]["message"]
    rows = [{"product": "tea", "quantity": 2, "price_cents": 450}]
    report = await wait_for(http, await submit(http, type="report.sales", payload={"rows": rows}))
    assert (report["status"], report["progress"]["value"]) == ("completed", 1)


async def test_see_what_the_service_does(http: Client) -> None:
    await wait_for(http, await submit(http, type="echo"))
    await submit(http, type="echo", delay=60)
    async with http.get("/stats") as response:
        stats = await response.json()
    assert stats["tasks"]["completed"] == 1
    assert stats["queues"]["default"]["deferred"] == 1
    assert stats["workers"] == 1
    async with http.get("/health") as response:
        assert (await response.json())["status"] == "ok"
