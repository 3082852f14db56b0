"""docs/performance-engine.md: what was measured, on what, and how to read it."""

from collections.abc import Iterable

from bench.engine import path
from bench.engine.bars import bars
from bench.engine.drain import Drained, Setup
from bench.engine.path import WAIT_S
from bench.engine.pickup import Idle
from bench.engine.plan import Results
from bench.engine.systems import (
    ARQ_DEFAULT,
    ARQ_TUNED,
    ARQIVE,
    ARQIVE_DEFAULT,
    ARQIVE_PLAIN_LOOP,
    ARQIVE_WRAPPED,
    System,
)
from bench.tables import table

VARIANTS = (ARQIVE_PLAIN_LOOP, ARQIVE_WRAPPED)
COMPARED = (ARQIVE, ARQIVE_DEFAULT, ARQ_TUNED, ARQ_DEFAULT)

INTRODUCTION = (
    "Two things were measured side by side in one run on one machine: the queue layer alone beside stock arq, and the "
    "whole path beside the service that many would write first with the same parts. Read the ratios: the absolute "
    "figures are this machine's."
)


def page(results: Results) -> str:
    """The whole page as Markdown."""
    parts = [
        "# Performance of the engine",
        "<!-- Written by `make bench-engine`: run that again rather than editing this. -->",
        INTRODUCTION,
        f"```sh\n{results.command}\n```",
        table(["", ""], results.machine),
        *_targets(results),
        *_drain(results),
        *_pickup(results),
        *_claim(results),
        *_path(results),
        *_choices(results),
    ]
    return "\n\n".join(parts) + "\n"


def _targets(results: Results) -> Iterable[str]:
    rows = [(bar.what, bar.found, "met" if bar.met else "**not met**") for bar in bars(results)]
    yield "## Targets"
    yield "What the engine was built to reach. No test asserts these, since they depend on the machine."
    yield table(["target", "found", ""], rows)


def _drain(results: Results) -> Iterable[str]:
    yield "## Emptying a queue"
    yield (
        "Jobs that do nothing are put into the queue, worker processes are let go together, and the clock stops when "
        "nothing waits or runs. Arqive's worker is the real loop with its claims, wake signals and batched finishes, "
        "without MongoDB; arq keeps no results. `deferred` ids are in the same queue, their time far off. "
        "Medians; `±` is the round farthest from it."
    )
    rows = []
    for deferred in (0, results.deferred):
        for workers in results.workers:
            for system in COMPARED:
                if found := results.drains.get(Setup(system, workers, deferred)):
                    tuned = results.drains[Setup(ARQ_TUNED, workers, deferred)].rate
                    rows.append(_drain_row(Setup(system, workers, deferred), found, tuned))
    header = ["deferred", "workers", "system", "jobs/s", "±", "times arq tuned"]
    yield table([*header, "Redis commands a job", "of them sent", "Redis CPU µs a job", "worker CPU µs a job"], rows)
    yield (
        "Redis commands are those that Redis itself counts, so what a script calls inside is in them; `of them sent` "
        "are those that crossed the network, where a script is one, for up to 50 jobs that are claimed and up to 100 "
        "that are finished together."
    )


def _drain_row(setup: Setup, found: Drained, tuned: float) -> list[str]:
    return [
        f"{setup.deferred:,}",
        str(setup.workers),
        setup.system.label,
        f"{found.rate:,.0f}",
        f"{found.spread:.0%}" if found.rounds > 1 else "one round",
        f"{found.rate / tuned:.1f}",
        f"{found.commands:.1f}",
        f"{found.sent:.2f}",
        f"{found.redis_us:.0f}",
        f"{found.worker_us:.0f}",
    ]


def _pickup(results: Results) -> Iterable[str]:
    count = next(iter(results.pickups.values())).latency.count
    yield "## An idle worker"
    yield (
        f"{count} single jobs at random moments, one worker with nothing else to do: from just before the call that "
        "enqueues a job until its handler's first line, by a clock that both processes share. Then nothing is "
        "enqueued, and what the worker costs is counted. The last row is the whole worker process of the service: with "
        "its heartbeat, its reconciler and MongoDB."
    )
    tuned = results.pickups[ARQ_TUNED].latency.p50
    rows = [
        [
            system.label,
            f"{found.latency.p50:.2f}",
            f"{found.latency.p99:.2f}",
            f"{tuned / found.latency.p50:.1f}",
            *_idle_cells(found.idle),
        ]
        for system, found in results.pickups.items()
    ]
    rows.append(["`python -m app worker`", "", "", "", *_idle_cells(results.path.idle)])
    header = ["system", "pickup p50 ms", "p99 ms", "times better than arq tuned", "Redis commands/s at rest"]
    yield table([*header, "of them sent", "CPU of a core"], rows)


def _idle_cells(idle: Idle) -> list[str]:
    return [f"{idle.commands:.1f}", f"{idle.sent:.1f}", f"{idle.cpu:.1%}"]


def _claim(results: Results) -> Iterable[str]:
    count = next(iter(results.claims.values())).seen.count
    yield "## One claim"
    yield f"One call that takes 50 ids, {count} times from each queue in turn, by what else the queue holds."
    rows = [
        [crowd.label, f"{cost.seen.p50:.2f}", f"{cost.seen.p99:.2f}", f"{cost.script_ms:.2f}"]
        for crowd, cost in results.claims.items()
    ]
    yield table(["the queue also holds", "call p50 ms", "p99 ms", "script holds Redis, ms"], rows)


def _path(results: Results) -> Iterable[str]:
    yield "## The whole path at idle"
    ours = results.path.latency[path.ARQIVE]
    yield (
        f"{ours.count} single tasks to each, in turn: from just before `POST` until the completed task has been read "
        f"back. Arqive's client asks once with `?wait={WAIT_S}`; the others have no such thing, so theirs asks every "
        "5 ms. They are in `bench/plain/`: one Motor write when a task is accepted, one when it starts, one when it "
        "ends, with the driver's default write concern. Arqive acknowledges each write only once a majority has "
        "journaled it."
    )
    plain = results.path.latency[path.PLAIN].p50
    rows = [
        [stack.label, f"{latency.p50:.1f}", f"{latency.p99:.1f}", f"{plain / latency.p50:.1f}"]
        for stack, latency in results.path.latency.items()
    ]
    yield table(["", "p50 ms", "p99 ms", "times better than arq default"], rows)


def _choices(results: Results) -> Iterable[str]:
    base = results.drains[Setup(ARQIVE, 1, 0)]
    yield "## Where faster parts pay"
    rows = [
        [system.label, f"{found.rate:,.0f}", f"{found.rate / base.rate:.0%}", f"{found.worker_us:.0f}"]
        for system in (ARQIVE, *VARIANTS)
        for found in [_of(results, system)]
    ]
    yield "Emptying a queue with one worker: uvloop or asyncio's own loop, and what calling a user's handler adds."
    yield table(["one worker, 0 deferred", "jobs/s", "of the first", "worker CPU µs a job"], rows)
    cost = results.encoding
    share = (cost.json_ms - cost.orjson_ms) / cost.dispatch_ms
    yield (
        f"Job bodies for 1,000 ids: {cost.json_ms:.2f} ms with `json`, {cost.orjson_ms:.2f} ms with `orjson`. "
        f"To dispatch those ids takes {cost.dispatch_ms:.0f} ms, so the library decides about {share:.0%} of it."
    )


def _of(results: Results, system: System) -> Drained:
    return results.drains[Setup(system, 1, 0)]
