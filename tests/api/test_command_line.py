"""The commands that talk to a service, against a real one with a worker, which runs in a thread of its own."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from app import cli
from tests.api.conftest import Terminal

NOBODY = "0" * 24


def test_a_task_is_submitted_waited_for_shown_and_deleted(terminal: Terminal) -> None:
    [task] = terminal.json("tasks", "submit", "echo", "--payload", '{"n": 1}', "--tag", "a", "--wait")
    assert (task["status"], task["result"], task["tags"]) == ("completed", {"n": 1}, ["a"])
    [shown] = terminal.json("tasks", "show", task["id"])
    assert {**shown, "accepted_as": "new"} == task
    for_people = terminal.run("tasks", "show", task["id"], "--table")
    assert "status    completed" in for_people
    assert "Attempts that have ended" in for_people
    assert terminal.run("tasks", "delete", task["id"], "--table") == f"Task {task['id']} is deleted\n"
    assert terminal.run("tasks", "show", task["id"], code=3) == ""
    assert terminal.err == f"arqive: There is no task with the id '{task['id']}'.\n"


def test_a_task_that_fails_is_exit_code_1(terminal: Terminal) -> None:
    out = terminal.run("tasks", "submit", "test.fail", "--wait", "--table", code=1)
    assert "failed, permanent: " in out
    [task] = terminal.json("tasks", "list", "--status", "failed")
    assert "permanent" in terminal.run("tasks", "list", "--table")
    [again] = terminal.json("tasks", "retry", task["id"])
    assert again["round"] == 2
    assert terminal.json("tasks", "wait", task["id"], code=1)[0]["status"] == "failed"


def test_a_task_is_cancelled_and_what_cannot_be_is_exit_code_5(terminal: Terminal) -> None:
    [task] = terminal.json("tasks", "submit", "echo", "--delay", "1h", "--priority", "3")
    assert terminal.json("tasks", "wait", task["id"], "--timeout", "0.05", code=7) == []
    assert "is pending after 0.05 s" in terminal.err
    assert terminal.run("tasks", "cancel", task["id"], "--table") == f"Task {task['id']} is cancelled\n"
    terminal.run("tasks", "cancel", task["id"], code=5)
    assert "Cannot cancel a task that is cancelled" in terminal.err


def test_several_have_one_exit_code(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [terminal.json("tasks", "submit", "echo", "--delay", "60")[0]["id"] for _ in range(2)]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*ids, ids[0]])))
    assert {task["id"] for task in terminal.json("tasks", "cancel", "-")} == set(ids)
    terminal.run("tasks", "retry", ids[0], NOBODY, code=3)
    terminal.run("tasks", "cancel", ids[1], NOBODY, code=1)  # one is 5, the other 3
    assert terminal.err.count("\n") == 2


def test_what_the_service_refuses_is_exit_code_2(terminal: Terminal) -> None:
    terminal.run("tasks", "submit", "sleep", "-p", '{"seconds": "long"}', code=2)
    assert terminal.err.startswith("arqive: payload.seconds: ")
    assert terminal.err.count("\n") == 1


def test_a_file_is_submitted_line_by_line(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "tasks.ndjson"
    file.write_text('{"type": "echo", "delay": 60}\n\n{"type": "nope"}\nnonsense\n[]\n{"type": "echo", "delay": 60}\n')
    out = terminal.json("tasks", "submit", "--file", str(file), code=1)
    assert [item.get("status") or (item["line"], item["code"]) for item in out] == [
        "pending", (3, "invalid"), (4, "bad_json"), (5, "bad_json"), "pending",
    ]  # fmt: skip
    assert out[1]["errors"][0]["field"] == "type"
    assert len(terminal.json("tasks", "list")) == 2
    assert terminal.run("tasks", "submit", "--file", str(file), "--table", code=1) == ""
    assert "arqive: line 4: is not JSON" in terminal.err
    assert terminal.err.endswith("2 submitted, 3 refused\n")


def test_what_a_submission_led_to(terminal: Terminal, tmp_path: Path) -> None:
    for arguments, how, said in (
        (["--idempotency-key", "a"], "new", "is submitted"),
        (["--idempotency-key", "a"], "replayed", "was submitted with this idempotency key before, and is pending"),
        (["--unique-key", "u"], "new", "is submitted"),
        (["--unique-key", "u"], "existing", "has this unique key and is pending; no other is submitted"),
    ):
        submitted = ["tasks", "submit", "echo", "--delay", "1h", *arguments]
        if how == "new":
            [task] = terminal.json(*submitted)
        else:
            assert terminal.run(*submitted, "--table") == f"Task {task['id']} {said}\n"
            [task] = terminal.json(*submitted)
        assert task["accepted_as"] == how
    [ended] = terminal.json("tasks", "submit", "echo", "--wait")
    assert (ended["status"], ended["accepted_as"]) == ("completed", "new")
    file = tmp_path / "tasks.jsonl"
    lines = ['"idempotency_key": "b"', '"idempotency_key": "b"', '"unique_key": "u"', '"delay": -1']
    file.write_text("\n".join(f'{{"type": "echo", {line}}}' for line in lines))
    out = terminal.json("tasks", "submit", "-f", str(file), code=1)
    assert [line.get("accepted_as") for line in out] == ["new", "replayed", "existing", None]
    terminal.run("tasks", "submit", "-f", str(file), "--table", code=1)
    assert terminal.err.endswith("0 submitted, 2 submitted before, 1 there with their unique key, 1 refused\n")


def test_the_input_is_submitted_in_chunks(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.commands.submit.LINES", 2)
    lines = [json.dumps({"type": "echo", "delay": 60, "payload": {"n": n}}) for n in range(5)]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    out = terminal.json("tasks", "submit", "--file", "-")
    assert [task["payload"]["n"] for task in out] == [0, 1, 2, 3, 4]
    assert len(terminal.json("tasks", "list", "--limit", "3")) == 3
    assert len(terminal.json("tasks", "list", "-n", "1", "--all", "--created-after", "1h", "--type", "echo")) == 5
    assert terminal.json("tasks", "list", "--created-before", "1h") == []


def test_a_task_is_watched_to_its_end(terminal: Terminal) -> None:
    [task] = terminal.json("tasks", "submit", "test.fail", "--delay", "0.2")
    events = terminal.json("tasks", "watch", task["id"], code=1)
    assert [(event["event"], event["data"]["status"]) for event in events][:: len(events) - 1] == [
        ("status", "pending"), ("status", "failed"),
    ]  # fmt: skip
    terminal.run("tasks", "watch", task["id"], "--last-event-id", events[-1]["id"])
    for_people = terminal.run("tasks", "watch", task["id"], "--table", code=1)
    assert "failed  test.fail  attempt 1/5  permanent: " in for_people
    terminal.run("tasks", "watch", NOBODY, code=3)
    terminal.run("tasks", "watch", NOBODY, "--queue", "mail", code=2)


def test_a_list_of_nothing_says_so_to_people_only(terminal: Terminal) -> None:
    assert terminal.run("tasks", "list", "--table") == ""
    assert terminal.err == "No task matches.\n"
    assert terminal.run("tasks", "list") == ""
    assert terminal.err == ""


def test_what_the_service_tells_about_itself(terminal: Terminal) -> None:
    assert {"echo", "http.request"} <= {kind["name"] for kind in terminal.json("types")}
    assert "Return the payload." in terminal.run("types", "--table")
    [stats] = terminal.json("stats")
    assert stats["workers"] == 1
    for_people = terminal.run("stats", "--table")
    assert "workers    1\n" in for_people.replace(" \n", "\n")
    assert "OLDEST" in for_people


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["submit"], "give the TYPE of the task, or --file"),
        (["submit", "echo", "--file", "x"], "--file takes all of each task from its line: give nothing else"),
        (["submit", "--file", "/no/such/file"], "--file: [Errno 2] No such file or directory: '/no/such/file'"),
        (["submit", "echo", "-p", "{"], "the payload cannot be read: "),
        (["submit", "echo", "-p", "[]"], "the payload is no JSON object"),
        (["submit", "echo", "-p", "@/no/such/file"], "the payload cannot be read: "),
        (["submit", "echo", "--delay", "soon"], "Invalid value for '--delay': 'soon' is no duration"),
        (["submit", "echo", "--run-at", "soon"], "Invalid value for '--run-at': 'soon' is no moment"),
        (["list", "--status", "lost"], "Invalid value for '--status' / '-s': 'lost' is not one of 'pending'"),
        (["show"], "Missing argument 'ID'."),
        (["wait", " ", "--url", "nowhere"], "ARQIVE_URL: the URL of a service starts with http"),
        (["show", NOBODY, "--api-key-file", "/no/such/file"], "ARQIVE_API_KEY_FILE: [Errno 2] No such file"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    monkeypatch.setenv("ARQIVE_URL", "http://127.0.0.1:1")
    assert cli.main(["tasks", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"arqive: {complaint}")
    assert err.count("\n") == 1


def test_a_service_that_is_not_there_is_exit_code_4(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["stats", "--url", "http://127.0.0.1:1", "--retry-for", "0"]) == 4
    assert capsys.readouterr() == ("", "arqive: http://127.0.0.1:1 does not answer: Connection refused.\n")
    file = tmp_path / "tasks.ndjson"
    file.write_text('x\n{"type": "echo"}\n')
    arguments = ["--file", str(file), "--url", "http://127.0.0.1:1", "--retry-for", "0"]
    assert cli.main(["tasks", "submit", *arguments]) == 4
    assert "from line 2 on nothing is submitted: http://127.0.0.1:1 does not answer" in capsys.readouterr().err


def test_it_runs_as_a_process_of_its_own(service: str, tmp_path: Path) -> None:
    def run(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "app", "tasks", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(cli.__file__).parents[1],
            env={"ARQIVE_URL": service, "CONCURRENCY": "not of interest here"},
        )

    done = run("submit", "-f", "-", stdin='{"type": "echo"}\n' * 3)
    ids = [json.loads(line)["id"] for line in done.stdout.splitlines()]
    assert (done.returncode, len(ids), done.stderr) == (0, 3, "")
    waited = run("wait", "-", stdin="\n".join(ids))
    assert (waited.returncode, waited.stderr) == (0, "")
    assert {json.loads(line)["status"] for line in waited.stdout.splitlines()} == {"completed"}
