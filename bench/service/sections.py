"""The sections of the page: one table each, and what has to be known to read it."""

from collections.abc import Iterable, Sequence
from itertools import chain
from statistics import median

from app.services.recount import FIRST_PATIENCE_S
from bench.figures import Latency, spread
from bench.queue.peers import PEERS
from bench.service.accept import BULK, BULK_CLIENTS, AcceptKey
from bench.service.bars import CLIENTS
from bench.service.drain import DrainKey, setups
from bench.service.latency import Latencies
from bench.service.results import Results
from bench.service.stacks import ARQIVE, PLAIN_TUNED, STACKS, Stack, Work
from bench.service.stored import READS
from bench.service.trial import ASK_S
from bench.tables import table


def picture(name: str, what: str) -> str:
    """A plot that `make bench` has written beside the page."""
    return f"![{what}](performance/{name}.svg)"


def accept(results: Results) -> Iterable[str]:
    if "accept" not in results.sections:
        return
    yield "## Accepting"
    yield (
        "`POST /tasks` as fast as so many clients are answered, one web process, no workers. Arqive answers when a "
        "majority has journaled the task; the others write with their driver's default."
    )
    yield picture("accept", "Accepted tasks a second")
    header = [
        "",
        *(f"{name}, {clients}" for clients in results.plan.clients for name in ("accepted/s", "p50 ms", "p99 ms")),
    ]
    yield table(header, [[stack.label, *_accept_cells(results, stack)] for stack in STACKS])
    yield _ceiling(results)


def _accept_cells(results: Results, stack: Stack) -> list[str]:
    cells = []
    for clients in results.plan.clients:
        key = AcceptKey(stack, clients)
        loads = [found.load for found in results.main.accepts.found.get(key, [])]
        if not loads:
            cells += [results.main.accepts.failed.get(key, "not measured"), "", ""]
            continue
        cells += [
            _rate([load.rate for load in loads]),
            f"{median(load.p50_ms for load in loads):.1f}",
            f"{median(load.p99_ms for load in loads):.1f}",
        ]
    return cells


def _ceiling(results: Results) -> str:
    alone = ", ".join(f"{load.rate:,.0f}/s with {clients}" for clients, load in results.ceiling.items())
    us = median([load.cpu_s / load.answered * 1e6 for load in results.ceiling.values()] or [0.0])
    return (
        f"The load generator is a process of its own. With an aiohttp server that answers at once it reaches {alone} "
        f"clients, and uses {us:.0f} µs of CPU a request."
    )


def bulk(results: Results) -> Iterable[str]:
    if "bulk" not in results.sections:
        return
    yield "## Accepting in bulk"
    yield f"`POST /tasks/bulk` with {BULK:,} tasks a request; the others have no such thing."
    rows = []
    for clients in BULK_CLIENTS:
        loads = [found.load for found in results.bulks.found.get(clients, [])]
        if loads:
            rates, p50 = [load.rate * BULK for load in loads], median(load.p50_ms for load in loads)
            rows.append([str(clients), _rate(rates), f"{p50:.0f}"])
        else:
            rows.append([str(clients), results.bulks.failed.get(clients, "not measured"), ""])
    yield table(["clients", "accepted tasks/s", "p50 ms a request"], rows)


def drain(results: Results) -> Iterable[str]:
    if "drain" not in results.sections:
        return
    yield "## Draining"
    yield (
        "Tasks are accepted while the worker processes are held still; then they are let go, and what MongoDB has "
        "recorded as completed is counted. A task does nothing, or waits for 50 ms as one that calls another service "
        "does. `±` is the round farthest from the median."
    )
    yield picture("drain", "Drained tasks a second")
    rows = []
    for key in setups(results.plan):
        rates = [found.rate for found in results.main.drains.found.get(key, [])]
        work = "no-op" if key.work is Work.NOTHING else "50 ms"
        tuned = [found.rate for found in results.main.drains.found.get(_tuned(key), [])]
        if rates:
            ratio = f"{median(rates) / median(tuned):.1f}" if tuned else ""
            row = [f"{median(rates):,.0f}", f"{spread(rates):.0%}" if len(rates) > 1 else "one round", ratio]
        else:
            row = [results.main.drains.failed.get(key, "not measured"), "", ""]
        rows.append([work, str(key.workers), key.stack.label, *row])
    yield table(["task", "workers", "", "tasks/s", "±", "times aiohttp + arq tuned"], rows)


def _tuned(key: DrainKey) -> DrainKey:
    return DrainKey(PLAIN_TUNED, key.workers, key.work)


