"""The command line: what it prints and what it exits with."""

import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from app import cli
from app.core.errors import TaskModuleError, TaskTypeError
from app.embedded import dev
from app.embedded.servers import EmbeddedError, free_port
from settings import Settings

Serve = Callable[..., int]
Output = pytest.CaptureFixture[str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Answer GET /health/ready on a port of its own with a status and a body."""
    with ExitStack() as stack:

        def start(status: int, body: object = None) -> int:
            class Handler(http.server.BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    self.send_response(status if self.path == "/health/ready" else 404)
                    self.end_headers()
                    self.wfile.write(json.dumps(body, indent=1).encode())

                def log_message(self, *args: object) -> None:
                    pass

            server = stack.enter_context(http.server.HTTPServer(("127.0.0.1", 0), Handler))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return server.server_port

        yield start


def enter(monkeypatch: pytest.MonkeyPatch, room: str, run: Callable[[Settings], int]) -> None:
    """Put a stand-in where `web` or `worker` is imported from."""
    stand_in = SimpleNamespace(run=lambda settings, _seat: run(settings))
    monkeypatch.setitem(sys.modules, f"app.{room}", stand_in)
    monkeypatch.setattr(f"app.{room}", stand_in, raising=False)


def test_without_a_command_it_prints_help(capsys: Output) -> None:
    assert cli.main([]) == 0
    out, err = capsys.readouterr()
    assert "Usage: arqive" in out
    assert all(re.search(rf"\b{name} ", out) for name in ("web", "worker", "dev", "check"))
    assert err == ""


@pytest.mark.parametrize(("arguments", "text"), [(["--help"], "Usage: arqive"), (["--version"], "arqive ")])
def test_help_and_version(capsys: Output, arguments: list[str], text: str) -> None:
    assert cli.main(arguments) == 0
    assert text in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["wob"], "No such command 'wob'. Did you mean 'web'? (see arqive --help)"),
        (["-e", "PORT=abc", "web"], "No such option: -e (see arqive --help)"),
        (["web", "--processes", "many"], "Invalid value for '--processes'"),
        (["worker", "--processes", "257"], "Invalid value for '--processes'"),
        (["check", "now"], "Got unexpected extra argument(s) (now) (see arqive check --help)"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(capsys: Output, arguments: list[str], complaint: str) -> None:
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"arqive: {complaint}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("room", ["web", "worker"])
def test_a_room_gets_the_settings_and_gives_the_exit_code(monkeypatch: pytest.MonkeyPatch, room: str) -> None:
    ports = []
    monkeypatch.setenv("PORT", "4567")

    def run(settings: Settings) -> int:
        ports.append(settings.port)
        return 7

    enter(monkeypatch, room, run)
    assert cli.main([room]) == 7
    assert ports == [4567]


@pytest.mark.parametrize("command", ["web", "worker", "dev", "check"])
def test_a_bad_setting_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: Output, command: str
) -> None:
    monkeypatch.setenv("CONCURRENCY", "many")
    assert cli.main([command]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("arqive: CONCURRENCY: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("error", [TaskModuleError("TASK_MODULES: no"), TaskTypeError("a: no")])
def test_bad_task_modules_are_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: Output, error: Exception
) -> None:
    def run(_settings: Settings) -> int:
        raise error

    enter(monkeypatch, "worker", run)
    assert cli.main(["worker"]) == 2
    assert capsys.readouterr().err == f"arqive: {error}\n"


def test_a_dev_that_cannot_start_is_one_line_and_exit_code_1(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    def run(*_: object) -> int:
        raise EmbeddedError("PORT: busy")

    monkeypatch.setattr(dev, "run", run)
    assert cli.main(["dev"]) == 1
    assert capsys.readouterr().err == "arqive: PORT: busy\n"


def test_check_is_content_with_a_ready_web(monkeypatch: pytest.MonkeyPatch, capsys: Output, serve: Serve) -> None:
    monkeypatch.setenv("PORT", str(serve(200)))
    monkeypatch.setenv("HEALTH_PORT", str(serve(503)))
    assert cli.main(["check"]) == 0
    assert capsys.readouterr().out.endswith(" is ready\n")


def test_check_asks_the_worker_where_no_web_listens(
    monkeypatch: pytest.MonkeyPatch, capsys: Output, serve: Serve
) -> None:
    port = serve(200)
    monkeypatch.setenv("PORT", str(free_port()))
    monkeypatch.setenv("HEALTH_PORT", str(port))
    assert cli.main(["check"]) == 0
    assert capsys.readouterr().out == f"http://127.0.0.1:{port} is ready\n"


def test_check_says_why_a_web_is_not_ready(monkeypatch: pytest.MonkeyPatch, capsys: Output, serve: Serve) -> None:
    monkeypatch.setenv("PORT", str(serve(503, {"mongo": "no server", "redis": "ok"})))
    monkeypatch.setenv("HEALTH_PORT", str(serve(200)))
    assert cli.main(["check"]) == 1
    out = capsys.readouterr().out
    assert 'is not ready, it answered 503: { "mongo": "no server", "redis": "ok" }\n' in out
    assert out.count("\n") == 1


def test_check_fails_where_nothing_listens(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    ports = (free_port(), free_port())
    monkeypatch.setenv("PORT", str(ports[0]))
    monkeypatch.setenv("HEALTH_PORT", str(ports[1]))
    assert cli.main(["check"]) == 1
    assert capsys.readouterr().out == "; ".join(f"nothing listens on http://127.0.0.1:{port}" for port in ports) + "\n"


def test_check_with_nothing_to_ask(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setenv("PORT", "0")
    monkeypatch.setenv("HEALTH_PORT", "0")
    assert cli.main(["check"]) == 1
    assert "nothing to ask" in capsys.readouterr().out


def test_it_runs_as_a_module_without_a_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app", "web"],
        capture_output=True,
        text=True,
        check=False,
        env={"PORT": "http"},
        cwd=Path(cli.__file__).parents[1],
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("arqive: PORT: ")
    assert done.stderr.count("\n") == 1
