"""Streams of events: what they tell, from where they go on, and that nothing is lost with a signal."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from bson import ObjectId

from app.api import event_stream, events
from app.core.api_keys import Scope, entry_of
from app.core.clock import utc_now
from app.core.event_id import EventId
from app.core.ids import TaskId
from app.event_models import TaskEvent
from app.queue import keys
from app.services import live as live_room
from app.services import stream as stream_room
from app.store import changes as changes_room
from tests.api.conftest import Api, RunApi
from tests.event_source import Event, EventSource, listening
from tests.waiting import wait_until

NOBODY = "redis://127.0.0.1:1"
ChangeTask = Callable[..., None]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the truth often."""
    for name in ("FIRST_LOOK_S", "LOOK_S", "SWEEP_S"):
        monkeypatch.setattr(live_room, name, 0.05)


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never look at the truth without being told to."""
    for name in ("FIRST_LOOK_S", "LOOK_S", "SWEEP_S"):
        monkeypatch.setattr(live_room, name, 3600)


def statuses(told: list[Event]) -> list[tuple[str, str]]:
    return [(event.data["id"], event.status) for event in told]


async def cancel(api: Api, task: dict[str, Any]) -> None:
    assert (await api.post(f"/tasks/{task['id']}/cancel")).status == 200


class TestOneTask:
    @pytest.mark.usefixtures("deaf")
    async def test_its_state_comes_first_then_changes_and_the_last_ends_the_stream(self, api: Api) -> None:
        task = await api.submit()
        async with listening(api.client, f"/tasks/{task['id']}/events") as source:
            assert source.response.content_type == "text/event-stream"
            [first] = await source.events(1)
            assert (first.name, first.status) == ("status", "pending")
            await cancel(api, task)
            [last] = await source.rest()
        assert (last.name, last.status) == ("status", "cancelled")
        assert 1_000 <= source.retry_ms <= 3_000

    async def test_the_data_is_what_the_document_says(self, api: Api) -> None:
        task = await api.submit(tags=["a", "b"])
        async with listening(api.client, f"/tasks/{task['id']}/events") as source:
            [event] = await source.events(1)
        operation = api.contract.document["paths"]["/tasks/{task_id}/events"]["get"]
        schema = operation["responses"]["200"]["content"]["text/event-stream"]["schema"]
        api.contract.check_schema(schema, {"id": event.id, "event": event.name, "data": json.dumps(event.data)})
        of_event = api.contract.document["components"]["schemas"]["StreamedEvent"]
        api.contract.check_schema(of_event["properties"]["data"]["contentSchema"], event.data)
        assert set(event.data) == set(TaskEvent.model_fields) - {"result"}
        for name in event.data.keys() & task.keys():
            assert event.data[name] == task[name], name

    @pytest.mark.usefixtures("quick")
    async def test_the_last_event_of_a_completed_task_has_its_result(self, api: Api, change_task: ChangeTask) -> None:
        task = await api.submit()
        async with listening(api.client, f"/tasks/{task['id']}/events") as source:
            await source.events(1)
            change_task(task, status="completed", result={"n": 1}, updated_at=utc_now())
            [last] = await source.rest()
        assert (last.status, last.data["result"]) == ("completed", {"n": 1})

    async def test_headers_keep_proxies_from_holding_events_back(self, api: Api) -> None:
        task = await api.submit()
        for url in (f"/tasks/{task['id']}/events", "/events"):
            async with listening(api.client, url, headers={"X-Request-ID": "mine"}) as source:
                headers = source.response.headers
                assert headers["Cache-Control"] == "no-store"
                assert headers["X-Accel-Buffering"] == "no"
                assert headers["X-Content-Type-Options"] == "nosniff"
                assert headers["X-Request-ID"] == "mine"

    async def test_comments_keep_the_connection_alive(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(event_stream, "PING_S", 0.02)
        task = await api.submit()
        async with listening(api.client, f"/tasks/{task['id']}/events") as source:
            await source.events(1)
            assert await source.silent(0.3)
            assert source.comments > 2

    @pytest.mark.usefixtures("quick")
    async def test_progress_and_cancel_requests_are_told_apart(self, api: Api, change_task: ChangeTask) -> None:
        task = await api.submit()
        start = utc_now()
        steps: list[tuple[dict[str, Any], str]] = [
            ({"status": "running", "started_at": start}, "status"),
            ({"progress": {"value": 0.5, "message": "half", "at": start + timedelta(seconds=1)}}, "progress"),
            ({"cancel_requested_at": start + timedelta(seconds=2)}, "status"),
            ({"progress": {"value": 0.6, "message": "", "at": start + timedelta(seconds=3)}}, "progress"),
            ({"status": "retrying"}, "status"),
            ({"status": "running", "started_at": start + timedelta(seconds=5)}, "status"),
        ]
        async with listening(api.client, f"/tasks/{task['id']}/events") as source:
            await source.events(1)
            for number, (fields, name) in enumerate(steps):
                change_task(task, **fields, updated_at=start + timedelta(seconds=number))
                [event] = await source.events(1)
                assert event.name == name, fields
        assert event.data["progress"]["value"] == 0.6

    @pytest.mark.usefixtures("quick")
    async def test_a_change_that_no_signal_told_of_is_found(self, api: Api, change_task: ChangeTask) -> None:
        task = await api.submit()
        async with listening(api.client, f"/tasks/{task['id']}/events") as source:
            await source.events(1)
            assert await source.silent(0.2)  # past the looks that follow the opening
            change_task(task, status="failed", updated_at=utc_now())
            assert [event.status for event in await source.rest()] == ["failed"]

    @pytest.mark.usefixtures("quick")
    async def test_without_redis_it_is_only_slower(self, run_api: RunApi) -> None:
        async with run_api(redis_url=NOBODY) as api:
            task = await api.submit()
            async with listening(api.client, f"/tasks/{task['id']}/events") as source:
                await source.events(1)
                await cancel(api, task)
                assert [event.status for event in await source.rest()] == ["cancelled"]

    @pytest.mark.usefixtures("quick")
    async def test_a_task_that_is_no_longer_kept_ends_the_stream(self, api: Api, mongo_client: Any) -> None:
        task = await api.submit()
        async with listening(api.client, f"/tasks/{task['id']}/events") as source:
            await source.events(1)
            database = mongo_client[api.backend.mongo.database.name]
            database.tasks.delete_one({"_id": ObjectId(task["id"])})
            [last] = await source.rest()
        assert (last.name, last.data) == ("deleted", {"id": task["id"]})

    @pytest.mark.parametrize("by", ["header", "query"])
    @pytest.mark.usefixtures("deaf")
    async def test_who_comes_back_is_not_told_what_they_know(self, api: Api, by: str) -> None:
        task = await api.submit()
        url = f"/tasks/{task['id']}/events"
        async with listening(api.client, url) as source:
            [first] = await source.events(1)
        url, last = (url, first.id) if by == "header" else (f"{url}?last_event_id={first.id}", "")
        async with listening(api.client, url, last) as source:
            assert await source.silent(0.2)
            await cancel(api, task)
            assert [event.status for event in await source.rest()] == ["cancelled"]

    async def test_who_comes_back_late_is_told_the_state_of_now(self, api: Api) -> None:
        task = await api.submit()
        url = f"/tasks/{task['id']}/events"
        async with listening(api.client, url) as source:
            [first] = await source.events(1)
        await cancel(api, task)
        async with listening(api.client, url, first.id) as source:
            [last] = await source.rest()
        assert last.status == "cancelled"
        answer = await api.get(url, headers={"Last-Event-ID": last.id})
        assert answer.status == 204  # a browser does not come back after this

    async def test_a_task_that_does_not_exist(self, api: Api) -> None:
        answer = await api.get(f"/tasks/{'0' * 24}/events")
        assert (answer.status, answer.code) == (404, "task_not_found")


class TestEveryTask:
    @pytest.mark.usefixtures("deaf")
    async def test_what_changes_is_told_to_all_who_listen(self, api: Api) -> None:
        before = await api.submit()
        async with listening(api.client, "/events") as one, listening(api.client, "/events") as two:
            await wait_until(lambda: len(api.backend.live) == 2 and api.backend.queue.audience.present)
            task = await api.submit()
            for source in (one, two):
                assert statuses(await source.events(1)) == [(task["id"], "pending")]
            await cancel(api, before)
            for source in (one, two):
                assert statuses(await source.events(1)) == [(before["id"], "cancelled")]

    @pytest.mark.parametrize(
        ("query", "wanted"),
        [
            ("type=sleep", [1]), ("queue=other", [2]), ("tag=a", [3, 4]), ("tag=a&tag=b", [4]),
            ("status=pending", [0, 1, 2, 3, 4]),
            ("status=cancelled&status=running", [5]), ("status=cancelled&type=sleep", []),
        ],
    )  # fmt: skip
    @pytest.mark.usefixtures("deaf")
    async def test_filters_are_those_of_the_list(self, api: Api, query: str, wanted: list[int]) -> None:
        async with listening(api.client, "/events") as every, listening(api.client, f"/events?{query}") as source:
            await wait_until(lambda: len(api.backend.live) == 2 and api.backend.queue.audience.present)
            tasks = [
                await api.submit(),
                await api.submit("sleep"),
                await api.submit(queue="other"),
                await api.submit(tags=["a"]),
                await api.submit(tags=["a", "b"]),
            ]
            await every.events(5)
            await cancel(api, tasks[0])
            await every.events(1)
            told = [event.data["id"] for event in await source.events(len(wanted))]
            assert told == [tasks[number % 5]["id"] for number in wanted]
            assert await source.silent(0.05)
        resumed = f"/events?{query}&last_event_id={before_all(tasks[0])}"
        async with listening(api.client, resumed) as source:
            caught_up = {event.data["id"] for event in await source.events(len(set(told) - gone(tasks[0], query)))}
        assert caught_up == set(told) - gone(tasks[0], query)

    @pytest.mark.usefixtures("quick")
    async def test_a_change_that_no_signal_told_of_is_found_and_told_once(
        self, api: Api, change_task: ChangeTask
    ) -> None:
        task = await api.submit()
        async with listening(api.client, "/events?status=failed") as source:
            await wait_until(lambda: len(api.backend.live) == 1)
            change_task(task, status="failed", updated_at=utc_now())
            assert statuses(await source.events(1)) == [(task["id"], "failed")]
            assert await source.silent(0.3)

    @pytest.mark.usefixtures("quick")
    async def test_what_changed_before_is_not_told(self, api: Api) -> None:
        await api.submit()
        async with listening(api.client, "/events") as source:
            assert await source.silent(0.3)

    @pytest.mark.usefixtures("quick")
    async def test_who_hears_nothing_still_learns_from_where_to_go_on(
        self, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(events, "PLACE_S", 0.1)
        async with listening(api.client, "/events?type=never") as source:
            await source.silent(0.05)
            first = EventId.parse(source.last_event_id)
            await source.silent(0.5)
            # A place lags behind by what a sweep looks back, so it grows past the first one only later.
            assert EventId.parse(source.last_event_id) != first

    async def test_an_empty_id_says_nothing(self, api: Api) -> None:
        async with listening(api.client, "/events", headers={"Last-Event-ID": ""}) as source:
            assert source.response.status == 200

    @pytest.mark.parametrize("value", ["x", "-1", "1-2", "1" * 14, f"1-{'0' * 24}", "1764000000000-x-running"])
    async def test_what_was_never_an_id_is_refused(self, api: Api, value: str) -> None:
        for options in ({"headers": {"Last-Event-ID": value}}, {"params": {"last_event_id": value}}):
            answer = await api.get("/events", **options)
            assert (answer.status, answer.code) == (422, "invalid")


class TestGoingOn:
    @pytest.mark.usefixtures("deaf")
    async def test_nothing_between_leaving_and_coming_back_is_lost(self, api: Api) -> None:
        async with listening(api.client, "/events") as source:
            await wait_until(lambda: len(api.backend.live) == 1 and api.backend.queue.audience.present)
            known = await api.submit()
            [event] = await source.events(1)
        missed = [await api.submit() for _ in range(3)]
        await cancel(api, known)
        async with listening(api.client, "/events", event.id) as source:
            told = statuses(await source.events(4))
            assert set(told) == {(known["id"], "cancelled"), *((task["id"], "pending") for task in missed)}
            await wait_until(lambda: api.backend.queue.audience.present)
            live = await api.submit()
            assert statuses(await source.events(1)) == [(live["id"], "pending")]
            assert await source.silent(0.1)

    @pytest.mark.usefixtures("deaf")
    async def test_many_changes_of_one_moment_are_told_page_by_page(
        self, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for room in (events, changes_room):
            monkeypatch.setattr(room, "BATCH", 10)
        answer = await api.post("/tasks/bulk", [{"type": "echo"}] * 35)
        ids = {task["id"] for task in answer.json["items"]}
        assert len({task["updated_at"] for task in answer.json["items"]}) == 1
        last = before_all(answer.json["items"][0])
        async with listening(api.client, "/events", last) as source:
            told = await source.events(35)
            assert {event.data["id"] for event in told} == ids
            assert await source.silent(0.1)

    @pytest.mark.usefixtures("deaf")
    async def test_changes_by_a_clock_that_is_behind_are_not_lost(
        self, api: Api, change_task: ChangeTask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One before the event that is gone on from, and one while the stream starts."""
        early, later, late = await api.submit(), await api.submit(), await api.submit()
        async with listening(api.client, "/events") as source:
            await wait_until(lambda: len(api.backend.live) == 1 and api.backend.queue.audience.present)
            await api.submit()
            [event] = await source.events(1)
        known_at = EventId.parse(event.id).at
        change_task(early, status="failed", updated_at=known_at - timedelta(seconds=1))
        change_task(later, status="failed", updated_at=known_at + timedelta(seconds=20))
        after = api.backend.live.changes.after

        async def while_starting(place: EventId, which: Any) -> Any:
            page = await after(place, which)
            await asyncio.to_thread(change_task, late, status="failed", updated_at=known_at + timedelta(seconds=19))
            return page

        monkeypatch.setattr(api.backend.live.changes, "after", while_starting)
        async with listening(api.client, "/events?status=failed", event.id) as source:
            told = statuses(await source.events(3))
        assert told == [(task["id"], "failed") for task in (early, later, late)]

    @pytest.mark.usefixtures("deaf")
    async def test_a_place_that_was_told_is_one_to_go_on_from(self, api: Api) -> None:
        async with listening(api.client, "/events") as source:
            await source.silent(0.1)
        task = await api.submit()
        async with listening(api.client, "/events", source.last_event_id) as source:
            assert statuses(await source.events(1)) == [(task["id"], "pending")]


