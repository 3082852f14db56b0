"""The lock files are what pyproject.toml asks for, agree with each other, and name no place they came from."""

import re
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.tree import ROOT

PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUN = PYPROJECT["project"]["dependencies"]
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
BUILD = PYPROJECT["dependency-groups"]["build"]

ASKED = {
    "run": RUN,
    "build": BUILD,
    "embedded": [*RUN, *BUILD, *EXTRAS["embedded"]],
    "dev": [*RUN, *BUILD, *EXTRAS["embedded"], *EXTRAS["dev"]],
}

locks = pytest.mark.parametrize("lock", ASKED)


@locks
def test_a_lock_has_what_is_asked_for(lock: str) -> None:
    pins = _pins(lock)
    for requirement in map(Requirement, ASKED[lock]):
        versions = [version for name, version in pins if name == canonicalize_name(requirement.name)]
        assert versions, requirement
        assert all(requirement.specifier.contains(version, prereleases=True) for version in versions), requirement


@locks
def test_a_lock_agrees_with_that_of_development(lock: str) -> None:
    assert set(_pins(lock)) <= set(_pins("dev"))


@locks
def test_a_lock_names_no_host_and_no_directory_of_a_machine(lock: str) -> None:
    assert re.findall(r"https?://\S*|(?<![\w.])/\w\S*|^--?\w.*", _text(lock), re.MULTILINE) == []


@locks
def test_every_package_of_a_lock_has_its_hashes(lock: str) -> None:
    packages = re.findall(r"^[a-z0-9].*?(?=^[a-z0-9]|\Z)", _text(lock), re.MULTILINE | re.DOTALL)
    assert len(packages) == len(_pins(lock)) > 0
    assert [package for package in packages if "--hash=sha256:" not in package] == []


def _text(lock: str) -> str:
    return (ROOT / f"requirements/{lock}.txt").read_text(encoding="utf-8")


def _pins(lock: str) -> list[tuple[str, str]]:
    """Name and version of each pin; a package that is pinned differently for two Pythons is here twice."""
    found = re.findall(r"^([a-z0-9][\w.-]*)(?:\[[\w,-]+\])?==([\w.+!-]+)", _text(lock), re.MULTILINE)
    return [(canonicalize_name(name), version) for name, version in found]
