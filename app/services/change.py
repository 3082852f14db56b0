"""What a client may do to a task that exists: cancel, retry, delete."""

import asyncio
import logging

from app.core.clock import utc_now
from app.core.errors import QueueUnavailable, TaskNotFound, WrongState
from app.core.ids import TaskId
from app.core.states import CANCEL, RETRY, TERMINAL, UNFINISHED
from app.models import Task
from app.services.backend import Backend
from app.services.read import get_task

logger = logging.getLogger(__name__)

SIGNAL_PATIENCE_S = 1.0
"""How long the answer to a cancel waits for Redis."""


async def cancel_task(backend: Backend, task_id: TaskId) -> Task:
    """Cancel a waiting task at once; ask the worker of a running one to stop it.

    The intent is in MongoDB before anybody is told: a signal that is lost delays the cancel until the next renewal of
    the lease.

    Raises:
        TaskNotFound: there is none.
        WrongState: it has ended.
        StoreUnavailable: MongoDB cannot serve.
    """
    while True:
        now = utc_now()
        expire_at = None if backend.retention is None else now + backend.retention
        if await backend.tasks.cancel_waiting(task_id, now=now, expire_at=expire_at):
            task = await get_task(backend, task_id)
            backend.metrics.ended_unrun(task.type, task.queue, task.status)
            await _tell(backend, task, was_running=False)
            return task if task.callback is None else await _follow(backend, task_id)
        if await backend.tasks.request_cancel(task_id, now=now):
            task = await get_task(backend, task_id)
            await _tell(backend, task, was_running=True)
            return task
        status = await backend.tasks.status(task_id)
        if status is None:
            raise TaskNotFound(task_id)
        if status in TERMINAL:
            raise WrongState(verb=CANCEL.verb, status=status, needed=sorted(UNFINISHED))
        # It moved between the two writes, from running to retrying say: look again.


async def _tell(backend: Backend, task: Task, *, was_running: bool) -> None:
    task_id = TaskId(task.id)
    try:
        async with asyncio.timeout(SIGNAL_PATIENCE_S):
            if was_running:
                await backend.queue.signal_cancel(task_id)
                await backend.queue.signal_changed([task_id])
            else:
                await backend.queue.withdraw(task.queue, [task_id])
                await backend.queue.signal_ended([task_id])
    except (QueueUnavailable, TimeoutError) as error:
        reason = str(error) or f"no answer within {SIGNAL_PATIENCE_S:g} s"
        logger.warning("The cancel of task %s is kept but not signalled: %s", task.id, reason)


async def _follow(backend: Backend, task_id: TaskId) -> Task:
    """The task after its callback was handed over; where that takes long, reconcile will do it."""
    try:
        async with asyncio.timeout(SIGNAL_PATIENCE_S):
            await backend.callbacks.follow(task_id)
    except TimeoutError:
        logger.warning("The callback of task %s has to wait", task_id)
    return await get_task(backend, task_id)


async def retry_task(backend: Backend, task_id: TaskId) -> Task:
    """Give a failed or cancelled task a new round of attempts; its history stays.

    Raises:
        TaskNotFound: there is none.
        WrongState: it is neither failed nor cancelled.
        StoreUnavailable: MongoDB cannot serve.
    """
    # The end that is about to be undone may not have been told yet.
    await backend.callbacks.follow(task_id)
    if not await backend.tasks.retry(task_id, now=utc_now()):
        status = await backend.tasks.status(task_id)
        if status is None:
            raise TaskNotFound(task_id)
        raise WrongState(verb=RETRY.verb, status=status, needed=RETRY.source_names)
    document = await backend.tasks.get(task_id)
    if document is None:
        raise TaskNotFound(task_id)
    await backend.acceptor.dispatch([document])
    return Task.from_document(document)


async def delete_task(backend: Backend, task_id: TaskId) -> None:
    """Remove a task that has ended.

    Raises:
        TaskNotFound: there is none.
        WrongState: it has not ended.
        StoreUnavailable: MongoDB cannot serve.
    """
    if not await backend.tasks.delete(task_id):
        status = await backend.tasks.status(task_id)
        if status is None:
            raise TaskNotFound(task_id)
        raise WrongState(verb="delete", status=status, needed=sorted(TERMINAL))
