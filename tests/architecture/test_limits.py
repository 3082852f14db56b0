"""Small files, small functions, and the few places that may catch everything."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.tree import files, shown

CODE = ("app", "settings")

MAX_LINES = {"app": 300, "settings": 300, "bench": 300, "examples": 300, "docs": 300, "tests": 500}
MAX_FUNCTION_LINES = 50

MAY_CATCH_EVERYTHING = {
    "app/api/problems.py": "no client ever gets a traceback",
    "app/handler_process.py": "a user's handler may raise anything",
    "app/services/batch.py": "hands the exception on to everybody who waits for the batch",
    "app/services/execute.py": "a user's handler may raise anything",
    "app/services/submit_slots.py": "one bad schedule must not stop the others",
    "app/services/supervise.py": "a background loop outlives a bad pass",
}
"""Each has one `except Exception`; everywhere else an error that nobody foresaw must be seen."""

# Taken apart, or this file would find itself.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")

SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}


@pytest.mark.parametrize(("folder", "most"), MAX_LINES.items())
def test_no_file_is_longer_than_a_reader_can_hold(folder: str, most: int) -> None:
    lengths = {shown(path): _lines(path) for path in files(".py", ".lua", under=(folder,))}
    assert {name: length for name, length in lengths.items() if length > most} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    lengths = {
        f"{shown(path)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path, node in _nodes()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert lengths
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


def test_everything_is_caught_only_where_that_is_right() -> None:
    found = [shown(path) for path, node in _nodes() if _catches_everything(node)]
    assert sorted(found) == sorted(MAY_CATCH_EVERYTHING)


def test_only_settings_reads_the_environment() -> None:
    readers = {
        shown(path)
        for path, node in _nodes()
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.environb", "os.getenv"}
    }
    # dev hands its own environment on to the programs that it starts.
    assert readers <= {"app/embedded/dev.py"}


def test_nothing_is_left_for_later() -> None:
    found = [
        f"{shown(path)}:{number}: {line.strip()}"
        for path in files(".py", ".lua", ".md", ".toml", ".yml", ".yaml", "Makefile", "Dockerfile", "run")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert found == []


def test_every_module_is_named_for_what_is_in_it() -> None:
    assert [shown(path) for path in files(".py") if {path.stem, path.parent.name} & SAYS_NOTHING] == []


@pytest.mark.parametrize(
    ("code", "broad"),
    [
        ("try: ...\nexcept Exception: ...", True),
        ("try: ...\nexcept (ValueError, BaseException) as error: ...", True),
        ("try: ...\nexcept: ...", True),
        ("contextlib.suppress(Exception)", True),
        ("try: ...\nexcept (ValueError, OSError): ...", False),
        ("suppress(OSError)", False),
        ("isinstance(error, Exception)", False),
    ],
)
def test_the_search_for_broad_catches_sees_each_way_of_writing_one(code: str, broad: bool) -> None:
    assert any(_catches_everything(node) for node in ast.walk(ast.parse(code))) is broad


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _nodes() -> Iterator[tuple[Path, ast.AST]]:
    for path in files(".py", under=CODE):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path, node


def _catches_everything(node: ast.AST) -> bool:
    match node:
        case ast.ExceptHandler(type=None):
            return True
        case ast.ExceptHandler(type=ast.Tuple(elts=kinds)):
            caught = kinds
        case ast.ExceptHandler(type=kind):
            caught = [kind] if kind else []
        case ast.Call(func=function, args=kinds) if ast.unparse(function).endswith("suppress"):
            caught = kinds
        case _:
            caught = []
    return any(ast.unparse(kind) in {"Exception", "BaseException"} for kind in caught)
