"""How long a task takes from its POST until its completion can be read, at idle and under half load."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.processes import ProgramError
from bench.rounds import Rounds
from bench.service.plan import Plan
from bench.service.stacks import PLAIN, STACKS, Stack
from bench.service.trial import Lab, Trial, started

GAP_S = (0.005, 0.03)
POLL_GAP_S = (0.0, 0.5)
"""For stock arq as it comes: as long as its poll, so that tasks do not fall in step with it."""

CAPACITY_S = 1.5
CLIENTS = 50
MOST_CLIENTS = 100
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Latencies:
    """Of one round.

    Attributes:
        idle: Seconds that single tasks took, with nothing else to do.
        capacity: Tasks a second that were accepted and completed when clients sent as fast as they were answered.
        half: Seconds that single tasks took while half as many came.
    """

    idle: list[float]
    capacity: float
    half: list[float]


async def measure_latency(
    lab: Lab, plan: Plan, latencies: Rounds[Stack, Latencies], tell: Callable[[str], None]
) -> None:
    """One round: each stack in turn."""
    for stack in STACKS:
        if missing := stack.why_not(tell):
            latencies.failed[stack] = missing
            continue

        async def measure(stack: Stack = stack) -> Latencies:
            async with started(stack, lab) as trial:
                return await _measure(trial, plan)

        found = await latencies.add(stack, measure, tell)
        if found:
            tell(
                f"latency: {stack.label}: idle {_median_ms(found.idle):.1f} ms, "
                f"half of {found.capacity:,.0f}/s {_median_ms(found.half):.1f} ms"
            )


async def _measure(trial: Trial, plan: Plan) -> Latencies:
    gap_s = POLL_GAP_S if trial.stack is PLAIN else GAP_S
    idle = await trial.tasks_one_by_one(plan.singles, gap_s)
    begun = time.perf_counter()
    load = await trial.accept(CLIENTS, CAPACITY_S)
    if not await trial.until_drained(PATIENCE_S):
        raise ProgramError(f"{await trial.left()} of {load.answered} tasks were left after {PATIENCE_S:g} s")
    # The generator's own start is not to be in it: the load says how long it really sent.
    capacity = load.answered / max(load.seconds, time.perf_counter() - begun - _START_S)
    return Latencies(idle, capacity, await _under_load(trial, capacity / 2, plan, gap_s))


_START_S = 0.15


async def _under_load(trial: Trial, rate: float, plan: Plan, gap_s: tuple[float, float]) -> list[float]:
    """Single tasks, as many as there is time for, while others come at a rate."""
    loading = asyncio.create_task(trial.accept(MOST_CLIENTS, plan.half_s, rate=rate))
    await asyncio.sleep(plan.half_s / 5)
    durations: list[float] = []
    while not loading.done():
        durations += await trial.tasks_one_by_one(1, gap_s)
    await loading
    return durations


def _median_ms(durations: list[float]) -> float:
    return sorted(durations)[len(durations) // 2] * 1000 if durations else float("nan")
