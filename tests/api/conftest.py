"""The whole web application on real servers, and a client that holds each answer against the OpenAPI document."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pymongo
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from bson import ObjectId

from app import cli
from app.api.app import SERVER_OPTIONS, build_app
from app.api.keys import BACKEND
from app.client import Client
from app.core.clock import utc_now
from app.services.backend import Backend
from app.tasks.registry import load_task_modules
from app.web import access_of, open_backend
from app.worker import open_worker
from settings import Settings, load_settings
from tests.api.contract import Contract
from tests.waiting import wait_until

MAX_BODY_BYTES = 100_000


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    media_type: str
    raw: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.raw)

    @property
    def code(self) -> str:
        """The code of the problem that this is."""
        assert self.media_type == "application/problem+json", self.raw
        assert self.json["status"] == self.status
        code: str = self.json["code"]
        return code

    @property
    def fields(self) -> set[str]:
        """The fields that the problem names."""
        return {error["field"] for error in self.json["errors"]}


class Api:
    """A running application and its client."""

    def __init__(self, client: "TestClient[Any, Any]", contract: Contract) -> None:
        self.client = client
        self.contract = contract

    @property
    def backend(self) -> Backend:
        """What the handlers work on."""
        application = self.client.server.app  # type: ignore[attr-defined]
        opened: Backend = application[BACKEND]
        return opened

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        """Send a request and check the answer against the document."""
        async with self.client.request(method, path, allow_redirects=False, **options) as response:
            answer = Answer(response.status, response.headers, response.content_type, await response.read())
        is_json = answer.media_type.endswith("json") and answer.raw
        self.contract.check(
            method,
            response.url.raw_path,
            status=answer.status,
            media_type=answer.media_type,
            headers=answer.headers,
            body=answer.json if is_json else None,
        )
        return answer

    async def get(self, path: str, **options: Any) -> Answer:
        """GET."""
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        """POST, with a body as JSON unless it is None."""
        return await self.call("POST", path, **({"json": body} if body is not None else {}), **options)

    async def submit(self, type: str = "echo", **fields: Any) -> dict[str, Any]:  # noqa: A002
        """A task that was accepted."""
        answer = await self.post("/tasks", {"type": type, **fields})
        assert answer.status == 201, answer.raw
        task: dict[str, Any] = answer.json
        return task


class ServerAsServed(TestServer):
    """aiohttp's own would unpack bodies and cancel handlers, which `app.web` does not."""

    async def _make_runner(self, **_: Any) -> web.AppRunner:
        return web.AppRunner(self.app, **SERVER_OPTIONS)


RunApi = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.fixture
def settings(mongo_url: str, empty_redis: str, mongo_database: str) -> Settings:
    return load_settings(
        mongo_url=mongo_url, redis_url=empty_redis, mongo_database=mongo_database, max_body_bytes=MAX_BODY_BYTES
    )


@pytest.fixture
def run_api(settings: Settings) -> RunApi:
    """A context in which the application runs; settings by name change those of the test."""

    @asynccontextmanager
    async def running(**changes: Any) -> AsyncIterator[Api]:
        changed = load_settings(**{**settings.model_dump(), **changes}) if changes else settings
        types = load_task_modules(changed.task_modules)
        application = build_app(
            partial(open_backend, changed, types),
            max_body_bytes=changed.max_body_bytes,
            version="1.2.3",
            access=access_of(changed),
        )
        async with TestClient(ServerAsServed(application)) as client:
            async with client.get("/openapi.json") as response:
                contract = Contract(await response.json())
            yield Api(client, contract)

    return running


@pytest.fixture
async def api(run_api: RunApi) -> AsyncIterator[Api]:
    async with run_api() as running:
        yield running


@pytest.fixture
def change_task(mongo_client: pymongo.MongoClient[dict[str, Any]], settings: Settings) -> Callable[..., None]:
    """Writes fields of a task past the services: no worker is needed to have one in any state."""

    def change(task: Mapping[str, Any], **fields: Any) -> None:
        changed = mongo_client[settings.mongo_database].tasks.update_one(
            {"_id": ObjectId(task["id"])}, {"$set": fields}
        )
        assert changed.matched_count == 1

    return change


@pytest.fixture
async def client(api: Api) -> AsyncIterator[Client]:
    """A client of a service without a worker."""
    async with Client(str(api.client.make_url("/")), retry_for=0) as opened:
        yield opened


@asynccontextmanager
async def a_worker(settings: Settings) -> AsyncIterator[None]:
    """A worker, beside the application of a test."""
    changed = load_settings(**{**settings.model_dump(), "health_port": 0})
    async with open_worker(changed, load_task_modules(())) as parts:
        claiming = asyncio.create_task(parts.loop.main())
        yield
        parts.loop.stop_claiming()
        await claiming
        parts.runner.release_all()
        await parts.loop.drain(10)


@pytest.fixture
def service(settings: Settings) -> Iterator[str]:
    """The URL of a service with a worker."""
    changed = load_settings(**{**settings.model_dump(), "health_port": 0, "task_modules": "tests.sample_tasks"})
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    ready: asyncio.Future[str] = loop.create_future()

    async def serve() -> None:
        types = load_task_modules(changed.task_modules)
        application = build_app(
            partial(open_backend, changed, types), max_body_bytes=changed.max_body_bytes, version="1.2.3"
        )
        async with ServerAsServed(application) as server, open_worker(changed, types) as worker:
            claiming = asyncio.create_task(worker.loop.main())
            backend: Backend = application[BACKEND]
            await wait_until(lambda: backend.workers.alive(now=utc_now(), within=backend.worker_silence))
            ready.set_result(str(server.make_url("/")))
            await stop.wait()
            worker.loop.stop_claiming()
            await claiming
            worker.runner.release_all()
            await worker.loop.drain(10)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    yield asyncio.run_coroutine_threadsafe(_value(ready), loop).result(20)
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


async def _value(ready: "asyncio.Future[str]") -> str:
    return await ready


class Terminal:
    """Runs commands against a service and gives what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.err = ""

    def run(self, *arguments: str, code: int = 0) -> str:
        """The standard output of a command that ends with this exit code."""
        ended = cli.main(arguments)
        out, self.err = self._capsys.readouterr()
        assert ended == code, self.err
        assert "Traceback" not in self.err
        return out

    def json(self, *arguments: str, code: int = 0) -> list[Any]:
        """The JSON values that it prints, one a line."""
        return [json.loads(line) for line in self.run(*arguments, code=code).splitlines()]


@pytest.fixture
def terminal(service: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("ARQIVE_URL", service)
    return Terminal(capsys)
