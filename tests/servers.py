"""Servers of a test's own, that it may freeze, kill and start again, and a proxy that spoils connections."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from app.embedded.servers import LocalServer, start_mongo, start_redis
from settings import Settings
from tests.processes import START_S, Process, started
from tests.waiting import wait_until


def measured(text: str) -> None:
    """Say what a test has seen; `pytest -s` shows it."""
    sys.stdout.write(f"measured: {text}\n")


Start = Callable[[int], Coroutine[Any, Any, LocalServer]]


class OwnServer:
    """A server that a test hurts.

    Args:
        start: Starts it on a port, 0 for a free one.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._server: LocalServer | None = None

    @property
    def server(self) -> LocalServer:
        assert self._server is not None
        return self._server

    async def start(self) -> None:
        """Start it, after the first time on the same port and the same data."""
        self._server = await self._start(self._server.port if self._server else 0)

    def freeze(self) -> None:
        """Connections are taken by the kernel, and nobody answers."""
        os.kill(self.server.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.server.pid, signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL: nothing is written any more."""
        self.server.process.kill()
        await self.server.process.wait(10)

    async def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.thaw()
        await self.server.stop(grace_s=0)


@asynccontextmanager
async def own_redis(directory: Path) -> AsyncIterator[OwnServer]:
    """A Redis that forgets everything when it stops, but for what a test has it save."""
    redis = OwnServer(lambda port: start_redis(directory, port, persistent=False))
    await redis.start()
    try:
        yield redis
    finally:
        await redis.stop()


@asynccontextmanager
async def own_mongo(directory: Path, *, replica_set: bool = False) -> AsyncIterator[OwnServer]:
    """A MongoDB-wire server that keeps what it acknowledged."""
    mongo = OwnServer(lambda port: start_mongo(directory, port, replica_set=replica_set))
    await mongo.start()
    try:
        yield mongo
    finally:
        await mongo.stop()


class Proxy:
    """Passes connections to a server on 127.0.0.1, until told otherwise.

    Attributes:
        delay_s: How long each piece waits, on its way there and back.
        passing: Cleared, it holds everything back, without closing anything.
        judge: Sees each piece, and whether it is on its way to the server; False cuts the connection instead.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.delay_s = 0.0
        self.passing = asyncio.Event()
        self.passing.set()
        self.judge: Callable[[bytes, bool], bool] = lambda _piece, _to_server: True
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def listen(self) -> None:
        """Take connections, after the first time on the same port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Cut every connection and take no more."""
        if self._server is not None:
            self._server.close()
            self.cut()
            await self._server.wait_closed()
            self._server = None
            await asyncio.gather(*self._serving, return_exceptions=True)

    def cut(self) -> None:
        """Cut every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, up_writer}
        self._writers |= ends
        try:
            ways = [
                asyncio.create_task(self._pump(reader, up_writer, to_server=True)),
                asyncio.create_task(self._pump(up_reader, writer, to_server=False)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_server: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(1 << 20):
                await asyncio.sleep(self.delay_s)
                await self.passing.wait()
                if not self.judge(piece, to_server):
                    return
                writer.write(piece)
                await writer.drain()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """A proxy that listens."""
    proxy = Proxy(port)
    await proxy.listen()
    try:
        yield proxy
    finally:
        proxy.passing.set()
        await proxy.refuse()


@dataclass(frozen=True)
class Answer:
    """What a web process answered, and how long it took."""

    status: int
    body: Any
    headers: Mapping[str, str]
    seconds: float


@dataclass(frozen=True)
class Web:
    """A real web process and a client of it."""

    process: Process
    url: str
    session: aiohttp.ClientSession

    async def call(self, method: str, path: str, body: Any = None) -> Answer:
        begun = time.monotonic()
        async with self.session.request(method, self.url + path, json=body) as response:
            content = await response.json(content_type=None)
            return Answer(response.status, content, response.headers, time.monotonic() - begun)

    async def post(self, **fields: Any) -> Answer:
        """Submit a task, an echo unless told otherwise."""
        return await self.call("POST", "/tasks", {"type": "echo", **fields})

    async def get(self, path: str) -> Answer:
        return await self.call("GET", path)

    async def accepted(self, **fields: Any) -> str:
        """The id of a task that is accepted."""
        answer = await self.post(**fields)
        assert answer.status == 201, answer
        task_id: str = answer.body["id"]
        return task_id

    async def until_ended(self, task_id: str, timeout_s: float) -> dict[str, Any]:
        """The task once it is terminal."""
        seen: dict[str, Any] = {}

        async def ended() -> bool:
            answer = await self.get(f"/tasks/{task_id}?wait=2")
            seen.update(answer.body if answer.status == 200 else {})
            return seen.get("status") in {"completed", "failed", "cancelled"}

        await wait_until(ended, timeout_s, f"task {task_id} has not ended")
        return seen


@asynccontextmanager
async def running_web(settings: Settings, directory: Path, **changes: object) -> AsyncIterator[Web]:
    """A web process on a free port."""
    with started("web", settings, directory, port=0, **changes) as process:
        await wait_until(lambda: process.logged("listening on"), START_S, "web listens")
        found = re.search(r"listening on (http://127\.0\.0\.1:\d+)", process.log.read_text())
        assert found is not None
        connector = aiohttp.TCPConnector(limit=200)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as session:
            yield Web(process, found[1], session)
