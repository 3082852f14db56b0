"""The services that are compared: Arqive, and what people write with the same parts in Python and in Node."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from arq.constants import default_queue_name

from app.queue import keys
from bench import node_packages


class Work(Enum):
    """What a task does; every stack takes the same body."""

    NOTHING = '{"type":"echo","payload":{"number":1}}'
    WAITING = '{"type":"sleep","payload":{"seconds":0.05}}'


@dataclass(frozen=True, slots=True)
class Stack:
    """A web and a worker program.

    Attributes:
        key: Its name in files and tables of results.
        label: What people call it.
        short: The same where there is little room.
        web: The command of the web process.
        worker: That of a worker process.
        sizes: Redis keys with the command that says how many tasks each still holds.
        waits: Whether its GET waits for the end; otherwise the client asks every few milliseconds.
        environment: Of all its processes.
        why_not: Makes it ready to start; why that cannot be, or nothing.
    """

    key: str
    label: str
    short: str
    web: tuple[str, ...]
    worker: tuple[str, ...]
    sizes: tuple[tuple[str, str], ...]
    waits: bool
    environment: tuple[tuple[str, str], ...] = ()
    why_not: Callable[[Callable[[str], None]], str] = lambda _: ""


_ARQIVE_SIZES = (("ZCARD", keys.queue("default")), ("ZCARD", keys.leases("default")))

ARQIVE = Stack(
    "arqive",
    "Arqive, as it comes (100 slots)",
    "Arqive",
    web=(sys.executable, "-m", "app", "web"),
    worker=(sys.executable, "-m", "app", "worker"),
    sizes=_ARQIVE_SIZES,
    waits=True,
    environment=(("HOST", "127.0.0.1"), ("HEALTH_PORT", "0")),
)
ARQIVE_WIDE = replace(
    ARQIVE,
    key="arqive-wide",
    label="Arqive, 1,000 slots",
    short="Arqive, 1,000 slots",
    environment=(*ARQIVE.environment, ("CONCURRENCY", "1000")),
)
PLAIN = Stack(
    "plain",
    "aiohttp + arq + Motor, default (10 slots, poll 0.5 s)",
    "aiohttp + arq, default",
    web=(sys.executable, "-m", "bench.plain.web"),
    worker=(sys.executable, "-m", "bench.plain.worker"),
    sizes=(("ZCARD", default_queue_name),),
    waits=False,
    environment=(("QUEUE", default_queue_name),),
)
PLAIN_TUNED = replace(
    PLAIN,
    key="plain-tuned",
    label="aiohttp + arq + Motor, tuned (1,000 slots, poll 10 ms, uvloop)",
    short="aiohttp + arq, tuned",
    environment=(
        *PLAIN.environment,
        ("MAX_JOBS", "1000"),
        ("POLL_DELAY", "0.01"),
        ("KEEP_RESULT", "0"),
        ("UVLOOP", "1"),
    ),
)
NODE = Stack(
    "node",
    "Express + BullMQ + Mongoose (concurrency 100)",
    "Express + BullMQ",
    web=("node", str(node_packages.NODE / "web.js")),
    worker=("node", str(node_packages.NODE / "worker.js")),
    sizes=(("LLEN", "bull:tasks:wait"), ("LLEN", "bull:tasks:active")),
    waits=True,
    environment=(("CONCURRENCY", "100"), ("NODE_ENV", "production")),
    why_not=node_packages.why_not,
)
STACKS = (ARQIVE, PLAIN, PLAIN_TUNED, NODE)
"""Those that every measure has."""