def latency(results: Results) -> Iterable[str]:
    if "latency" not in results.sections:
        return
    yield "## From POST to completed"
    yield (
        "From just before `POST` until the completed task has been read back, one web and one worker process. Arqive "
        "and BullMQ tell when a task has ended, so their clients ask once and wait; for arq the client asks every "
        f"{ASK_S * 1000:.0f} ms. The rate is what is accepted and completed when {CLIENTS} clients send as fast as "
        "they are answered; half load is half of each system's own."
    )
    yield picture("latency", "Milliseconds from POST to completed")
    rows = []
    for stack in STACKS:
        rounds = results.latencies.found.get(stack, [])
        rows.append(
            [
                stack.label,
                *(
                    _latency_cells(rounds)
                    if rounds
                    else [results.latencies.failed.get(stack, "not measured"), *[""] * 4]
                ),
            ]
        )
    yield table(["", "idle p50 ms", "idle p99 ms", "tasks/s", "half load p50 ms", "half load p99 ms"], rows)


def _latency_cells(rounds: Sequence[Latencies]) -> list[str]:
    idle = Latency.of_seconds([each for found in rounds for each in found.idle])
    half = Latency.of_seconds([each for found in rounds for each in found.half])
    rate = median(found.capacity for found in rounds)
    return [f"{idle.p50:.1f}", f"{idle.p99:.1f}", f"{rate:,.0f}", f"{half.p50:.1f}", f"{half.p99:.1f}"]


def stored(results: Results) -> Iterable[str]:
    if "stored" not in results.sections:
        return
    yield "## With finished tasks in the store"
    yield (
        f"Arqive with so many finished tasks in MongoDB: accepting at {CLIENTS} clients, draining with one worker, and "
        "single reads (p50): "
        + ", ".join(f"{name} is `GET {path}`" for name, path in READS.items())
        + f". The first `GET /stats` of a process waits for its counts, for up to {FIRST_PATIENCE_S:.0f} s."
    )
    yield picture("stored", "Rates by the number of finished tasks")
    rows = []
    for number in results.plan.stored:
        rounds = results.stored.found.get(number, [])
        if rounds:
            reads = [f"{rounds[0].reads_ms[name]:.1f}" for name in READS]
            rows.append(
                [
                    f"{number:,}",
                    _rate([found.accepted for found in rounds]),
                    _rate([found.drained for found in rounds]),
                    *reads,
                ]
            )
        else:
            rows.append([f"{number:,}", results.stored.failed.get(number, "not measured"), *[""] * 4])
    yield table(["finished tasks", "accepted/s", "drained/s", *(f"{name} ms" for name in READS)], rows)


def embedded(results: Results) -> Iterable[str]:
    if not results.embedded.name:
        return
    yield "## On the embedded server"
    yield (
        f"The same on {results.embedded.name}, which `make dev` starts: it takes most of the time here, so that "
        "this shows less of the services than the above."
    )
    rows = []
    for stack in (ARQIVE, PLAIN_TUNED):
        accepts = [found.load.rate for found in results.embedded.accepts.found.get(AcceptKey(stack, CLIENTS), [])]
        key = DrainKey(stack, 1, Work.NOTHING)
        drains = [found.rate for found in results.embedded.drains.found.get(key, [])]
        why = results.embedded.drains.failed.get(key, "not measured")
        rows.append([stack.label, _rate(accepts) if accepts else why, _rate(drains) if drains else why])
    yield table(["", f"accepted/s, {CLIENTS} clients", "drained/s, 1 worker"], rows)


def queue(results: Results) -> Iterable[str]:
    if "queue" not in results.sections:
        return
    yield "## The queue layer alone"
    yield (
        "Without MongoDB and without a web: jobs that do nothing are queued, then one worker empties the queue; and "
        "single jobs are queued to a worker at rest. Every job writes the moment at which it was started to a file, "
        "the same way in every system; the rate is that from the first to the last. Each has an environment of its "
        "own, where `uv` installs it, and is set up as its documentation advises for many short jobs."
    )
    yield picture("queue", "Jobs a second without MongoDB")
    found = results.queue.drains.found
    rows = []
    for peer in sorted(PEERS, key=lambda peer: -median([each.rate for each in found.get(peer, [])] or [0.0])):
        rates, waits = (
            [each.rate for each in found.get(peer, [])],
            list(chain.from_iterable(results.queue.pickups.found.get(peer, []))),
        )
        why = results.queue.drains.failed.get(peer, "not measured")
        pickup = Latency.of_seconds(waits) if waits else None
        rows.append(
            [
                peer.label,
                _rate(rates) if rates else why,
                f"{median(each.commands for each in found[peer]):.1f}" if rates else "",
                f"{pickup.p50:.2f}" if pickup else "",
                f"{pickup.p99:.2f}" if pickup else "",
                peer.note,
            ]
        )
    yield table(["", "jobs/s", "Redis commands a job", "pickup p50 ms", "p99 ms", "set up with"], rows)


def _rate(values: Sequence[float]) -> str:
    return f"{median(values):,.0f}"
