"""Task types that run in processes, for the tests; loaded with TASK_MODULES=tests.process_tasks."""

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from typing import Any

from pydantic import BaseModel

from app import Context, Fail, Retry, task
from tests.sample_tasks import AT_ONCE


class Born(BaseModel):
    """A payload that has to be validated where it is used."""

    on: date


@task("process.age", process=True)
def age(ctx: Context, payload: Born) -> dict[str, Any]:
    """Says where it runs and what it got."""
    print("what a handler prints disturbs nobody")  # noqa: T201 - that is the point
    ctx.progress(0.25)
    for number in range(300):
        ctx.log(f"line {number}")
    ctx.progress(1, "done")
    return {"pid": os.getpid(), "year": payload.on.year, "task_id": ctx.task_id, "attempt": ctx.attempt}


@task("process.pid", process=True)
def pid(_ctx: Context, _payload: dict[str, Any]) -> int:
    """Says where it runs."""
    return os.getpid()


class Odd(Exception):  # noqa: N818 - odd
    """Cannot be pickled."""

    def __init__(self, reason: str, *, wherefore: object) -> None:
        super().__init__(reason)
        self.wherefore = wherefore


class Way(BaseModel):
    """How to end."""

    way: str = "raise"


@task("process.end", process=True, max_attempts=2, backoff=AT_ONCE)
def end(ctx: Context, payload: Way) -> Any:
    """Ends badly in its first attempt."""
    ctx.log(f"pid {os.getpid()}")
    if ctx.attempt > 1:
        return os.getpid()
    return ENDS[payload.way](ctx)


def _odd(_ctx: Context) -> None:
    raise Odd("odd", wherefore=lambda: None)


def _fail(_ctx: Context) -> None:
    raise Fail("never")


def _retry(_ctx: Context) -> None:
    raise Retry(0, "again")


ENDS: dict[str, Callable[[Context], Any]] = {
    "raise": _odd,
    "fail": _fail,
    "retry": _retry,
    "leave": lambda _ctx: os._exit(0),
    "abort": lambda _ctx: os.abort(),
    "segfault": lambda _ctx: ctypes.string_at(0),
    "exit": lambda _ctx: sys.exit(3),
    "session": lambda ctx: ctx.session,
    "object": lambda _ctx: object(),
    "large": lambda _ctx: "x" * 2_000_000,
}


class Sleep(BaseModel):
    """Seconds."""

    seconds: float = 3600


@task("process.sleep", process=True, max_attempts=1)
def sleep(ctx: Context, payload: Sleep) -> int:
    """Does not look whether it should stop."""
    ctx.log(str(os.getpid()))
    time.sleep(payload.seconds)
    return os.getpid()


@task("process.spin", process=True, max_attempts=1)
def spin(ctx: Context, _payload: dict[str, Any]) -> None:
    """Computes for ever, in one call that never gives up the interpreter's lock."""
    ctx.log(str(os.getpid()))
    sum(range(10**15))


@task("process.polite", process=True, max_attempts=1)
def polite(ctx: Context, _payload: dict[str, Any]) -> None:
    """Looks whether it should stop."""
    ctx.log(str(os.getpid()))
    while not ctx.cancelled:
        time.sleep(0.01)


@task("process.parent", process=True, max_attempts=1)
def parent(ctx: Context, _payload: dict[str, Any]) -> None:
    """Starts a program of its own and waits for it."""
    with subprocess.Popen(["sleep", "3600"]) as program:
        ctx.log(str(program.pid))
        program.wait()
