"""What is done to tasks: submit, read, wait, list, change."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Unpack
from urllib.parse import quote

from pydantic import TypeAdapter

from app.client.accepted import AcceptedTask, accepted, how_of
from app.client.answers import TaskPage
from app.client.connection import Connection
from app.client.errors import NotEnded, NotFound, RequestFailed, WrongState
from app.client.selection import TaskFilter, query_of
from app.client.submission import TASK, NewTask, Payload, TaskOptions, encode_task, submit_chunks, with_options
from app.core.states import TERMINAL, Status
from app.models import Task

WAIT_S = 30.0
"""How long one request waits for the end of a task: shorter than what proxies in between allow for an answer."""

PAUSE_S = 0.5
"""Before asking again where a wait was answered early, as a web process does that is being stopped."""

PAGE = 200  # tasks in one page of a listing

_PAGE = TypeAdapter(TaskPage)


class Tasks:
    """The part of a client that is about tasks.

    Args:
        connection: To the service.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def submit(
        self,
        type: str,  # noqa: A002 - the field's name
        payload: Payload | None = None,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> AcceptedTask:
        """Submit a task; it is kept once this returns.

        Its `is_new` and `accepted_as` tell whether it was made now, or is there already.

        Args:
            type: A registered type.
            payload: What the handler gets: a JSON object or a pydantic model.
            idempotency_key: A second submission with the same one gives the first one's task. By default each call
                has one of its own, where it may be sent again.
            options: See `TaskOptions`.

        Raises:
            Invalid: something of it cannot be accepted; `fields` says what.
        """
        answer = await self._connection.request(
            "POST",
            "/tasks",
            body=encode_task(with_options(type, payload, options)),
            headers=self._connection.submission_headers(idempotency_key),
        )
        return accepted(answer.read(TASK), how_of(answer, own_key=idempotency_key is not None))

    async def submit_many(self, tasks: Iterable[NewTask]) -> "list[AcceptedTask | RequestFailed]":
        """Submit any number of tasks, in as few requests as possible.

        Args:
            tasks: Each a `Submission` or a mapping with the fields of one.

        Returns:
            For each, in order, the task, which tells whether it is new, or why there is none: `Invalid` where it cannot
            be accepted. When a request fails as a whole, its error stands for all tasks from there on, none of which
            was sent, except perhaps those of that request. Nothing of this is raised.
        """
        outcomes: list[AcceptedTask | RequestFailed] = []
        async for some in submit_chunks(self._connection, tasks):
            outcomes += some
        return outcomes

    async def get(self, task_id: str) -> Task:
        """The task as it is now.

        Raises:
            NotFound: there is none.
        """
        return (await self._connection.request("GET", task_path(task_id))).read(TASK)

    async def wait(self, task_id: str, *, timeout: float | None = None) -> Task:  # noqa: ASYNC109 - not of one step
        """The task once it is completed, failed or cancelled.

        Args:
            task_id: Which one.
            timeout: Seconds to wait at most; None waits for ever, as long as the service answers.

        Raises:
            NotEnded: the time is over first; it has the task as last seen.
            NotFound: there is none.
        """
        clock = asyncio.get_running_loop().time
        deadline = float("inf") if timeout is None else clock() + timeout
        while True:
            asked_at = clock()
            wait_s = min(max(deadline - asked_at, 0.0), WAIT_S)
            answer = await self._connection.request(
                "GET", task_path(task_id), query=[("wait", f"{wait_s:.3f}")], wait_s=wait_s
            )
            task = answer.read(TASK)
            if task.status in TERMINAL:
                return task
            left_s = deadline - clock()
            if left_s <= 0:
                raise NotEnded(task, seconds=timeout or 0.0)
            if clock() - asked_at < wait_s:
                await asyncio.sleep(min(PAUSE_S, left_s))

    async def retry(self, task_id: str) -> Task:
        """Give a failed or cancelled task another round of attempts; the task, pending.

        Raises:
            WrongState: it is neither failed nor cancelled.
            NotFound: there is none.
        """
        try:
            return (await self._connection.request("POST", f"{task_path(task_id)}/retry")).read(TASK)
        except WrongState as error:
            # A try whose answer was lost has done it.
            if not error.doubtful:
                raise
            return await self.get(task_id)

    async def cancel(self, task_id: str) -> Task:
        """Cancel a task: it is cancelled, or running with the cancel asked for.

        Raises:
            WrongState: it has ended.
            NotFound: there is none.
        """
        try:
            return (await self._connection.request("POST", f"{task_path(task_id)}/cancel")).read(TASK)
        except WrongState as error:
            if not error.doubtful or error.task_status != Status.CANCELLED:
                raise
            return await self.get(task_id)

    async def delete(self, task_id: str) -> None:
        """Remove a task that has ended.

        Raises:
            WrongState: it has not ended.
            NotFound: there is none.
        """
        try:
            await self._connection.request("DELETE", task_path(task_id))
        except NotFound as error:
            if not error.doubtful:
                raise

    async def list(self, *, limit: int | None = None, **which: Unpack[TaskFilter]) -> AsyncGenerator[Task, None]:
        """Tasks, newest first, got page by page as they are asked for.

        Args:
            limit: The most tasks; None gives all.
            which: See `TaskFilter`.
        """
        query = query_of(which)
        left = float("inf") if limit is None else limit
        cursor: list[tuple[str, str]] = []
        while left > 0:
            paging = [("limit", str(min(left, PAGE))), *cursor]
            page = (await self._connection.request("GET", "/tasks", query=[*query, *paging])).read(_PAGE)
            for task in page.items:
                yield task
            left -= len(page.items)
            if page.next_cursor is None:
                return
            cursor = [("cursor", page.next_cursor)]


def task_path(task_id: str) -> str:
    """Where a task is, below the service's URL."""
    return f"/tasks/{quote(task_id, safe='')}"
