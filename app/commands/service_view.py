"""What the service tells about itself, as people read it on a terminal."""

from collections.abc import Sequence

from app.client import QueueStats, Stats, Status, TypeInfo
from app.commands.output import Cell, Column, Output
from app.commands.task_view import length, status_text

TYPES: Sequence[Column[TypeInfo]] = (
    Column("TYPE", lambda kind: kind.name),
    Column("ATTEMPTS", lambda kind: str(kind.max_attempts), right=True),
    Column("TIMEOUT", lambda kind: length(kind.timeout), right=True),
    Column("SUMMARY", lambda kind: kind.summary, shrinks=True),
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
