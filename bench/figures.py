"""The arithmetic of the report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (above 0, up to 1) of all values do not exceed.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values to take a percentile of")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@dataclass(frozen=True, slots=True)
class Latency:
    """A distribution of durations in milliseconds."""

    p50: float
    p99: float
    count: int

    @classmethod
    def of_seconds(cls, durations: Sequence[float]) -> "Latency":
        """Summarize durations given in seconds."""
        return cls(median(durations) * 1000, percentile(durations, 0.99) * 1000, len(durations))


@dataclass(frozen=True, slots=True)
class Bar:
    """One target of the engine.

    Attributes:
        what: The target in words.
        found: What was measured.
        met: Whether it was reached.
    """

    what: str
    found: str
    met: bool


def spread(values: Sequence[float]) -> float:
    """Largest distance of a round from the median, as a share of the median."""
    middle = median(values)
    return max(abs(value - middle) for value in values) / middle
