"""`arqive tasks`: submit, list, show, wait, retry, cancel, delete."""

from typing import Annotated

import typer

from app.commands import each_task, many_tasks, submit, watching
from app.commands.arguments import SomeTaskIds, TaskId, TaskIds
from app.commands.filters import After, Before, Error, Queue, Schedule, Statuses, Tags, Type, task_filter
from app.commands.many_tasks import Scope
from app.commands.session import CommandFailed, ExitCode, Session, resource, service_command

commands = resource("Submit tasks, see what became of them, and change that.")

service_command(commands, "submit")(submit.submit)
service_command(commands, "wait")(each_task.wait)

All = Annotated[bool, typer.Option("--all", help="Instead of a filter: all there are.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count what matches, change nothing.")]
Sure = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask on a terminal.")]


@service_command(commands, "list")
async def list_tasks(
    session: Session,
    status: Statuses = [],
    type_: Type = None,
    queue: Queue = None,
    tag: Tags = [],
    schedule: Schedule = None,
    error: Error = None,
    created_after: After = None,
    created_before: Before = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="The most tasks.")] = 50,
    every: Annotated[bool, typer.Option("--all", help="All there are, whatever the limit.")] = False,
) -> None:
    """List tasks, newest first."""
    from app.commands.task_view import TASKS  # noqa: PLC0415 - not for the help and the completion

    which = task_filter(
        status=status, type=type_, queue=queue, tags=tag, schedule=schedule, error_code=error,
        created_after=created_after, created_before=created_before,
    )  # fmt: skip
    found = session.client.list(limit=None if every else limit, **which)
    await session.output.items(found, TASKS, empty="No task matches.")


@service_command(commands)
async def watch(
    session: Session,
    task_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The task, to its end; without one all tasks, until Ctrl-C.")
    ] = None,
    status: Statuses = [],
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
async def retry(
    session: Session,
    task_ids: SomeTaskIds = [],
    status: Statuses = [],
    type_: Type = None,
    queue: Queue = None,
    tag: Tags = [],
    schedule: Schedule = None,
    error: Error = None,
    created_after: After = None,
    created_before: Before = None,
    every: All = False,
    dry_run: DryRun = False,
    sure: Sure = False,
) -> int:
    """Give failed tasks another round of attempts: those named, or all that match.

    Cancelled ones, too, where they are named or `--status cancelled` says so.
    """
    which = task_filter(
        status=status, type=type_, queue=queue, tags=tag, schedule=schedule, error_code=error,
        created_after=created_after, created_before=created_before,
    )  # fmt: skip
    return await many_tasks.retry(session, Scope(task_ids, which, every, dry_run, sure))


@service_command(commands)
async def cancel(
    session: Session,
    task_ids: SomeTaskIds = [],
    status: Statuses = [],
    type_: Type = None,
    queue: Queue = None,
    tag: Tags = [],
    schedule: Schedule = None,
    error: Error = None,
    created_after: After = None,
    created_before: Before = None,
    every: All = False,
    dry_run: DryRun = False,
    sure: Sure = False,
) -> int:
    """Cancel tasks: those named, or all that match; those that run as soon as they have stopped."""
    which = task_filter(
        status=status, type=type_, queue=queue, tags=tag, schedule=schedule, error_code=error,
        created_after=created_after, created_before=created_before,
    )  # fmt: skip
    return await many_tasks.cancel(session, Scope(task_ids, which, every, dry_run, sure))


@service_command(commands)
async def delete(session: Session, task_ids: TaskIds) -> int:
    """Delete tasks that have ended."""
    return await each_task.change(session, task_ids, session.client.delete, "is deleted")
