"""Reads tasks: one, one when it has ended, a page."""

import asyncio
from dataclasses import dataclass

from app.core.errors import TaskNotFound
from app.core.ids import TaskId
from app.core.states import TERMINAL
from app.models import Task
from app.services.backend import Backend
from app.services.wait import LOOK_S
from app.store.tasks import TaskFilter


@dataclass(frozen=True, slots=True)
class Page:
    """Tasks, newest first, and the id to go on after, or None at the end."""

    tasks: list[Task]
    next_after: TaskId | None


async def get_task(backend: Backend, task_id: TaskId) -> Task:
    """The task as it is now.

    Raises:
        TaskNotFound: there is none.
        StoreUnavailable: MongoDB cannot serve.
    """
    document = await backend.tasks.get(task_id)
    if document is None:
        raise TaskNotFound(task_id)
    return Task.from_document(document)


async def wait_for_task(backend: Backend, task_id: TaskId, *, seconds: float) -> Task:
    """The task as soon as it is terminal, or as it is after `seconds` or when the process shuts down.

    Raises:
        TaskNotFound: there is none.
        StoreUnavailable: MongoDB cannot serve.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    # Watch first, look second: an ending in between is not missed.
    event = backend.endings.watch(task_id)
    try:
        if backend.endings.expects(task_id) and backend.mongo.presence.is_there:
            await _until_set(event, min(seconds, LOOK_S))
        while True:
            event.clear()
            task = await get_task(backend, task_id)
            left_s = deadline - loop.time()
            if task.status in TERMINAL or left_s <= 0 or backend.endings.closed:
                return task
            await _until_set(event, min(left_s, LOOK_S))
    finally:
        backend.endings.unwatch(task_id, event)


async def _until_set(event: asyncio.Event, seconds: float) -> None:
    """Return once the event is set or the time is over."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


async def list_tasks(backend: Backend, which: TaskFilter, *, limit: int, after: TaskId | None) -> Page:
    """Up to `limit` tasks that match, newest first, going on after the task `after`.

    Raises:
        StoreUnavailable: MongoDB cannot serve.
    """
    # One more than asked for tells whether there is a next page.
    documents = await backend.tasks.page(which, limit=limit + 1, after=after)
    tasks = [Task.from_document(document) for document in documents[:limit]]
    return Page(tasks, TaskId(tasks[-1].id) if len(documents) > limit else None)
