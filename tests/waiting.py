"""Waiting for a condition instead of for a time."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

import pytest

PATIENCE_S = 30.0
"""What happens at all happens within this, also on a machine that does ten other things."""

_POLL_S = 0.015


async def wait_until(
    predicate: Callable[[], object] | Callable[[], Awaitable[object]], timeout_s: float = PATIENCE_S, what: str = ""
) -> None:
    """Return once the predicate, sync or async, is true; fail the test with `what` after `timeout_s` seconds."""
    __tracebackhide__ = True
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                outcome = predicate()
                if await outcome if inspect.isawaitable(outcome) else outcome:
                    return
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        pytest.fail(f"not within {timeout_s:g} s: {what or predicate}")
