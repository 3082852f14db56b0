"""The options that say which tasks."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from app.commands.arguments import read_moment
from app.core.outcomes import ErrorCode
from app.core.states import Status

if TYPE_CHECKING:
    from app.client import TaskFilter

Statuses = Annotated[list[Status], typer.Option("--status", "-s", help="Any of these; may be repeated.")]
Type = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Exactly this type.")]
Queue = Annotated[str | None, typer.Option(metavar="QUEUE", help="Exactly this queue.")]
Tags = Annotated[list[str], typer.Option("--tag", metavar="TAG", help="All of these; may be repeated.")]
Schedule = Annotated[str | None, typer.Option(metavar="NAME", help="Submitted by this schedule.")]
Error = Annotated[ErrorCode | None, typer.Option("--error", help="The last attempt failed with this code.")]
After = Annotated[
    datetime | None,
    typer.Option(parser=read_moment, metavar="MOMENT", help="Created then or later; 2h means two hours ago."),
]
Before = Annotated[datetime | None, typer.Option(parser=read_moment, metavar="MOMENT", help="Created before that.")]


def task_filter(**given: Any) -> "TaskFilter":
    """The filter of those options that are given."""
    return cast("TaskFilter", {name: value for name, value in given.items() if value})
