"""Dramatiq: one process of eight threads, its default, and no results."""

import os
from pathlib import Path

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from tape import REDIS_URL, main, started

dramatiq.set_broker(RedisBroker(url=REDIS_URL))


@dramatiq.actor
def noop() -> None:
    started()


def fill(count: int) -> None:
    for _ in range(count):
        noop.send()


def work() -> None:
    here = Path(__file__)
    options = ("--processes", "1", "--threads", "8", "--path", str(here.parent))
    os.execvp("dramatiq", ("dramatiq", here.stem, *options))  # noqa: S606 - no shell


if __name__ == "__main__":
    main(fill=fill, one=noop.send, work=work)
