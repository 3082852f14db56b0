"""`arqive tasks`: submit, list, show, wait, retry, cancel, delete."""

from datetime import datetime
from typing import Annotated

import typer

from app.commands import each_task, submit, watching
from app.commands.arguments import TaskId, TaskIds, read_moment
from app.commands.session import CommandFailed, ExitCode, Session, resource, service_command
from app.core.states import Status

commands = resource("Submit tasks, see what became of them, and change that.")

service_command(commands, "submit")(submit.submit)
service_command(commands, "wait")(each_task.wait)

Statuses = Annotated[list[Status], typer.Option("--status", "-s", help="Any of these; may be repeated.")]
Tags = Annotated[list[str], typer.Option("--tag", metavar="TAG", help="All of these; may be repeated.")]
Type = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Exactly this type.")]
Queue = Annotated[str | None, typer.Option(metavar="QUEUE", help="Exactly this queue.")]
After = Annotated[
    datetime | None,
    typer.Option(parser=read_moment, metavar="MOMENT", help="Created then or later; 2h means two hours ago."),
]
Before = Annotated[datetime | None, typer.Option(parser=read_moment, metavar="MOMENT", help="Created before that.")]


@service_command(commands, "list")
async def list_tasks(
    session: Session,
    status: Statuses = [],
    type_: Type = None,
    queue: Queue = None,
    tag: Tags = [],
    created_after: After = None,
    created_before: Before = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="The most tasks.")] = 50,
    every: Annotated[bool, typer.Option("--all", help="All there are, whatever the limit.")] = False,
) -> None:
    """List tasks, newest first."""
    from app.commands.task_view import TASKS  # noqa: PLC0415 - not for the help and the completion

    found = session.client.list(
        status=status,
        type=type_,
        queue=queue,
        tags=tag,
        created_after=created_after,
        created_before=created_before,
        limit=None if every else limit,
    )
    await session.output.items(found, TASKS, empty="No task matches.")


@service_command(commands)
async def watch(
    session: Session,
    task_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The task, to its end; without one all tasks, until Ctrl-C.")
    ] = None,
    status: Annotated[list[Status], typer.Option("--status", "-s", help="Changes to any of these.")] = [],
    type_: Type = None,
    queue: Queue = None,
    tag: Tags = [],
    last_event_id: Annotated[str, typer.Option(metavar="ID", help="Go on after this event.", show_default=False)] = "",
) -> int:
    """Follow what happens to a task, or to all that match; 1 when the task failed or was cancelled."""
    if task_id is None:
        events = session.client.events(status=status, type=type_, queue=queue, tags=tag, last_event_id=last_event_id)
        return await watching.show_all(session, events)
    if status or type_ or queue or tag:
        raise CommandFailed("--status, --type, --queue and --tag are for all tasks, not for one", ExitCode.BAD_USAGE)
    return await watching.show_to_its_end(session, session.client.follow(task_id, last_event_id=last_event_id))


@service_command(commands)
async def show(session: Session, task_id: TaskId) -> None:
    """Show all of a task."""
    from app.commands.task_view import show_task  # noqa: PLC0415 - as above

    show_task(session.output, await session.client.get(task_id))


@service_command(commands)
async def retry(session: Session, task_ids: TaskIds) -> int:
    """Give failed or cancelled tasks another round of attempts."""
    return await each_task.change(session, task_ids, session.client.retry, "is pending again")


@service_command(commands)
async def cancel(session: Session, task_ids: TaskIds) -> int:
    """Cancel tasks: at once those that wait, and those that run as soon as they have stopped."""
    return await each_task.change(session, task_ids, session.client.cancel, "")


@service_command(commands)
async def delete(session: Session, task_ids: TaskIds) -> int:
    """Delete tasks that have ended."""
    return await each_task.change(session, task_ids, session.client.delete, "is deleted")
