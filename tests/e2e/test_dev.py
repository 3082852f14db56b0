"""`python -m app dev` as a newcomer meets it: a real process, real servers, real signals."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.embedded.servers import free_port
from tests.processes import START_S
from tests.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.timeout(240)

ROOT = Path(__file__).parents[2]
NOWHERE = {"MONGO_URL": "mongodb://127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1"}


class Dev:
    """A running `dev`: its process, what it printed, and the processes it started."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.port = int(environment.get("PORT") or free_port())
        self.printed = directory / f"printed-{self.port}-{len(list(directory.iterdir()))}"
        # Without MONGO_URL and REDIS_URL it would use the developer's own servers on the default ports.
        extra = {**NOWHERE, "PYTHONPATH": str(ROOT), **environment, "PORT": str(self.port)}
        with self.printed.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "dev"],
                cwd=directory,
                env={**os.environ, **extra},
                stdout=output,
                stderr=output,
            )
        self.family: list[psutil.Process] = []

    def output(self) -> str:
        return self.printed.read_text()

    def note_family(self) -> list[str]:
        """Remember every process it has; return what they are."""
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        return [" ".join(child.cmdline()) for child in self.family]

    def left_over(self) -> list[psutil.Process]:
        return [child for child in self.family if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]

    async def until_printed(self, text: str) -> None:
        def seen() -> bool:
            return text in self.output() or self.process.poll() is not None

        await wait_until(seen, START_S, f"{text!r} from dev")
        if text not in self.output():
            pytest.fail(f"dev ended without printing {text!r}, but:\n{self.output()}")

    async def exit_code(self) -> int:
        await wait_until(lambda: self.process.poll() is not None, START_S, "the end of dev")
        return self.process.returncode

    async def request(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"} if data else {}
        )

        def send() -> Any:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:  # noqa: S310
                return json.load(response)

        return await asyncio.to_thread(send)


@pytest.fixture
def started() -> Iterator[list[Dev]]:
    """What a test puts here is killed after it, with all its processes."""
    running: list[Dev] = []
    yield running
    for dev in running:
        if dev.process.poll() is None:
            dev.note_family()
            dev.process.kill()
            dev.process.wait()
        for child in dev.left_over():
            child.kill()


@pytest.fixture
def start(started: list[Dev], tmp_path: Path) -> Any:
    def start_dev(**environment: str) -> Dev:
        started.append(Dev(tmp_path, **environment))
        return started[-1]

    return start_dev


@pytest.fixture
def shared(mongo_url: str, empty_redis: str, mongo_database: str) -> dict[str, str]:
    """The servers of the whole run, for what does not need servers of its own: those take seconds."""
    return {"MONGO_URL": mongo_url, "REDIS_URL": empty_redis, "MONGO_DATABASE": mongo_database}


async def test_a_newcomers_first_minutes(start: Any, tmp_path: Path) -> None:
    dev = start()
    await dev.until_printed("Ctrl-C stops.")
    assert f"Arqive listens on http://127.0.0.1:{dev.port}\n" in dev.output()
    assert f"{tmp_path / '.arqive'} (mongodb://127.0.0.1:" in dev.output()
    names = dev.note_family()
    assert len(names) == 4, names
    holders = [child for child in dev.family if any(file.path.endswith("/lock") for file in child.open_files())]
    assert len(holders) == 2, "both servers hold the lock of their directory"

    curl = re.search(r"curl (\S+) -H 'Content-Type: application/json' -d '(.+)'", dev.output())
    assert curl is not None
    assert curl[1] == f"http://127.0.0.1:{dev.port}/tasks"
    task = await dev.request("/tasks", json.loads(curl[2]))

    async def completed() -> bool:
        return bool((await dev.request(f"/tasks/{task['id']}"))["status"] == "completed")

    await wait_until(completed, what="completed")
    assert (await dev.request(f"/tasks/{task['id']}"))["result"] == {"hello": "world"}

    dev.process.send_signal(signal.SIGINT)
    assert await dev.exit_code() == 0
    assert dev.left_over() == []
    assert "Stopping" in dev.output()
    assert "Traceback" not in dev.output()

    again = start()
    await again.until_printed("Ctrl-C stops.")
    assert [item["id"] for item in (await again.request("/tasks"))["items"]] == [task["id"]]
    again.note_family()
    again.process.send_signal(signal.SIGTERM)
    assert await again.exit_code() == 0
    assert again.left_over() == []


async def test_a_running_task_gets_the_grace_and_a_second_ctrl_c_ends_it_at_once(
    start: Any, shared: dict[str, str]
) -> None:
    dev = start(SHUTDOWN_GRACE_SECONDS="3600", **shared)
    await dev.until_printed("Ctrl-C stops.")
    task = await dev.request("/tasks", {"type": "sleep", "payload": {"seconds": 3000}})

    async def running() -> bool:
        return bool((await dev.request(f"/tasks/{task['id']}"))["status"] == "running")

    await wait_until(running, what="running")
    dev.note_family()
    dev.process.send_signal(signal.SIGINT)
    await dev.until_printed("Stopping: running tasks get up to 3600 s to finish.")
    assert dev.process.poll() is None
    dev.process.send_signal(signal.SIGINT)
    assert await dev.exit_code() == 0
    assert dev.left_over() == []


async def test_a_worker_that_ends_by_itself_ends_everything(start: Any, shared: dict[str, str]) -> None:
    dev = start(**shared)
    await dev.until_printed("Ctrl-C stops.")
    dev.note_family()
    worker = next(child for child in dev.family if child.cmdline()[-1] == "worker")
    worker.kill()
    assert await dev.exit_code() == 1
    assert "worker was killed by SIGKILL" in dev.output()
    assert dev.left_over() == []


async def test_a_bad_task_module_ends_everything(start: Any, shared: dict[str, str]) -> None:
    dev = start(TASK_MODULES="no.such.module", **shared)
    assert await dev.exit_code() == 1
    assert "TASK_MODULES: cannot import 'no.such.module'" in dev.output()
    assert "exited with code 2" in dev.output()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
async def test_a_killed_dev_leaves_nothing_and_the_next_one_starts_at_once(start: Any) -> None:
    dev = start()
    await dev.until_printed("Ctrl-C stops.")
    dev.note_family()
    dev.process.kill()
    await dev.exit_code()
    again = start()
    await again.until_printed("Ctrl-C stops.")
    assert dev.left_over() == []


async def test_a_second_one_beside_it_says_what_is_in_its_way(start: Any) -> None:
    first = start()
    await first.until_printed("Ctrl-C stops.")
    same_directory, same_port = start(), start(PORT=str(first.port))
    assert await same_directory.exit_code() == 1
    assert f"is in use by another `dev`, process {first.process.pid}" in same_directory.output()
    assert await same_port.exit_code() == 1
    assert same_port.output().startswith(f"arqive: PORT: port {first.port} is in use")
    assert same_port.output().count("\n") == 1
    assert first.process.poll() is None


async def test_servers_that_answer_are_used(start: Any, shared: dict[str, str]) -> None:
    dev = start(**shared)
    await dev.until_printed("Ctrl-C stops.")
    assert "data            in the servers that MONGO_URL and REDIS_URL name" in dev.output()
    assert len(dev.note_family()) == 2
    assert not (dev.printed.parent / ".arqive").exists()
    dev.process.send_signal(signal.SIGINT)
    assert await dev.exit_code() == 0
