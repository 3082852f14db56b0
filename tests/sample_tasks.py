"""Task types that behave in every way a handler can, for the tests; loaded with TASK_MODULES=tests.sample_tasks."""

import asyncio
import os
import signal
import sys
import time
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, Field

from app import Backoff, Context, Fail, Retry, task

AT_ONCE = Backoff(base=timedelta(0), jitter=False)


class Numbers(BaseModel):
    """A payload with rules."""

    low: int = Field(ge=0)
    high: int = 10


@task("test.numbers")
async def numbers(_ctx: Context, payload: Numbers) -> Numbers:
    """Returns a model."""
    return payload


@task("test.raise", max_attempts=2, backoff=AT_ONCE)
async def raises(_ctx: Context, _payload: dict[str, Any]) -> None:
    """Always fails."""
    raise ValueError("boom")


class Flaky(BaseModel):
    """Fails until this attempt."""

    succeed_on: int


@task("test.flaky", max_attempts=10, backoff=AT_ONCE)
async def flaky(ctx: Context, payload: Flaky) -> int:
    """Fails until an attempt."""
    if ctx.attempt < payload.succeed_on:
        raise RuntimeError(f"attempt {ctx.attempt} fails")
    return ctx.attempt


class Again(BaseModel):
    """Delay in seconds."""

    delay: float | None = None


@task("test.retry", max_attempts=2, backoff=AT_ONCE)
async def retries(ctx: Context, payload: Again) -> str:
    """Asks for a retry once."""
    if ctx.attempt == 1:
        raise Retry(payload.delay, "not yet")
    return "done"


@task("test.fail", max_attempts=5)
async def fails(_ctx: Context, _payload: dict[str, Any]) -> None:
    """Fails for good."""
    raise Fail("never")


@task("test.stubborn", max_attempts=1)
async def stubborn(_ctx: Context, _payload: dict[str, Any]) -> str:
    """Takes no notice of the first cancel and returns soon after."""
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await asyncio.sleep(0.05)
    return "finished anyway"


TOLD: set[str] = set()
"""Tasks that a test has told to go on; only where their worker runs in the process of the test."""


@task("test.fail_when_told", max_attempts=5)
async def fails_when_told(ctx: Context, _payload: dict[str, Any]) -> None:
    """Runs until it is told to fail."""
    while ctx.task_id not in TOLD:  # noqa: ASYNC110 - a test has another event loop
        await asyncio.sleep(0.01)
    raise ValueError("told")


class Steps(BaseModel):
    """How many, and seconds between them."""

    steps: int
    pause: float


@task("test.progress")
async def progresses(ctx: Context, payload: Steps) -> int:
    """Reports each step."""
    for step in range(payload.steps):
        ctx.progress(step / payload.steps, f"step {step}")
        await asyncio.sleep(payload.pause)
    return payload.steps


@task("test.thread")
def in_thread(ctx: Context, payload: dict[str, Any]) -> dict[str, Any]:
    """Runs in a thread."""
    ctx.log("from a thread")
    ctx.progress(1)
    return payload


@task("test.thread_until_cancelled", max_attempts=1)
def until_cancelled(ctx: Context, _payload: dict[str, Any]) -> None:
    """Runs in a thread until it is told to stop."""
    while not ctx.cancelled:
        time.sleep(0.01)


@task("test.not_json", max_attempts=1)
async def not_json(_ctx: Context, _payload: dict[str, Any]) -> object:
    """Returns what cannot be kept."""
    return object()


class Size(BaseModel):
    """Bytes."""

    size: int


@task("test.large", max_attempts=1)
async def large(_ctx: Context, payload: Size) -> str:
    """Returns a text of some size."""
    return "x" * payload.size


@task("test.report", timeout=30)
async def reports(ctx: Context, _payload: dict[str, Any]) -> None:
    """Reports, then waits to be looked at."""
    ctx.progress(0.5, "half way")
    for number in range(3):
        ctx.log(f"line {number}")
    await asyncio.sleep(30)


@task("test.exit", max_attempts=1)
async def exits(_ctx: Context, _payload: dict[str, Any]) -> None:
    """Wants to end the process politely."""
    sys.exit(3)


@task("test.kill", max_attempts=5)
async def kills(_ctx: Context, _payload: dict[str, Any]) -> None:
    """Takes its worker down."""
    os.kill(os.getpid(), signal.SIGKILL)


class Block(BaseModel):
    """Seconds."""

    seconds: float


@task("test.block", max_attempts=3)
async def blocks(_ctx: Context, payload: Block) -> str:
    """Blocks the event loop, as nobody should."""
    time.sleep(payload.seconds)  # noqa: ASYNC251 - that is the point
    return "done"


@task("test.thread_deaf", max_attempts=1)
def deaf(_ctx: Context, _payload: dict[str, Any]) -> None:
    """Runs in a thread and never looks."""
    time.sleep(3600)


@task("test.who", max_attempts=3)
async def who(ctx: Context, payload: Block) -> int:
    """Says that it has begun, and in the end which process ran it."""
    ctx.progress(0)
    await asyncio.sleep(payload.seconds)
    return os.getpid()


@task("test.block_once", max_attempts=3)
async def blocks_once(ctx: Context, payload: Block) -> str:
    """Blocks the event loop in its first attempt."""
    if ctx.attempt == 1:
        time.sleep(payload.seconds)  # noqa: ASYNC251 - that is the point
    return "done"


@task("test.long_once", max_attempts=3)
async def takes_long_once(ctx: Context, payload: Block) -> int:
    """Takes long in its first attempt; in the end it says which process ran it."""
    if ctx.attempt == 1:
        await asyncio.sleep(payload.seconds)
    return os.getpid()
