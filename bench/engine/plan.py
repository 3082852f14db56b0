"""How long a run takes, and everything that it found."""

from dataclasses import dataclass

from bench.engine.claims import ClaimCost, Crowd
from bench.engine.drain import Drained, Setup
from bench.engine.encoding import EncodingCost
from bench.engine.path import PathResult
from bench.engine.pickup import Pickup
from bench.engine.systems import ARQ_DEFAULT, ARQIVE_DEFAULT, System

PAIR = (ARQIVE_DEFAULT, ARQ_DEFAULT)
"""What is shown beside the two systems that are compared."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The sizes of a run.

    Attributes:
        workers: Numbers of worker processes, the first is 1.
        once: Systems that empty a queue once in each setup, beside the two that are compared.
        drain_s: Seconds that emptying a queue should take.
        rounds: How often those two do it.
        deferred: Ids whose time is far off, in the setups that have such.
        pickups: Single jobs for the pickup latency.
        idle_s: Seconds of rest that are watched.
        claim_rounds: Times ten claims a queue.
        path_tasks: Single tasks through the whole path.
        encodings: Times a thousand ids.
    """

    workers: tuple[int, ...]
    once: tuple[System, ...]
    drain_s: float
    rounds: int
    deferred: int
    pickups: int
    idle_s: float
    claim_rounds: int
    path_tasks: int
    encodings: int


FULL = Plan(
    workers=(1, 2, 4),
    once=PAIR,
    drain_s=1.5,
    rounds=3,
    deferred=100_000,
    pickups=200,
    idle_s=5.0,
    claim_rounds=20,
    path_tasks=100,
    encodings=30,
)
QUICK = Plan(
    workers=(1, 4),
    once=(),
    drain_s=0.5,
    rounds=1,
    deferred=100_000,
    pickups=30,
    idle_s=1.5,
    claim_rounds=5,
    path_tasks=8,
    encodings=5,
)


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that was measured."""

    machine: list[tuple[str, str]]
    command: str
    workers: tuple[int, ...]
    drains: dict[Setup, Drained]
    deferred: int
    pickups: dict[System, Pickup]
    claims: dict[Crowd, ClaimCost]
    encoding: EncodingCost
    path: PathResult
    seconds: float
