"""The command line: `python -m app COMMAND`, or the console script `arqive`.

What a command needs is imported by that command: `check` runs every few seconds in a container, and the completion of a
shell runs at every press of a key.
"""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from app.core.errors import BadServerUrl, TaskModuleError, TaskTypeError

if TYPE_CHECKING:
    from settings import Settings

FAILED = 1
BAD_USAGE = 2

_MAX_PROCESSES = 256
_SERVE, _TALK = "Run a service", "Talk to a service"

RESOURCES: Mapping[str, str] = MappingProxyType(
    {
        "tasks": "tasks:commands",
        "queues": "queues:commands",
        "schedules": "schedules:commands",
        "workers": "service:workers",
        "types": "service:types",
        "stats": "service:stats",
        "keys": "keys:commands",
    }
)
"""The commands of `app.commands`: module and name of each."""


class _Commands(TyperGroup):
    """Also has those of `app.commands`, each loaded when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Typer's signature
        return [*self.commands, *(name for name in RESOURCES if name not in self.commands)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in RESOURCES and cmd_name not in self.commands:
            module, _, name = RESOURCES[cmd_name].partition(":")
            commands: typer.Typer = getattr(importlib.import_module(f"app.commands.{module}"), name)
            command = cast("TyperGroup", typer.main.get_command(commands))
            command.name, command.rich_help_panel = cmd_name, _SERVE if cmd_name == "keys" else _TALK
            self.add_command(command)
        return super().get_command(ctx, cmd_name)


cli = typer.Typer(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog="Settings are environment variables: MONGO_URL, REDIS_URL, PORT and others; see docs/settings.md.",
)

Processes = Annotated[
    int, typer.Option(metavar="N", min=1, max=_MAX_PROCESSES, help="Run N processes, for as many cores.")
]
SeatText = Annotated[str, typer.Option("--seat", metavar="DIRECTORY:NUMBER:COUNT", hidden=True)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name.

    Args:
        argv: Without the program's name; None takes the process's own.

    Returns:
        The exit code: 0 for a clean end, 1 for a failure, 2 for bad arguments, settings or task modules; the commands
        that talk to a service have more, see docs/command-line.md.
    """
    command = typer.main.get_command(cli)
    try:
        code: int | None = command.main(args=argv, prog_name="arqive", standalone_mode=False)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        said = " ".join(error.format_message().replace("Value error, ", "").split())
        return _refuse(f"{said}{hint}", error.exit_code)
    except typer.Abort:
        return _refuse("stopped: the input has ended", FAILED)
    return code or 0


def _refuse(message: str, code: int) -> int:
    print(f"arqive: {message}", file=sys.stderr)
    return code


@cli.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """A durable task queue that runs as a service."""
    if version:
        print(f"arqive {_version()}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def _version() -> str:
    from importlib import metadata  # noqa: PLC0415 - see above

    try:
        return metadata.version("arqive")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _with_settings(run: "Callable[[Settings], int]") -> int:
    from settings import SettingsError, load_settings  # noqa: PLC0415 - see above

    if str(Path.cwd()) not in sys.path:
        # As `python -m` does: TASK_MODULES names modules from where the service is started.
        sys.path.insert(0, str(Path.cwd()))
    try:
        return run(load_settings())
    except (SettingsError, BadServerUrl, TaskModuleError, TaskTypeError) as error:
        return _refuse(str(error), BAD_USAGE)


@cli.command(rich_help_panel=_SERVE)
def web(processes: Processes = 1, seat: SeatText = "") -> int:
    """Serve the REST API."""
    return _with_settings(partial(_run_role, "web", processes, seat))


@cli.command(rich_help_panel=_SERVE)
def worker(processes: Processes = 1, seat: SeatText = "") -> int:
    """Run tasks."""
    return _with_settings(partial(_run_role, "worker", processes, seat))


def _check_servers(settings: "Settings") -> None:
    from app.queue.redis_url import check_redis_url  # noqa: PLC0415 - see above
    from app.store.mongo_url import check_mongo_url  # noqa: PLC0415 - see above

    check_mongo_url(settings.mongo_url.get_secret_value())
    check_redis_url(settings.redis_url.get_secret_value())


def _run_role(role: str, processes: int, seat: str, settings: "Settings") -> int:
    if not seat:  # else it was done before, and a name server that is away now is no reason to end all
        _check_servers(settings)
    if processes > 1:
        if role == "web" and settings.port == 0:
            return _refuse("PORT: 0 takes a free port, which several processes cannot share", BAD_USAGE)
        from app.embedded import fleet  # noqa: PLC0415 - see above

        return fleet.run(role, processes, settings)
    from app.telemetry.exposition import Seat  # noqa: PLC0415 - see above

    place = Seat.parse(seat) if seat else None
    if role == "web":
        from app import web as room  # noqa: PLC0415 - see above

        return room.run(settings, place)
    from app import worker as other_room  # noqa: PLC0415 - see above

    return other_room.run(settings, place)


@cli.command(rich_help_panel=_SERVE)
def dev() -> int:
    """Web and worker in one, with local servers where MONGO_URL and REDIS_URL name none."""
    return _with_settings(_run_dev)


def _run_dev(settings: "Settings") -> int:
    from app.embedded import dev  # noqa: PLC0415 - see above
    from app.embedded.servers import EmbeddedError  # noqa: PLC0415 - see above

    _check_servers(settings)
    try:
        return dev.run(settings, partial(print, flush=True))
    except EmbeddedError as error:
        return _refuse(str(error), FAILED)


@cli.command(rich_help_panel=_SERVE)
def check() -> int:
    """Exit with 0 when the web or the worker on this machine is ready."""
    return _with_settings(_run_check)


def _run_check(settings: "Settings") -> int:
    from app.embedded.probe import ask_readiness, local_address  # noqa: PLC0415 - see above

    address = local_address(settings.host)
    silent = []
    for port in filter(None, (settings.port, settings.health_port)):
        answer = ask_readiness(address, port)
        if answer.listening:
            print(answer.detail)
            return 0 if answer.ready else FAILED
        silent.append(answer.detail)
    print("; ".join(silent) or "PORT and HEALTH_PORT are 0: there is nothing to ask")
    return FAILED
