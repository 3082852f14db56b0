"""`python -m app web` as a process: starting, stopping, and servers that come later."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pymongo
import pytest

from app.core.api_keys import Scope, entry_of
from app.embedded.servers import free_port, start_mongo
from app.store.indexes import INDEXES
from tests.event_source import listening
from tests.waiting import PATIENCE_S, wait_until

ROOT = Path(__file__).parents[2]
NOBODY = {  # nothing listens there
    "MONGO_URL": "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100",
    "REDIS_URL": "redis://127.0.0.1:1",
}
Client = aiohttp.ClientSession


class Web:
    """A running web process."""

    def __init__(self, log: Path, **environment: str) -> None:
        self.log = log
        extra = {"PYTHONPATH": str(ROOT), "HOST": "127.0.0.1", "PORT": "0", "LOG_FORMAT": "console", **environment}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "web"], cwd=log.parent, env={**os.environ, **extra}, stderr=output
            )

    def printed(self, pattern: str) -> "re.Match[str] | None":
        return re.search(pattern, self.log.read_text(), re.MULTILINE)

    async def url(self) -> str:
        await wait_until(lambda: self.printed("listening on") or self.process.poll() is not None, what="web listens")
        match = self.printed(r"listening on (http://127\.0\.0\.1:\d+)")
        assert match is not None, self.log.read_text()
        return match[1]

    async def code(self) -> int:
        await wait_until(lambda: self.process.poll() is not None, what="web has ended")
        return self.process.returncode


RunWeb = Callable[..., AbstractAsyncContextManager[tuple[Web, Client]]]


@pytest.fixture
def run_web(tmp_path: Path) -> RunWeb:
    """A context in which the process runs and listens, with a client."""

    @asynccontextmanager
    async def running(**environment: str) -> AsyncIterator[tuple[Web, Client]]:
        web = Web(tmp_path / "log", **environment)
        try:
            async with Client(await web.url(), timeout=aiohttp.ClientTimeout(PATIENCE_S)) as client:
                yield web, client
        finally:
            web.process.kill()
            web.process.wait()

    return running


@pytest.fixture
def servers(mongo_url: str, mongo_database: str, empty_redis: str) -> dict[str, str]:
    return {"MONGO_URL": mongo_url, "MONGO_DATABASE": mongo_database, "REDIS_URL": empty_redis}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_answers_what_is_under_way_and_exits_0(
    run_web: RunWeb, servers: dict[str, str], number: signal.Signals
) -> None:
    async with run_web(**servers, SHUTDOWN_GRACE_SECONDS="3600") as (web, client):
        async with client.post("/tasks", json={"type": "echo"}) as response:
            task = await response.json()
            port = response.url.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /tasks/{task['id']}?wait=60 HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        async with client.get(f"/tasks/{task['id']}") as response:
            assert response.status == 200, "it has begun with what was sent before"
        web.process.send_signal(number)
        head, body = (await reader.read()).split(b"\r\n\r\n")
        assert (b" 200 OK" in head, json.loads(body)["status"]) == (True, "pending")
        writer.close()
        assert await web.code() == 0
        assert web.printed("Stopped")
        assert not web.printed("Traceback")
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.get("/health/live")


async def test_a_stop_ends_streams_at_once(run_web: RunWeb, servers: dict[str, str]) -> None:
    async with run_web(**servers, SHUTDOWN_GRACE_SECONDS="3600") as (web, client):
        async with client.post("/tasks", json={"type": "echo"}) as response:
            task = await response.json()
        async with listening(client, f"/tasks/{task['id']}/events") as one, listening(client, "/events") as every:
            await one.events(1)
            web.process.terminate()
            assert await one.rest() == await every.rest() == []
        assert await web.code() == 0
        assert not web.printed("Traceback|ERROR")


async def test_the_indexes_are_made_at_the_start(
    run_web: RunWeb, servers: dict[str, str], mongo_client: "pymongo.MongoClient[dict[str, Any]]"
) -> None:
    async with run_web(**servers):
        await wait_until(lambda: _has_indexes(mongo_client, servers["MONGO_DATABASE"]), what="every index is there")


async def test_web_starts_without_servers_and_serves_when_mongodb_comes(run_web: RunWeb, tmp_path: Path) -> None:
    port = free_port()
    environment = {**NOBODY, "MONGO_URL": f"mongodb://127.0.0.1:{port}/?serverSelectionTimeoutMS=100"}
    async with run_web(**environment) as (web, client):
        async with client.get("/health/ready") as response:
            assert response.status == 503
        server = await start_mongo(tmp_path, port)
        try:
            await wait_until(lambda: _accepts(client), what="a task is accepted")
            with pymongo.MongoClient[dict[str, Any]](server.url) as mongo:
                await wait_until(lambda: _has_indexes(mongo, "arqive"), what="every index is there")
            web.process.terminate()
            assert await web.code() == 0
        finally:
            await server.stop(grace_s=0)


async def _accepts(client: Client) -> bool:
    async with client.post("/tasks", json={"type": "echo"}) as response:
        return response.status == 201


def _has_indexes(mongo: "pymongo.MongoClient[dict[str, Any]]", database: str) -> bool:
    there = {
        (collection, name)
        for collection in mongo[database].list_collection_names()
        for name in mongo[database][collection].index_information()
    }
    return {(index.collection, index.name) for index in INDEXES} <= there


OPEN = "everybody who can reach this port may do everything"


async def test_keys_are_taken_from_the_environment(run_web: RunWeb, tmp_path: Path) -> None:
    environment = {**NOBODY, "API_KEYS": entry_of("ci", Scope.READ, "secret")}
    async with run_web(**environment) as (web, client):
        for headers, status in ((None, 401), ({"Authorization": "Bearer secret"}, 200)):
            async with client.get("/types", headers=headers) as response:
                assert response.status == status
        assert not web.printed(OPEN)


async def test_a_service_without_keys_says_so(run_web: RunWeb) -> None:
    async with run_web(**NOBODY) as (web, _client):
        await wait_until(lambda: web.printed(OPEN), what="the log says that everything is open")


async def test_a_bad_key_stops_the_start_with_a_line_that_does_not_show_it(tmp_path: Path) -> None:
    web = Web(tmp_path / "log", **{**NOBODY, "API_KEYS": "s3cret"})
    assert await web.code() == 2
    assert len(web.log.read_text().splitlines()) == 1
    assert web.printed("^arqive: API_KEYS: entry 1 must be")
    assert not web.printed("s3cret")


async def test_a_port_in_use_is_told_in_a_line(servers: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        web = Web(tmp_path / "log", PORT=port, **servers)
        assert await web.code() == 1
    assert web.log.read_text() == (
        f"arqive: PORT: cannot listen on 127.0.0.1 port {port}: something else does already\n"
    )


async def test_a_host_that_is_not_here_is_told_by_name(tmp_path: Path) -> None:
    web = Web(tmp_path / "log", **{**NOBODY, "HOST": "192.0.2.1"})  # an address for documentation
    assert await web.code() == 1
    assert web.printed(
        "^arqive: HOST: cannot listen on 192.0.2.1",
    )


async def test_a_task_module_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    web = Web(tmp_path / "log", **{**NOBODY, "TASK_MODULES": "no_such_module"})
    assert await web.code() == 2
    assert len(web.log.read_text().splitlines()) == 1
    assert web.printed("no_such_module")


async def test_what_is_not_http_is_refused_and_does_not_fill_the_log(run_web: RunWeb) -> None:
    """aiohttp would log each with a traceback."""
    async with run_web(**NOBODY) as (web, client):
        port = (await client.get("/health/live")).url.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Null: \x00\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()
        assert (await client.get("/health/live")).status == 200
        assert not web.printed("Traceback")
