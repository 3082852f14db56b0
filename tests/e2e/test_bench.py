"""A benchmark that is interrupted."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bench import statements
from bench.interruptible import INTERRUPTED, interruptible, tell
from tests.processes import START_S
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


def _start(directory: Path) -> "subprocess.Popen[bytes]":
    """In a group of its own: the signal goes to all of it, as a terminal sends it.

    What a shell starts in the background ignores SIGINT and hands that on; a benchmark at a terminal does not.
    """
    command = [sys.executable, "-m", "bench.engine", "--quick"]
    environment = {**os.environ, "TMPDIR": str(directory)}
    ours = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        with (directory / "log").open("wb") as output:
            return subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
            )
    finally:
        signal.signal(signal.SIGINT, ours)


async def test_ctrl_c_ends_it_with_a_line_and_leaves_nothing(tmp_path: Path) -> None:
    bench = _start(tmp_path)
    started: list[psutil.Process] = []

    def measuring() -> bool:
        with suppress(psutil.Error):  # one has ended while it was looked at
            started[:] = psutil.Process(bench.pid).children(recursive=True)
            return any("bench.engine.workers" in process.cmdline() for process in started)
        return False

    try:
        await wait_until(measuring, START_S, "a worker runs")
        os.killpg(bench.pid, signal.SIGINT)
        await wait_until(lambda: bench.poll() is not None, START_S, "it ends")
    finally:
        left = [process for process in started if process.is_running()]
        bench.kill()
        bench.wait()
        for process in left:  # those that stand still while others are measured would not end with it
            with suppress(psutil.NoSuchProcess):
                process.kill()
    said = (tmp_path / "log").read_text()
    assert bench.returncode == INTERRUPTED, said
    assert said.splitlines()[-1] == "bench: interrupted; nothing is written"
    assert "Traceback" not in said
    assert left == []
    assert os.listdir(tmp_path) == ["log"]  # noqa: PTH208


def test_an_interrupted_main_is_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def main(_: object) -> int:
        raise KeyboardInterrupt

    assert interruptible(main) == INTERRUPTED
    assert capsys.readouterr().err.count("\n") == 1
    assert interruptible(lambda _: 3) == 3


async def test_a_cancel_that_was_swallowed_counts_at_the_next_line() -> None:
    reached: list[str] = []
    swallowed = asyncio.Event()

    async def measure() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.set()  # as redis-py 5.3 does now and then
        tell("one more")
        reached.append("the next")

    task = asyncio.create_task(measure())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert swallowed.is_set()
    assert reached == []


def test_what_a_write_costs_is_a_table_with_indexes_and_without(capsys: pytest.CaptureFixture[str]) -> None:
    assert statements.main(["--tasks", "20", "--claim", "10"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "20 tasks, 10 to a statement" in lines[0]
    assert [len(line.split("|")) for line in lines[2:]] == [6] * 4
