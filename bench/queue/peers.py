"""The systems of the queue layer and how each is started."""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import node_packages

SYSTEMS = Path(__file__).with_name("systems")
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Peer:
    """One system.

    Attributes:
        label: What people call it, with its version.
        script: The script in systems/ that queues and runs its jobs.
        expected: Jobs a second that one worker may reach: the size of the first round is taken from it.
        packages: What its environment holds; empty is this program's own environment.
        environment: Variables of its processes.
        note: How it is set up.
    """

    label: str
    script: str
    expected: float
    packages: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    note: str = ""

    def command(self, *arguments: str) -> list[str]:
        """The whole command that does something with it."""
        if self.script.endswith(".js"):
            return ["node", str(node_packages.NODE / self.script), *arguments]
        script = str(SYSTEMS / self.script)
        if not self.packages:
            return [sys.executable, script, *arguments]
        return [*_isolated(self.packages), "python", script, *arguments]

    def variables(self) -> dict[str, str]:
        """The environment of its processes, apart from what they inherit."""
        return {"PYTHONPATH": "" if self.packages else str(ROOT), **dict(self.environment)}

    def why_not(self, tell: Callable[[str], None]) -> str:
        """Why it cannot be started, or nothing."""
        if self.script.endswith(".js"):
            return node_packages.why_not(tell)
        if self.packages and _uv() is None:
            return "uv, which makes its environment, is not installed"
        return ""


def _isolated(packages: tuple[str, ...]) -> list[str]:
    """A Python of its own with exactly these packages; uv keeps them for the next time."""
    base = Path(sys.base_prefix) / "bin/python3"
    python = str(base) if base.exists() else f"{sys.version_info.major}.{sys.version_info.minor}"
    named = [part for package in packages for part in ("--with", package)]
    return [_uv() or "uv", "run", "--quiet", "--isolated", "--no-project", "--python", python, *named]


def _uv() -> str | None:
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


def _version(package: str) -> str:
    return importlib.metadata.version(package)


ARQIVE = Peer("Arqive, engine alone", "arqive_jobs.py", 25_000, note="1,000 slots, without MongoDB")
ARQ_TUNED = Peer(f"arq {_version('arq')}, tuned", "arq_jobs.py", 1500, note="1,000 slots, poll 10 ms, uvloop")
BULLMQ = Peer("BullMQ 6.7.0", "jobs.js", 5000, note="concurrency 100, ended jobs removed")
PEERS = (
    ARQIVE,
    BULLMQ,
    Peer(
        "taskiq 0.13.0, taskiq-redis 1.2.4",
        "taskiq_jobs.py",
        2000,
        ("taskiq==0.13.0", "taskiq-redis==1.2.4", "redis[hiredis]", "uvloop"),
        note="list broker, 1 process, 100 at a time, no results",
    ),
    Peer(
        "Dramatiq 2.2.1",
        "dramatiq_jobs.py",
        1500,
        ("dramatiq[redis]==2.2.1", "redis[hiredis]"),
        note="1 process of 8 threads, no results",
    ),
    ARQ_TUNED,
    Peer(
        "SAQ 0.26.4",
        "saq_jobs.py",
        1000,
        ("saq[hiredis]==0.26.4", "typing-extensions", "uvloop"),
        note="concurrency 100, uvloop, ended jobs removed",
    ),
    Peer(
        "streaQ 7.2.0",
        "streaq_jobs.py",
        800,
        ("streaq==7.2.0", "uvloop"),
        note="concurrency 100, 100 fetched ahead, no results",
    ),
    Peer(
        "Celery 5.7.0",
        "celery_jobs.py",
        800,
        ("celery[redis]==5.7.0", "redis[hiredis]"),
        note=f"prefork with {os.cpu_count()} children, 128 fetched ahead each, no results, no events",
    ),
    Peer(
        "RQ 3.0.0",
        "rq_jobs.py",
        200,
        ("rq==3.0.0", "redis[hiredis]"),
        note="SimpleWorker, no results",
    ),
    Peer(
        f"arq {_version('arq')}, default",
        "arq_jobs.py",
        190,
        environment=(("ARQ_DEFAULT", "1"),),
        note="10 slots, poll 0.5 s",
    ),
)
