"""Keeps new tasks and queues them: those that arrive at the same time share one insert and one pipeline."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bson import ObjectId

from app.core.errors import QueueUnavailable, StoreRefused, StoreUnavailable
from app.core.faults import FaultPoint, reach
from app.core.ids import TaskId
from app.queue.task_queue import Entry, TaskQueue
from app.services.batch import Batcher
from app.store.documents import TaskDocument
from app.store.key_holders import Holder
from app.store.tasks import TaskStore
from app.telemetry.catalogue import Operation, Role
from app.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

BATCH = 200
"""Requests that share a write at most."""

DISPATCH_PATIENCE_S = 1.0
"""How long the answer to an accepted task waits for Redis."""

PREPARING_PATIENCE_S = 3.0
"""How long a task with a key waits, in the first moments of a process, for the indexes to be there."""

OUTAGE_PAUSE_S = 2.0
"""How long Redis is left alone after it failed: in that time no request waits for it."""


@dataclass(frozen=True, slots=True)
class _Request:
    """The tasks of one request, and by their ids the tasks that are answered instead of being made."""

    documents: Sequence[TaskDocument]
    instead: dict[ObjectId, Holder] = field(default_factory=dict)


class Acceptor:
    """Takes tasks in for one web process.

    Args:
        tasks: Where they are kept.
        queue: Where workers look for them.
        metrics: Counts them.
        prepared: Set once there are the indexes that keep keys apart; None when they are there from the beginning.
    """

    def __init__(
        self,
        tasks: TaskStore,
        queue: TaskQueue,
        metrics: Metrics | None = None,
        *,
        prepared: asyncio.Event | None = None,
    ) -> None:
        self._tasks = tasks
        self._queue = queue
        self._metrics = metrics or Metrics(Role.WEB)
        self._inserts: Batcher[_Request] = Batcher(self._insert, limit=BATCH)
        self._dispatches: Batcher[Sequence[Entry]] = Batcher(self._dispatch, limit=BATCH)
        self._try_again_at = 0.0
        self._prepared = prepared

    async def accept(self, documents: Sequence[TaskDocument]) -> Mapping[ObjectId, Holder]:
        """Keep new tasks, then queue them; returns once a majority has journaled them.

        Returns:
            For each that was not kept, since another task has its key: that task.

        Raises:
            StoreUnavailable: MongoDB cannot serve; nothing is promised.
            StoreRefused: one of them cannot be stored.
        """
        if self._prepared is not None:
            await self._until_keys_hold(documents, self._prepared)
        request = _Request(documents)
        await self._inserts.add(request)
        instead = request.instead
        kept = [document for document in documents if document["_id"] not in instead] if instead else documents
        for document in kept:
            self._metrics.accepted(document["type"], document["queue"])
        await reach(FaultPoint.AFTER_INSERT)
        if kept:
            await self.dispatch(kept)
        await reach(FaultPoint.AFTER_DISPATCH)
        return instead

    async def _until_keys_hold(self, documents: Sequence[TaskDocument], prepared: asyncio.Event) -> None:
        """In a new database two tasks with one key would be kept, and then the index could not be made any more."""
        if any("idempotency" in document or "unique_key" in document for document in documents):
            try:
                async with asyncio.timeout(PREPARING_PATIENCE_S):
                    await prepared.wait()
            except TimeoutError as error:
                raise StoreUnavailable("MongoDB has no indexes yet that keep keys apart") from error
        if prepared.is_set():
            self._prepared = None

    async def dispatch(self, documents: Sequence[TaskDocument]) -> None:
        """Queue tasks that are kept; without Redis they wait for reconcile, and their client need not know."""
        await self.offer([entry_of(document) for document in documents])

    async def offer(self, entries: Sequence[Entry]) -> None:
        """As `dispatch`, for those who know no more of the tasks."""
        # Their batch may have to wait for the one before.
        await self._dispatches.add(entries, patience_s=DISPATCH_PATIENCE_S)

    async def _insert(self, requests: Sequence[_Request]) -> list[Exception | None]:
        documents = [document for request in requests for document in request.documents]
        self._metrics.batch(Operation.INSERT, len(documents))
        try:
            instead = await self._tasks.insert(documents)
        except StoreRefused:
            return [await self._insert_alone(request) for request in requests]
        if instead:
            for request in requests:
                own_ids = (document["_id"] for document in request.documents)
                request.instead.update({own_id: instead[own_id] for own_id in own_ids if own_id in instead})
        return [None] * len(requests)

    async def _insert_alone(self, request: _Request) -> Exception | None:
        """What spoilt the batch fails alone; what was kept with it is found to be there."""
        try:
            request.instead.update(await self._tasks.insert(request.documents))
        except StoreRefused as error:
            return error
        return None

    async def _dispatch(self, requests: Sequence[Sequence[Entry]]) -> None:
        clock = asyncio.get_running_loop().time
        if clock() < self._try_again_at:
            return
        entries = [entry for request in requests for entry in request]
        self._metrics.batch(Operation.DISPATCH, len(entries))
        try:
            async with asyncio.timeout(DISPATCH_PATIENCE_S):
                await self._queue.dispatch(entries)
        except (QueueUnavailable, TimeoutError) as error:
            self._try_again_at = clock() + OUTAGE_PAUSE_S
            reason = str(error) or f"no answer within {DISPATCH_PATIENCE_S:g} s"
            logger.warning(
                "Kept %d tasks but could not queue them, reconcile will: %s",
                len(entries),
                reason,
                extra={"event": "dispatch_failed"},
            )


def entry_of(document: TaskDocument) -> Entry:
    """The queue entry of a waiting task."""
    return Entry(TaskId(str(document["_id"])), document["queue"], document["run_at"], document["priority"])
