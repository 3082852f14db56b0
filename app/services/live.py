"""Live changes of tasks, for any number of streams of this process.

Redis tells which tasks changed, MongoDB what they were changed to: each batch of ids is read once, however many streams
it is for, and a look at the truth every few seconds finds what Redis did not tell. A stream that does not keep up is
dropped and never waited for; its client goes on from the last event that it got.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice

from app.core.clock import to_ms, utc_now
from app.core.errors import StoreUnavailable, TooManyStreams
from app.core.event_id import EventId
from app.core.ids import TaskId
from app.event_models import event_id_of
from app.queue.task_queue import TaskQueue
from app.services.stream import Change, Stream
from app.store.changes import BATCH, ChangeDocument, ChangeFilter, ChangeStore

GATHER_S = 0.02
"""At least this long between two looks, so that changes under load are read in batches."""

FIRST_LOOK_S = 0.5

LOOK_S = 2.0
"""How often tasks that have streams of their own are looked at without being told of."""

SWEEP_S = 5.0
"""How often everything that changed lately is looked at, while there are streams of everything."""

OVERLAP = timedelta(seconds=5)
"""How far a sweep looks back past the one before: clocks differ, and a write may take a while to be seen."""

OUTAGE_PAUSE_S = 1.0
MAX_TOLD = 5_000
"""Ids that wait to be read; more than these are found by a sweep."""


class Live:
    """The streams of one process.

    Args:
        changes: What has changed.
        queue: Where listeners make themselves heard.
        max_streams: The most that may be open at the same time.
    """

    def __init__(self, changes: ChangeStore, queue: TaskQueue, *, max_streams: int) -> None:
        self.changes = changes
        self._queue = queue
        self._max_streams = max_streams
        self._of_task: dict[TaskId, set[Stream]] = defaultdict(set)
        self._of_all: set[Stream] = set()
        self._told: dict[TaskId, None] = {}
        self._suspected: dict[TaskId, None] = {}
        self._wake = asyncio.Event()
        self._opened_one = asyncio.Event()
        self._closed = False
        self._seen: dict[str, EventId] = {}
        self._since = self._swept_until = utc_now()
        self._look_at = self._sweep_at = 0.0

    def __len__(self) -> int:
        return len(self._of_all) + sum(map(len, self._of_task.values()))

    @contextmanager
    def stream_of_task(self, task_id: TaskId) -> Iterator[Stream]:
        """A stream of the changes of one task, open as long as the context is.

        Raises:
            TooManyStreams: this process serves as many as it may.
        """
        stream = self._opened(Stream())
        self._of_task[task_id].add(stream)
        try:
            yield stream
        finally:
            self._of_task[task_id].discard(stream)
            if not self._of_task[task_id]:
                del self._of_task[task_id]

    @contextmanager
    def stream_of_all(self, which: ChangeFilter, *, since: datetime) -> Iterator[Stream]:
        """A stream of the changes of every task, open as long as the context is.

        Args:
            which: The changes that it is about.
            since: What has changed before is not for it.

        Raises:
            TooManyStreams: this process serves as many as it may.
        """
        stream = self._opened(Stream(which))
        if not self._of_all:
            self._seen, self._since, self._swept_until = {}, since, utc_now()
            self._sweep_at = asyncio.get_running_loop().time() + FIRST_LOOK_S
        self._since = min(self._since, since)
        self._of_all.add(stream)
        try:
            yield stream
        finally:
            self._of_all.discard(stream)

    def _opened(self, stream: Stream) -> Stream:
        if len(self) >= self._max_streams:
            raise TooManyStreams(self._max_streams)
        if len(self) == 0:
            # What changes before every process has heard of the listener is found by the first look.
            self._look_at = asyncio.get_running_loop().time() + FIRST_LOOK_S
        if self._closed:
            stream.close()
        self._wake.set()
        self._opened_one.set()
        return stream

    def look_at(self, task_id: TaskId) -> None:
        """Look as soon as may be at a task that has streams of its own."""
        self._suspected[task_id] = None
        self._wake.set()

    @property
    def place(self) -> EventId:
        """A place before which nothing is left to be told."""
        return EventId(to_ms(self._swept_until - OVERLAP))

    def on_signal(self, message: str) -> None:
        """A message of a channel: ids of tasks that changed, separated by spaces."""
        if self._of_all:
            self._told.update(dict.fromkeys(map(TaskId, message.split())))
        elif self._of_task:
            self._told.update(
                dict.fromkeys(task_id for task_id in map(TaskId, message.split()) if task_id in self._of_task)
            )
        if len(self._told) > MAX_TOLD:
            self._told.clear()
            self.look_now()
        if self._told:
            self._wake.set()

    def look_now(self) -> None:
        """Look at the truth as soon as may be: signals may have been missed."""
        self._look_at = self._sweep_at = 0.0
        self._wake.set()

    def close(self) -> None:
        """End every stream, now and from now on: the process is shutting down."""
        self._closed = True
        for stream in self._streams():
            stream.close()

    def _streams(self) -> list[Stream]:
        return [*self._of_all, *(stream for streams in self._of_task.values() for stream in streams)]

    async def run_once(self) -> None:
        """Wait until there is something to do, and do it.

        Raises:
            StoreUnavailable: MongoDB cannot serve; the next pass looks at everything.
        """
        await self._rest()
        if len(self) == 0:
            self._told.clear()
            self._suspected.clear()
            return
        clock = asyncio.get_running_loop().time
        try:
            for document in await self._taken(self._told):
                self._deliver_to_its_own(document)
                self._deliver_to_all(document)
            for document in await self._taken(self._suspected):
                self._deliver_to_its_own(document)
            if clock() >= self._look_at:
                self._look_at = clock() + LOOK_S
                await self._look()
            if self._of_all and clock() >= self._sweep_at:
                self._sweep_at = clock() + SWEEP_S
                await self._sweep()
        except StoreUnavailable:
            self.look_now()
            await asyncio.sleep(OUTAGE_PAUSE_S)
            raise

    async def _rest(self) -> None:
        clock = asyncio.get_running_loop().time
        while not (self._told or self._suspected):
            pause_s = None
            if len(self):
                pause_s = min(self._look_at, self._sweep_at if self._of_all else float("inf")) - clock()
                if pause_s <= 0:
                    return
            self._wake.clear()
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                return

    async def make_heard(self) -> None:
        """Wait until there are streams, and tell every process of them; to be done every `audience.BEAT_S` seconds.

        Apart from `run_once`, which must not wait for a Redis that hangs.

        Raises:
            QueueUnavailable: Redis cannot serve; changes are seen a little later.
        """
        while len(self) == 0:
            self._opened_one.clear()
            await self._opened_one.wait()
        await self._queue.signal_audience()

    async def _taken(self, task_ids: dict[TaskId, None]) -> list[ChangeDocument]:
        """The state of the first of these tasks, which are taken out; the rest is for the next pass."""
        batch = list(islice(task_ids, BATCH))
        for task_id in batch:
            del task_ids[task_id]
        return await self.changes.of(batch) if batch else []

    async def _look(self) -> None:
        """Look at the tasks that have streams of their own, and at the streams themselves."""
        for stream in self._streams():
            stream.close_if_left()
        watched = iter(list(self._of_task))
        while batch := list(islice(watched, BATCH)):
            found = await self.changes.of(batch)
            for document in found:
                self._deliver_to_its_own(document)
            for task_id in set(batch) - {TaskId(str(document["_id"])) for document in found}:
                for stream in self._of_task.get(task_id, ()):
                    stream.delete()

    async def _sweep(self) -> None:
        """Look at everything that has changed lately."""
        begun, since = utc_now(), max(self._swept_until - OVERLAP, self._since)
        async for batch in self.changes.since(since):
            for document in batch:
                self._deliver_to_its_own(document)
                self._deliver_to_all(document)
        self._swept_until = begun
        self._forget(begun - 4 * OVERLAP)

    def _forget(self, before: datetime) -> None:
        """What no sweep will meet again need not be remembered."""
        before_ms = to_ms(before)
        self._seen = {task_id: seen for task_id, seen in self._seen.items() if seen.at_ms >= before_ms}

    def _deliver_to_its_own(self, document: ChangeDocument) -> None:
        change = Change(event_id_of(document), document)
        for stream in self._of_task.get(TaskId(change.id.task_id), ()):
            stream.offer(change)

    def _deliver_to_all(self, document: ChangeDocument) -> None:
        change = Change(event_id_of(document), document)
        if self._of_all and self._seen.get(change.id.task_id) != change.id:
            self._seen[change.id.task_id] = change.id
            for stream in self._of_all:
                stream.offer(change)
