"""What the client submits, and what it does to its tasks afterwards: made from a seed."""

import random
from dataclasses import dataclass
from typing import Any

BULK_SHARE = 0.15
"""Of the requests; they carry most of the tasks."""

MOST_IN_BULK = 60

PATIENT = "patient"
"""A queue that no worker serves until the storm is over: what waits there has been forgotten by Redis many times, and
for longer than a short pass of reconcile looks back."""

WEIGHTS = {
    "storm.fast": 52,
    "storm.slow": 12,
    "storm.thread": 8,
    "storm.flaky": 10,
    "storm.again": 6,
    "storm.hopeless": 4,
    "storm.fail": 4,
    "storm.late": 4,
}


@dataclass(frozen=True, slots=True)
class Planned:
    """One task.

    Attributes:
        number: Its place in the plan; also in its payload.
        type: One of `WEIGHTS`.
        fields: What is submitted besides the type.
        start_within_s: Submit it with a `start_before` so far ahead, or None.
        cancel_after_s: Cancel it so long after it was accepted, or None.
        retry_after_s: Retry it so long after it was accepted or cancelled, or None.
    """

    number: int
    type: str
    fields: dict[str, Any]
    start_within_s: float | None = None
    cancel_after_s: float | None = None
    retry_after_s: float | None = None

    @property
    def until(self) -> int:
        """The first attempt that succeeds."""
        until: int = self.fields["payload"]["until"]
        return until


@dataclass(frozen=True, slots=True)
class Request:
    """Tasks that are submitted together, and when after the start."""

    at_s: float
    tasks: tuple[Planned, ...]


def make_plan(seed: int, *, tasks: int, seconds: float) -> list[Request]:
    """Requests spread over the time, with as many tasks in all."""
    rng = random.Random(f"{seed}/tasks")
    sizes: list[int] = []
    left = tasks
    while left:
        size = min(left, rng.randint(2, MOST_IN_BULK) if rng.random() < BULK_SHARE else 1)
        sizes.append(size)
        left -= size
    requests, number = [], 0
    for size, at_s in zip(sizes, sorted(rng.uniform(0, seconds) for _ in sizes), strict=True):
        requests.append(Request(at_s, tuple(_planned(rng, number + each) for each in range(size))))
        number += size
    return requests


def _planned(rng: random.Random, number: int) -> Planned:
    [kind] = rng.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))
    until = rng.randint(2, 4) if kind in {"storm.flaky", "storm.again", "storm.late"} else 1
    payload: dict[str, Any] = {"number": number, "until": until}
    fields: dict[str, Any] = {
        "payload": payload,
        "priority": rng.choice([0, 0, 0, 5, 9]),
        "max_attempts": until + 3,
        "backoff": {"base": rng.choice([0.0, 0.1, 0.5]), "max": 2.0, "jitter": rng.random() < 0.5},
    }
    if kind == "storm.slow":
        payload["seconds"] = rng.choice([0.2, 0.5, 1.0, 2.0, 4.0, 8.0])
    elif kind == "storm.thread":
        payload["seconds"] = rng.choice([0.0, 0.05, 0.5])
    elif kind == "storm.again":
        payload["seconds"] = rng.choice([0.0, 0.3, 2.0])
    elif kind == "storm.hopeless":
        fields["max_attempts"] = rng.randint(1, 3)
    elif kind == "storm.late":
        # The later attempts have this long as well, and a frozen worker wakes up past it.
        fields |= {"timeout": 1.0, "max_attempts": until + 8}
    if rng.random() < 0.15:
        fields["delay"] = rng.uniform(0.5, 20.0)
    if rng.random() < 0.04:
        fields["queue"] = PATIENT
    cancel_after_s = rng.uniform(0, 5) if rng.random() < (0.3 if kind == "storm.slow" else 0.06) else None
    retryable = cancel_after_s is not None or kind in {"storm.hopeless", "storm.fail"}
    return Planned(
        number,
        kind,
        fields,
        start_within_s=fields.get("delay", 0.0) + rng.uniform(1, 8) if rng.random() < 0.03 else None,
        cancel_after_s=cancel_after_s,
        retry_after_s=rng.uniform(0.5, 3) if retryable and rng.random() < 0.5 else None,
    )
