"""Arqive's own processes, for tests that send them signals."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from settings import Settings

START_S = 60.0
"""A process has started and done its first work within this, also on a machine that starts ten others."""


@dataclass(frozen=True)
class Process:
    """A web or worker process and where its log goes."""

    popen: "subprocess.Popen[bytes]"
    log: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def send(self, signum: signal.Signals) -> None:
        self.popen.send_signal(signum)

    def wait(self, timeout_s: float = START_S) -> int:
        """The exit code; negative is the signal that killed it."""
        return self.popen.wait(timeout_s)

    def logged(self, text: str) -> bool:
        return text in self.log.read_text()


def environment(settings: Settings, **changes: object) -> dict[str, str]:
    """The environment that gives a process these settings."""
    values: dict[str, object] = {
        "MONGO_URL": settings.mongo_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "MONGO_DATABASE": settings.mongo_database,
        "TASK_MODULES": ",".join(settings.task_modules),
        "LEASE_SECONDS": settings.lease_seconds,
        "SHUTDOWN_GRACE_SECONDS": settings.shutdown_grace_seconds,
        "HEALTH_PORT": settings.health_port,
        "HOST": "127.0.0.1",
        "LOG_FORMAT": "console",
        **{name.upper(): value for name, value in changes.items()},
    }
    return {**os.environ, **{name: str(value) for name, value in values.items()}}


@contextmanager
def started(role: str, settings: Settings, directory: Path, **changes: object) -> Iterator[Process]:
    """A process of a role; it is killed at the end if it still runs."""
    log = directory / f"{role}-{len(list(directory.iterdir()))}.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [sys.executable, "-m", "app", role], env=environment(settings, **changes), stdout=output, stderr=output
        )
    process = Process(popen, log)
    try:
        yield process
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.wait()
        sys.stdout.write(f"--- {role} {popen.pid} ---\n{log.read_text()}\n")
