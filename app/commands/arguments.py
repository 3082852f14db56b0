"""Reads what people type: durations, moments, payloads, ids."""

import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from app.commands.session import CommandFailed, ExitCode

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d|)", re.ASCII)


def read_duration(text: str) -> timedelta:
    """A number of seconds, or one with s, m, h or d behind it.

    Raises:
        typer.BadParameter: it is something else.
    """
    found = _DURATION.fullmatch(text.strip())
    try:
        if found:
            return timedelta(seconds=float(found[1]) * _UNITS[found[2]])
    except OverflowError:
        pass
    raise typer.BadParameter(f"{text!r} is no duration, such as 90, 1.5m, 2h or 1d")


def read_moment(text: str) -> datetime:
    """An RFC 3339 moment, or a duration, which says how long ago; without an offset it is this machine's time.

    Raises:
        typer.BadParameter: it is something else.
    """
    if _DURATION.fullmatch(text.strip()):
        return datetime.now(UTC) - read_duration(text)
    try:
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{text!r} is no moment, such as 2030-01-31T08:00:00Z") from error


def read_object(what: str, text: str) -> dict[str, Any]:
    """A JSON object: the text itself, that of the file behind `@`, or for `-` that of standard input.

    Args:
        what: What people call it.
        text: As it was typed.

    Raises:
        CommandFailed: it is something else.
    """
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        value = json.loads(text)
    except (OSError, ValueError) as error:
        raise CommandFailed(f"the {what} cannot be read: {error}", ExitCode.BAD_USAGE) from error
    if not isinstance(value, dict):
        raise CommandFailed(f"the {what} is no JSON object", ExitCode.BAD_USAGE)
    return value


def read_ids(ids: Sequence[str]) -> list[str]:
    """The ids, each once; `-` stands for those on standard input, one a line.

    Raises:
        CommandFailed: there is none.
    """
    found = [each for given in ids for each in (sys.stdin.read().split() if given == "-" else [given])]
    if not found:
        raise CommandFailed("no id is given", ExitCode.BAD_USAGE)
    return list(dict.fromkeys(found))


TaskId = Annotated[str, typer.Argument(metavar="ID", help="The task.")]
TaskIds = Annotated[list[str], typer.Argument(metavar="ID...", help="The tasks; - reads their ids from the input.")]
SomeTaskIds = Annotated[
    list[str], typer.Argument(metavar="ID...", help="The tasks, instead of a filter; - reads their ids from the input.")
]
