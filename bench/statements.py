"""`python -m bench.statements`: what each write of a task costs a MongoDB-wire server, with indexes and without.

One claim after the other over one connection: what the service itself takes is not in it.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from app.core.attempt import Attempt, Claim, Settlement
from app.core.clock import utc_now
from app.core.ids import TaskId, WorkerId, new_lease_token
from app.core.outcomes import Completed
from app.embedded.servers import EmbeddedError
from app.models import Submission
from app.services.submit import new_document
from app.store.attempts import AttemptStore
from app.store.indexes import create_indexes
from app.store.mongo import Mongo, open_mongo
from app.store.settlements import Record, SettlementStore
from app.store.tasks import TaskStore
from app.tasks.registry import load_task_modules
from bench import mongo_server
from bench.interruptible import interruptible, tell
from bench.processes import cpu_seconds
from bench.tables import table

LEASE = timedelta(minutes=10)
WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one statement, for one task: microseconds until the answer, and of CPU of the server."""

    wall_us: float
    cpu_us: float


class Writes:
    """The writes of tasks that do nothing, from their insert to their end, in claims of one size."""

    def __init__(self, mongo: Mongo, pid: int, *, tasks: int, claim: int) -> None:
        self._pid = pid
        self._tasks = tasks
        self._store = TaskStore(mongo)
        self._settlements = SettlementStore(mongo, retention=WEEK)
        self._attempts = AttemptStore(
            mongo, worker=WorkerId("bench"), lease=LEASE, max_losses=3, retention=WEEK, types=["echo"]
        )
        types, now = load_task_modules(()), utc_now()
        documents = [new_document(Submission(type="echo", payload={"n": n}), types, now) for n in range(tasks)]
        self._claims = [documents[start : start + claim] for start in range(0, tasks, claim)]
        self._begun: list[list[Attempt]] = []
        self._settled = 0

    async def costs(self) -> dict[str, Cost]:
        """Each once, for all tasks.

        Raises:
            RuntimeError: some did not go all the way, so the figures are of something else.
        """
        costs = {
            "insert": await self._timed(self._insert),
            "begin and read": await self._timed(self._begin),
            "settle": await self._timed(self._settle),
        }
        if self._settled != self._tasks:
            raise RuntimeError(f"{self._settled} of {self._tasks} were settled")
        return costs

    async def _timed(self, work: Callable[[], Awaitable[None]]) -> Cost:
        cpu, started = cpu_seconds([self._pid]), time.perf_counter()
        await work()
        wall, cpu = time.perf_counter() - started, cpu_seconds([self._pid]) - cpu
        return Cost(wall / self._tasks * 1e6, cpu / self._tasks * 1e6)

    async def _insert(self) -> None:
        for documents in self._claims:
            await self._store.insert(documents)

    async def _begin(self) -> None:
        for documents in self._claims:
            ids = tuple(TaskId(str(document["_id"])) for document in documents)
            begun = await self._attempts.begin(Claim("default", new_lease_token(), ids), now=utc_now())
            self._begun.append(begun.attempts)

    async def _settle(self) -> None:
        for attempts in self._begun:
            records = [Record(Settlement(attempt, Completed({"n": 1}), utc_now()), None, []) for attempt in attempts]
            self._settled += await self._settlements.settle(records)


async def measure(kind: str, *, tasks: int, claim: int) -> str:
    """The table, for a server that is started for it.

    Raises:
        EmbeddedError: it does not start.
    """
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="arqive-bench-")))
        started = await mongo_server.start(kind, directory)
        stack.push_async_callback(started.server.stop, 0)
        measured = {}
        for name, indexed in (("Arqive's indexes", True), ("no index", False)):
            tell(f"{started.name}: {name}")
            mongo = await stack.enter_async_context(
                open_mongo(started.server.url, "bench_indexed" if indexed else "bench_bare")
            )
            if indexed:
                await create_indexes(mongo)
            measured[name] = await Writes(mongo, started.server.pid, tasks=tasks, claim=claim).costs()
    rows = [
        [name, *(f"{cost.wall_us:,.0f} ({cost.cpu_us:,.0f})" for cost in costs.values())]
        for name, costs in measured.items()
    ]
    statements = next(iter(measured.values()))
    heading = f"{started.name}; {tasks:,} tasks, {claim} to a statement; µs a task until the answer (CPU of the server)"
    return f"{heading}\n\n{table(['', *statements], rows)}"


def main(arguments: Sequence[str]) -> int:
    """Run; the exit code is 2 when nothing could be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.statements", description=__doc__)
    parser.add_argument("--mongo", choices=mongo_server.KINDS, default=mongo_server.EMBEDDED)
    parser.add_argument("--tasks", type=_positive, default=5_000, help="how many (default: %(default)s)")
    parser.add_argument("--claim", type=_positive, default=50, help="tasks to a statement (default: %(default)s)")
    given = parser.parse_args(arguments)
    why_not = mongo_server.why_not_fast(tell) if given.mongo == mongo_server.FAST else ""
    if why_not:
        return _cannot(why_not)
    try:
        print(asyncio.run(measure(given.mongo, tasks=given.tasks, claim=given.claim)))
    except EmbeddedError as error:
        return _cannot(str(error))
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _cannot(why: str) -> int:
    print(f"bench: {why}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(interruptible(main))
