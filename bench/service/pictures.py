"""The plots beside docs/performance.md."""

from collections.abc import Mapping, Sequence
from statistics import median

from bench.plots import BarOf, bar_chart
from bench.queue.peers import ARQIVE as ARQIVE_ENGINE
from bench.queue.peers import PEERS
from bench.service.accept import AcceptKey
from bench.service.bars import idle_ms
from bench.service.drain import DrainKey
from bench.service.results import Results
from bench.service.stacks import ARQIVE, ARQIVE_WIDE, STACKS, Stack, Work


def pictures(results: Results) -> Mapping[str, str]:
    """SVG by name."""
    return {
        "accept": _accept(results),
        "drain": _drain(results),
        "latency": _latency(results),
        "stored": _stored(results),
        "queue": _queue(results),
    }


def _accept(results: Results) -> str:
    found = results.main.accepts.found
    return bar_chart(
        "Accepted tasks a second",
        [
            (
                "1 client" if clients == 1 else f"{clients} clients",
                [
                    _bar(stack, [each.load.rate for each in found.get(AcceptKey(stack, clients), [])])
                    for stack in STACKS
                ],
            )
            for clients in results.plan.clients
        ],
    )


def _drain(results: Results) -> str:
    found = results.main.drains.found
    groups = []
    for workers in results.plan.workers:
        keys = [DrainKey(stack, workers, Work.NOTHING) for stack in STACKS]
        name = f"no-op, {workers} {'worker' if workers == 1 else 'workers'}"
        groups.append((name, [_bar(key.stack, [each.rate for each in found[key]]) for key in keys if key in found]))
    keys = [DrainKey(stack, 1, Work.WAITING) for stack in (ARQIVE, ARQIVE_WIDE, *STACKS[1:])]
    groups.append(("50 ms, 1 worker", [_bar(key.stack, [each.rate for each in found.get(key, [])]) for key in keys]))
    return bar_chart("Drained tasks a second", groups)


def _latency(results: Results) -> str:
    groups = []
    for name, half in (("at idle, p50", False), ("at half load, p50", True)):
        bars = []
        for stack in STACKS:
            rounds = results.latencies.found.get(stack, [])
            values = [1000 * each for found in rounds for each in found.half]
            value = (median(values) if values else None) if half else idle_ms(results, stack)
            bars.append(BarOf(stack.short, value, _shown(value, "{:.1f} ms"), ours=stack is ARQIVE))
        groups.append((name, bars))
    return bar_chart("Milliseconds from POST to completed", groups)


def _stored(results: Results) -> str:
    groups = []
    for name in ("accepted", "drained"):
        bars = []
        for number in results.plan.stored:
            values = [getattr(found, name) for found in results.stored.found.get(number, [])]
            value = median(values) if values else None
            bars.append(BarOf(f"{number:,} finished tasks", value, _shown(value, "{:,.0f}/s"), ours=True))
        groups.append((f"{name} tasks a second", bars))
    return bar_chart("With finished tasks in the store", groups)


def _queue(results: Results) -> str:
    rates = {peer: median(each.rate for each in found) for peer, found in results.queue.drains.found.items() if found}
    bars = [
        BarOf(peer.label, rates[peer], f"{rates[peer]:,.0f}", ours=peer is ARQIVE_ENGINE)
        for peer in sorted((peer for peer in PEERS if peer in rates), key=lambda peer: -rates[peer])
    ]
    return bar_chart("Jobs a second without MongoDB, one worker", [("", bars)])


def _bar(stack: Stack, rates: Sequence[float]) -> BarOf:
    value = median(rates) if rates else None
    return BarOf(stack.short, value, _shown(value, "{:,.0f}/s"), ours=stack in {ARQIVE, ARQIVE_WIDE})


def _shown(value: float | None, pattern: str) -> str:
    return "not measured" if value is None else pattern.format(value)
