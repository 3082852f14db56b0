"""The contracts of pyproject.toml: which room may import which, and which may name which package."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT

LINT = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]

# One forbidden line for each contract: the contract, the file that gets the line, the line.
BREACHES = [
    ("layers", "app/core/clock.py", "import app.store"),
    ("settings", "app/services/context.py", "import settings"),
    ("settings-alone", "settings/settings.py", "import app.core"),
    ("pure-core", "app/core/clock.py", "import asyncio"),
    ("client-alone", "app/client/answers.py", "import bson"),
    ("motor", "app/store/documents.py", "import motor.motor_asyncio"),
    ("pymongo", "app/tasks/builtin.py", "import pymongo"),
    ("arq-redis", "app/tasks/builtin.py", "import redis.asyncio"),
    ("http", "app/store/documents.py", "import aiohttp"),
    ("opentelemetry", "app/telemetry/tracing.py", "import opentelemetry.trace"),
]


def test_every_import_keeps_the_contracts() -> None:
    checked = _lint(ROOT)
    assert checked.returncode == 0, checked.stdout


def test_every_contract_has_a_breach_to_find() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = pyproject["tool"]["importlinter"]["contracts"]
    assert sorted(contract["id"] for contract in contracts) == sorted(contract for contract, _, _ in BREACHES)


@pytest.mark.parametrize(("contract", "file", "line"), BREACHES, ids=[breach[0] for breach in BREACHES])
def test_a_forbidden_import_is_found(contract: str, file: str, line: str, tmp_path: Path) -> None:
    _copy(tmp_path)
    with (tmp_path / file).open("a", encoding="utf-8") as code:
        code.write(f"\n{line}\n")
    checked = _lint(tmp_path, "--contract", contract)
    assert "1 broken" in checked.stdout, checked.stdout


def _lint(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [*LINT, "--no-logo", "--no-cache", *arguments]
    return subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(directory)}
    )


def _copy(target: Path) -> None:
    for source in [ROOT / "pyproject.toml", *(ROOT / "app").rglob("*.py"), *(ROOT / "settings").rglob("*.py")]:
        copy = target / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
