"""Everything at once: processes killed, stopped and frozen, servers flushed, killed and frozen, while tasks come in.

`STORM_SEED`, `STORM_TASKS` and `STORM_SECONDS` set which storm, of how many tasks and for how long. The same seed gives
the same tasks and the same faults; what coincides is up to the machine.
"""

import asyncio
import contextlib
import os
import random
import secrets
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.chaos.storm.aftermath import Aftermath
from tests.chaos.storm.client import PATIENCE_S, Client
from tests.chaos.storm.fleet import Fleet
from tests.chaos.storm.plan import Request, make_plan
from tests.chaos.storm.schedule import Fault, FaultKind, make_schedule

WEBS = 2
WORKERS = 3
SETTLE_S = 90.0
SETTLE_S_PER_TASK = 0.025
"""The development server of MongoDB does some hundred writes a second, and most of the tasks may still be to run."""


@dataclass(frozen=True, slots=True)
class Storm:
    """Which storm."""

    seed: int
    tasks: int
    seconds: float

    def __str__(self) -> str:
        return f"A storm over {self.tasks:,} tasks in {self.seconds:g} s; SEED={self.seed} makes it again"


@pytest.mark.timeout(300)
async def test_a_small_storm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A quarter of a minute of what `make chaos` does for two minutes."""
    await _weather(Storm(seed=4, tasks=500, seconds=16), tmp_path, capsys)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
async def test_a_storm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every accepted task ends once, as it should, and nothing is left over."""
    storm = Storm(
        seed=int(os.environ.get("STORM_SEED") or secrets.randbelow(1_000_000)),
        tasks=int(os.environ.get("STORM_TASKS") or 20_000),
        seconds=float(os.environ.get("STORM_SECONDS") or 120),
    )
    await _weather(storm, tmp_path, capsys)


def test_the_same_seed_gives_the_same_storm() -> None:
    plans = [make_plan(7, tasks=300, seconds=20) for _ in range(2)]
    schedules = [make_schedule(7, seconds=120, webs=WEBS, workers=WORKERS) for _ in range(2)]
    assert plans[0] == plans[1] != make_plan(8, tasks=300, seconds=20)
    assert schedules[0] == schedules[1] != make_schedule(8, seconds=120, webs=WEBS, workers=WORKERS)
    assert [task.number for request in plans[0] for task in request.tasks] == list(range(300))
    assert {fault.kind for fault in schedules[0]} == set(FaultKind)


async def _weather(storm: Storm, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan(storm.seed, tasks=storm.tasks, seconds=storm.seconds)
    schedule = make_schedule(storm.seed, seconds=storm.seconds, webs=WEBS, workers=WORKERS)
    with capsys.disabled():
        _say(str(storm), *map(str, schedule))
    fleet = Fleet(directory, webs=WEBS, workers=WORKERS)
    began_at = time.monotonic()
    try:
        await fleet.start()
        async with _watched(fleet):
            client = await _blow(storm, fleet, plan, schedule)
            blown_at = time.monotonic()
            await fleet.welcome_latecomer()
            aftermath = Aftermath(fleet)
            await aftermath.settle(SETTLE_S + SETTLE_S_PER_TASK * storm.tasks)
        settled_at = time.monotonic()
        aftermath.judge(client.accounts, {task.number: task for request in plan for task in request.tasks})
        aftermath.close()
        await fleet.stop()
    finally:
        await fleet.clear()
    with capsys.disabled():
        _say(
            f"submitted in {blown_at - began_at:.0f} s, all ended {settled_at - blown_at:.0f} s later",
            f"accounted for {len(client.accounts):,}, slowest 201 {client.slowest_s:.1f} s, {dict(client.answers)}",
            str(dict(aftermath.counts)),
        )
    breaches = fleet.breaches + client.breaches
    if breaches or aftermath.broken:
        _say(*fleet.events, aftermath.show_broken())
    assert (breaches, dict(aftermath.broken)) == ([], {}), f"seed {storm.seed}"


def _say(*lines: str) -> None:
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
    sys.stdout.flush()


@asynccontextmanager
async def _watched(fleet: Fleet) -> AsyncIterator[None]:
    watching = asyncio.create_task(fleet.watch())
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def _blow(storm: Storm, fleet: Fleet, plan: Sequence[Request], schedule: Sequence[Fault]) -> Client:
    """Submit and hurt at the same time; returns when every request has been answered."""
    began_at = time.monotonic()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as session:
        rng = random.Random(f"{storm.seed}/client")
        client = Client(fleet.urls, session, rng, ends_at=began_at + storm.seconds)
        async with asyncio.TaskGroup() as group:
            for fault in schedule:
                group.create_task(fleet.hurt(fault))
            group.create_task(client.submit_all(plan, began_at=began_at))
    return client
