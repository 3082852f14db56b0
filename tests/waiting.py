"""Waiting for a condition instead of for a time."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

import pytest

_POLL_S = 0.015


async def wait_until(
    predicate: Callable[[], object] | Callable[[], Awaitable[object]], timeout_s: float = 10.0, what: str = ""
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
