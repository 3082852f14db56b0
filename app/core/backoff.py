"""How long to wait before the next attempt."""

import random
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff: `min(max, base * factor ** (attempt - 1))`, with full jitter unless switched off.

    Attributes:
        base: The delay after the first attempt.
        max: No delay is longer.
        factor: What each further attempt multiplies the delay by; at least 1.
        jitter: Take a random part of the delay (full jitter), so that tasks that failed together do not come back
            together.

    Raises:
        ValueError: `base` or `max` is negative, or `factor` is below 1 or not finite.
    """

    base: timedelta = timedelta(seconds=2)
    max: timedelta = timedelta(minutes=10)
    factor: float = 2.0
    jitter: bool = True

    def __post_init__(self) -> None:
        if self.base < timedelta(0) or self.max < timedelta(0):
            raise ValueError(f"base and max must not be negative, not {self.base} and {self.max}")
        if not 1 <= self.factor < float("inf"):
            raise ValueError(f"factor must be a finite number, at least 1, not {self.factor!r}")

    def ceiling(self, attempt: int) -> timedelta:
        """The longest delay after attempt number `attempt` (from 1); exact without jitter."""
        base_s, max_s = self.base.total_seconds(), self.max.total_seconds()
        try:
            delay_s = base_s * self.factor ** (attempt - 1)
        except OverflowError:
            delay_s = max_s if base_s else 0.0
        return timedelta(seconds=min(max_s, delay_s))

    def delay(self, attempt: int, *, rng: random.Random | None = None) -> timedelta:
        """The delay to wait after attempt number `attempt` (from 1).

        Source: full jitter, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
        """
        ceiling = self.ceiling(attempt)
        if not self.jitter:
            return ceiling
        return ceiling * (rng or random).random()
