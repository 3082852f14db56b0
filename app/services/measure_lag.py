"""Measures how late the event loop is."""

import asyncio

from app.core.cancellation import cancel_is_due
from app.telemetry.metrics import Metrics

INTERVAL_S = 1.0


async def measure_lag(metrics: Metrics) -> None:
    """Sleep for a second and see how much longer it took, again and again until cancelled."""
    clock = asyncio.get_running_loop().time
    while not cancel_is_due():
        due = clock() + INTERVAL_S
        await asyncio.sleep(INTERVAL_S)
        metrics.lagged(max(0.0, clock() - due))
