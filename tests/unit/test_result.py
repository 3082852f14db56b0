"""What of a handler's result is kept."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from app.core.errors import UnusableResult
from app.core.json_value import MAX_DEPTH, problem_with
from app.services.result import keepable


class Model(BaseModel):
    at: datetime


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        (None, None),
        ({"a": [1, 2.5, True, None, "ü"]}, {"a": [1, 2.5, True, None, "ü"]}),
        ((1, 2), [1, 2]),
        (Model(at=datetime(2026, 1, 2, tzinfo=UTC)), {"at": "2026-01-02T00:00:00Z"}),
        (Point(3), {"x": 3}),
        ({1: 2}, {"1": 2}),
        (-(2**63), -(2**63)),
    ],
)
def test_json_is_kept(result: Any, kept: Any) -> None:
    assert keepable(result, max_bytes=1000) == kept


def _cycle() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    "result",
    [object(), float("nan"), float("inf"), 2**63, {"a\0b": 1}, _cycle(), lambda: None],
    ids=["object", "nan", "inf", "too_large", "nul_in_a_name", "cycle", "function"],
)
def test_what_is_not_json_or_cannot_be_stored_is_refused(result: Any) -> None:
    with pytest.raises(UnusableResult) as caught:
        keepable(result, max_bytes=1000)
    assert caught.value.code == "result_not_json"


def test_the_limit_is_in_bytes() -> None:
    assert keepable("ü" * 10, max_bytes=22) == "ü" * 10
    with pytest.raises(UnusableResult, match="24 bytes as JSON; at most 22"):
        keepable("ü" * 11, max_bytes=22)


def test_nesting_has_a_limit() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = [value]
    assert problem_with(value) is None
    assert "nested" in (problem_with([value]) or "")


def test_the_problem_is_named_by_its_path() -> None:
    assert problem_with({"a": [0, {"b": 2**70}]}) == "a[1].b is an integer of more than 64 bits"
