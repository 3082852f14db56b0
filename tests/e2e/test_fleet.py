"""`--processes N`: several processes of one role behind one command and one port."""

import asyncio
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest

from app.embedded.servers import free_port
from settings import Settings, load_settings
from tests.processes import START_S, environment
from tests.scraping import Scrape
from tests.waiting import wait_until


@pytest.fixture
def settings(mongo_url: str, empty_redis: str, mongo_database: str) -> Settings:
    return load_settings(
        mongo_url=mongo_url, redis_url=empty_redis, mongo_database=mongo_database, health_port=0, lease_seconds=3
    )


@contextmanager
def fleet(role: str, settings: Settings, log: Path, **changes: object) -> Iterator[psutil.Process]:
    """Two processes of a role; nothing of them is left afterwards."""
    with log.open("wb") as output:
        command = [sys.executable, "-m", "app", role, "--processes", "2"]
        popen = subprocess.Popen(command, env=environment(settings, **changes), stdout=output, stderr=output)
    parent = psutil.Process(popen.pid)
    children: list[psutil.Process] = []
    try:
        yield parent
        children = parent.children(recursive=True) if popen.poll() is None else []
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.wait()
        _, alive = psutil.wait_procs(children, timeout=START_S)
        sys.stdout.write(log.read_text())
        assert not alive, "killing the parent ends its children"


async def _answers(port: int) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/health/live") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def test_web_survives_the_death_of_one_and_stops_on_sigterm(settings: Settings, tmp_path: Path) -> None:
    port = free_port()
    with fleet("web", settings, tmp_path / "log", port=port) as parent:
        await wait_until(lambda: _answers(port), START_S)
        await wait_until(lambda: _scrape_has(port, {"0", "1"}), START_S)
        before = {child.pid for child in parent.children()}
        victim = parent.children()[0]
        victim.kill()
        await wait_until(lambda: len({child.pid for child in parent.children()} - before) == 1, START_S)
        await wait_until(lambda: _answers(port), START_S)
        children = parent.children()
        parent.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(parent.wait, START_S) == 0
        assert not [child for child in children if child.is_running()]


async def test_a_scrape_sees_every_process(settings: Settings, tmp_path: Path) -> None:
    port = free_port()
    with fleet("worker", settings, tmp_path / "log", health_port=port) as parent:
        await wait_until(lambda: _scrape_has(port, {"0", "1"}), START_S)
        parent.children()[0].kill()
        await wait_until(lambda: _scrape_has(port, {"0"}, {"1"}), START_S)
        await wait_until(lambda: _scrape_has(port, {"0", "1"}), START_S)
        parent.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(parent.wait, START_S) == 0
    assert not _directories_of(parent.pid)


def _directories_of(pid: int) -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"arqive-{pid}-*"))


async def _scrape_has(port: int, *any_of: set[str]) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as response:
            told = Scrape(await response.read())
    except aiohttp.ClientError:
        return False
    return told.labels("arqive_info", "process") in any_of and any(told.values("arqive_process_up"))


async def test_workers_share_the_work(settings: Settings, tmp_path: Path) -> None:
    port = free_port()
    with (
        fleet("web", settings, tmp_path / "web", port=port),
        fleet("worker", settings, tmp_path / "worker", concurrency=5) as workers,
    ):
        await wait_until(lambda: _answers(port), START_S)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

            async def alive() -> bool:
                async with session.get("/stats") as response:
                    return bool((await response.json())["workers"] == 2)

            await wait_until(alive, START_S)
            naps = [{"type": "sleep", "payload": {"seconds": 0.5}}] * 10
            async with session.post("/tasks/bulk", json=naps) as response:
                tasks = (await response.json())["items"]
            names = set()
            for task in tasks:
                async with session.get(f"/tasks/{task['id']}", params={"wait": 60}) as response:
                    names.add((await response.json())["history"][0]["worker"])
        assert len(names) == 2
        workers.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(workers.wait, START_S) == 0


async def test_a_start_that_is_refused_ends_them_all(settings: Settings, tmp_path: Path) -> None:
    with fleet("web", settings, tmp_path / "log", port=free_port(), task_modules="no.such.module") as parent:
        assert await asyncio.to_thread(parent.wait, START_S) == 2
    assert "no.such.module" in (tmp_path / "log").read_text()
