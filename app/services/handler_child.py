"""One process that runs handlers, as its worker sees it: started, told what to run, and killed."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from app.services import frames
from app.services.context import Context
from app.services.frames import Frame

logger = logging.getLogger(__name__)

STOP_GRACE_S = 1.0
"""How long a handler that looks at `ctx.cancelled` has to return before its process is killed."""

START_PATIENCE_S = 60.0
"""How long a process may take to import the task modules."""

LAST_WORDS_S = 0.5
"""How long what a process sent before it died may take to be read."""

_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from app.handler_process import main
main(sys.argv[2:])
"""


class Crashed(Exception):  # noqa: N818 - a fact about the process
    """The process ended before its handler did."""


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """What a handler process needs to know.

    Attributes:
        modules: TASK_MODULES.
        max_result_bytes: The largest result that is kept.
        log_level: As the worker's own.
        log_format: As the worker's own.
    """

    modules: Sequence[str] = ()
    max_result_bytes: int = 1_048_576
    log_level: str = "INFO"
    log_format: str = "json"


class Child:
    """One process, from its start to its end."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self._writer = writer
        self._reply: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._context: Context | None = None
        self._number = 0
        self.ended = asyncio.create_task(self._watch(reader))

    @property
    def calls(self) -> int:
        """How many handlers it was asked to run."""
        return max(0, self._number - 1)  # the first question is the greeting

    async def greet(self, settings: ProcessSettings) -> None:
        """Tell it what to import and wait until it has.

        Raises:
            Crashed: it ended instead, or takes too long.
        """
        try:
            async with asyncio.timeout(START_PATIENCE_S):
                await self._ask(asdict(settings))
        except TimeoutError as error:
            raise Crashed(f"the handler's process did not start within {START_PATIENCE_S:g} s") from error

    async def call(self, frame: Frame, context: Context) -> Frame:
        """Have it run a handler; what the handler reports goes to the context.

        Raises:
            Crashed: it ended before the handler did.
        """
        self._context = context
        return await self._ask(frame)

    async def _ask(self, frame: Frame) -> Frame:
        self._number += 1
        self._reply = asyncio.get_running_loop().create_future()
        self._send({**frame, "number": self._number})
        return await asyncio.shield(self._reply)

    def _send(self, frame: Frame) -> None:
        if self.process.returncode is None:
            self._writer.write(frames.encode(frame))

    async def stop_politely(self) -> bool:
        """Make `ctx.cancelled` true and see whether the handler returns in time."""
        self._send({"stop": self._number})
        await asyncio.wait({self._reply}, timeout=STOP_GRACE_S)
        return self._reply.done() and self._reply.exception() is None

    def kill(self) -> None:
        """End it at once, with all that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # it leads a session of its own

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        reading = asyncio.create_task(self._read(reader))
        code = await self.process.wait()
        await asyncio.wait({reading}, timeout=LAST_WORDS_S)
        reading.cancel()
        self._writer.close()
        if not self._reply.done():
            self._reply.set_exception(Crashed(f"the handler's process {_how_it_ended(code)}"))
            self._reply.exception()  # nobody may be waiting for it

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(EOFError):
            while True:
                frame = await frames.read(reader)
                if frame["number"] != self._number or self._reply.done():
                    continue
                if self._context is not None and "reports" in frame:
                    self._context.take_over(frame["reports"])
                if "reply" in frame:
                    self._reply.set_result(frame["reply"])


async def start_child() -> Child:
    """Start a process; it has to be greeted before it is called."""
    ours, theirs = socket.socketpair()
    with theirs:
        # Never by fork alone: the worker has threads, whose locks a forked child would hold for ever. To be called in
        # the main thread, because Linux ends the child with the thread that started it.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _PROGRAM,
            json.dumps(sys.path),
            str(theirs.fileno()),
            str(os.getpid()),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    logger.debug("Started handler process %d", process.pid)
    return Child(process, *await asyncio.open_connection(sock=ours))


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"exited with code {code} before the handler returned"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}"
