"""Schedules as people read them on a terminal."""

import json
from collections.abc import Sequence

from rich.text import Text

from app.client import Schedule
from app.commands.output import Column, Output
from app.commands.task_view import at, exactly, since


def _times(schedule: Schedule) -> str:
    if schedule.interval is not None:
        return f"every {exactly(schedule.interval)}"
    zone = f" {schedule.time_zone}" if schedule.time_zone else ""
    return f"{schedule.cron}{zone}"


def news_of(schedule: Schedule) -> str:
    """What comes next."""
    if schedule.last_error is not None:
        return f"{schedule.last_error.code}: {schedule.last_error.message}"
    if schedule.paused:
        return "paused"
    return "is over" if schedule.next_run_at is None else f"next {at(schedule.next_run_at)}"


SCHEDULES: Sequence[Column[Schedule]] = (
    Column("NAME", lambda schedule: schedule.name),
    Column("TYPE", lambda schedule: schedule.task.type),
    Column("TIMES", _times),
    Column("LAST", lambda schedule: since(schedule.last_run_at)),
    Column("NEWS", news_of, shrinks=True),
)


def show_schedule(output: Output, schedule: Schedule) -> None:
    """All of a schedule."""
    if output.as_json:
        output.json(schedule)
        return
    error = schedule.last_error
    task = schedule.task.model_dump(mode="json", exclude_defaults=True)
    output.sheet(
        [
            ("name", schedule.name),
            ("times", _times(schedule)),
            ("from", at(schedule.start_at)),
            ("until", at(schedule.end_at)),
            ("missed slots", f"{schedule.catch_up} is made up for" if schedule.catch_up == "one" else "are left out"),
            ("next", "paused" if schedule.paused else at(schedule.next_run_at) or "is over"),
            ("last", at(schedule.last_run_at)),
            ("last task", schedule.last_task_id),
            ("error", Text(f"{error.code}: {error.message}", style="red") if error else None),
            ("changed", at(schedule.updated_at)),
            ("task", json.dumps(task, ensure_ascii=False, indent=2)),
        ]
    )
