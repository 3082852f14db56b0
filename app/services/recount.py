"""Figures that cost a look at many tasks: found once for everybody who asks, and kept for as long as they were dear."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from app.core.clock import utc_now

Figures = TypeVar("Figures")

WORTH = 10.0
"""Dear figures are kept for as many times the time they took, so that at most a tenth of any time goes into them."""

LONGEST_S = 600.0

CHEAP_S = 0.25
"""Figures that took no longer are kept only as long as they took."""

PATIENCE_S = 0.25
"""How long new figures are waited for when there are old ones, since their count began."""

FIRST_PATIENCE_S = 2.0
"""The same for the first figures."""


@dataclass(frozen=True, slots=True)
class Counted(Generic[Figures]):
    """Figures and the moment that they are of."""

    figures: Figures
    at: datetime

    @property
    def age(self) -> timedelta:
        """How old they are."""
        return max(timedelta(0), utc_now() - self.at)


class Recount(Generic[Figures]):
    """Counts again when the last count is too old, never twice at a time.

    A count is waited for in its first moment only; whoever comes later while it is under way takes what there is.
    """

    def __init__(self) -> None:
        self._last: Counted[Figures] | None = None
        self._good_until = 0.0
        self._begun = 0.0
        self._counting: asyncio.Task[Counted[Figures]] | None = None

    async def get(self, count: Callable[[], Awaitable[Figures]]) -> Counted[Figures] | None:
        """The figures; None when the first count takes long.

        Args:
            count: Finds them; what it raises is raised to those who wait for it.
        """
        if time.monotonic() < self._good_until:
            return self._last
        if self._counting is None or self._counting.done():
            self._begun = time.monotonic()
            self._counting = asyncio.create_task(self._count(count))
            self._counting.add_done_callback(_seen)
        patience = FIRST_PATIENCE_S if self._last is None else PATIENCE_S
        # A caller that is cancelled does not end the count of the others.
        await asyncio.wait({self._counting}, timeout=max(0.0, self._begun + patience - time.monotonic()))
        return self._counting.result() if self._counting.done() else self._last

    async def _count(self, count: Callable[[], Awaitable[Figures]]) -> Counted[Figures]:
        at, begun = utc_now(), time.monotonic()
        try:
            self._last = Counted(await count(), at)
        finally:
            ended = time.monotonic()
            took_s = ended - begun
            self._good_until = ended + min(LONGEST_S, took_s if took_s <= CHEAP_S else WORTH * took_s)
        return self._last

    async def close(self) -> None:
        """End a count that is under way."""
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.wait({self._counting})


def _seen(task: "asyncio.Task[Counted[Figures]]") -> None:
    """Those who wait are told; when nobody waits any more, the next one counts again and learns."""
    if not task.cancelled():
        task.exception()
