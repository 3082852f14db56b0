"""The commands about what is not one task: queues, schedules, workers, and changes to all that match."""

import io
import sys
from pathlib import Path

import pytest
import typer

from app.commands.output import Output
from tests.api.conftest import Terminal


def test_queues_are_limited_paused_and_listed(terminal: Terminal) -> None:
    [queue] = terminal.json("queues", "set", "mail", "--max-running", "5", "--rate", "120/m", "--burst", "9")
    assert (queue["max_running"], queue["rate"]) == (5, {"per_second": 2.0, "burst": 9})
    assert (
        terminal.run("queues", "pause", "mail", "default", "--table")
        == "Queue mail is paused\nQueue default is paused\n"
    )
    listed = {queue["name"]: queue["paused"] for queue in terminal.json("queues", "list")}
    assert listed == {"mail": True, "default": True}
    for_people = terminal.run("queues", "show", "mail", "--table")
    assert "2/s, burst 9" in for_people
    assert "paused" in for_people
    assert terminal.run("queues", "resume", "mail", "--table") == "Queue mail goes on\n"
    [free] = terminal.json("queues", "set", "mail", "--max-running", "none", "--rate", "none")
    assert (free["max_running"], free["rate"], free["paused"]) == (None, None, False)
    terminal.run("queues", "show", "nope", code=3)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "give --max-running or --rate"),
        (("--burst", "3"), "--burst needs --rate"),
        (("--rate", "fast"), "Invalid value: 'fast' is no rate"),
        (("--max-running", "-1"), "Invalid value: '-1' is no number of tasks"),
        (("--max-running", "0"), "max_running: "),
    ],
)
def test_limits_that_are_none(terminal: Terminal, arguments: tuple[str, ...], complaint: str) -> None:
    terminal.run("queues", "set", "mail", *arguments, code=2)
    assert terminal.err.startswith(f"arqive: {complaint}")
    assert terminal.err.count("\n") == 1


def test_schedules_are_set_run_and_deleted(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cron = ("--cron", "0 9 * * MON-FRI", "--time-zone", "Europe/Berlin")
    told = terminal.run("schedules", "set", "morning", "echo", *cron, "-p", '{"n": 1}', "--tag", "a", "--table")
    assert told.startswith("Schedule morning: next ")
    file = tmp_path / "beat.json"
    file.write_text('{"interval": 90, "catch_up": "skip", "paused": true, "task": {"type": "echo"}}')
    [beat] = terminal.json("schedules", "set", "beat", "--file", str(file))
    assert (beat["interval"], beat["catch_up"], beat["paused"]) == (90, "skip", True)
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"cron": "@daily", "task": {"type": "echo"}}'))
    assert terminal.json("schedules", "set", "daily", "--file", "-")[0]["cron"] == "@daily"
    for_people = terminal.run("schedules", "list", "--table")
    assert "every 90s" in for_people
    assert "0 9 * * MON-FRI Europe/Berlin" in for_people
    shown = terminal.run("schedules", "show", "morning", "--table")
    assert "one is made up for" in shown
    assert '"n": 1' in shown
    [task] = terminal.json("schedules", "run", "morning")
    assert terminal.json("tasks", "wait", task["id"])[0]["result"] == {"n": 1}
    assert [each["id"] for each in terminal.json("tasks", "list", "--schedule", "morning")] == [task["id"]]
    assert terminal.run("schedules", "pause", "morning", "--table") == "Schedule morning is paused\n"
    assert "next" in terminal.run("schedules", "resume", "morning", "--table")
    assert terminal.run("schedules", "delete", "morning", "beat", "daily", "--table").count("is deleted") == 3
    assert terminal.run("schedules", "list") == ""
    terminal.run("schedules", "show", "morning", code=3)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--cron", "@daily"), "give the TYPE of the task that it submits, or --file"),
        (("echo", "--file", "x"), "--file has all of the schedule: give nothing else"),
        (("echo", "--cron", "x"), "cron: "),
        (("--file", "/no/such/file"), "the schedule cannot be read: "),
        (("echo", "--interval", "soon"), "Invalid value for '--interval'"),
    ],
)
def test_schedules_that_are_none(terminal: Terminal, arguments: tuple[str, ...], complaint: str) -> None:
    terminal.run("schedules", "set", "x", *arguments, code=2)
    assert terminal.err.startswith(f"arqive: {complaint}")
    assert terminal.err.count("\n") == 1


def test_workers_are_listed(terminal: Terminal) -> None:
    [worker] = terminal.json("workers")
    assert worker["queues"] == ["default"]
    assert worker["id"] in terminal.run("workers", "--table")


def test_all_that_match_are_cancelled_and_retried(terminal: Terminal) -> None:
    terminal.run("queues", "pause", "default")  # what is retried is due at once
    for _ in range(3):
        terminal.run("tasks", "submit", "echo", "--delay", "60", "--tag", "x")
    assert terminal.run("tasks", "cancel", "--tag", "x", "--dry-run", "--table") == "3 tasks match\n"
    assert terminal.json("tasks", "cancel", "--tag", "x") == [{"matched": 3, "changed": 3, "requested": 0}]
    assert terminal.run("tasks", "retry", "--tag", "x", "--table") == "0 tasks are pending again\n"
    assert terminal.json("tasks", "retry", "--status", "cancelled")[0]["changed"] == 3
    assert terminal.run("tasks", "cancel", "--all", "--table") == "3 tasks are cancelled\n"


def test_somebody_at_a_terminal_is_asked_first(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.run("tasks", "submit", "echo", "--delay", "60")
    asked: list[str] = []
    answers = [False, True]

    def confirm(question: str) -> bool:
        asked.append(question)
        return answers.pop(0)

    monkeypatch.setattr(typer, "confirm", confirm)
    monkeypatch.setattr(Output, "is_conversation", True)
    terminal.run("tasks", "cancel", "--all", "--table", code=1)
    assert terminal.err == "arqive: nothing is changed\n"
    assert terminal.run("tasks", "cancel", "--all", "--table") == "1 tasks are cancelled\n"
    assert asked == ["Cancel 1 tasks?"] * 2
    assert "0 tasks" in terminal.run("tasks", "cancel", "--all", "--yes", "--table")


@pytest.mark.parametrize(
    "arguments", [(), ("--all", "--tag", "x"), ("--all", "0" * 24), ("0" * 24, "--queue", "x"), ("0" * 24, "--dry-run")]
)
def test_it_has_to_be_clear_which(terminal: Terminal, arguments: tuple[str, ...]) -> None:
    for command in ("retry", "cancel"):
        terminal.run("tasks", command, *arguments, code=2)
        assert terminal.err.count("\n") == 1
