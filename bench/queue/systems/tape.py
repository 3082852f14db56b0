"""What the systems share, with nothing but the standard library: the job, and the three things that a script can do."""

import asyncio
import inspect
import json
import os
import random
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext

REDIS_URL = os.environ["REDIS_URL"]
MOMENT = struct.Struct("d")
GAP_S = (0.01, 0.05)
WARM_UP = 10
PATIENCE_S = 30.0

_tape = os.open(os.environ["TAPE"], os.O_WRONLY | os.O_APPEND)


def started() -> None:
    """What every job does: leave the moment, by the clock that all processes of the machine share, in one write."""
    os.write(_tape, MOMENT.pack(time.monotonic()))


def main(
    *,
    fill: Callable[[int], Awaitable[None] | None],
    one: Callable[[], Awaitable[object] | object],
    work: Callable[[], None],
    opened: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
) -> None:
    """Do what the command line says.

    Args:
        fill: Queue so many jobs.
        one: Queue one, as a client does.
        work: Run one worker until it is killed.
        opened: Connects what queues.
    """
    what = sys.argv[1]
    if what == "work":
        work()
        return

    async def send() -> None:
        async with opened():
            if what == "fill":
                await _done(fill(int(sys.argv[2])))
            else:
                print(json.dumps(await _pick(one, int(sys.argv[2]))))

    asyncio.run(send())


async def _pick(one: Callable[[], Awaitable[object] | object], count: int) -> list[float]:
    """Seconds from just before a job is queued until it is started, one at a time."""
    found = []
    tape = os.open(os.environ["TAPE"], os.O_RDONLY)
    for number in range(WARM_UP + count):
        await asyncio.sleep(random.uniform(*GAP_S))
        sent_at = time.monotonic()
        await _done(one())
        while len(raw := os.pread(tape, MOMENT.size, number * MOMENT.size)) < MOMENT.size:
            if time.monotonic() - sent_at > PATIENCE_S:
                sys.exit("a job was not started in time")
            await asyncio.sleep(0.001)
        if number >= WARM_UP:
            found.append(MOMENT.unpack(raw)[0] - sent_at)
    return found


async def _done(result: Awaitable[object] | object) -> None:
    if inspect.isawaitable(result):
        await result
