"""Everything that a run has found; a section that did not run is empty."""

from dataclasses import dataclass, field

from bench.queue.measure import QueueLayer
from bench.rounds import Rounds
from bench.service.accept import Accepted, Accepts
from bench.service.drain import Drains
from bench.service.latency import Latencies
from bench.service.plan import Plan
from bench.service.stacks import Stack
from bench.service.stored import Stored
from bench.service.trial import Load


@dataclass(slots=True)
class OnServer:
    """What is measured on every MongoDB-wire server of a run.

    Attributes:
        name: What people call the server; empty when nothing was measured on it.
    """

    name: str = ""
    accepts: Accepts = field(default_factory=Rounds)
    drains: Drains = field(default_factory=Rounds)


@dataclass(slots=True)
class Results:
    """Of a run.

    Attributes:
        machine: What it ran on.
        command: What repeats it.
        plan: Its sizes.
        sections: What was measured.
        main: On the server that most was measured on.
        embedded: On the embedded one, where that is another.
        ceiling: Of the load generator, by its clients, against a server that does nothing.
        bulks: By clients.
        latencies: By stack.
        stored: By the number of finished tasks.
        queue: Without MongoDB.
        seconds: How long all of it took.
    """

    machine: list[tuple[str, str]]
    command: str
    plan: Plan
    sections: tuple[str, ...]
    main: OnServer = field(default_factory=OnServer)
    embedded: OnServer = field(default_factory=OnServer)
    ceiling: dict[int, Load] = field(default_factory=dict)
    bulks: Rounds[int, Accepted] = field(default_factory=Rounds)
    latencies: Rounds[Stack, Latencies] = field(default_factory=Rounds)
    stored: Rounds[int, Stored] = field(default_factory=Rounds)
    queue: QueueLayer = field(default_factory=lambda: QueueLayer(Rounds(), Rounds()))
    seconds: float = 0.0
