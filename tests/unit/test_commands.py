"""The commands that talk to a service, without one: options, output, completion, exit codes."""

import asyncio
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel
from yarl import URL

from app import cli, client
from app.client import Rate, Refusal, RequestFailed, Task
from app.commands.arguments import read_duration, read_moment
from app.commands.output import Column, Output
from app.commands.queues import read_rate
from app.commands.service_view import rate_text
from app.commands.session import ExitCode, exit_code_of
from app.commands.task_view import TASKS, exactly, length, show_task, since
from tests.http_answers import HttpAnswers
from tests.unit.test_client import ID, TASK, problem

ROOT = Path(cli.__file__).parents[1]
BASE = "http://arqive.test"

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def answers() -> Iterator[HttpAnswers]:
    answering = HttpAnswers()
    with answering:
        yield answering


def key_sent(answers: HttpAnswers) -> str | None:
    [call] = answers.requests[("GET", URL(f"{BASE}/tasks/{ID}"))]
    sent: str | None = call.kwargs["headers"].get("Authorization")
    return sent


@pytest.mark.parametrize(("how", "sent"), [("nothing", None), ("variable", "Bearer k1"), ("file", "Bearer k2")])
def test_where_the_key_comes_from(
    answers: HttpAnswers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str, sent: str | None
) -> None:
    answers.get(f"{BASE}/tasks/{ID}", payload=TASK)
    monkeypatch.setenv("ARQIVE_URL", BASE)
    if how == "variable":
        monkeypatch.setenv("ARQIVE_API_KEY", "k1")
    if how == "file":
        (tmp_path / "key").write_text("k2\n")
        monkeypatch.setenv("ARQIVE_API_KEY_FILE", str(tmp_path / "key"))
    assert cli.main(["tasks", "show", ID]) == 0
    assert key_sent(answers) == sent


@pytest.mark.parametrize(("status", "code"), [(401, 6), (403, 6), (404, 3), (409, 5), (422, 2), (429, 4), (500, 1)])
def test_each_refusal_has_its_exit_code(answers: HttpAnswers, capsys: Capture, status: int, code: int) -> None:
    answers.get(f"{BASE}/tasks/{ID}", **problem(status, "some_code"))
    assert cli.main(["tasks", "show", ID, "--url", BASE, "--retry-for", "0"]) == code
    assert capsys.readouterr().err == "arqive: What is wrong.\n"


def test_every_error_of_the_client_has_an_exit_code_of_its_kind() -> None:
    kinds = [kind for name in client.__all__ if isinstance(kind := getattr(client, name), type)]
    general = {RequestFailed, client.NotEnded}
    errors = [kind for kind in kinds if issubclass(kind, RequestFailed) and kind not in general]
    assert len(errors) >= 9
    assert all(exit_code_of(kind(Refusal())) is not ExitCode.FAILED for kind in errors)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5", 1.5), ("5s", 5), ("1.5m", 90), ("2h", 7_200), ("1d", 86_400), ("0", 0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert read_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "-1", "1w", "h", "1 h", "inf", "1e3", "9" * 30, "٣"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no duration"):
        read_duration(text)


def test_moments() -> None:
    assert read_moment("2030-01-31T08:00:00+02:00") == datetime(2030, 1, 31, 6, tzinfo=UTC)
    assert read_moment("2030-01-31 08:00") == datetime(2030, 1, 31, 8).astimezone(UTC)
    two_hours_ago = read_moment("2h")
    assert timedelta(hours=2) <= datetime.now(UTC) - two_hours_ago < timedelta(hours=2, minutes=1)
    for text in ("tomorrow", "", "2030-13-01", "0001-01-01T00:00:00+14:00"):
        with pytest.raises(typer.BadParameter, match="no moment"):
            read_moment(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.0123, "0.012s"), (1, "1s"), (59.9, "59s"), (60, "1m"), (7_199, "1h"), (86_400 * 40, "40d")],
)
def test_lengths(seconds: float, text: str) -> None:
    assert length(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(90, "90s"), (60, "1m"), (5_400, "90m"), (129_600, "36h"), (172_800, "2d"), (0.25, "0.25s")]
)
def test_exact_lengths(seconds: float, text: str) -> None:
    assert exactly(seconds) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(10, "10/s"), (100 / 60, "100/m"), (0.5, "30/m"), (5 / 3_600, "5/h"), (1.25, "75/m"), (0.0001, "0.0001/s")],
)
def test_rates(per_second: float, text: str) -> None:
    assert rate_text(Rate(per_second, 3)) == f"{text}, burst 3"
    assert read_rate(text) == pytest.approx(per_second)


