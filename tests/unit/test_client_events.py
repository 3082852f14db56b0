"""The client's streams of events: how bytes become events, and how a stream that breaks off is gone on with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from app.client import Client, Event, NotFound, RequestFailed, Unavailable, Unreachable, connection, events
from app.client.event_stream import EventParser, Frame
from app.core.backoff import Backoff

ID = "6b050b29b1d6243056deba6e"
NOW = "2026-01-02T03:04:05Z"
STATE: dict[str, Any] = {
    "id": ID, "type": "echo", "queue": "default", "tags": [], "status": "running", "attempt": 1, "round": 1,
    "max_attempts": 3, "run_at": NOW, "created_at": NOW, "updated_at": NOW, "started_at": NOW, "finished_at": None,
    "cancel_requested_at": None, "progress": None, "error": None,
}  # fmt: skip


def sse(event_id: str, name: str = "status", **changes: Any) -> bytes:
    return f"id: {event_id}\r\nevent: {name}\r\ndata: {orjson.dumps({**STATE, **changes}).decode()}\r\n\r\n".encode()


class Service:
    """Answers each request for a stream as the next in a list says, and remembers what was asked."""

    def __init__(self, *answers: bytes | int) -> None:
        self.answers = list(answers)
        self.asked: list[str | None] = []
        self.queries: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.headers.get("Last-Event-ID"))
        self.queries.append(request.query_string)
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            return web.json_response({"code": f"code_{answer}", "detail": "No."}, status=answer)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(answer)
        return response


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (connection, events):
        monkeypatch.setattr(module, "PAUSES", Backoff(base=timedelta(milliseconds=1), jitter=False))


@asynccontextmanager
async def client_of(service: Service, retry_for: float = 5) -> AsyncIterator[Client]:
    application = web.Application()
    application.router.add_get("/{path:.*}", service.answer)
    async with TestServer(application) as server, Client(str(server.make_url("/")), retry_for=retry_for) as client:
        yield client


async def all_of(events: AsyncIterator[Event]) -> list[tuple[str, str]]:
    return [(event.id, event.task.status if event.task else event.name) async for event in events]


async def test_a_task_is_followed_to_its_end_over_a_break() -> None:
    service = Service(
        b"retry: 1\r\n\r\n" + sse("1", status="pending") + sse("2")[:-2],  # the second is cut off before its end
        502,
        sse("2") + b": a comment\r\n\r\n" + sse("3", "progress") + sse("4", status="completed") + sse("5"),
    )
    async with client_of(service) as client:
        told = await all_of(client.follow(ID))
    assert told == [("1", "pending"), ("2", "running"), ("3", "running"), ("4", "completed")]
    assert service.asked == [None, "1", "1"]


async def test_it_goes_on_after_the_event_that_is_given() -> None:
    service = Service(sse("8", status="failed"), 204)
    async with client_of(service) as client:
        assert await all_of(client.follow(ID, last_event_id="7")) == [("8", "failed")]
        assert await all_of(client.follow(ID, last_event_id="8")) == []
    assert service.asked == ["7", "8"]


async def test_a_task_that_is_deleted_ends_its_stream() -> None:
    service = Service(sse("1") + b'id: 2\ndata: {"id":"' + ID.encode() + b'"}\nevent: deleted\n\n')
    async with client_of(service) as client:
        [running, deleted] = [event async for event in client.follow(ID)]
    assert not running.is_end
    assert (deleted.task_id, deleted.task, deleted.is_end) == (ID, None, True)


async def test_a_task_that_was_deleted_during_a_break_ends_its_stream() -> None:
    async with client_of(Service(sse("1"), 404)) as client:
        assert await all_of(client.follow(ID)) == [("1", "running")]


async def test_no_task_is_an_error() -> None:
    async with client_of(Service(404)) as client:
        with pytest.raises(NotFound):
            await all_of(client.follow(ID))


async def test_all_are_followed_with_filters_and_from_a_place() -> None:
    service = Service(sse("1") + b"id: 7\r\n\r\n", sse("8", "something_new") + sse("9", status="failed"), 403)
    async with client_of(service) as client:
        told = client.events(status=["failed"], type="echo", queue="q", tags=["a", "b"])
        assert [(await anext(told)).id, (await anext(told)).id] == ["1", "9"]
        with pytest.raises(RequestFailed, match=r"^No\.$"):
            await anext(told)
    assert service.asked == [None, "7", "9"]
    assert set(service.queries) == {"status=failed&tag=a&tag=b&type=echo&queue=q"}


async def test_a_service_that_stays_away_is_an_error_after_a_while() -> None:
    async with client_of(Service(sse("1"), *[503] * 100), retry_for=0.05) as client:
        told = client.events()
        assert (await anext(told)).id == "1"
        with pytest.raises(Unavailable, match="No"):
            await anext(told)


async def test_silence_is_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.client.events.SILENCE_S", 0.05)
    over = asyncio.Event()

    class Silent(Service):
        async def answer(self, request: web.Request) -> web.StreamResponse:
            response = await super().answer(request)
            await over.wait()
            return response

    async with client_of(Silent(sse("1"), sse("2", status="cancelled"))) as client:
        assert await all_of(client.follow(ID)) == [("1", "running"), ("2", "cancelled")]
        over.set()
    over.clear()
    async with client_of(Silent(sse("1")), retry_for=0) as client:
        with pytest.raises(Unreachable, match="nothing came in time"):
            await all_of(client.follow(ID))
        over.set()


async def test_an_event_that_cannot_be_read_is_an_error() -> None:
    async with client_of(Service(b"event: status\ndata: {}\n\n")) as client:
        with pytest.raises(RequestFailed, match="cannot read"):
            await all_of(client.follow(ID))


STREAM = (
    b"\xef\xbb\xbf: hello\r\nretry: 2140\r\n\r\nid: 1\r\nevent: status\r\ndata: {\r\ndata:}\r\n\r\n"
    b"data:  two\xc3\xa9\n\nid: 3\n\nunknown: x\rid\rdata\r\rid: 4\0\ndata: x\n\n: cut\ndata: y\n"
)
FRAMES = [
    Frame("1", "status", "{\n}"),
    Frame("1", "message", " twoé"),
    Frame("", "message", ""),
    Frame("", "message", "x"),
]


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12).map(sorted))
def test_events_are_the_same_however_their_bytes_are_cut(cuts: list[int]) -> None:
    parser = EventParser()
    edges = [0, *cuts, len(STREAM)]
    parts = [STREAM[start:end] for start, end in pairwise(edges)]
    assert [frame for part in parts for frame in parser.feed(part)] == FRAMES
    assert parser.retry_ms == 2140
