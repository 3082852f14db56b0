"""One stream of changes: a queue that is bounded, filled from one side and emptied from the other."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from app.core.event_id import EventId
from app.store.changes import ChangeDocument, ChangeFilter

MAX_WAITING = 1_000
"""Changes that a stream may be behind; at the next it is dropped."""


@dataclass(slots=True)
class Change:
    """A task came into a state, or is no longer kept. One for all the streams that tell it.

    Attributes:
        id: The state.
        document: What is told of it; None when the task is no longer kept.
        text: The same as it is sent, once somebody has written it.
    """

    id: EventId
    document: ChangeDocument | None
    text: str | None = None


class Stream:
    """What has changed and is not sent yet.

    Args:
        which: The changes that it is about; None is all that is offered.

    Attributes:
        started: Whether changes are kept; before that, its reader catches up by itself.
        on_close: Called when it ends, at the latest when it is dropped: whoever is in the middle of a write stops.
        has_left: Whether the client is gone.
    """

    def __init__(self, which: ChangeFilter | None = None) -> None:
        self.started = False
        self.on_close: Callable[[], None] = lambda: None
        self.has_left: Callable[[], bool] = lambda: False
        self._which = which
        self._waiting: deque[Change] = deque()
        self._last: EventId | None = None
        self._closed = False
        self._wake = asyncio.Event()

    def start(self, *, last: EventId | None = None) -> None:
        """Keep changes from now on.

        Args:
            last: The state that the client knows of; it is not told again.
        """
        self.started = True
        self._last = last

    def offer(self, change: Change) -> None:
        """A change, which may have been offered before; does not wait."""
        if not self.started or self._closed or change.id == self._last:
            return
        if self._which is None or (change.document is not None and self._which.matches(change.document)):
            self._last = change.id
            self._put(change)

    def delete(self) -> None:
        """The task is no longer kept."""
        if self.started and not self._closed and self._last is not None:
            self._put(Change(self._last, None))

    def _put(self, change: Change) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.clear()
            self.close()
        else:
            self._waiting.append(change)
            self._wake.set()

    def close(self) -> None:
        """End it; what waits is not sent any more."""
        self._closed = True
        self._wake.set()
        self.on_close()

    def close_if_left(self) -> None:
        """End it when its client is gone."""
        if not self._closed and self.has_left():
            self.close()

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._closed

    async def next(self, timeout_s: float) -> Change | None:
        """The next change, or None when there was none for so long or the stream is closed."""
        if not self._waiting and not self._closed:
            self._wake.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            except TimeoutError:
                return None
        return self._waiting.popleft() if self._waiting and not self._closed else None
