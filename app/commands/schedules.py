"""`arqive schedules`: list, show, set, pause, resume, run, delete."""

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from app.commands.arguments import read_duration, read_moment, read_object
from app.commands.session import CommandFailed, ExitCode, Session, resource, service_command
from app.core.slots import CatchUp

if TYPE_CHECKING:
    from app.client import Times

commands = resource("Submit tasks again and again, at times or in intervals.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="The schedules.")]

Type = Annotated[str | None, typer.Argument(metavar="TYPE", help="The type of the task that it submits.")]
File = Annotated[
    str | None,
    typer.Option(
        "--file", "-f", metavar="FILE", help="Instead of the other options: a JSON object as PUT /schedules takes it."
    ),
]
CronText = Annotated[
    str | None, typer.Option("--cron", metavar="CRON", help="When, such as '0 9 * * MON-FRI' or @daily.")
]
TimeZone = Annotated[
    str | None, typer.Option(metavar="ZONE", help="Whose clock --cron is about, such as Europe/Berlin; else UTC.")
]
Interval = Annotated[
    timedelta | None,
    typer.Option(parser=read_duration, metavar="DURATION", help="Instead of --cron: every so long, such as 90 or 6h."),
]
StartAt = Annotated[datetime | None, typer.Option(parser=read_moment, metavar="MOMENT", help="Not before.")]
EndAt = Annotated[datetime | None, typer.Option(parser=read_moment, metavar="MOMENT", help="Not after.")]
Missed = Annotated[CatchUp | None, typer.Option(help="What becomes of missed slots: one is made up for, or none.")]
Payload = Annotated[
    str | None, typer.Option("--payload", "-p", metavar="JSON", help="A JSON object, @FILE, or - for the input.")
]
Queue = Annotated[str | None, typer.Option(metavar="QUEUE", help="The line that its tasks wait in.")]
Priority = Annotated[int | None, typer.Option(min=0, max=9, help="Higher first.")]
MaxAttempts = Annotated[int | None, typer.Option(min=1, help="How often to try.")]
Timeout = Annotated[
    timedelta | None, typer.Option(parser=read_duration, metavar="DURATION", help="What one attempt may take.")
]
Tags = Annotated[list[str], typer.Option("--tag", metavar="TAG", help="A label; may be repeated.")]
UniqueKey = Annotated[
    str | None, typer.Option(metavar="KEY", help="No second one while a task with this key has not ended.")
]


@service_command(commands, "list")
async def list_schedules(session: Session) -> None:
    """List the schedules by name."""
    from app.commands.schedule_view import SCHEDULES  # noqa: PLC0415 - not for the help and the completion

    await session.output.items(session.client.schedules.list(), SCHEDULES, empty="There is no schedule yet.")


@service_command(commands)
async def show(session: Session, name: Name) -> None:
    """Show all of a schedule."""
    from app.commands.schedule_view import show_schedule  # noqa: PLC0415 - as above

    show_schedule(session.output, await session.client.schedules.get(name))


@service_command(commands, "set")
async def put(
    session: Session,
    name: Name,
    type_: Type = None,
    cron: CronText = None,
    time_zone: TimeZone = None,
    interval: Interval = None,
    start_at: StartAt = None,
    end_at: EndAt = None,
    catch_up: Missed = None,
    payload: Payload = None,
    queue: Queue = None,
    priority: Priority = None,
    max_attempts: MaxAttempts = None,
    timeout: Timeout = None,  # noqa: ASYNC109 - of the task
    tag: Tags = [],
    unique_key: UniqueKey = None,
    file: File = None,
) -> None:
    """Create a schedule, or replace it; where its times stay the same, nothing is counted anew."""
    times = _given(
        cron=cron, time_zone=time_zone, interval=interval, start_at=start_at, end_at=end_at, catch_up=catch_up
    )
    task = _given(
        type=type_, queue=queue, priority=priority, max_attempts=max_attempts, timeout=timeout, tags=tag or None,
        unique_key=unique_key,
    )  # fmt: skip
    if file is not None:
        if times or task or payload:
            raise CommandFailed("--file has all of the schedule: give nothing else", ExitCode.BAD_USAGE)
        spec = await asyncio.to_thread(read_object, "schedule", file if file == "-" else f"@{file}")
        times, task = {key: value for key, value in spec.items() if key != "task"}, spec.get("task", {})
    elif type_ is None:
        raise CommandFailed("give the TYPE of the task that it submits, or --file", ExitCode.BAD_USAGE)
    if payload is not None:
        task["payload"] = await asyncio.to_thread(read_object, "payload", payload)
    schedule = await session.client.schedules.put(name, task, **cast("Times", times))
    from app.commands.schedule_view import news_of  # noqa: PLC0415 - as above

    session.output.say(schedule, f"Schedule {name}: {news_of(schedule)}")


@service_command(commands)
async def pause(session: Session, names: Names) -> None:
    """Let schedules rest."""
    for name in names:
        session.output.say(await session.client.schedules.pause(name), f"Schedule {name} is paused")


@service_command(commands)
async def resume(session: Session, names: Names) -> None:
    """Let schedules go on."""
    from app.commands.schedule_view import news_of  # noqa: PLC0415 - as above

    for name in names:
        schedule = await session.client.schedules.resume(name)
        session.output.say(schedule, f"Schedule {name}: {news_of(schedule)}")


@service_command(commands)
async def run(session: Session, name: Name) -> None:
    """Submit the task of a schedule now, beside its slots."""
    task = await session.client.schedules.run(name)
    from app.commands.task_view import news_of_submission  # noqa: PLC0415 - as above

    session.output.say(task, news_of_submission(task))


@service_command(commands)
async def delete(session: Session, names: Names) -> None:
    """Delete schedules; the tasks that they submitted stay."""
    for name in names:
        await session.client.schedules.delete(name)
        session.output.say({"name": name, "deleted": True}, f"Schedule {name} is deleted")


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
