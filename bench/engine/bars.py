"""The targets of the engine, and whether a run reached them. Nothing asserts them: they depend on the machine."""

from bench.engine import path
from bench.engine.drain import Setup
from bench.engine.plan import Results
from bench.engine.systems import ARQ_TUNED, ARQIVE, ARQIVE_DEFAULT
from bench.figures import Bar

MOST_IDLE_CPU = 0.01


def bars(results: Results) -> list[Bar]:
    """Each target with what was found."""
    return [*_drain(results), *_pickup(results), *_claim(results), _path(results)]


def _drain(results: Results) -> list[Bar]:
    found = []
    for deferred in (0, results.deferred):
        for workers in results.workers:
            ours = results.drains[Setup(ARQIVE, workers, deferred)].rate
            ratio = ours / results.drains[Setup(ARQ_TUNED, workers, deferred)].rate
            what = f"drain at least 8 times arq tuned, {_workers(workers)}, {deferred:,} deferred"
            found.append(Bar(what, f"{ratio:.1f} times", met=ratio >= 8))
    for deferred in (0, results.deferred):
        four, one = (results.drains[Setup(ARQIVE, workers, deferred)].rate for workers in (results.workers[-1], 1))
        what = f"4 workers together not slower than 1, {deferred:,} deferred"
        found.append(Bar(what, f"{four:,.0f} and {one:,.0f} jobs/s", met=four >= one))
    return found


def _pickup(results: Results) -> list[Bar]:
    ours, tuned = results.pickups[ARQIVE_DEFAULT], results.pickups[ARQ_TUNED]
    ratio = tuned.latency.p50 / ours.latency.p50
    idle = results.path.idle
    return [
        Bar("idle pickup p50 at least 5 times better than arq tuned", f"{ratio:.1f} times", met=ratio >= 5),
        Bar("idle pickup p50 under 3 ms", f"{ours.latency.p50:.2f} ms", met=ours.latency.p50 < 3),
        Bar("an idle worker sends Redis at most 5 commands a second", f"{idle.commands:.1f}", met=idle.commands <= 5),
        Bar("an idle worker uses under 1 % of a core", f"{idle.cpu:.1%}", met=idle.cpu < MOST_IDLE_CPU),
    ]


def _claim(results: Results) -> list[Bar]:
    alone, *crowded = results.claims
    base = results.claims[alone]
    found = []
    for crowd in crowded:
        cost = results.claims[crowd]
        seen, script = cost.seen.p50 / base.seen.p50 - 1, cost.script_ms / base.script_ms - 1
        what = f"{crowd.label} ids slow a claim down by less than 20 %"
        found.append(Bar(what, f"{seen:+.0%}, its script {script:+.0%}", met=max(seen, script) < 0.2))
    return found


def _path(results: Results) -> Bar:
    ratio = results.path.latency[path.PLAIN].p50 / results.path.latency[path.ARQIVE].p50
    return Bar("whole path at idle: p50 at least 10 times better than plain", f"{ratio:.1f} times", met=ratio >= 10)


def _workers(number: int) -> str:
    return "1 worker" if number == 1 else f"{number} workers"
