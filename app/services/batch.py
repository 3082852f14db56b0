"""Lets things that happen at the same time share one round trip."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """Writes items in batches: the first goes at once, those that arrive meanwhile go together in the next.

    Nobody waits for company, and at most one batch is under way.

    Args:
        write: Writes a batch. What it raises is raised to everybody in the batch; where it returns a sequence, each
            item's own error is raised to whoever added it.
        limit: The most items in a batch.
    """

    def __init__(
        self, write: Callable[[Sequence[Item]], Awaitable[Sequence[Exception | None] | None]], *, limit: int
    ) -> None:
        self._write = write
        self._limit = limit
        self._waiting: list[tuple[Item, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def add(self, item: Item, *, patience_s: float | None = None) -> None:
        """Return once the item is written, or the caller's patience is over.

        The item stays in its batch, then and when the caller is cancelled.
        """
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._waiting.append((item, done))
        if self._flushing is None:
            # In a context of its own: what it logs is not about the request or the task that happened to come first.
            self._flushing = asyncio.create_task(self._flush(), context=Context())
        if patience_s is None:
            await done
            return
        timer = loop.call_later(patience_s, _let_go, done)  # half of what asyncio.timeout costs
        try:
            await done
        finally:
            timer.cancel()

    async def _flush(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
                await self._write_batch(batch)
        finally:
            self._flushing = None

    async def _write_batch(self, batch: Sequence[tuple[Item, asyncio.Future[None]]]) -> None:
        try:
            errors = await self._write([item for item, _ in batch])
        except BaseException as error:
            # Whatever it is, it belongs to those who wait: left to this task, they would wait for ever.
            for _, done in batch:
                if not done.done():
                    done.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            if not isinstance(error, Exception):
                raise
        else:
            for (_, done), own in zip(batch, errors or [None] * len(batch), strict=True):
                if done.done():
                    continue  # its caller has been cancelled
                if own is None:
                    done.set_result(None)
                else:
                    done.set_exception(own)


def _let_go(done: "asyncio.Future[None]") -> None:
    if not done.done():
        done.set_result(None)
