"""Child processes and the lock that keeps two `dev` apart."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from app.embedded.data_lock import lock_directory
from app.embedded.process import ChildProcess
from app.embedded.servers import EmbeddedError
from tests.waiting import wait_until

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""

Start = Callable[[str], ChildProcess]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start Python code whose output goes to `log`."""
    started: list[ChildProcess] = []

    def start_code(code: str) -> ChildProcess:
        child = ChildProcess("child", [sys.executable, "-c", code], log=tmp_path / "log")
        started.append(child)
        return child

    yield start_code
    for child in started:
        await child.stop(0)


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


async def test_the_exit_code_and_the_words_for_it(start: Start) -> None:
    child = start("raise SystemExit(3)")
    assert await child.wait(10) == 3
    assert child.how_it_ended() == "exited with code 3"


async def test_waiting_has_a_bound(start: Start) -> None:
    child = start("import time; time.sleep(60)")
    with pytest.raises(TimeoutError):
        await child.wait(0.05)
    assert child.how_it_ended() == "still runs"


async def test_one_that_ignores_sigterm_is_killed_after_the_grace(start: Start, tmp_path: Path) -> None:
    child = start(STUBBORN)
    await wait_until(lambda: "up" in (tmp_path / "log").read_text(), what="the child")
    assert await child.stop(0.1) == -9
    assert child.how_it_ended() == "was killed by SIGKILL"
    assert not psutil.pid_exists(child.pid)


async def test_stopping_takes_its_own_children_too(start: Start, tmp_path: Path) -> None:
    child = start(PARENT)
    await wait_until(lambda: (tmp_path / "log").read_text().endswith("\n"), what="the grandchild")
    grandchild = int((tmp_path / "log").read_text())
    assert await child.stop(10) == -15
    await wait_until(
        lambda: not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE,
        what="the end of the grandchild",
    )


async def test_a_program_that_is_missing_ends_with_a_code(tmp_path: Path) -> None:
    child = ChildProcess("child", [str(tmp_path / "missing")], log=tmp_path / "log")
    assert await child.wait(10) == 1
    assert "FileNotFoundError" in (tmp_path / "log").read_text()


async def test_a_directory_has_one_dev_at_a_time(tmp_path: Path) -> None:
    lock = await lock_directory(tmp_path / "data")
    assert (tmp_path / "data" / ".gitignore").read_text() == "*\n"
    with pytest.raises(EmbeddedError, match=rf"in use by another `dev`, process {os.getpid()}"):
        await lock_directory(tmp_path / "data")
    lock.release()
    (await lock_directory(tmp_path / "data")).release()


async def test_the_servers_of_a_killed_dev_are_waited_for(tmp_path: Path) -> None:
    lock = await lock_directory(tmp_path)
    (tmp_path / "lock").write_text(f"{dead_pid()}\n")
    code = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, pass_fds=[lock.fd]) as leftover:  # noqa: ASYNC220
        lock.release()
        assert leftover.stdin is not None
        end = leftover.stdin.close
        asyncio.get_running_loop().call_later(0.2, end)
        taken = await lock_directory(tmp_path)
        assert leftover.wait(10) == 0
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    taken.release()


async def test_servers_that_never_end_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.embedded.data_lock._LEFTOVER_S", 0.1)
    lock = await lock_directory(tmp_path)
    (tmp_path / "lock").write_text("")
    with pytest.raises(EmbeddedError, match="servers of an earlier `dev` still run"):
        await lock_directory(tmp_path)
    lock.release()


async def test_a_lock_in_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match=r"cannot keep data in .*/file/data: Not a directory"):
        await lock_directory(tmp_path / "file" / "data")
