"""What `dev` works out before it starts anything, and how readiness is asked for."""

import socket
from pathlib import Path

import pytest

from app.embedded import dev
from app.embedded.probe import ask_readiness, base_url, local_address
from app.embedded.servers import EmbeddedError
from settings import load_settings

URLS = {"mongo_url": "mongodb://127.0.0.1:1", "redis_url": "redis://127.0.0.1:2/0"}


def test_programs_get_what_suits_a_developer() -> None:
    environment = dev.program_environment(load_settings(), {"PATH": "/bin", "PORT": "0"}, **URLS, port=4100)
    assert environment == {
        "PATH": "/bin",
        "MONGO_URL": "mongodb://127.0.0.1:1",
        "REDIS_URL": "redis://127.0.0.1:2/0",
        "PORT": "4100",
        "HOST": "127.0.0.1",
        "HEALTH_PORT": "0",
        "LOG_FORMAT": "console",
        "HTTP_ALLOW_PRIVATE": "true",
    }


def test_what_is_set_wins_over_what_suits(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"HOST": "0.0.0.0", "HEALTH_PORT": "4001", "LOG_FORMAT": "json", "HTTP_ALLOW_PRIVATE": "false"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    environment = dev.program_environment(load_settings(), given, **URLS, port=4100)
    assert environment.items() >= given.items()


@pytest.mark.parametrize("variable", ["PORT", "HEALTH_PORT"])
def test_a_busy_port_is_named_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setenv("PORT", "0")
        monkeypatch.setenv(variable, str(port))
        with pytest.raises(EmbeddedError, match=rf"^{variable}: port {port} is in use on 127\.0\.0\.1; set {variable}"):
            dev.run(load_settings(), print, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_a_host_that_is_not_of_this_machine_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("HOST", host)
    with pytest.raises(EmbeddedError, match=r"^HOST: .* is not an address"):
        dev.run(load_settings(), print, tmp_path / "data")


@pytest.mark.parametrize(
    ("host", "address"),
    [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("127.0.0.1", "127.0.0.1"), ("10.1.2.3", "10.1.2.3"), ("web", "web")],
)
def test_what_listens_everywhere_is_reached_by_loopback(host: str, address: str) -> None:
    assert local_address(host) == address


def test_urls_put_ipv6_addresses_in_brackets() -> None:
    assert base_url("::1", 4000) == "http://[::1]:4000"
    assert base_url("127.0.0.1", 4000) == "http://127.0.0.1:4000"


def test_a_listener_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answer = ask_readiness("127.0.0.1", listener.getsockname()[1], timeout_s=0.05)
    assert (answer.listening, answer.ready) == (True, False)
    assert answer.detail.endswith("does not answer: timed out")
