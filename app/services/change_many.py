"""What a client may do to all tasks that match a filter: cancel, retry.

A call picks up to `limit` tasks, oldest first, and changes them a page at a time. Every write says from which states it
starts, so that a call may be cut off anywhere, made again, and made twice at once. It ends early when it has taken long
or when the process shuts down, and says where to go on.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from app.core.clock import utc_now
from app.core.errors import QueueUnavailable
from app.core.ids import TaskId
from app.core.states import CANCEL
from app.queue.cancels import tell_cancels
from app.queue.task_queue import Entry
from app.services.backend import Backend
from app.store.selection import Cancelled, Picked, Selection, SelectionStore

logger = logging.getLogger(__name__)

PAGE = 100
"""Tasks that share a write; for more SecantusDB 0.7 takes far more than in proportion."""

BUDGET_S = 15.0
"""After this long a call changes nothing more: proxies and clients often wait for half a minute."""

PATIENCE_S = 1.0
"""How long a page waits for what follows from its writes, which happens by itself otherwise."""


@dataclass(frozen=True, slots=True)
class Walked:
    """How many tasks a call has gone through, and the id to go on after, or None at the end."""

    matched: int
    next_after: TaskId | None


@dataclass(frozen=True, slots=True)
class CancelledMany:
    """What a call has cancelled: tasks in all, and how many of those run and are to be stopped."""

    walked: Walked
    changed: int
    requested: int


@dataclass(frozen=True, slots=True)
class RetriedMany:
    """What a call has retried: tasks in all; and how many it could not, since their unique key is taken."""

    walked: Walked
    changed: int
    conflicts: int


async def count_selected(backend: Backend, selection: Selection) -> int:
    """How many tasks a change would go through.

    Raises:
        StoreUnavailable: MongoDB cannot serve.
    """
    return await SelectionStore(backend.mongo).count(selection)


async def cancel_many(backend: Backend, selection: Selection, *, limit: int) -> CancelledMany:
    """Cancel waiting tasks at once, and ask the workers of running ones to stop them.

    Raises:
        StoreUnavailable: MongoDB cannot serve; some may be cancelled.
    """
    store = SelectionStore(backend.mongo)
    changed = requested = 0
    redis_answers = True

    async def change(page: Sequence[Picked]) -> None:
        nonlocal changed, requested, redis_answers
        now = utc_now()
        expire_at = None if backend.retention is None else now + backend.retention
        cancelled = await store.cancel([task.task_id for task in page], now=now, expire_at=expire_at)
        changed += cancelled.waiting + cancelled.running
        requested += cancelled.running
        ended = [task for task in page if task.task_id in set(cancelled.ended_ids)]
        for task in ended:
            backend.metrics.ended_unrun(task.type, task.queue, CANCEL.target)
        if redis_answers:  # else each page would wait for it, and nothing depends on it
            redis_answers = await _tell(backend, ended, cancelled)
        await _follow(backend, ended)

    return CancelledMany(await _walk(backend, store, selection, limit, change), changed, requested)


async def retry_many(backend: Backend, selection: Selection, *, limit: int) -> RetriedMany:
    """Give failed and cancelled tasks a new round of attempts.

    Raises:
        StoreUnavailable: MongoDB cannot serve; some may be retried.
    """
    store = SelectionStore(backend.mongo)
    changed = conflicts = 0

    async def change(page: Sequence[Picked]) -> None:
        nonlocal changed, conflicts
        await _follow(backend, page, patience_s=None)  # the ends that are undone may not have been told yet
        now = utc_now()
        retried = await store.retry(page, now=now)
        changed += retried.count
        conflicts += retried.conflicts
        ids = set(retried.ids)
        await backend.acceptor.offer(
            [Entry(task.task_id, task.queue, now, task.priority) for task in page if task.task_id in ids]
        )

    return RetriedMany(await _walk(backend, store, selection, limit, change), changed, conflicts)


async def _walk(
    backend: Backend,
    store: SelectionStore,
    selection: Selection,
    limit: int,
    change: Callable[[Sequence[Picked]], Awaitable[None]],
) -> Walked:
    clock = asyncio.get_running_loop().time
    deadline = clock() + BUDGET_S
    picked = await store.pick(selection, limit=limit + 1)  # one more tells whether there are more
    matched = 0
    while matched < min(limit, len(picked)):
        page = picked[matched : min(limit, matched + PAGE)]
        await change(page)
        matched += len(page)
        if clock() >= deadline or backend.endings.closed:
            break
    return Walked(matched, picked[matched - 1].task_id if matched < len(picked) else None)


async def _tell(backend: Backend, ended: Sequence[Picked], cancelled: Cancelled) -> bool:
    """Tell Redis; False where it does not answer. What it is not told is seen with the next claim or renewal."""
    by_queue: dict[str, list[TaskId]] = defaultdict(list)
    for task in ended:
        by_queue[task.queue].append(task.task_id)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await tell_cancels(backend.queue, cancelled=by_queue, running=cancelled.running_ids)
    except (QueueUnavailable, TimeoutError) as error:
        reason = str(error) or f"no answer within {PATIENCE_S:g} s"
        logger.warning("Cancels are kept but not signalled: %s", reason)
        return False
    return True


async def _follow(backend: Backend, tasks: Sequence[Picked], *, patience_s: float | None = PATIENCE_S) -> None:
    """Hand over the callbacks of those that have ended; where that takes long, reconcile will do it."""
    owing = [task.task_id for task in tasks if task.has_callback]
    if not owing:
        return
    try:
        async with asyncio.timeout(patience_s):
            await asyncio.gather(*(backend.callbacks.follow(task_id) for task_id in owing))
    except TimeoutError:
        logger.warning("The callbacks of %d tasks have to wait", len(owing))
