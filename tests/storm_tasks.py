"""Task types for the storm: each run leaves lines behind that survive the death of its process.

A line is `start` or `end`, the task's id, the attempt and the milliseconds since the epoch, in the file `PID` of the
directory that `STORM_RUNS` names.
"""

import asyncio
import os
import time
from functools import cache
from pathlib import Path

from pydantic import BaseModel

from app import Context, Fail, Retry, task

SLICE_S = 0.02


class Work(BaseModel):
    """What to do.

    Attributes:
        number: Comes back in the result.
        seconds: How long it takes, or the delay that is asked for.
        until: The first attempt that succeeds.
    """

    number: int
    seconds: float = 0.0
    until: int = 1


@cache
def _runs_file() -> int:
    path = Path(os.environ["STORM_RUNS"]) / str(os.getpid())
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _note(event: str, ctx: Context) -> None:
    os.write(_runs_file(), f"{event} {ctx.task_id} {ctx.attempt} {time.time_ns() // 1_000_000}\n".encode())


def _done(ctx: Context, payload: Work) -> dict[str, int]:
    _note("end", ctx)
    return {"number": payload.number}


@task("storm.fast")
async def fast(ctx: Context, payload: Work) -> dict[str, int]:
    """Returns at once."""
    _note("start", ctx)
    return _done(ctx, payload)


@task("storm.slow", timeout=120)
async def slow(ctx: Context, payload: Work) -> dict[str, int]:
    """Takes its time."""
    _note("start", ctx)
    await asyncio.sleep(payload.seconds)
    return _done(ctx, payload)


@task("storm.thread", timeout=120)
def in_thread(ctx: Context, payload: Work) -> dict[str, int]:
    """Takes its time in a thread, and reports."""
    _note("start", ctx)
    ends_at = time.monotonic() + payload.seconds
    while time.monotonic() < ends_at and not ctx.cancelled:
        time.sleep(SLICE_S)
    ctx.progress(1, "nearly there")
    return _done(ctx, payload)


@task("storm.flaky")
async def flaky(ctx: Context, payload: Work) -> dict[str, int]:
    """Fails until an attempt."""
    _note("start", ctx)
    if ctx.attempt < payload.until:
        raise RuntimeError(f"attempt {ctx.attempt} fails")
    return _done(ctx, payload)


@task("storm.again")
async def again(ctx: Context, payload: Work) -> dict[str, int]:
    """Asks for another attempt until one."""
    _note("start", ctx)
    if ctx.attempt < payload.until:
        raise Retry(payload.seconds, "not yet")
    return _done(ctx, payload)


@task("storm.hopeless")
async def hopeless(ctx: Context, _payload: Work) -> None:
    """Fails in every attempt."""
    _note("start", ctx)
    raise RuntimeError("as always")


@task("storm.fail")
async def fails(ctx: Context, _payload: Work) -> None:
    """Fails for good."""
    _note("start", ctx)
    raise Fail("never")


@task("storm.late")
async def late(ctx: Context, payload: Work) -> dict[str, int]:
    """Takes longer than its timeout until an attempt."""
    _note("start", ctx)
    if ctx.attempt < payload.until:
        await asyncio.sleep(3600)
    return _done(ctx, payload)
