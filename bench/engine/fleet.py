"""Worker processes of one system, started, let go together and stopped."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from bench.engine.systems import System
from bench.engine.workers import Options

START_S = 30.0
STOP_S = 15.0
_MOST_OUTPUT = 16 * 2**20


@dataclass(slots=True)
class Fleet:
    """Processes that are ready.

    Attributes:
        count: Jobs that they have run; known once the fleet is closed.
        starts: When each job was started, if asked for; known once the fleet is closed.
    """

    processes: list[asyncio.subprocess.Process]
    count: int = 0
    starts: dict[str, float] = field(default_factory=dict)

    @property
    def pids(self) -> list[int]:
        """The process ids."""
        return [process.pid for process in self.processes]

    async def ready(self) -> None:
        """Return once every process is connected."""
        async with asyncio.timeout(START_S):
            for process in self.processes:
                assert process.stdout is not None  # noqa: S101 - a pipe was asked for
                if await process.stdout.readline() != b"ready\n":
                    raise RuntimeError(f"a worker process ended with {await process.wait()} before it was ready")

    def go(self) -> None:
        """Let them work."""
        for process in self.processes:
            assert process.stdin is not None  # noqa: S101 - a pipe was asked for
            process.stdin.write(b"go\n")

    async def close(self) -> None:
        """Stop them and take what they report."""
        for process in self.processes:
            assert process.stdin is not None  # noqa: S101 - a pipe was asked for
            process.stdin.close()
        async with asyncio.timeout(STOP_S):
            for output, _ in await asyncio.gather(*(process.communicate() for process in self.processes)):
                report = json.loads(output)
                self.count += report["count"]
                self.starts.update(report["starts"])


@asynccontextmanager
async def open_fleet(
    system: System, workers: int, redis_url: str, *, keep_starts: bool = False
) -> AsyncIterator[Fleet]:
    """Start processes; wait for them with `ready`. Whatever still runs at the end is killed."""
    options = Options(
        redis_url,
        is_arq=system.is_arq,
        slots=system.slots,
        poll_s=system.poll_s,
        use_uvloop=system.use_uvloop,
        wrap=system.wrap,
        keep_starts=keep_starts,
    )
    command = (sys.executable, "-m", "bench.engine.workers", options.to_json())
    async with AsyncExitStack() as stack:
        fleet = Fleet([])
        for _ in range(workers):
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_MOST_OUTPUT,
                start_new_session=True,  # Ctrl-C is for this process, which then ends them
            )
            stack.push_async_callback(_end, process)
            fleet.processes.append(process)
        yield fleet


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()
