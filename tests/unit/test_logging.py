"""What a log line says of itself, and what no line may say."""

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from app.services.batch import Batcher
from app.telemetry.logging import (
    AddSubject,
    ConsoleFormatter,
    JsonFormatter,
    configure_logging,
    name_attempt,
    name_request,
    without_credentials,
)

SHOP = logging.getLogger("shop.mail")


class Lines(logging.StreamHandler[io.StringIO]):
    """What a process would write."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__(io.StringIO())
        self.addFilter(AddSubject())
        self.setFormatter(formatter)

    @property
    def json(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines(JsonFormatter())
    SHOP.addHandler(handler)
    SHOP.setLevel("INFO")
    yield handler
    SHOP.removeHandler(handler)


def test_a_line_is_one_object_with_what_came_with_it(lines: Lines) -> None:
    SHOP.info("sent %d mails\nto all", 3, extra={"event": "sent", "count": 3})
    [line] = lines.json
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "INFO", "logger": "shop.mail", "message": "sent 3 mails\nto all", "event": "sent", "count": 3
    }  # fmt: skip


def test_an_exception_stays_in_the_line(lines: Lines) -> None:
    SHOP.error("failed", exc_info=_raised("boom"))
    [line] = lines.json
    assert line["traceback"].startswith("Traceback")
    assert line["traceback"].endswith("ValueError: boom")


async def test_lines_of_an_attempt_name_it_wherever_they_are_logged(lines: Lines) -> None:
    async def attempt(number: int) -> None:
        name_attempt(f"task-{number}", "mail", number)
        await asyncio.sleep(0)
        SHOP.info("in a coroutine")
        await asyncio.create_task(_log("in a task of its own"))
        await asyncio.to_thread(SHOP.info, "in a thread")

    await asyncio.gather(attempt(1), attempt(2))
    SHOP.info("outside")
    seen = {(line["message"], line.get("task_id"), line.get("attempt"), line.get("type")) for line in lines.json}
    messages = ("in a coroutine", "in a task of its own", "in a thread")
    assert seen == {("outside", None, None, None)} | {
        (message, f"task-{number}", number, "mail") for message in messages for number in (1, 2)
    }


def _raised(text: str) -> ValueError:
    def fail() -> None:
        raise ValueError(text)

    try:
        fail()
    except ValueError as error:
        return error
    raise AssertionError


async def _log(message: str) -> None:
    SHOP.info(message)


def test_what_a_line_says_itself_stays(lines: Lines) -> None:
    def log() -> None:
        name_request("of the request")
        SHOP.info("a line", extra={"request_id": "another"})

    copy_context().run(log)
    assert lines.json[0]["request_id"] == "another"


async def test_a_batch_is_not_about_the_first_who_came(lines: Lines) -> None:
    async def write(_items: object) -> None:
        SHOP.info("written")

    async def request(number: int) -> None:
        name_request(f"r{number}")
        await batcher.add(number)
        SHOP.info("answered")

    batcher: Batcher[int] = Batcher(write, limit=10)
    await asyncio.gather(request(1), request(2))
    named = [(line["message"], line.get("request_id")) for line in lines.json]
    assert ("written", None) in named
    assert {("answered", "r1"), ("answered", "r2")} <= set(named)
    assert {request_id for message, request_id in named if message == "written"} == {None}


def test_lines_for_people_say_what_they_are_about() -> None:
    handler = Lines(ConsoleFormatter())
    record = logging.makeLogRecord({"name": "app.x", "levelname": "INFO", "msg": "hello %s", "args": ("you",)})

    def log() -> None:
        name_attempt("6b05", "mail", 2)
        handler.handle(record)

    copy_context().run(log)
    assert handler.stream.getvalue().endswith(" INFO    app.x: hello you (task_id 6b05, attempt 2)\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mongodb://user:hunter2@db.example:27017/x", "mongodb://***@db.example:27017/x"),
        ("cannot reach redis://:hunter2@10.0.0.1, trying", "cannot reach redis://***@10.0.0.1, trying"),
        ("two http://a:hunter2@b and http://hunter2@c", "two http://***@b and http://***@c"),
        ("unescaped redis://:hun/ter2@host", "unescaped redis://***@host"),
        ("somebody@example.com at https://example.com", "somebody@example.com at https://example.com"),
    ],
)
def test_no_line_shows_the_password_of_a_url(text: str, shown: str, lines: Lines) -> None:
    assert without_credentials(text) == shown
    SHOP.error(text, exc_info=_raised(text), extra={"url": text})
    [line] = lines.json
    assert (line["message"], line["url"]) == (shown, shown)
    assert line["traceback"].endswith(f"ValueError: {shown}")


@pytest.fixture
def _loggers() -> Iterator[None]:
    root, names = logging.getLogger(), ("app", "app.access", "shop")
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    for handler in [*root.handlers]:
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    for name in names:
        logging.getLogger(name).setLevel(levels[name])


@pytest.mark.usefixtures("_loggers")
def test_user_code_logs_as_arqive_does_and_libraries_only_warn(capsys: pytest.CaptureFixture[str]) -> None:
    SHOP.setLevel(logging.NOTSET)
    configure_logging("INFO", "json", modules=["shop.tasks"])
    logging.getLogger("shop.mail").info("from the user")
    logging.getLogger("app.web").info("from arqive")
    logging.getLogger("some.library").info("unheard")
    logging.getLogger("some.library").warning("heard")
    logging.getLogger("app.access").info("unheard as well")
    configure_logging("WARNING", "json", access_log=True)
    logging.getLogger("app.access").info("a request")
    logging.getLogger("app.web").info("unheard too")
    said = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert said == ["from the user", "from arqive", "heard", "a request"]


def test_the_documentation_has_every_event() -> None:
    root = Path(__file__).parents[2]
    told = {
        event
        for line in (root / "docs/observability.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `") and line.count("|") == 5
        for event in re.findall(r"`([a-z_]+)`", line.split("|")[1])
    }
    logged = {
        event
        for path in (root / "app").rglob("*.py")
        for event in re.findall(r'"event": "(\w+)"', path.read_text(encoding="utf-8"))
    }
    assert told == logged
