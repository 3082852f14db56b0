"""The targets of the service, and whether a run reached them. Nothing asserts them: they depend on the machine."""

from collections.abc import Iterable, Sequence
from itertools import chain
from statistics import median

from bench.figures import Bar
from bench.queue.peers import ARQIVE as ARQIVE_ENGINE
from bench.queue.peers import BULLMQ, PEERS
from bench.service.accept import AcceptKey
from bench.service.drain import DrainKey
from bench.service.results import OnServer, Results
from bench.service.stacks import ARQIVE, NODE, PLAIN, PLAIN_TUNED, Stack, Work

CLIENTS = 50
MOST_CHANGE = 0.2


def bars(results: Results) -> Iterable[Bar]:
    """Each target with what was found; those of sections that did not run are left out."""
    if "drain" in results.sections:
        yield _times("drained tasks/s at least 5 times aiohttp + arq tuned", _drains(results.main, PLAIN_TUNED), 5)
        yield _times("drained tasks/s ahead of Express + BullMQ", _drains(results.main, NODE), 1)
    if "accept" in results.sections:
        yield _times(
            f"accepted/s at {CLIENTS} clients at least 3 times aiohttp + arq tuned",
            _accepts(results.main, PLAIN_TUNED),
            3,
        )
        yield _times(f"accepted/s at {CLIENTS} clients ahead of Express + BullMQ", _accepts(results.main, NODE), 1)
    if "latency" in results.sections:
        yield _times(
            "POST to completed, p50 at idle, at least 10 times better than aiohttp + arq default",
            _idle(results, PLAIN),
            10,
        )
        yield _times("POST to completed, p50 at idle, no worse than Express + BullMQ", _idle(results, NODE), 1)
    if results.embedded.name:
        what = "on the embedded server: drained tasks/s at least 3 times aiohttp + arq tuned"
        yield _times(what, _drains(results.embedded, PLAIN_TUNED), 3)
    if "queue" in results.sections:
        yield from _queue(results)
    if "stored" in results.sections:
        yield from _stored(results)


def accept_rate(on: OnServer, stack: Stack) -> float | None:
    """The median of the rounds."""
    return _median([found.load.rate for found in on.accepts.found.get(AcceptKey(stack, CLIENTS), [])])


def drain_rate(on: OnServer, stack: Stack) -> float | None:
    """The median of the rounds, one worker and tasks that do nothing."""
    return _median([found.rate for found in on.drains.found.get(DrainKey(stack, 1, Work.NOTHING), [])])


def idle_ms(results: Results, stack: Stack) -> float | None:
    """Median milliseconds from POST to completed."""
    seconds = _median([each for found in results.latencies.found.get(stack, []) for each in found.idle])
    return None if seconds is None else seconds * 1000


Pair = tuple[str, float | None, float | None]
"""What the two figures are in words with their places, and how often the first is to be in the second."""


def _drains(on: OnServer, other: Stack) -> Pair:
    ours, theirs = drain_rate(on, ARQIVE), drain_rate(on, other)
    return _words(ours, theirs, "{:,.0f} and {:,.0f}/s"), ours, theirs


def _accepts(on: OnServer, other: Stack) -> Pair:
    ours, theirs = accept_rate(on, ARQIVE), accept_rate(on, other)
    return _words(ours, theirs, "{:,.0f} and {:,.0f}/s"), ours, theirs


def _idle(results: Results, other: Stack) -> Pair:
    ours, theirs = idle_ms(results, ARQIVE), idle_ms(results, other)
    return _words(ours, theirs, "{:.1f} and {:.1f} ms"), theirs, ours  # the smaller is the better


def _words(ours: float | None, theirs: float | None, pattern: str) -> str:
    return "" if ours is None or theirs is None else pattern.format(ours, theirs)


def _times(what: str, pair: Pair, least: float) -> Bar:
    words, larger, smaller = pair
    if larger is None or smaller is None:
        return Bar(what, "not measured", met=False)
    ratio = larger / smaller
    return Bar(what, f"{ratio:.1f} times: {words}", met=ratio >= least)


def _queue(results: Results) -> Iterable[Bar]:
    drains, pickups = results.queue.drains.found, results.queue.pickups.found
    rates = {peer: median(found.rate for found in rounds) for peer, rounds in drains.items() if rounds}
    waits = {peer: median(chain.from_iterable(rounds)) * 1000 for peer, rounds in pickups.items() if rounds}
    ours, our_wait = rates.pop(ARQIVE_ENGINE, None), waits.pop(ARQIVE_ENGINE, None)
    if BULLMQ in rates and ours is not None:
        ratio = ours / rates[BULLMQ]
        found = f"{ratio:.1f} times: {ours:,.0f} and {rates[BULLMQ]:,.0f} jobs/s"
        yield Bar("queue layer alone: jobs/s ahead of BullMQ", found, met=ratio > 1)
    python = {peer: rate for peer, rate in rates.items() if peer is not BULLMQ}
    if python and ours is not None:
        best = max(python, key=lambda peer: python[peer])
        found = f"{ours / python[best]:.1f} times the best, {best.label}: {ours:,.0f} and {python[best]:,.0f} jobs/s"
        missing = len(PEERS) - 2 - len(python)  # without Arqive and BullMQ
        if missing:
            found += f"; {missing} could not be measured"
        yield Bar("queue layer alone: jobs/s ahead of every Python peer", found, met=ours > python[best])
    if waits and our_wait is not None:
        best = min(waits, key=lambda peer: waits[peer])
        found = f"{our_wait:.2f} ms, and {waits[best]:.2f} ms with {best.label}"
        yield Bar("queue layer alone: idle pickup p50 ahead of every peer", found, met=our_wait < waits[best])


def _stored(results: Results) -> Iterable[Bar]:
    empty, most = results.plan.stored[0], results.plan.stored[-1]
    before, after = results.stored.found.get(empty, []), results.stored.found.get(most, [])
    pairs = [
        ("accept", [median(found.accepted for found in rounds) for rounds in (before, after) if rounds]),
        ("drain", [median(found.drained for found in rounds) for rounds in (before, after) if rounds]),
        ("list", [rounds[0].reads_ms["list"] for rounds in (before, after) if rounds]),
    ]
    for name, pair in pairs:
        what = f"from {empty:,} to {most:,} stored tasks {name} gets slower by less than {MOST_CHANGE:.0%}"
        if len(pair) < 2:
            yield Bar(what, "not measured", met=False)
            continue
        first, last = pair
        if name == "list":
            found, slower = f"{first:,.1f} and {last:,.1f} ms", last / first - 1
        else:
            found, slower = f"{first:,.0f} and {last:,.0f}/s", first / last - 1
        yield Bar(what, f"{slower:+.0%}: {found}", met=slower < MOST_CHANGE)


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
