"""How large a run is."""

from dataclasses import dataclass

SECTIONS = ("accept", "bulk", "drain", "latency", "stored", "embedded", "queue")


@dataclass(frozen=True, slots=True)
class Plan:
    """The sizes of a run.

    Attributes:
        rounds: How often everything is measured; the medians are told.
        clients: Numbers of clients that accept is measured with; the one in the middle is the one that targets name.
        accept_s: Seconds of each such load.
        fill_s: Seconds of accepting before a drain.
        drain_s: Seconds that a drain is watched at most.
        workers: Numbers of worker processes that a drain is measured with, the first is 1.
        singles: Single tasks whose way is measured at idle.
        half_s: Seconds of half load.
        stored: Numbers of finished tasks that are there before.
        reads: Times that each read is made.
        jobs_s: Seconds that a drain of the queue layer should take.
        pickups: Single jobs in the queue layer.
    """

    rounds: int
    clients: tuple[int, ...]
    accept_s: float
    fill_s: float
    drain_s: float
    workers: tuple[int, ...]
    singles: int
    half_s: float
    stored: tuple[int, ...]
    reads: int
    jobs_s: float
    pickups: int


FULL = Plan(
    rounds=3,
    clients=(1, 50, 200),
    accept_s=2.0,
    fill_s=2.0,
    drain_s=3.0,
    workers=(1, 2, 4),
    singles=50,
    half_s=5.0,
    stored=(0, 100_000, 1_000_000),
    reads=30,
    jobs_s=2.0,
    pickups=100,
)
QUICK = Plan(
    rounds=1,
    clients=(1, 50),
    accept_s=1.0,
    fill_s=1.0,
    drain_s=1.0,
    workers=(1,),
    singles=15,
    half_s=1.5,
    stored=(0, 20_000),
    reads=5,
    jobs_s=0.5,
    pickups=15,
)
