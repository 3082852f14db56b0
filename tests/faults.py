"""Arms a fault point in a real process: TASK_MODULES=tests.faults, ARQIVE_TEST_FAULT=after_insert=crash.

Each point strikes once a process. It also has task types whose attempts differ, to tell one run from another.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel

from app import Context, Retry, task
from app.core.faults import Action, FaultPoint, arm

VARIABLE = "ARQIVE_TEST_FAULT"


async def crash() -> None:
    """As the out-of-memory killer does it."""
    os.kill(os.getpid(), signal.SIGKILL)


async def hang() -> None:
    """For longer than the leases of the tests."""
    await asyncio.sleep(4)


async def fail() -> None:
    """As a bug would."""
    raise RuntimeError("a fault of the test")


ACTIONS: dict[str, Action] = {"crash": crash, "hang": hang, "raise": fail}


def once(point: FaultPoint, action: Action) -> Action:
    """The action, the first time only; it says in the log that it is due."""
    left = [action]

    async def strike() -> None:
        if left:
            sys.stderr.write(f"fault at {point}\n")
            sys.stderr.flush()
            await left.pop()()

    return strike


def arm_from(text: str, arm_point: Callable[[FaultPoint, Action], None] = arm) -> None:
    """Arm what a text such as `after_insert=crash` says; an empty one says nothing."""
    if text:
        name, _, action = text.partition("=")
        arm_point(FaultPoint(name), once(FaultPoint(name), ACTIONS[action]))


arm_from(os.environ.get(VARIABLE, ""))


class Seconds(BaseModel):
    """How long the first attempt takes; the second takes three times as long, or until there is a file."""

    seconds: float
    until: str = ""


@task("fault.slower", max_attempts=3, timeout=120)
async def slower(ctx: Context, payload: Seconds) -> int:
    """Says that it has begun, and in the end which process ran it."""
    ctx.progress(0)
    if ctx.attempt > 1 and payload.until:
        until = Path(payload.until)
        while not until.exists():  # noqa: ASYNC110, ASYNC240 - another process makes it
            await asyncio.sleep(0.02)
    else:
        await asyncio.sleep(payload.seconds if ctx.attempt == 1 else 3 * payload.seconds)
    return os.getpid()


@task("fault.retry_later", max_attempts=2)
async def retry_later(ctx: Context, payload: Seconds) -> int:
    """Fails once; its retry is due after a while."""
    if ctx.attempt == 1:
        raise Retry(payload.seconds, "later")
    return ctx.attempt
