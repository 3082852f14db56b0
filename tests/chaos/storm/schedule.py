"""What is done to the processes and servers, and when: made from a seed, the same for the same seed."""

import random
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle

QUIET_S = 2.0
"""Nothing is hurt before: the processes are starting."""

PAUSES_S = (1.0, 4.0)
"""Between two faults, at least and at most."""


class FaultKind(StrEnum):
    """One way to hurt a process or a server."""

    KILL_WORKER = "kill worker"
    TERMINATE_WORKER = "terminate worker"
    FREEZE_WORKER = "freeze worker"
    KILL_WEB = "kill web"
    TERMINATE_WEB = "terminate web"
    FLUSH_REDIS = "flush redis"
    KILL_REDIS = "kill redis"
    FREEZE_REDIS = "freeze redis"
    KILL_MONGO = "kill mongo"
    FREEZE_MONGO = "freeze mongo"


LASTS_S: dict[FaultKind, tuple[float, float]] = {
    FaultKind.KILL_WORKER: (0.0, 3.0),
    FaultKind.TERMINATE_WORKER: (0.0, 2.0),
    FaultKind.FREEZE_WORKER: (2.0, 8.0),
    FaultKind.KILL_WEB: (0.0, 2.0),
    FaultKind.TERMINATE_WEB: (0.0, 1.0),
    FaultKind.FLUSH_REDIS: (0.0, 0.0),
    FaultKind.KILL_REDIS: (0.0, 5.0),
    FaultKind.FREEZE_REDIS: (0.5, 6.0),
    FaultKind.KILL_MONGO: (0.0, 3.0),
    FaultKind.FREEZE_MONGO: (0.5, 5.0),
}
"""How long it is down or frozen, at least and at most; leases last 2.5 s."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: when after the start, what, which of its kind, and for how long."""

    at_s: float
    kind: FaultKind
    target: int
    lasts_s: float

    def __str__(self) -> str:
        role = self.kind.split()[-1]
        which = f" {self.target}" if role in {"web", "worker"} else ""
        return f"{self.at_s:6.1f} s  {self.kind}{which} for {self.lasts_s:.1f} s"


def make_schedule(seed: int, *, seconds: float, webs: int, workers: int) -> list[Fault]:
    """Every kind once in random order, again and again, until the time is over."""
    rng = random.Random(f"{seed}/faults")
    faults: list[Fault] = []
    at_s = QUIET_S
    for _ in cycle([None]):
        for kind in rng.sample(list(FaultKind), len(FaultKind)):
            target = rng.randrange(webs if kind.endswith("web") else workers)
            fault = Fault(at_s, kind, target, rng.uniform(*LASTS_S[kind]))
            at_s += rng.uniform(*PAUSES_S)
            if fault.at_s >= seconds:
                return faults
            faults.append(fault)
    return faults
