"""Ranges of ids from the newest to the oldest, without a gap and without an overlap."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from app.core.states import Status
from app.store.spans import Spans, matches
from app.store.tasks import TaskFilter

NOW = 1_700_000_000


def _id(second: int, counter: int, process: int = 7) -> ObjectId:
    return ObjectId(second.to_bytes(4, "big") + process.to_bytes(5, "big") + counter.to_bytes(3, "big"))


def _read(ids: Sequence[ObjectId], spans: Spans, most: int = 10**6) -> tuple[list[ObjectId], list[int]]:
    """All that the spans have, of each the first `most`, and how many each has."""
    found: list[ObjectId] = []
    sizes = []
    while (span := spans.next()) is not None:
        some = sorted((each for each in ids if span["$gte"] <= each < span["$lt"]), reverse=True)
        first = some[:most]
        found += first
        sizes.append(len(some))
        spans.saw(len(first), down_to=first[-1] if len(some) > most else None)
    return found, sizes


@given(
    st.lists(st.tuples(st.integers(1, NOW), st.integers(0, 0xFFFFFF - 1), st.integers(0, 3)), max_size=30, unique=True),
    st.integers(0, NOW + 10),
    st.integers(1, 100),
    st.integers(0, NOW + 10),
    st.integers(1, 5),
)
def test_every_id_is_in_one_span(
    parts: list[tuple[int, int, int]], newest: int, want: int, known: int, most: int
) -> None:
    ids = [_id(*part) for part in parts]
    found, _ = _read(ids, Spans(_id(newest, 5), want=want, known=_id(known, 5)), most=most)
    assert found == sorted(ids, reverse=True)


def test_what_is_known_bounds_the_range_that_crosses_a_quiet_time() -> None:
    """A hundred thousand of one second, an hour ago."""
    ids = [_id(NOW - 3600, counter) for counter in range(100_000)]
    _, sizes = _read(ids, Spans(_id(NOW, 200_000, 8), want=200, known=ids[-10], oldest=ids[-1000]))
    assert sum(sizes) == 1000
    assert max(sizes) <= 200


@given(st.data())
def test_bounds_are_kept(data: st.DataObject) -> None:
    ids = [_id(second, counter) for second in range(NOW, NOW + 20) for counter in range(5)]
    before, oldest = (data.draw(st.sampled_from(ids)) for _ in range(2))
    found, _ = _read(ids, Spans(ids[-1], before=before, oldest=oldest, want=4))
    assert found == [each for each in sorted(ids, reverse=True) if oldest <= each < before]


def test_ids_that_lie_close_are_read_in_small_spans() -> None:
    """A hundred thousand of one second, as a bulk insert makes them."""
    ids = [_id(NOW, counter) for counter in range(100_000)]
    spans = Spans(ids[-1], before=ids[50_000], want=200)
    span = spans.next()
    assert span is not None
    assert span == {"$gte": ids[49_800], "$lt": ids[50_000]}


def test_a_quiet_time_is_crossed_in_a_few_steps() -> None:
    _, sizes = _read([_id(NOW - 86_400 * 300, 1)], Spans(_id(NOW, 0), want=200))
    assert len(sizes) < 25


def test_steps_follow_the_density() -> None:
    shuffled = random.Random(4711)
    ids = [_id(NOW - second, shuffled.randrange(0xFFFFFF), second % 3) for second in range(5_000) for _ in range(2)]
    found, sizes = _read(ids, Spans(_id(NOW, 0), want=200))
    assert len(found) == len(ids)
    assert max(sizes) <= 400
    assert len(sizes) < 250


MOMENT = datetime(2030, 1, 2, tzinfo=UTC)
TASK: dict[str, Any] = {
    "status": "failed", "type": "echo", "queue": "mail", "tags": ["a", "b"], "created_at": MOMENT,
    "error": {"code": "timed_out"}, "schedule": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("which", "does"),
    [
        (TaskFilter(), True),
        (TaskFilter(statuses=(Status.FAILED,)), True),
        (TaskFilter(statuses=(Status.FAILED, Status.PENDING), type="echo", queue="mail"), True),
        (TaskFilter(statuses=(Status.RUNNING, Status.PENDING)), False),
        (TaskFilter(queue="default"), False),
        (TaskFilter(tags=("b",)), True),
        (TaskFilter(tags=("b", "a")), True),
        (TaskFilter(tags=("a", "c")), False),
        (TaskFilter(tags=("c",)), False),
        (TaskFilter(created_after=MOMENT), True),
        (TaskFilter(created_before=MOMENT), False),
        (TaskFilter(error="timed_out"), True),  # type: ignore[arg-type]
        (TaskFilter(error="lost"), False),  # type: ignore[arg-type]
        (TaskFilter(schedule="nightly"), False),
    ],
)
def test_a_filter_means_here_what_it_means_to_the_server(which: TaskFilter, does: bool) -> None:
    query = which.to_query()
    query.pop("_id", None)
    assert matches(TASK, query) is does
