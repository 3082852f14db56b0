"""What every command that talks to a service has: where it is, the key, the kind of output, and an exit code.

`service_command` turns an async function of a Session into a command of Typer with these options. What is heavy, the
client and what draws tables, is imported when the command runs: not for the help, and not for a shell's completion.
"""

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from app.client import Client, RequestFailed
    from app.commands.output import Output

DEFAULT_URL = "http://localhost:4000"

_PANEL = "The service"


class ExitCode(IntEnum):
    """What a command ends with. Scripts branch on these; they never change."""

    DONE = 0  # it is done, and well
    FAILED = 1  # a task failed or was cancelled, a submission was refused, or something that nobody foresaw
    BAD_USAGE = 2  # an argument is wrong, or the service cannot accept what was sent
    NOT_FOUND = 3  # there is no such task, queue or schedule
    UNAVAILABLE = 4  # the service does not answer, or cannot do it now
    CONFLICT = 5  # the task is in a state from which this does not start, or something else is in the way
    NO_ACCESS = 6  # the key is missing, not known, or lacks the scope
    TIME_IS_UP = 7  # the time that was given for waiting is over
    INTERRUPTED = 130  # Ctrl-C


class CommandFailed(Exception):  # noqa: N818 - a fact about the command
    """Ends a command with one line and an exit code."""

    def __init__(self, message: str, code: ExitCode) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Session:
    """What a command works with.

    Attributes:
        client: Open, to the service.
        output: Where what it has to say goes.
    """

    client: "Client"
    output: "Output"


Run = Callable[..., Awaitable[int | None]]

OPTIONS: dict[str, tuple[Any, Any]] = {
    "url": (
        Annotated[str, typer.Option(metavar="URL", envvar="ARQIVE_URL", help="Where it is.", rich_help_panel=_PANEL)],
        DEFAULT_URL,
    ),
    "api_key": (
        Annotated[
            str | None,
            typer.Option(
                metavar="KEY",
                envvar="ARQIVE_API_KEY",
                help="An API key; rather set the variable, others on this machine can read a command line.",
                rich_help_panel=_PANEL,
            ),
        ],
        None,
    ),
    "api_key_file": (
        Annotated[
            Path | None,
            typer.Option(
                metavar="FILE", envvar="ARQIVE_API_KEY_FILE", help="A file that has the key.", rich_help_panel=_PANEL
            ),
        ],
        None,
    ),
    "retry_for": (
        Annotated[
            float,
            typer.Option(
                metavar="SECONDS",
                min=0,
                help="How long to try again while it does not answer.",
                rich_help_panel=_PANEL,
            ),
        ],
        5.0,
    ),
    "as_json": (
        Annotated[
            bool | None,
            typer.Option(
                "--json/--table",
                help="One JSON value a line, or what people read; by default tables on a terminal and JSON elsewhere.",
                show_default=False,
                rich_help_panel=_PANEL,
            ),
        ],
        None,
    ),
}
"""The options of every such command: annotation and default, by name."""


def resource(about: str) -> typer.Typer:
    """A group of commands, which prints its help when none is named."""
    commands = typer.Typer(help=about, invoke_without_command=True)

    @commands.callback()
    def _help_without_command(ctx: typer.Context) -> None:
        if ctx.invoked_subcommand is None:
            typer.echo(ctx.get_help())

    return commands


def service_command(commands: typer.Typer, name: str | None = None) -> Callable[[Run], Run]:
    """Registers an async function as a command.

    Its first parameter is the Session, the others are the command's own. It returns the exit code, None for 0, and may
    raise CommandFailed and what the client raises.
    """

    def register(run: Run) -> Run:
        _, *own = inspect.signature(run).parameters.values()
        common = [
            inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
            for option, (annotation, default) in OPTIONS.items()
        ]
        parameters = [*(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own), *common]

        def command(**arguments: Any) -> int:
            given = {option: arguments.pop(option) for option in OPTIONS}
            return _conduct(run, arguments, **given)

        command.__name__, command.__doc__ = run.__name__, run.__doc__
        vars(command)["__signature__"] = inspect.Signature(parameters)  # what Typer reads the options from
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        commands.command(name)(command)
        return run

    return register


def _conduct(
    run: Run,
    arguments: dict[str, Any],
    *,
    url: str,
    api_key: str | None,
    api_key_file: Path | None,
    retry_for: float,
    as_json: bool | None,
) -> int:
    from app.client import RequestFailed  # noqa: PLC0415 - see above
    from app.commands.output import Output  # noqa: PLC0415 - see above

    output = Output(as_json=not sys.stdout.isatty() if as_json is None else as_json)

    async def conduct(client: "Client") -> int | None:
        async with client:
            return await run(Session(client, output), **arguments)

    try:
        key = api_key or _read_key(api_key_file)
        return asyncio.run(conduct(_client(url, key, retry_for))) or ExitCode.DONE
    except CommandFailed as error:
        output.complain(str(error))
        return error.code
    except RequestFailed as error:
        output.complain(sentence_of(error))
        return exit_code_of(error)


def _client(url: str, key: str | None, retry_for: float) -> "Client":
    from app.client import Client  # noqa: PLC0415 - see above

    try:
        return Client(url, key=key, retry_for=retry_for)
    except ValueError as error:
        raise CommandFailed(f"ARQIVE_URL: {error}", ExitCode.BAD_USAGE) from error


def _read_key(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise CommandFailed(f"ARQIVE_API_KEY_FILE: {error}", ExitCode.BAD_USAGE) from error


def exit_code_of(error: "RequestFailed") -> ExitCode:
    """What a command ends with that the service has refused."""
    from app import client  # noqa: PLC0415 - see above

    codes: tuple[tuple[type[RequestFailed], ExitCode], ...] = (
        (client.Invalid, ExitCode.BAD_USAGE),
        (client.NotFound, ExitCode.NOT_FOUND),
        (client.Unavailable, ExitCode.UNAVAILABLE),
        (client.Conflict, ExitCode.CONFLICT),
        (client.Unauthorized, ExitCode.NO_ACCESS),
        (client.Forbidden, ExitCode.NO_ACCESS),
        (client.NotEnded, ExitCode.TIME_IS_UP),
    )
    return next((code for kind, code in codes if isinstance(error, kind)), ExitCode.FAILED)


def sentence_of(error: "RequestFailed") -> str:
    """One line that says what is wrong, every bad field with it."""
    fields = "; ".join(f"{bad.field}: {bad.message}" for bad in error.refusal.fields)
    return fields or str(error)
