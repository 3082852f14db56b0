"""What can be set on a queue: a pause switch, and bounds on what all workers together do."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """How many tasks may start: `burst` at once after a quiet time, and `per_second` in the long run."""

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """The settings of one queue.

    Attributes:
        name: The queue.
        paused: Whether nothing may start; what runs goes on.
        max_running: The most tasks that may run at the same time, over all workers; None for no limit.
        rate: How many may start in a time, over all workers; None for no limit.
        version: Grows with every change; 0 when nothing was ever set.
    """

    name: str
    paused: bool = False
    max_running: int | None = None
    rate: Rate | None = None
    version: int = 0


def usual_burst(per_second: float) -> int:
    """The burst of a rate that names none: what may start in one second, and at least one task."""
    return max(1, math.ceil(per_second))
