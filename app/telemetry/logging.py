"""Log lines: one event a line, as JSON for machines or as text for people.

A line is a sentence, with an `event` beside it where somebody may want to count or find such lines. Each says by itself
what it was logged for: the request, or the attempt at a task, also where a handler's own code logs.
"""

import json
import logging
import re
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["json", "console"]

ACCESS = "app.access"
"""The logger of one line a request."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "where"}

_subject: ContextVar[dict[str, object] | None] = ContextVar("subject", default=None)

_CREDENTIALS = re.compile(r"(?<=://)[^\s\"'\\]*@")
"""What stands before the host in a URL: a driver's error may show the one that it was given."""


def name_request(request_id: str) -> None:
    """Have the lines that this request logs say so, until the end of its task."""
    _subject.set({"request_id": request_id})


def name_attempt(task_id: str, type: str, attempt: int) -> None:  # noqa: A002
    """Have the lines that this attempt logs say so, until the end of the asyncio task or thread that makes it."""
    _subject.set({"task_id": task_id, "type": type, "attempt": attempt})


class AddSubject(logging.Filter):
    """Adds to a line what it was logged for; what the line says itself stays."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Every line passes."""
        subject = _subject.get()
        if subject is not None:
            for name, value in subject.items():
                if name not in vars(record):
                    setattr(record, name, value)
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, what came as `extra`, and a traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return without_credentials(json.dumps(line, default=str))


class ConsoleFormatter(logging.Formatter):
    """A line for people: the time, the level, the logger, the sentence, and what it was logged for."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s%(where)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, or more with a traceback."""
        subject = [f"{name} {value}" for name in _SHOWN if (value := vars(record).get(name)) is not None]
        record.where = f" ({', '.join(subject)})" if subject else ""
        return without_credentials(super().format(record))


_SHOWN = ("request_id", "task_id", "attempt")


def without_credentials(line: str) -> str:
    """The line with `***` for what stands before the host of a URL."""
    return _CREDENTIALS.sub("***@", line) if "@" in line else line


def configure_logging(
    level: str, log_format: LogFormat, *, modules: Iterable[str] = (), access_log: bool = False
) -> None:
    """Send everything of `level` and above to standard error; libraries only from WARNING on.

    Args:
        level: The least severe that is logged.
        log_format: JSON or lines for people.
        modules: Of the user's task types: their packages log as Arqive itself does.
        access_log: Whether a line is logged for each request.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(AddSubject())
    handler.setFormatter(JsonFormatter() if log_format == "json" else ConsoleFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for package in {"app", *(module.partition(".")[0] for module in modules)}:
        logging.getLogger(package).setLevel(level)
    logging.getLogger(ACCESS).setLevel(logging.INFO if access_log else logging.WARNING)
