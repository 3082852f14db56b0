"""How fast workers run what was accepted while they were held still."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from bench.meter import Cost
from bench.processes import ProgramError
from bench.rounds import Rounds
from bench.service.plan import Plan
from bench.service.stacks import ARQIVE, ARQIVE_WIDE, NODE, PLAIN, PLAIN_TUNED, Stack, Work
from bench.service.trial import Lab, started

FILL_CLIENTS = 50


@dataclass(frozen=True, slots=True)
class DrainKey:
    """What is varied."""

    stack: Stack
    workers: int
    work: Work


@dataclass(frozen=True, slots=True)
class Drained:
    """A backlog that was worked on.

    Attributes:
        tasks: How many were recorded as completed.
        seconds: How long that took.
        cost: What it cost.
        memory_mib: What each process held at the end.
    """

    tasks: int
    seconds: float
    cost: Cost
    memory_mib: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Tasks a second."""
        return self.tasks / self.seconds


Drains = Rounds[DrainKey, Drained]


def setups(plan: Plan) -> Iterable[DrainKey]:
    """What is measured, in this order."""
    for stack in (ARQIVE, ARQIVE_WIDE, PLAIN, PLAIN_TUNED, NODE):
        yield DrainKey(stack, 1, Work.NOTHING)
    for workers in plan.workers[1:]:
        for stack in (ARQIVE, PLAIN_TUNED, NODE):
            yield DrainKey(stack, workers, Work.NOTHING)
    for stack in (ARQIVE, ARQIVE_WIDE, PLAIN, PLAIN_TUNED, NODE):
        yield DrainKey(stack, 1, Work.WAITING)


async def measure_drain(
    lab: Lab, plan: Plan, keys: Iterable[DrainKey], drains: Drains, tell: Callable[[str], None]
) -> None:
    """One round: each setup in turn."""
    for key in keys:
        if missing := key.stack.why_not(tell):
            drains.failed[key] = missing
            continue
        found = await drains.add(key, partial(drain_once, lab, plan, key), tell)
        if found:
            work = "no-op" if key.work is Work.NOTHING else "50 ms"
            tell(
                f"drain: {key.stack.label}, {key.workers} workers, {work}: {found.rate:,.0f}/s ({found.tasks:,} tasks)"
            )


async def drain_once(lab: Lab, plan: Plan, key: DrainKey, database: str = "") -> Drained:
    """Accept for a while, then let the workers go, until nothing is left or the time is over."""
    async with started(key.stack, lab, workers=key.workers, database=database) as trial:
        trial.hold_workers()
        accepted = await trial.accept(FILL_CLIENTS, plan.fill_s, key.work)
        done_before, before = trial.completed(), await lab.meter.read(trial.roles)
        begun = time.perf_counter()
        trial.release_workers()
        drained = await trial.until_drained(plan.drain_s)
        seconds = time.perf_counter() - begun
        cost, memory = (await lab.meter.read(trial.roles)).since(before), trial.memory_mib()
        trial.hold_workers()
        tasks = trial.completed() - done_before
        if drained and tasks != accepted.answered:
            raise ProgramError(f"{accepted.answered} tasks were accepted and {tasks} of them completed")
        if not tasks:
            raise ProgramError(f"no task completed in {seconds:.1f} s")
        return Drained(tasks, seconds, cost, memory)
