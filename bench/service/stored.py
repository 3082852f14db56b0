"""What changes as finished tasks pile up: accept, drain, the list and the counts, from none to a million."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from statistics import median
from typing import Any

from bson import ObjectId, encode
from bson.raw_bson import RawBSONDocument

from app.core.states import TERMINAL, Status
from bench.load.connection import connect, get
from bench.processes import ProgramError
from bench.rounds import Rounds
from bench.service.drain import FILL_CLIENTS, DrainKey, drain_once
from bench.service.plan import Plan
from bench.service.stacks import ARQIVE, Work
from bench.service.trial import Lab, started

READS: Mapping[str, str] = {
    "list": "/tasks?limit=50",
    "list completed": "/tasks?status=completed&limit=50",
    "stats": "/stats",
}
CHUNK = 1000
READS_S = 3.0
"""No kind of read is begun after that many seconds of it."""

UNFINISHED = [status.value for status in Status if status not in TERMINAL]


@dataclass(frozen=True, slots=True)
class Stored:
    """One round at a number of finished tasks.

    Attributes:
        accepted: Tasks a second.
        drained: Tasks a second.
        reads_ms: Median milliseconds of each kind of read; empty but in the first round.
    """

    accepted: float
    drained: float
    reads_ms: Mapping[str, float]


async def measure_stored(lab: Lab, plan: Plan, stored: Rounds[int, Stored], tell: Callable[[str], None]) -> None:
    """All rounds of one number of finished tasks after another, in one database."""
    database = f"{lab.servers.database}_stored"
    there = 0
    try:
        for number in plan.stored:
            try:
                await _preload(lab, database, number - there, tell)
            except Exception as error:  # noqa: BLE001 - a server that cannot hold that many is a row of the report
                stored.failed[number] = f"{type(error).__name__}: {error}"
                return
            there = number
            for turn in range(plan.rounds):
                found = await stored.add(number, partial(_once, lab, plan, database, reads=turn == 0), tell)
                if found:
                    reads = "".join(f", {name} {took:.1f} ms" for name, took in found.reads_ms.items())
                    tell(f"{number:,} stored: accept {found.accepted:,.0f}/s, drain {found.drained:,.0f}/s{reads}")
    finally:
        lab.mongo.drop_database(database)


async def _once(lab: Lab, plan: Plan, database: str, *, reads: bool) -> Stored:
    async with started(ARQIVE, lab, workers=0, database=database) as trial:
        load = await trial.accept(FILL_CLIENTS, plan.accept_s)
        looked = READS if reads else {}
        reads_ms = {name: await _read(f"{trial.url}{path}", plan.reads) for name, path in looked.items()}
    _forget_waiting(lab, database)
    drained = await drain_once(lab, plan, DrainKey(ARQIVE, 1, Work.NOTHING), database)
    _forget_waiting(lab, database)
    return Stored(load.rate, drained.rate, reads_ms)


async def _read(url: str, times: int) -> float:
    """Median milliseconds of a GET; of fewer where they take long."""
    connection, raw, took = await connect(url), get(url), list[float]()
    end = time.perf_counter() + READS_S
    try:
        while len(took) < times and time.perf_counter() < end:
            started_at = time.perf_counter()
            status, _ = await connection.request(raw)
            took.append(time.perf_counter() - started_at)
            if status != 200:
                raise ProgramError(f"GET {url} was answered with {status}")
    finally:
        connection.close()
    return median(took) * 1000


async def _preload(lab: Lab, database: str, number: int, tell: Callable[[str], None]) -> None:
    """Insert copies of a task that the service itself has finished."""
    if number <= 0:
        return
    tell(f"storing {number:,} finished tasks")
    async with started(ARQIVE, lab, database=database):
        pass  # its first tasks are the pattern
    tasks = lab.mongo[database].tasks
    pattern: dict[str, Any] | None = tasks.find_one({"status": "completed"})
    if pattern is None:
        raise ProgramError("no task has completed")
    # As bytes, or to encode a million of them would take longer than to store them.
    head, tail = encode(pattern).split(pattern["_id"].binary, 1)
    copies = (RawBSONDocument(head + ObjectId().binary + tail) for _ in range(number))
    while chunk := list(islice(copies, CHUNK)):
        tasks.insert_many(chunk, ordered=False)


def _forget_waiting(lab: Lab, database: str) -> None:
    """Let the next round find nothing but finished tasks."""
    lab.mongo[database].tasks.delete_many({"status": {"$in": UNFINISHED}})
