"""What the service tells about itself, as people read it on a terminal."""

from collections.abc import Sequence

from rich.text import Text

from app.client import Queue, QueueStats, Rate, Stats, Status, TypeInfo, Worker
from app.commands.output import Cell, Column, Output
from app.commands.task_view import exactly, length, since, status_text

_NEAR = 1e-6  # floating point

TYPES: Sequence[Column[TypeInfo]] = (
    Column("TYPE", lambda kind: kind.name),
    Column("ATTEMPTS", lambda kind: str(kind.max_attempts), right=True),
    Column("TIMEOUT", lambda kind: exactly(kind.timeout), right=True),
    Column("SUMMARY", lambda kind: kind.summary, shrinks=True),
)

WORKERS: Sequence[Column[Worker]] = (
    Column("WORKER", lambda worker: worker.id),
    Column("RUNNING", lambda worker: f"{worker.running:,}/{worker.concurrency:,}", right=True),
    Column("STARTED", lambda worker: since(worker.started_at)),
    Column("SEEN", lambda worker: since(worker.seen_at)),
    Column("QUEUES", lambda worker: ", ".join(worker.queues), shrinks=True),
)


def rate_text(rate: Rate) -> str:
    """So many a second, a minute or an hour, whichever is a whole number, and the burst."""
    whole = ((unit, rate.per_second * size) for unit, size in (("s", 1), ("m", 60), ("h", 3_600)))
    unit, number = next(
        ((unit, number) for unit, number in whole if number >= 1 and abs(number - round(number)) < _NEAR),
        ("s", rate.per_second),
    )
    return f"{number:.4g}/{unit}, burst {rate.burst:,}"


QUEUES: Sequence[Column[Queue]] = (
    Column("QUEUE", lambda queue: queue.name),
    Column("READY", lambda queue: f"{queue.ready:,}", right=True),
    Column("DEFERRED", lambda queue: f"{queue.deferred:,}", right=True),
    Column("RUNNING", lambda queue: f"{queue.running:,}", right=True),
    Column("OLDEST", lambda queue: length(queue.oldest_ready_seconds), right=True),
    Column("WORKERS", lambda queue: f"{queue.workers:,}", right=True),
    Column("MAX", lambda queue: None if queue.max_running is None else f"{queue.max_running:,}", right=True),
    Column("RATE", lambda queue: None if queue.rate is None else rate_text(queue.rate)),
    Column("", lambda queue: Text("paused", style="yellow") if queue.paused else None),
)

_QUEUES: Sequence[Column[tuple[str, QueueStats]]] = (
    Column("QUEUE", lambda each: each[0]),
    Column("READY", lambda each: f"{each[1].ready:,}", right=True),
    Column("DEFERRED", lambda each: f"{each[1].deferred:,}", right=True),
    Column("RUNNING", lambda each: f"{each[1].running:,}", right=True),
    Column("OLDEST", lambda each: length(each[1].oldest_ready_seconds), right=True),
    Column("", lambda each: "paused" if each[1].paused else None),
)


def show_stats(output: Output, stats: Stats) -> None:
    """Statuses beside their counts, and the queues."""
    if output.as_json:
        output.json(stats)
        return
    counts: list[tuple[Cell, Cell]] = [(status_text(Status(name)), f"{count:,}") for name, count in stats.tasks.items()]
    output.sheet([*counts, ("workers", f"{stats.workers:,}")])
    output.table(list(stats.queues.items()), _QUEUES, title="Queues")
