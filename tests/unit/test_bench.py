"""The arithmetic that the benchmark's report stands on."""

import pytest

from bench.figures import Latency, percentile, spread


@pytest.mark.parametrize(("share", "value"), [(0.01, 1), (0.5, 50), (0.501, 51), (0.99, 99), (0.991, 100), (1.0, 100)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: float) -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, share) == value


def test_the_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 0.01) == percentile([7.0], 0.99) == 7.0


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_latencies_are_told_in_milliseconds() -> None:
    assert Latency.of_seconds([0.002, 0.001, 0.009]) == Latency(p50=2.0, p99=9.0, count=3)


def test_the_spread_is_the_round_farthest_from_the_median() -> None:
    assert spread([100.0, 90.0, 140.0]) == pytest.approx(0.4)
    assert spread([100.0]) == 0
