"""One trace from the POST to what the handler calls, with spans and without."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind

from app.api.app import build_app
from app.services.backend import Backend
from app.tasks.registry import load_task_modules
from app.telemetry.spans import Spans
from app.telemetry.tracing import Tracing
from app.web import open_backend
from app.worker import open_worker
from settings import Settings
from tests.integration.conftest import ended, submit_one
from tests.processes import START_S, started
from tests.waiting import wait_until

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{SPAN}-01"


@dataclass
class Callee:
    """A server that keeps the headers it was sent, and answers with the statuses it was told to, then 200."""

    statuses: list[int] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200, headers={"Retry-After": "0"})

    @property
    def traceparents(self) -> list[str | None]:
        return [headers.get("traceparent") for headers in self.headers]


@pytest.fixture
async def callee() -> AsyncIterator[Callee]:
    callee = Callee()
    app = web.Application()
    app.router.add_route("*", "/", callee.answer)
    async with TestServer(app, host="127.0.0.1") as server:
        callee.url = str(server.make_url("/"))
        yield callee


class Spanned:
    """Spans that are kept instead of sent."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self._provider = TracerProvider(**options)
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Spans(self._provider.get_tracer("arqive"))

    def of(self, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.kind is kind]


Run = Callable[[Tracing], AbstractAsyncContextManager["TestClient[Any, Any]"]]


@pytest.fixture
def run(settings: Settings) -> Run:
    """A context in which web and a worker run with some tracing; gives a client."""

    @asynccontextmanager
    async def running(tracing: Tracing) -> AsyncIterator["TestClient[Any, Any]"]:
        types = load_task_modules(settings.task_modules)
        application = build_app(
            partial(open_backend, settings, types, None, tracing),
            max_body_bytes=settings.max_body_bytes,
            version="test",
        )
        async with (
            TestClient(TestServer(application)) as client,
            open_worker(settings, types, None, tracing) as worker,
        ):
            claiming = asyncio.create_task(worker.loop.main())
            yield client
            worker.loop.stop_claiming()
            await claiming
            await worker.loop.drain(10)

    return running


async def call(client: "TestClient[Any, Any]", callee: Callee, **fields: Any) -> dict[str, Any]:
    """The task of a call, once it has ended."""
    body = {"type": "http.request", "payload": {"url": callee.url, **fields.pop("payload", {})}}
    async with client.post("/tasks", json=body, **fields) as response:
        assert response.status == 201, await response.text()
        task = await response.json()
    async with client.get(f"/tasks/{task['id']}", params={"wait": 60}) as response:
        ended: dict[str, Any] = await response.json()
    assert ended["status"] == "completed"
    return ended


async def test_without_spans_the_clients_trace_reaches_the_callee(run: Run, callee: Callee) -> None:
    async with run(Tracing()) as client:
        task = await call(client, callee, headers={"traceparent": GIVEN})
        assert task["traceparent"] == GIVEN
        assert (await call(client, callee))["traceparent"] is None, "a request is in no other's trace"
        assert (await call(client, callee, headers={"traceparent": "nonsense"}))["traceparent"] is None
        own = f"00-{TRACE}-{'1' * 16}-01"
        await call(client, callee, headers={"traceparent": GIVEN}, payload={"headers": {"traceparent": own}})
        async with client.post(
            "/tasks/bulk", json=[{"type": "echo"}, {"type": "no.such"}], headers={"traceparent": GIVEN}
        ) as response:
            assert (await response.json())["items"][0]["traceparent"] == GIVEN
    assert callee.traceparents == [GIVEN, None, None, own]


async def test_a_post_an_attempt_and_its_call_are_one_trace(run: Run, callee: Callee) -> None:
    spanned = Spanned()
    async with run(spanned.tracing) as client:
        task = await call(client, callee, headers={"traceparent": GIVEN}, payload={"url": f"{callee.url}?key=hunter2"})
    [post] = [span for span in spanned.of(SpanKind.SERVER) if span.name == "POST /tasks"]
    [attempt], [sent] = spanned.of(SpanKind.CONSUMER), spanned.of(SpanKind.CLIENT)
    assert post.parent is not None
    assert attempt.parent is not None
    assert sent.parent is not None
    assert f"{post.parent.span_id:016x}" == SPAN
    assert attempt.parent.span_id == post.context.span_id
    assert sent.parent.span_id == attempt.context.span_id
    assert {f"{span.context.trace_id:032x}" for span in (post, attempt, sent)} == {TRACE}
    assert callee.traceparents == [f"00-{TRACE}-{sent.context.span_id:016x}-01"]
    assert task["traceparent"] == f"00-{TRACE}-{post.context.span_id:016x}-01"

    assert dict(post.attributes or {}) == {
        "http.request.method": "POST", "http.route": "/tasks", "url.path": "/tasks", "http.response.status_code": 201,
        "messaging.system": "arqive", "messaging.operation.type": "send", "messaging.destination.name": "default",
        "messaging.message.id": task["id"],
    }  # fmt: skip
    worker = task["history"][0]["worker"]
    assert attempt.name == "process http.request"
    assert dict(attempt.attributes or {}) == {
        "messaging.system": "arqive", "messaging.operation.name": "process", "messaging.operation.type": "process",
        "messaging.destination.name": "default", "messaging.message.id": task["id"], "messaging.client.id": worker,
        "arqive.task.type": "http.request", "arqive.task.round": 1, "arqive.attempt.number": 1,
        "arqive.attempt.outcome": "completed",
    }  # fmt: skip
    assert sent.attributes is not None
    assert (sent.attributes["url.full"], sent.attributes["http.response.status_code"]) == (callee.url, 200)
    assert attempt.status.is_unset


