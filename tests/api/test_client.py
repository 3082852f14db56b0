"""The Python client against the real service with a worker beside it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from textwrap import indent
from typing import Any

import pymongo
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import BaseModel

from app.api.app import build_app
from app.api.keys import BACKEND
from app.client import (
    AcceptedAs,
    AcceptedTask,
    Client,
    IdempotencyKeyReused,
    Invalid,
    NotEnded,
    NotFound,
    Submission,
    Task,
    UniqueKeyTaken,
    WrongState,
)
from app.core.clock import to_ms, utc_now
from app.tasks.registry import load_task_modules
from app.web import open_backend
from settings import Settings
from tests.api.conftest import Api, ServerAsServed, a_worker
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
NOBODY = "0" * 24


class Greeting(BaseModel):
    hello: str


async def test_a_task_is_submitted_waited_for_and_deleted(client: Client, settings: Settings) -> None:
    async with a_worker(settings):
        task = await client.submit("echo", Greeting(hello="world"), tags=["a"], priority=3)
        assert (task.status, task.payload, task.tags, task.priority) == ("pending", {"hello": "world"}, ["a"], 3)
        ended = await client.wait(task.id, timeout=20)
    assert (ended.status, ended.result) == ("completed", {"hello": "world"})
    assert (await client.get(task.id)).finished_at == ended.finished_at
    await client.delete(task.id)
    with pytest.raises(NotFound, match="no task"):
        await client.get(task.id)


async def test_a_wait_that_is_too_short_has_the_task(client: Client) -> None:
    task = await client.submit("echo", delay=timedelta(minutes=1))
    with pytest.raises(NotEnded) as caught:
        await client.wait(task.id, timeout=0.05)
    assert caught.value.task.status == "pending"


async def test_cancel_and_retry(client: Client) -> None:
    task = await client.submit("echo", delay=60)
    assert (await client.cancel(task.id)).status == "cancelled"
    with pytest.raises(WrongState) as caught:
        await client.cancel(task.id)
    assert caught.value.task_status == "cancelled"
    again = await client.retry(task.id)
    assert (again.status, again.round) == ("pending", 2)
    with pytest.raises(WrongState):
        await client.delete(task.id)


async def test_what_is_wrong_is_told_by_field(client: Client) -> None:
    with pytest.raises(Invalid) as caught:
        await client.submit("sleep", {"seconds": "long"}, priority=17)
    assert {bad.field for bad in caught.value.fields} == {"priority", "payload.seconds"}


async def test_many_are_submitted_in_order(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.core.limits.MAX_BULK", 3)
    outcomes = await client.submit_many(
        Submission(type="echo", payload={"n": n}, tags=("many",)) if n % 4 else {"type": "nope", "tags": ["many"]}
        for n in range(8)
    )
    assert [outcome.payload if isinstance(outcome, Task) else type(outcome) for outcome in outcomes] == [
        Invalid, {"n": 1}, {"n": 2}, {"n": 3}, Invalid, {"n": 5}, {"n": 6}, {"n": 7},
    ]  # fmt: skip
    assert isinstance(outcomes[4], Invalid)
    assert outcomes[4].fields[0].field == "type"


async def test_a_listing_goes_through_its_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    before = utc_now()
    await client.submit_many({"type": "echo", "payload": {"n": n}, "tags": ["x", f"t{n % 2}"]} for n in range(7))
    monkeypatch.setattr("app.client.tasks.PAGE", 2)
    assert [task.payload for task in [task async for task in client.list()]] == [{"n": n} for n in range(6, -1, -1)]
    assert len([task async for task in client.list(limit=3)]) == 3
    assert [task async for task in client.list(limit=0)] == []
    odd = [task async for task in client.list(status="pending", type="echo", tags=["x", "t1"], created_after=before)]
    assert [task.payload for task in odd] == [{"n": 5}, {"n": 3}, {"n": 1}]
    assert [task async for task in client.list(status=["failed", "cancelled"])] == []
    assert [task async for task in client.list(queue="other", created_before=before)] == []


async def test_what_the_service_tells_about_itself(client: Client) -> None:
    await client.submit("echo")
    stats = await client.stats()
    assert (stats.tasks["pending"], stats.queues["default"].ready, stats.workers) == (1, 1, 0)
    assert {kind.name for kind in await client.types()} >= {"echo", "http.request", "sleep"}
    health = await client.health()
    assert (health.status, health.checks.workers) == ("degraded", "no worker is alive")


async def test_a_restart_of_the_service_is_waited_for(settings: Settings) -> None:
    def service(port: int | None = None) -> ServerAsServed:
        build = partial(open_backend, settings, load_task_modules(()))
        application = build_app(build, max_body_bytes=settings.max_body_bytes, version="1.2.3")
        return ServerAsServed(application, port=port)

    first = service()
    await first.start_server()
    async with Client(str(first.make_url("/")), retry_for=30) as client:
        task = await client.submit("echo", delay=3600)
        waiting = asyncio.create_task(client.wait(task.id, timeout=60))
        events = client.follow(task.id)
        assert not (await anext(events)).is_end
        await wait_until(lambda: first.app[BACKEND].endings._waiters, what="the wait")
        port = first.port
        await first.close()
        asked = asyncio.create_task(client.get(task.id))
        async with service(port):
            assert (await asked).id == task.id
            await client.cancel(task.id)
            assert (await waiting).status == "cancelled"
            assert [event.task.status for event in [event async for event in events] if event.task] == ["cancelled"]


@asynccontextmanager
async def losing_answers(api: Api, count: int) -> AsyncIterator[Client]:
    """A client of a proxy that hands requests on and lets the first `count` answers go astray."""
    left = count

    async def hand_on(request: web.Request) -> web.StreamResponse:
        nonlocal left
        body = await request.read()
        headers = {
            name: value for name, value in request.headers.items() if name in {"Content-Type", "Idempotency-Key"}
        }
        async with api.client.request(request.method, request.path_qs, data=body, headers=headers) as answer:
            raw = await answer.read()
        if left > 0:
            left -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=answer.status, body=raw)

    proxy = web.Application()
    proxy.router.add_route("*", "/{path:.*}", hand_on)
    async with TestServer(proxy) as server, Client(str(server.make_url("/"))) as client:
        yield client
    assert left == 0


@pytest.fixture
async def _keys_hold(api: Api, mongo_client: pymongo.MongoClient[dict[str, Any]], settings: Settings) -> None:
    """There are the indexes that keep keys apart."""
    tasks = mongo_client[settings.mongo_database].tasks
    await wait_until(lambda: "unique_key_unfinished" in tasks.index_information(), what="the indexes")


@pytest.mark.usefixtures("_keys_hold")
async def test_nothing_is_done_twice_when_answers_get_lost(api: Api) -> None:
    async with losing_answers(api, 2) as client:
        task = await client.submit("echo", {"n": 0}, delay=60)
        assert [each.id async for each in client.list()] == [task.id]
    async with losing_answers(api, 1) as client:
        many = await client.submit_many({"type": "echo", "delay": 60, "payload": {"n": n}} for n in (1, 2))
        listed = [each.payload async for each in client.list()]
    assert [each.payload for each in many if isinstance(each, Task)] == [{"n": 1}, {"n": 2}]
    assert listed == [{"n": 2}, {"n": 1}, {"n": 0}]
    async with losing_answers(api, 1) as client:
        assert (await client.cancel(task.id)).status == "cancelled"
    async with losing_answers(api, 1) as client:
        retried = await client.retry(task.id)
        assert (retried.status, retried.round) == ("pending", 2)
    await api.post(f"/tasks/{task.id}/cancel")
    async with losing_answers(api, 1) as client:
        await client.delete(task.id)
    assert (await api.get(f"/tasks/{task.id}")).status == 404


@pytest.mark.usefixtures("_keys_hold")
async def test_keys_of_ones_own(client: Client) -> None:
    first = await client.submit("echo", delay=60, idempotency_key="order-17", unique_key="feed-3")
    assert (await client.submit("echo", delay=60, idempotency_key="order-17", unique_key="feed-3")).id == first.id
    assert (await client.submit("echo", unique_key="feed-3")).id == first.id
    with pytest.raises(IdempotencyKeyReused):
        await client.submit("echo", idempotency_key="order-17")
    await client.cancel(first.id)
    second = await client.submit("echo", delay=60, unique_key="feed-3")
    with pytest.raises(UniqueKeyTaken) as caught:
        await client.retry(first.id)
    assert caught.value.holder == second.id


@pytest.mark.usefixtures("_keys_hold")
async def test_what_a_submission_led_to(client: Client) -> None:
    both = {"delay": 60, "idempotency_key": "order-17", "unique_key": "feed-3"}
    told = [
        (await client.submit("echo", delay=60, idempotency_key="order-17", unique_key="feed-3")).accepted_as,
        (await client.submit("echo", delay=60, idempotency_key="order-17", unique_key="feed-3")).accepted_as,
        (await client.submit("echo", unique_key="feed-3")).accepted_as,
        (await client.submit("echo")).accepted_as,
    ]
    assert told == [AcceptedAs.NEW, AcceptedAs.REPLAYED, AcceptedAs.EXISTING, AcceptedAs.NEW]
    several: list[Submission | dict[str, Any]] = [
        {"type": "echo", **both},
        Submission(type="echo", unique_key="feed-3"),
        {"type": "echo"},
        {"type": "nope"},
    ]
    many = await client.submit_many(several)
    assert [each.accepted_as if isinstance(each, AcceptedTask) else type(each) for each in many] == [
        "replayed", "existing", "new", Invalid,
    ]  # fmt: skip
    await client.schedules.put("a", {"type": "echo", "unique_key": "feed-3"}, interval=3600)
    assert (await client.schedules.run("a")).accepted_as is AcceptedAs.EXISTING
    await client.schedules.put("a", {"type": "echo"}, interval=3600)
    assert (await client.schedules.run("a")).is_new


async def test_a_task_whose_answer_was_lost_is_new(api: Api) -> None:
    async with losing_answers(api, 1) as client:
        assert (await client.submit("echo", delay=60)).is_new
    async with losing_answers(api, 1) as client:
        [outcome] = await client.submit_many([{"type": "echo", "delay": 60}])
    assert isinstance(outcome, AcceptedTask)
    assert outcome.is_new


EXAMPLES = re.findall(r"^```python\n(.+?)^```", (ROOT / "docs/client.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
async def test_the_examples_of_the_page_run(api: Api, settings: Settings, example: str) -> None:
    code = example.replace("http://localhost:4000", str(api.client.make_url("/"))).replace("2_500", "25")
    names: dict[str, Any] = {}
    exec(f"async def run():\n{indent(code, '    ')}", names)  # noqa: S102
    async with a_worker(settings):
        await names["run"]()


async def test_what_happens_is_told_as_it_happens(client: Client, settings: Settings) -> None:
    a_moment_ago = str(to_ms(utc_now()))
    async with aclosing(client.events(type="echo", last_event_id=a_moment_ago)) as events:
        told, task = await asyncio.gather(anext(events), client.submit("echo", {"n": 1}, delay=60))
        assert (told.name, told.task_id) == ("status", task.id)
    async with a_worker(settings):
        task = await client.submit("echo", {"n": 2})
        *_, last = [event async for event in client.follow(task.id)]
    assert last.task is not None
    assert (last.task.status, last.task.result) == ("completed", {"n": 2})
    assert [event async for event in client.follow(task.id, last_event_id=last.id)] == []


async def test_no_task_is_waited_for(client: Client) -> None:
    with pytest.raises(NotFound):
        await client.wait(NOBODY)
