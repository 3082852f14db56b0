"""The sections of the page that tell what the work costs."""

from collections.abc import Callable, Iterable
from functools import partial
from statistics import median

from bench.meter import Cost
from bench.service.accept import AcceptKey
from bench.service.bars import CLIENTS
from bench.service.drain import DrainKey
from bench.service.results import OnServer, Results
from bench.service.stacks import STACKS, Stack, Work
from bench.tables import table

ROLES = ("web", "worker", "redis", "mongo")


def cost(results: Results) -> Iterable[str]:
    if "accept" not in results.sections or "drain" not in results.sections:
        return
    yield "## What a task costs"
    yield (
        f"CPU milliseconds by process and calls of the servers for one task: accepted at {CLIENTS} clients, then "
        "drained by one worker. Redis commands are those that Redis counts, so what a script calls inside is in them. "
        "MongoDB requests are messages; operations are the inserts, finds, updates and deletes that its `serverStatus` "
        "counts."
    )
    header = [
        "",
        "web",
        "worker",
        "Redis",
        "MongoDB",
        "all",
        "Redis commands",
        "MongoDB requests",
        "MongoDB operations",
    ]
    yield table(header, [[stack.label, *_cost_cells(results.main, stack)] for stack in STACKS])


def _cost_cells(on: OnServer, stack: Stack) -> list[str]:
    accepts = on.accepts.found.get(AcceptKey(stack, CLIENTS), [])
    drains = on.drains.found.get(DrainKey(stack, 1, Work.NOTHING), [])
    if not accepts or not drains:
        return ["not measured", *[""] * 7]
    parts = [[(found.cost, found.load.answered) for found in accepts], [(found.cost, found.tasks) for found in drains]]

    def a_task(of: Callable[[Cost], float]) -> float:
        return sum(median(of(each) / tasks for each, tasks in part) for part in parts)

    cpu = [a_task(partial(_cpu_ms, role)) for role in ROLES]
    calls = [
        a_task(lambda each: each.redis_commands),
        a_task(lambda each: each.mongo_requests),
        a_task(lambda each: each.mongo_operations),
    ]
    return [f"{each:.2f}" for each in (*cpu, sum(cpu), *calls)]


def _cpu_ms(role: str, found: Cost) -> float:
    return 1000 * found.cpu_s.get(role, 0.0)


def memory(results: Results) -> Iterable[str]:
    if "drain" not in results.sections:
        return
    yield "## Memory"
    yield "MiB that each process holds after a drain, pages that it shares with others counted for each."
    rows = []
    for stack in STACKS:
        drains = results.main.drains.found.get(DrainKey(stack, 1, Work.NOTHING), [])
        cells = [
            f"{median(found.memory_mib[role] for found in drains):.0f}"
            if drains and all(role in found.memory_mib for found in drains)
            else "not measured"
            for role in ROLES
        ]
        rows.append([stack.label, *cells])
    yield table(["", "web", "worker", "Redis", "MongoDB"], rows)
