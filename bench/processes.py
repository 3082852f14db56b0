"""The programs that are measured: started, held still, watched and stopped."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from app.embedded.process import ChildProcess
from bench.load.connection import connect

START_S = 30.0
STOP_S = 5.0
LOOK_S = 0.05


class ProgramError(Exception):
    """A program ended, or never answered. `str(error)` says which and how, with the last line that it wrote."""


class Program:
    """A process under test."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self._log = log
        self._process = ChildProcess(name, command, env={**os.environ, **environment}, log=log)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def hold(self) -> None:
        """Freeze it and what it has started, wherever they are."""
        os.killpg(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def check(self) -> None:
        """Raise ProgramError if it has ended."""
        if self._process.exit_code is not None:
            raise ProgramError(
                f"{self._process.name} {self._process.how_it_ended()}: {reason_in(self._log.read_bytes())}"
            )

    async def stop(self, grace_s: float) -> None:
        """Ask it to end, and kill it and all that it has started after so many seconds."""
        if self._process.exit_code is None:
            self.go_on()
        await self._process.stop(grace_s)

    async def answers_at(self, url: str) -> None:
        """Return once it accepts connections.

        Raises:
            ProgramError: it has ended, or does not in time.
        """
        try:
            async with asyncio.timeout(START_S):
                while True:
                    self.check()
                    try:
                        (await connect(url)).close()
                    except OSError:
                        await asyncio.sleep(LOOK_S)
                    else:
                        return
        except TimeoutError as error:
            raise ProgramError(f"{self._process.name} does not listen after {START_S:g} s") from error


@asynccontextmanager
async def running(
    name: str, command: Sequence[str], directory: Path, environment: Mapping[str, str], *, stop_s: float = STOP_S
) -> AsyncIterator[Program]:
    """A program that is stopped at the end, killed after `stop_s` seconds; its log is in the directory."""
    program = Program(name, command, directory / f"{name}.log", environment)
    try:
        yield program
    finally:
        await program.stop(stop_s)


def reason_in(output: bytes) -> str:
    """What a program that failed most likely complained of: its last line that speaks of an error, or its last."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line and "Traceback" not in line]
    return ([*lines, *errors] or ["without a word"])[-1].lstrip("|+- ")[:200]


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it has started; empty when it is gone or on another machine."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time that processes, with all that they have started, have used so far."""
    times = [process.cpu_times() for pid in pids for process in family(pid)]
    return sum(each.user + each.system for each in times)


def resident_mib(pids: Sequence[int]) -> float:
    """Memory that processes, with all that they have started, hold: each page that two share counts for both."""
    return sum(process.memory_info().rss for pid in pids for process in family(pid)) / 2**20
