"""The arithmetic of delays, over its whole range."""

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import Backoff
from app.core import limits

DELAYS = st.timedeltas(min_value=timedelta(0), max_value=limits.MAX_BACKOFF)
BACKOFFS = st.builds(
    Backoff,
    base=DELAYS,
    max=DELAYS,
    factor=st.floats(1, limits.MAX_BACKOFF_FACTOR) | st.integers(1, int(limits.MAX_BACKOFF_FACTOR)),
    jitter=st.booleans(),
)
ATTEMPTS = st.integers(1, limits.MAX_ATTEMPTS) | st.integers(1, 10**5)
MICROSECOND = timedelta(microseconds=1)


@given(BACKOFFS, ATTEMPTS)
def test_no_ceiling_is_above_max_or_below_nothing(backoff: Backoff, attempt: int) -> None:
    assert timedelta(0) <= backoff.ceiling(attempt) <= backoff.max


@given(BACKOFFS, ATTEMPTS)
def test_the_ceiling_never_falls(backoff: Backoff, attempt: int) -> None:
    assert backoff.ceiling(attempt) <= backoff.ceiling(attempt + 1)


@given(BACKOFFS)
def test_the_first_delay_is_the_base_or_max(backoff: Backoff) -> None:
    assert abs(backoff.ceiling(1) - min(backoff.base, backoff.max)) <= MICROSECOND


@given(BACKOFFS, ATTEMPTS, st.integers())
def test_a_delay_lies_within_its_ceiling(backoff: Backoff, attempt: int, seed: int) -> None:
    assert timedelta(0) <= backoff.delay(attempt, rng=random.Random(seed)) <= backoff.ceiling(attempt)


@given(BACKOFFS, ATTEMPTS)
def test_without_jitter_a_delay_is_its_ceiling(backoff: Backoff, attempt: int) -> None:
    exact = Backoff(backoff.base, backoff.max, backoff.factor, jitter=False)
    assert exact.delay(attempt) == exact.ceiling(attempt)


@given(BACKOFFS, ATTEMPTS)
def test_no_base_is_no_delay_at_any_attempt(backoff: Backoff, attempt: int) -> None:
    assert Backoff(timedelta(0), backoff.max, backoff.factor).ceiling(attempt) == timedelta(0)


def test_the_delays_of_the_default_grow_as_documented() -> None:
    seconds = [Backoff(jitter=False).delay(attempt).total_seconds() for attempt in range(1, 12)]
    assert seconds == [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]


def test_jitter_spreads_over_the_whole_ceiling() -> None:
    rng = random.Random(1)
    delays = [Backoff().delay(5, rng=rng).total_seconds() for _ in range(1000)]
    assert min(delays) < 1
    assert max(delays) > 31
    assert 14 < sum(delays) / len(delays) < 18


@pytest.mark.parametrize("attempt", [1024, 10_000, 10**9])
@pytest.mark.parametrize("factor", [2.0, 100.0])
def test_a_huge_attempt_does_not_overflow(attempt: int, factor: float) -> None:
    assert Backoff(factor=factor).ceiling(attempt) == timedelta(minutes=10)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base": timedelta(seconds=-1)}, "must not be negative"),
        ({"max": timedelta(seconds=-1)}, "must not be negative"),
        ({"factor": 0.5}, "at least 1"),
        ({"factor": float("nan")}, "at least 1"),
        ({"factor": float("inf")}, "at least 1"),
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused(fields: dict[str, timedelta | float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Backoff(**fields)  # type: ignore[arg-type]
