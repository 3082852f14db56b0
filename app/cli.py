"""The command line: `python -m app COMMAND`, or the console script `arqive`."""

import argparse
import importlib.metadata
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from app.api_key_command import make_key
from app.core.api_keys import Scope
from app.core.errors import TaskModuleError, TaskTypeError
from settings import Settings, SettingsError, load_settings

Command = Callable[[Settings, argparse.Namespace], int]

_BAD_CONFIGURATION = 2
_MAX_PROCESSES = 256


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name.

    Args:
        argv: Without the program's name; None takes the process's own.

    Returns:
        The exit code: 0 for a clean end, 1 for a failure, 2 for bad settings or task modules.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.new_key:  # without settings, which may name a file of keys that this is to fill
        return make_key(arguments.name, arguments.scope, rate=arguments.rate)
    command: Command | None = arguments.run
    if command is None:
        parser.print_help()
        return 0
    if str(Path.cwd()) not in sys.path:
        # As `python -m` does: TASK_MODULES names modules from where the service is started.
        sys.path.insert(0, str(Path.cwd()))
    try:
        return command(load_settings(), arguments)
    except (SettingsError, TaskModuleError, TaskTypeError) as error:
        print(f"arqive: {error}", file=sys.stderr)
        return _BAD_CONFIGURATION


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="arqive",
        description="A durable task queue that runs as a service.",
        epilog="Settings are environment variables: MONGO_URL, REDIS_URL, PORT and others; see docs/settings.md.",
    )
    parser.add_argument("--version", action="version", version=f"arqive {_version()}")
    parser.set_defaults(run=None, new_key=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, run, text in (
        ("web", _web, "serve the REST API"),
        ("worker", _worker, "run tasks"),
        ("dev", _dev, "web and worker in one, with local servers where MONGO_URL and REDIS_URL name none"),
        ("check", _check, "exit with 0 when the web or the worker on this machine is ready"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        if name in {"web", "worker"}:
            command.add_argument(
                "--processes", type=_process_count, default=1, metavar="N", help="run N processes, for as many cores"
            )
            command.add_argument("--share-port", action="store_true", help=argparse.SUPPRESS)
    _add_keys(commands)
    return parser


def _add_keys(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "make API keys"
    keys = commands.add_parser("keys", help=text, description=text)
    new = keys.add_subparsers(title="commands", metavar="COMMAND", required=True).add_parser(
        "new", help="make a key and print it with its entry for API_KEYS"
    )
    new.add_argument("name", help="who will have it")
    new.add_argument("--scope", choices=[scope.value for scope in Scope], required=True, help="what it allows")
    new.add_argument("--rate", type=float, metavar="N", help="requests per second on each web process")
    new.set_defaults(new_key=True)


def _version() -> str:
    try:
        return importlib.metadata.version("arqive")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


# The rooms are imported by the command that enters them: `check` runs every few seconds in a container, and needs none.


def _web(settings: Settings, arguments: argparse.Namespace) -> int:
    if arguments.processes > 1:
        return _fleet("web", arguments.processes, settings)
    from app import web  # noqa: PLC0415 - see above

    return web.run(settings, share_port=arguments.share_port)


def _worker(settings: Settings, arguments: argparse.Namespace) -> int:
    if arguments.processes > 1:
        return _fleet("worker", arguments.processes, settings)
    from app import worker  # noqa: PLC0415 - see above

    return worker.run(settings, share_port=arguments.share_port)


def _fleet(role: str, count: int, settings: Settings) -> int:
    from app.embedded import fleet  # noqa: PLC0415 - see above

    if role == "web" and settings.port == 0:
        print("arqive: PORT: 0 takes a free port, which several processes cannot share", file=sys.stderr)
        return _BAD_CONFIGURATION
    return fleet.run(role, count, settings)


def _process_count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= _MAX_PROCESSES:
        raise argparse.ArgumentTypeError(f"must be 1 to {_MAX_PROCESSES}")
    return count


def _dev(settings: Settings, _arguments: argparse.Namespace) -> int:
    from app.embedded import dev  # noqa: PLC0415 - see above
    from app.embedded.servers import EmbeddedError  # noqa: PLC0415 - see above

    try:
        return dev.run(settings, partial(print, flush=True))
    except EmbeddedError as error:
        print(f"arqive: {error}", file=sys.stderr)
        return 1


def _check(settings: Settings, _arguments: argparse.Namespace) -> int:
    from app.embedded.probe import ask_readiness, local_address  # noqa: PLC0415 - see above

    address = local_address(settings.host)
    silent = []
    for port in filter(None, (settings.port, settings.health_port)):
        answer = ask_readiness(address, port)
        if answer.listening:
            print(answer.detail)
            return 0 if answer.ready else 1
        silent.append(answer.detail)
    print("; ".join(silent) or "PORT and HEALTH_PORT are 0: there is nothing to ask")
    return 1
