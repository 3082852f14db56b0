"""What is in the repository, as the tests of this folder look at it."""

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_NOT_OURS = {"build", "dist", "node_modules", "__pycache__"}


def files(*suffixes: str, under: tuple[str, ...] = (".",)) -> Iterator[Path]:
    """The repository's files with one of these suffixes in these folders, without environments, caches and `.git`."""
    for folder in under:
        for directory, folders, names in os.walk(ROOT / folder):
            folders[:] = [name for name in folders if name not in _NOT_OURS and (name[0] != "." or name == ".ci")]
            yield from (Path(directory, name) for name in sorted(names) if not suffixes or name.endswith(suffixes))


def shown(path: Path) -> str:
    """The path from the root of the repository, with slashes."""
    return path.relative_to(ROOT).as_posix()