class TestReaders:
    @pytest.mark.usefixtures("deaf")
    async def test_a_slow_one_is_dropped_and_nobody_waits_for_it(
        self, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stream_room, "MAX_WAITING", 50)
        monkeypatch.setattr(event_stream, "SEND_PATIENCE_S", 3600)
        live = api.backend.live
        with reader_that_does_not_read(api, "/events"):
            await wait_until(lambda: len(live) == 1)
            async with listening(api.client, "/events?type=echo") as quick_one:
                await wait_until(lambda: len(live) == 2)
                task = await api.submit()
                await quick_one.events(1)
                [document] = await live.changes.of([TaskId(task["id"])])
                long = {**document, "type": "other", "tags": ["x" * 100] * 100}
                for number in range(2_000):
                    if len(live) == 1:
                        break
                    live._deliver_to_all({**long, "updated_at": utc_now() + timedelta(milliseconds=number)})  # type: ignore[typeddict-item]
                    await asyncio.sleep(0)
                await wait_until(lambda: len(live) == 1, what="the slow reader is dropped")
                await cancel(api, task)
                assert statuses(await quick_one.events(1)) == [(task["id"], "cancelled")]

    @pytest.mark.usefixtures("quick")
    async def test_who_hangs_up_leaves_nothing_behind(self, api: Api) -> None:
        task, live = await api.submit(), api.backend.live
        for url in (f"/tasks/{task['id']}/events", "/events"):
            for _ in range(5):
                async with listening(api.client, url) as source:
                    await source.silent(0.01)
        await wait_until(lambda: len(live) == 0, what="every stream is gone")
        assert (live._of_task, live._of_all, live._told, live._suspected) == ({}, set(), {}, {})

    @pytest.mark.usefixtures("quick")
    async def test_no_more_than_are_allowed(self, run_api: RunApi) -> None:
        async with run_api(max_event_streams=2) as api:
            task = await api.submit()
            async with listening(api.client, "/events"), listening(api.client, f"/tasks/{task['id']}/events"):
                await wait_until(lambda: len(api.backend.live) == 2)
                for url in ("/events", f"/tasks/{task['id']}/events"):
                    answer = await api.get(url)
                    assert (answer.status, answer.code) == (503, "too_many_streams")
                    assert int(answer.headers["Retry-After"]) > 0
            await wait_until(lambda: len(api.backend.live) == 0)
            async with listening(api.client, "/events"):
                pass

    @pytest.mark.usefixtures("deaf")
    async def test_many_cost_one_subscription_and_one_read(
        self, api: Api, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        task, reads = await api.submit(), []
        url = f"/tasks/{task['id']}/events"
        sources = [listening(api.client, url) for _ in range(20)]
        opened: list[EventSource] = [await source.__aenter__() for source in sources]
        for source in opened:
            await source.events(1)
        of = api.backend.live.changes.of

        async def counted(task_ids: Any) -> Any:
            reads.append(list(task_ids))
            return await of(reads[-1])

        await wait_until(lambda: not api.backend.live._suspected)
        monkeypatch.setattr(api.backend.live.changes, "of", counted)
        assert redis_client.pubsub_numsub(keys.CHANGED_CHANNEL) == [(keys.CHANGED_CHANNEL.encode(), 1)]
        await cancel(api, task)
        for source in opened:
            assert [event.status for event in await source.rest()] == ["cancelled"]
        assert reads == [[task["id"]]]
        for context in sources:
            await context.__aexit__(None, None, None)

    async def test_head_tells_what_get_would_answer(self, api: Api) -> None:
        task = await api.submit()
        for url in ("/events", f"/tasks/{task['id']}/events"):
            answer = await api.call("HEAD", url)
            assert (answer.status, answer.media_type) == (200, "text/event-stream")
        assert (await api.call("HEAD", f"/tasks/{'0' * 24}/events")).status == 404
        assert len(api.backend.live) == 0

    async def test_a_key_is_needed_where_there_are_keys(self, run_api: RunApi) -> None:
        async with run_api(api_keys=entry_of("a", Scope.READ, "secret")) as api:
            assert (await api.get("/events")).status == 401
            async with listening(api.client, "/events", headers={"Authorization": "Bearer secret"}):
                pass


class TestTelling:
    @pytest.fixture
    def heard(self, redis_client: redis.Redis) -> Iterator[Callable[[], list[bytes]]]:
        """What is said on the channel of changes."""
        with redis_client.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]
            pubsub.subscribe(keys.CHANGED_CHANNEL)

            def said() -> list[bytes]:
                found = []
                while (message := pubsub.get_message(timeout=0.05)) is not None:
                    found.append(message["data"])
                return found

            said()
            yield said

    async def test_nothing_is_said_while_nobody_listens(self, api: Api, heard: Callable[[], list[bytes]]) -> None:
        await wait_until(lambda: api.backend.queue.audience.present)
        api.backend.queue.audience._until = 0.0  # as it is a few seconds after the start
        await api.submit()
        assert heard() == []
        async with listening(api.client, "/events"):
            await wait_until(lambda: api.backend.queue.audience.present)
            task = await api.submit()
            assert heard() == [task["id"].encode()]


def before_all(task: dict[str, Any]) -> str:
    """The id of a place before a task was made."""
    return str(EventId(int(ObjectId(task["id"]).generation_time.timestamp()) * 1000 - 1))


def gone(task: dict[str, Any], query: str) -> set[str]:
    """What is told while it happens, and is another state by the time that somebody catches up."""
    return {task["id"]} if query == "status=pending" else set()


def reader_that_does_not_read(api: Api, url: str) -> Any:
    """A connection with a small buffer that asks and never reads."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    assert api.client.port is not None
    connection.connect((api.client.host, api.client.port))
    connection.sendall(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection
