"""`arqive queues`: list, show, pause, resume, set."""

import re
from typing import TYPE_CHECKING, Annotated, cast

import typer

from app.commands.session import CommandFailed, ExitCode, Session, resource, service_command

if TYPE_CHECKING:
    from app.client import Queue, QueueChange

commands = resource("See queues, pause and limit them.")

NONE = "none"
_RATE = re.compile(r"(\d+(?:\.\d+)?)(?:/([smh]))?", re.ASCII)
_SECONDS = {None: 1, "s": 1, "m": 60, "h": 3_600}

Name = Annotated[str, typer.Argument(metavar="NAME", help="The queue.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="The queues.")]


def read_rate(text: str) -> float | None:
    """Tasks a second: a number, or one with /s, /m or /h behind it; None for `none`.

    Raises:
        typer.BadParameter: it is something else.
    """
    if text == NONE:
        return None
    found = _RATE.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no rate, such as 10, 100/m or none")
    return float(found[1]) / _SECONDS[found[2]]


def read_limit(text: str) -> int | None:
    """A number of tasks; None for `none`.

    Raises:
        typer.BadParameter: it is something else.
    """
    if text == NONE:
        return None
    if not (text.isascii() and text.isdigit()):
        raise typer.BadParameter(f"{text!r} is no number of tasks, nor none")
    return int(text[:18])


@service_command(commands, "list")
async def list_queues(session: Session) -> None:
    """List the queues."""
    from app.commands.service_view import QUEUES  # noqa: PLC0415 - not for the help and the completion

    await session.output.items(await session.client.queues.list(), QUEUES, empty="There is no queue yet.")


@service_command(commands)
async def show(session: Session, name: Name) -> None:
    """Show one queue."""
    await _show(session, await session.client.queues.get(name))


@service_command(commands)
async def pause(session: Session, names: Names) -> None:
    """Let nothing start in queues; what runs goes on, and tasks are accepted as ever."""
    for name in names:
        session.output.say(await session.client.queues.pause(name), f"Queue {name} is paused")


@service_command(commands)
async def resume(session: Session, names: Names) -> None:
    """End the pause of queues."""
    for name in names:
        session.output.say(await session.client.queues.resume(name), f"Queue {name} goes on")


@service_command(commands, "set")
async def set_queue(
    session: Session,
    name: Name,
    max_running: Annotated[
        str | None,
        typer.Option(metavar="N", help="The most tasks that run at the same time, over all workers; none removes it."),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="RATE", help="How many start, over all workers: 10 a second, 100/m, 5/h; none removes it."
        ),
    ] = None,
    burst: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="How many may start at once after a quiet time; with --rate.")
    ] = None,
) -> None:
    """Limit a queue. What is left out stays as it is."""
    change: dict[str, object] = {}
    if max_running is not None:
        change["max_running"] = read_limit(max_running)
    if rate is not None:
        per_second = read_rate(rate)
        change["rate"] = None if per_second is None else {"per_second": per_second, "burst": burst}
    elif burst is not None:
        raise CommandFailed("--burst needs --rate", ExitCode.BAD_USAGE)
    if not change:
        raise CommandFailed("give --max-running or --rate", ExitCode.BAD_USAGE)
    await _show(session, await session.client.queues.set(name, **cast("QueueChange", change)))


async def _show(session: Session, queue: "Queue") -> None:
    from app.commands.service_view import QUEUES  # noqa: PLC0415 - not for the help and the completion

    await session.output.items([queue], QUEUES, empty="")
