"""What the Dockerfile and the compose file say agrees with the settings and the project."""

import re
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from settings import Settings, load_settings
from tests.architecture.tree import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
IGNORE = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()

_ENTRY = re.compile(r"^ +([A-Z][A-Z_]+): (.+)$", re.MULTILINE)
_COPIED = re.compile(r"^COPY (?!--from)(.+) \S+$", re.MULTILINE)
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
_NEEDS_BUILDKIT = re.compile(
    r"^# *syntax=|<<-?\w|\s--(?:mount|link|chmod|parents|exclude|checksum|keep-git-dir)\b", re.MULTILINE
)
_NOT_IN_COMPOSE_1 = re.compile(r"start_interval:|\binclude:|\bdevelop:|required:|!override|!reset")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def test_compose_sets_what_the_settings_know_and_accept(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = dict(_ENTRY.findall(COMPOSE))
    assert {"MONGO_URL", "REDIS_URL"} <= set(entries)
    assert {name.lower() for name in entries} <= set(Settings.model_fields)
    for name, value in entries.items():
        monkeypatch.setenv(name, value.strip('"'))
    assert load_settings().http_allow_private


def test_compose_waits_longer_than_the_grace() -> None:
    common = COMPOSE.partition("\nservices:")[0]
    (period,) = re.findall(r"stop_grace_period: (\d+)s", common)
    assert int(period) > Settings.model_fields["shutdown_grace_seconds"].default + 5


def test_workers_can_be_scaled() -> None:
    worker = COMPOSE.partition("\n  worker:")[2].partition("\n\n")[0]
    assert "command: worker" in worker
    assert "ports:" not in worker
    assert "container_name:" not in COMPOSE


def test_the_ports_are_the_settings_own() -> None:
    port = Settings.model_fields["port"].default
    assert f"EXPOSE {port}\n" in DOCKERFILE
    assert f":{port}" + '"\n' in COMPOSE.partition("ports:")[2]


def test_the_base_is_a_python_that_the_project_supports(project: dict[str, Any]) -> None:
    (version,) = re.findall(r"^ARG PYTHON_IMAGE=python:([\d.]+)-slim$", DOCKERFILE, re.MULTILINE)
    assert Version(version) in SpecifierSet(project["requires-python"])


def test_the_labels_are_the_project_s(project: dict[str, Any]) -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', DOCKERFILE))
    assert (labels["version"], labels["licenses"]) == (project["version"], project["license"])


def test_the_image_installs_what_the_service_and_its_traces_need(project: dict[str, Any]) -> None:
    locked = (ROOT / "requirements/run.txt").read_text(encoding="utf-8")
    wanted = [*project["dependencies"], *project["optional-dependencies"]["tracing"]]
    assert {Requirement(line).name for line in wanted} <= set(_LOCKED.findall(locked))


def test_what_is_copied_is_sent_to_the_builder() -> None:
    copied = {name.removeprefix("./") for line in _COPIED.findall(DOCKERFILE) for name in line.split()}
    assert {"app", "settings", "requirements/run.txt"} <= copied
    assert IGNORE[1] == "*"
    assert {f"!{name}" for name in copied} <= set(IGNORE)


def test_nothing_needs_a_newer_builder_or_compose() -> None:
    assert _NEEDS_BUILDKIT.findall(DOCKERFILE) == []
    assert _NOT_IN_COMPOSE_1.findall(COMPOSE) == []


def test_the_image_runs_as_a_user_by_number() -> None:
    (user,) = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
