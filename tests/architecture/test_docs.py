"""The pages say nothing that is not there: no path, no door, no command, no link."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import RESOURCES, main
from tests.architecture.tree import ROOT, files, shown

PAGES = [*sorted(ROOT.glob("*.md")), *files(".md", under=("docs", "examples", "bench", "deploy"))]

TOP = r"app|settings|tests|docs|bench|examples|deploy|requirements|\.ci"

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_DOOR = re.compile(r"(?:^|[;&|$`(] ?|CI=true )make ([a-z][a-z-]*)", re.MULTILINE)
_COMMAND = re.compile(
    r"(?:python3? -m app|\barqive|docker run .*?\barqive(?::\S+)?) ([a-z]+)\b(?!\.)(?: ([a-z]+)\b(?!\.))?"
)
_PATH = re.compile(rf"(?<![\w./-])((?:{TOP})/[\w.*/-]*)")
_LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")

pages = pytest.mark.parametrize("page", PAGES, ids=shown)


def test_there_are_pages() -> None:
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/README.md"} <= {shown(page) for page in PAGES}


@pages
def test_every_path_named_exists(page: Path) -> None:
    named = {path.rstrip(".,:") for code in _code(page) for path in _PATH.findall(code)}
    assert [path for path in sorted(named) if not any(ROOT.glob(path))] == []


@pages
def test_every_door_named_exists(page: Path) -> None:
    doors = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = {door for code in _code(page) for door in _DOOR.findall(code)}
    assert named <= set(doors)


@pages
def test_every_command_named_exists(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = {command for code in _code(page) for command in _COMMAND.findall(code)}
    groups = {name for name, kind in RESOURCES.items() if kind.endswith(":commands")}
    for command, inner in sorted(named):
        words = [command, inner] if inner and command in groups else [command]
        assert main([*words, "--help"]) == 0, capsys.readouterr().err


@pages
def test_every_link_leads_somewhere(page: Path) -> None:
    links = _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_an_index_leads_to_every_page() -> None:
    linked = {
        shown((index.parent / link).resolve())
        for index in (ROOT / "README.md", ROOT / "docs/README.md")
        for link in _LINK.findall(index.read_text(encoding="utf-8"))
    }
    assert {shown(page) for page in files(".md", under=("docs",))} - linked == set()


def test_generated_pages_are_what_the_code_says() -> None:
    checked = subprocess.run(
        [sys.executable, ROOT / "docs/generate.py", "--check"],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_decisions_are_numbered_and_say_why() -> None:
    decisions = sorted((ROOT / "docs/adr").glob("*.md"))
    assert [path.name[:5] for path in decisions] == [f"{number:04}-" for number in range(1, len(decisions) + 1)]
    for path in decisions:
        headings = re.findall(r"^## (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences"], path.name


def _code(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return _FENCE.findall(text) + _SPAN.findall(_FENCE.sub("", text))
