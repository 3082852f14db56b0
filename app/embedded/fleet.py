"""Several processes of one role behind one command: `web --processes 4` uses four cores behind one port."""

import asyncio
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from app.embedded.process import ChildProcess
from app.telemetry.exposition import Seat
from app.telemetry.logging import configure_logging
from settings import Settings

logger = logging.getLogger(__name__)

POLL_S = 0.1
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STEADY_S = 10.0
"""A process that ran this long was started well: the next time it dies it is started again at once."""

BEYOND_GRACE_S = 10.0
REFUSED = frozenset({1, 2})
"""Exit codes of a start that will not go better the next time: a busy port, a bad setting."""


def run(role: str, count: int, settings: Settings) -> int:
    """Run `count` processes of a role until SIGTERM or SIGINT; the exit code.

    A process that dies is started again, after a pause that grows when it keeps dying. They share one port: the kernel
    deals out connections among those that listen. They tell each other their metrics over sockets in a directory of
    their own, so that whichever is scraped answers for all.

    Args:
        role: `web` or `worker`.
        count: How many.
        settings: Its grace is how long they may take to stop.
    """
    configure_logging(settings.log_level, settings.log_format)
    with _directory() as directory:

        def command(number: int) -> Sequence[str]:
            return sys.executable, "-m", "app", role, "--seat", str(Seat(directory, number, count))

        return asyncio.run(Fleet(role, command, count, grace_s=settings.shutdown_grace_seconds).run())


@contextmanager
def _directory() -> Iterator[str]:
    """A directory that only this user can enter; empty where no file can be made."""
    try:
        directory = tempfile.TemporaryDirectory(prefix=f"arqive-{os.getpid()}-", ignore_cleanup_errors=True)
    except OSError as error:
        logger.warning("The processes cannot tell each other their metrics, a scrape sees one of them: %s", error)
        yield ""
        return
    with directory as path:
        yield path


class Fleet:
    """Keeps a number of processes running.

    Args:
        name: What people are told they are.
        command: What the process of a number runs.
        count: How many.
        grace_s: Seconds that they get to stop.
        env: Their environment; None is this process's own.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[int], Sequence[str]],
        count: int,
        *,
        grace_s: float,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._name = name
        self._command = command
        self._count = count
        self._grace_s = grace_s
        self._env = env
        self._children: dict[int, ChildProcess] = {}
        self._stopping = asyncio.Event()
        self._refused = 0

    async def run(self) -> int:
        """Start all and keep them running until a signal; 0, or the code of a process that refused to start."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._on_signal)
        logger.info("Starting %d processes of %s", self._count, self._name)
        await asyncio.gather(*(self._keep(number) for number in range(self._count)))
        return self._refused

    def _on_signal(self) -> None:
        """The first signal asks them to stop, a second reaches them too: they know what it means."""
        self._stopping.set()
        for child in self._children.values():
            child.terminate()

    async def _keep(self, number: int) -> None:
        pause_s, is_first = FIRST_PAUSE_S, True
        clock = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            started_at = clock()
            child = ChildProcess(f"{self._name} {number}", self._command(number), env=self._env)
            self._children[number] = child
            code = await self._until_it_ends(child)
            if self._stopping.is_set():
                return
            steady = clock() - started_at >= STEADY_S
            if code in REFUSED and is_first and not steady:
                logger.error("%s %s as it started; stopping all", child.name, child.how_it_ended())
                self._refused = code
                self._on_signal()
                return
            is_first = False
            pause_s = FIRST_PAUSE_S if steady else min(2 * pause_s, LONGEST_PAUSE_S)
            logger.warning(
                "%s (pid %d) %s; starting another",
                child.name,
                child.pid,
                child.how_it_ended(),
                extra={"event": "process_ended"},
            )
            await self._pause(0 if steady else pause_s)

    async def _until_it_ends(self, child: ChildProcess) -> int:
        while child.exit_code is None and not self._stopping.is_set():  # noqa: ASYNC110 - an end sets no event
            await asyncio.sleep(POLL_S)
        if self._stopping.is_set():
            return await child.stop(self._grace_s + BEYOND_GRACE_S)
        return await child.wait()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
