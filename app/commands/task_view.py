"""Tasks as people read them on a terminal."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.text import Text

from app.client import AcceptedAs, AcceptedTask, Event, Status, Task
from app.commands.output import Cell, Column, Output
from app.core.states import TERMINAL
from app.models import Attempt

_COLOURS = {
    Status.PENDING: "yellow",
    Status.RUNNING: "cyan",
    Status.RETRYING: "magenta",
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.CANCELLED: "bright_black",
}
_STEPS = ((60, "s", 1), (3_600, "m", 60), (86_400, "h", 3_600), (float("inf"), "d", 86_400))


def status_text(status: Status) -> Text:
    """The status in its colour."""
    return Text(status.value, style=_COLOURS[status])


def news_of_submission(task: AcceptedTask) -> str:
    """What a submission led to, in a sentence."""
    match task.accepted_as:
        case AcceptedAs.NEW:
            return f"Task {task.id} is submitted"
        case AcceptedAs.REPLAYED:
            return f"Task {task.id} was submitted with this idempotency key before, and is {task.status}"
        case AcceptedAs.EXISTING:
            return f"Task {task.id} has this unique key and is {task.status}; no other is submitted"


def length(seconds: float) -> str:
    """A length of time in one unit: 0.25s, 12s, 3m, 5h, 2d."""
    if seconds < 1:
        return f"{seconds:.2g}s" if seconds > 0 else "0s"
    return next(f"{int(seconds // size)}{unit}" for limit, unit, size in _STEPS if seconds < limit)


def exactly(seconds: float) -> str:
    """A length of time in the largest unit that it is a whole number of: 90s, 1h, 36h."""
    units = ((86_400, "d"), (3_600, "h"), (60, "m"))
    return next((f"{seconds / size:.0f}{unit}" for size, unit in units if not seconds % size), f"{seconds:g}s")


def since(moment: datetime | None) -> str | None:
    """How long ago, or in how long."""
    if moment is None:
        return None
    seconds = (datetime.now(UTC) - moment).total_seconds()
    return f"{length(seconds)} ago" if seconds >= 0 else f"in {length(-seconds)}"


def at(moment: datetime | None) -> str | None:
    """The moment in this machine's time, and how far away it is."""
    return None if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S} ({since(moment)})"


def _attempts(task: Task) -> str:
    return f"{task.attempt}/{task.max_attempts}" + (f" (round {task.round})" if task.round > 1 else "")


def _news(task: Task) -> str | None:
    """What is worth knowing of it in a few words."""
    if task.error is not None and task.status is not Status.COMPLETED:
        return f"{task.error.code}: {task.error.message}"
    if task.status is Status.RUNNING and task.progress is not None:
        return f"{task.progress.value:.0%} {task.progress.message}"
    if task.status is Status.PENDING and task.run_at > datetime.now(UTC):
        return f"runs {since(task.run_at)}"
    return None


TASKS: Sequence[Column[Task]] = (
    Column("ID", lambda task: task.id),
    Column("STATUS", lambda task: status_text(task.status)),
    Column("TYPE", lambda task: task.type),
    Column("QUEUE", lambda task: task.queue),
    Column("ATTEMPT", _attempts),
    Column("CREATED", lambda task: since(task.created_at)),
    Column("NEWS", _news, shrinks=True),
)

_HISTORY: Sequence[Column[Attempt]] = (
    Column("ROUND", lambda each: str(each.round), right=True),
    Column("ATTEMPT", lambda each: str(each.attempt), right=True),
    Column("OUTCOME", lambda each: each.outcome.value),
    Column("STARTED", lambda each: at(each.started_at)),
    Column("TOOK", lambda each: length((each.finished_at - each.started_at).total_seconds()), right=True),
    Column("ERROR", lambda each: f"{each.error.code}: {each.error.message}" if each.error else None, shrinks=True),
)


def show_task(output: Output, task: Task) -> None:
    """All of a task."""
    if output.as_json:
        output.json(task)
        return
    output.sheet(_rows(task))
    output.table(task.history, _HISTORY, title="Attempts that have ended")
    if task.log:
        output.sheet([("", None), ("Log", "")])
        output.sheet((f"{line.at.astimezone():%H:%M:%S}", line.message) for line in task.log)


def event_line(event: Event) -> Text:
    """When, which task, and what happened to it."""
    task = event.task
    if task is None:
        return Text(f"{datetime.now().astimezone():%H:%M:%S}  {event.task_id}  deleted")
    line = Text(f"{task.updated_at.astimezone():%H:%M:%S}  {task.id}  ").append(status_text(task.status))
    line.append(f"  {task.type}  attempt {task.attempt}/{task.max_attempts}")
    if task.error is not None and task.status is not Status.COMPLETED:
        line.append(f"  {task.error.code}: {task.error.message}")
    elif task.status is Status.RUNNING and task.cancel_requested_at is not None:
        line.append("  asked to stop")
    elif task.status is Status.RUNNING and task.progress is not None:
        line.append(f"  {task.progress.value:.0%} {task.progress.message}")
    return line


def _rows(task: Task) -> Iterator[tuple[str, Cell]]:
    waits = task.status not in TERMINAL and task.status is not Status.RUNNING
    asked = ", asked to stop" if task.cancel_requested_at and task.status is Status.RUNNING else ""
    yield "id", task.id
    yield "type", task.type
    yield "status", status_text(task.status) + asked
    yield "queue", f"{task.queue}, priority {task.priority}"
    yield "attempt", _attempts(task)
    yield "tags", ", ".join(task.tags) or None
    yield "created", at(task.created_at)
    yield "runs", at(task.run_at) if waits else None
    yield "started", at(task.started_at)
    yield "finished", at(task.finished_at)
    yield "removed", at(task.expire_at)
    yield "worker", task.lease.worker if task.lease else None
    if task.progress is not None:
        yield "progress", f"{task.progress.value:.0%} {task.progress.message}"
    yield "callback", f"{task.callback.state} {task.callback.url}" if task.callback else None
    yield "payload", json.dumps(task.payload, ensure_ascii=False, indent=2)
    if task.status is Status.COMPLETED:
        yield "result", json.dumps(task.result, ensure_ascii=False, indent=2)
    if task.error is not None:
        yield "error", Text(f"{task.error.code}: {task.error.message}", style="red")
        yield "", task.error.traceback