async def test_an_attempt_links_to_those_before_it(run: Run, callee: Callee) -> None:
    callee.statuses = [503, 429]
    spanned = Spanned()
    async with run(spanned.tracing) as client:
        task = await call(client, callee)
    first, second, third = spanned.of(SpanKind.CONSUMER)
    links = [[link.context.span_id for link in span.links] for span in (first, second, third)]
    assert links == [[], [first.context.span_id], [first.context.span_id, second.context.span_id]]
    assert len({span.context.trace_id for span in (first, second, third)}) == 1
    assert first.attributes is not None
    assert (first.attributes["arqive.attempt.outcome"], first.attributes["error.type"]) == ("failed", "retry_requested")
    assert [span.status.is_ok or span.status.is_unset for span in (first, second, third)] == [False, False, True]
    assert all("traceparent" not in entry for entry in task["history"]), "spans are the service's own business"
    assert {span.name for span in spanned.of(SpanKind.SERVER)} == {"POST /tasks", "GET /tasks/{task_id}?wait"}


async def test_a_bulk_of_tasks_is_the_parent_of_each(run: Run) -> None:
    spanned = Spanned()
    async with run(spanned.tracing) as client:
        async with client.post("/tasks/bulk", json=[{"type": "echo"}, {"type": "test.thread"}]) as response:
            tasks = (await response.json())["items"]
        for task in tasks:
            async with client.get(f"/tasks/{task['id']}", params={"wait": 60}) as response:
                assert (await response.json())["status"] == "completed"
        async with client.get("/health/live") as response:
            assert response.status == 200
    [post] = [span for span in spanned.of(SpanKind.SERVER) if span.name == "POST /tasks/bulk"]
    assert post.attributes is not None
    assert post.attributes["messaging.batch.message_count"] == 2
    assert [span.parent and span.parent.span_id for span in spanned.of(SpanKind.CONSUMER)] == [post.context.span_id] * 2
    assert not [span for span in spanned.of(SpanKind.SERVER) if "/health" in span.name]


async def test_a_trace_that_is_not_sampled_is_passed_on_all_the_same(run: Run, callee: Callee) -> None:
    spanned = Spanned(sampler=ALWAYS_OFF)
    async with run(spanned.tracing) as client:
        await call(client, callee, headers={"traceparent": f"00-{TRACE}-{SPAN}-00"})
    [sent] = callee.traceparents
    assert sent is not None
    assert sent.startswith(f"00-{TRACE}-")
    assert sent.endswith("-00")
    assert spanned.of(SpanKind.CONSUMER) == []


async def test_a_call_that_fails_is_a_span_as_well(run: Run, callee: Callee) -> None:
    spanned = Spanned()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        async with run(spanned.tracing) as client:
            body = {"type": "http.request", "payload": {"url": nobody}, "max_attempts": 1}
            async with client.post("/tasks", json=body) as response:
                task = await response.json()
            async with client.get(f"/tasks/{task['id']}", params={"wait": 60}) as response:
                assert (await response.json())["status"] == "failed"
    [sent] = spanned.of(SpanKind.CLIENT)
    assert sent.attributes is not None
    assert sent.attributes["error.type"] == "ClientConnectorError"


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Takes in what is exported: an address, and each path with its body."""
    received: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_process_exports_its_spans_before_it_ends(backend: Backend, settings: Settings, tmp_path: Path) -> None:
    with collector() as (url, received):
        options = {"otel_exporter_otlp_endpoint": url, "otel_service_name": "shop-workers"}
        with started("worker", settings, tmp_path, **options) as worker:
            await wait_until(lambda: worker.logged("serves default"), START_S)
            await ended(backend, await submit_one(backend, "echo"))
            worker.popen.terminate()
            assert await asyncio.to_thread(worker.wait) == 0
    assert {path for path, _ in received} == {"/v1/traces"}
    exported = b"".join(body for _, body in received)
    assert b"process echo" in exported
    assert b"shop-workers" in exported