def test_how_long_ago() -> None:
    now = datetime.now(UTC)
    assert since(now - timedelta(minutes=5, seconds=1)) == "5m ago"
    assert since(now + timedelta(minutes=5, seconds=1)) == "in 5m"
    assert since(None) is None


class Row(BaseModel):
    name: str
    said: str


def test_only_the_column_that_may_be_cut_is_cut(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.commands.output.UNBOUND", 30)
    columns: list[Column[Row]] = [
        Column("NAME", lambda row: row.name),
        Column("SAID", lambda row: row.said, shrinks=True),
    ]
    rows = [Row(name="a-long-name", said="x" * 40), Row(name="b", said="[bold]short")]
    asyncio.run(Output(as_json=False).items(rows, columns, empty=""))
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["NAME         SAID", f"a-long-name  {'x' * 16}…", "b            [bold]short"]


def test_a_task_in_full_has_its_log_and_attempts(capsys: Capture) -> None:
    attempt = {
        "round": 1, "attempt": 1, "worker": "w1", "started_at": TASK["created_at"], "finished_at": TASK["created_at"],
        "outcome": "timed_out", "error": {"code": "timed_out", "message": "60 s"},
    }  # fmt: skip
    now = datetime.now(UTC).isoformat()
    more = {
        "status": "running", "history": [attempt], "log": [{"at": now, "attempt": 2, "message": "half-way"}],
        "progress": {"value": 0.5, "message": "of it", "at": now}, "cancel_requested_at": now,
        "lease": {"worker": "w2", "until": now},
    }  # fmt: skip
    task = Task.model_validate({**TASK, **more})
    show_task(Output(as_json=False), task)
    out = capsys.readouterr().out
    for text in ("running, asked to stop", "50% of it", "w2", "timed_out: 60 s", "half-way"):
        assert text in out
    asyncio.run(Output(as_json=False).items([task], TASKS, empty=""))
    assert "50% of it" in capsys.readouterr().out


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What a command writes to a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "app", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=ROOT,
        env={"TERM": "xterm-256color", "COLUMNS": "100", **environment},
    ) as process:
        os.close(theirs)
        written = bytearray()
        try:
            while read := os.read(ours, 4096):
                written += read
        except OSError:
            pass  # Linux says so when the other end is closed
        process.wait()
    os.close(ours)
    return written.decode()


def test_people_get_colours_on_a_terminal_unless_they_do_not_want_them() -> None:
    arguments = ("stats", "--url", "http://127.0.0.1:1", "--retry-for", "0")
    assert "\x1b[31marqive: " in on_a_terminal(*arguments)
    assert on_a_terminal(*arguments, NO_COLOR="1").startswith("arqive: http://127.0.0.1:1 does not answer")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("arqive ta", {"tasks"}),
        ("arqive tasks s", {"submit", "show"}),
        ("arqive tasks list --status ", {"pending", "running", "retrying", "completed", "failed", "cancelled"}),
        ("arqive w", {"web", "worker"}),
    ],
)
def test_a_shell_completes_without_loading_server_or_client(words: str, offered: set[str]) -> None:
    code = "import sys; from app.cli import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={
            "_ARQIVE_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        },
    )
    assert offered <= set(done.stdout.split())
    unwanted = {"aiohttp", "rich.console", "settings", "app.client", "app.web", "motor", "arq"}
    assert unwanted & set(done.stderr.split()) == set()


def all_commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    command = command or typer.main.get_command(cli.cli)
    context = typer.Context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        yield (*path, name)
        if hasattr(inner, "list_commands"):
            yield from all_commands(inner, (*path, name))


@pytest.mark.parametrize("path", [*all_commands()], ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...], capsys: Capture) -> None:
    assert cli.main([*path, "--help"]) == 0
    assert f"Usage: arqive {' '.join(path)}" in re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)


def test_a_group_without_a_command_prints_its_help(capsys: Capture) -> None:
    assert cli.main(["tasks"]) == 0
    assert "Usage: arqive tasks" in capsys.readouterr().out


def test_the_page_has_every_exit_code() -> None:
    source = (ROOT / "app/commands/session.py").read_text()
    meanings = dict(re.findall(r"^    [A-Z_]+ = (\d+)  # (.+)$", source, re.MULTILINE))
    assert set(meanings) == {str(code.value) for code in ExitCode}
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / "docs/command-line.md").read_text(), re.MULTILINE)
    assert dict(rows) == meanings
