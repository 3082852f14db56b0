"""The same for each of several tasks, many at a time, with one exit code for all."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.arguments import TaskIds, read_duration, read_ids
from app.commands.session import ExitCode, Session, exit_code_of, sentence_of
from app.core.states import Status

if TYPE_CHECKING:
    from app.client import Task

AT_ONCE = 50


async def wait(
    session: Session,
    task_ids: TaskIds,
    timeout: Annotated[  # noqa: ASYNC109 - not of one step
        timedelta | None,
        typer.Option(parser=read_duration, metavar="DURATION", help="The longest to wait, such as 90, 5m or 2h."),
    ] = None,
) -> int:
    """Wait until tasks have ended; 1 when one failed or was cancelled, 7 when the time is up first."""
    ids = await asyncio.to_thread(read_ids, task_ids)
    seconds = None if timeout is None else timeout.total_seconds()
    return await wait_for(session, ids, seconds)


async def wait_for(
    session: Session,
    ids: Sequence[str],
    seconds: float | None,
    *,
    as_told: "Callable[[Task], Task]" = lambda ended: ended,
) -> int:
    """Wait for tasks and show each as it ends; the exit code.

    Args:
        session: What to work with.
        ids: Which tasks.
        seconds: The longest to wait; None waits for ever.
        as_told: What programs are told of a task that has ended.
    """

    async def until_ended(task_id: str) -> ExitCode:
        task = await session.client.wait(task_id, timeout=seconds)
        _show(session, as_told(task), f"{task.status}{_reason(task)}")
        return ExitCode.DONE if task.status is Status.COMPLETED else ExitCode.FAILED

    with session.output.progress("Waiting", len(ids)) as advance:
        return await _each(session, ids, until_ended, advance)


async def change(
    session: Session, task_ids: Sequence[str], call: "Callable[[str], Awaitable[Task | None]]", done: str
) -> int:
    """Call something for each task; the exit code.

    Args:
        session: What to work with.
        task_ids: Which tasks; `-` reads them from the input.
        call: What to do, of the client.
        done: What people are told of each; empty tells its status.
    """

    async def changed(task_id: str) -> ExitCode:
        task = await call(task_id)
        if task is None:
            session.output.say({"id": task_id, "deleted": True}, f"Task {task_id} {done}")
        else:
            asked = " and asked to stop" if task.status is Status.RUNNING else ""
            _show(session, task, done or f"is {task.status}{asked}")
        return ExitCode.DONE

    ids = await asyncio.to_thread(read_ids, task_ids)
    with session.output.progress("Tasks", len(ids)) as advance:
        return await _each(session, ids, changed, advance)


async def _each(
    session: Session, ids: Sequence[str], act: Callable[[str], Awaitable[ExitCode]], advance: Callable[[int], None]
) -> int:
    from app.client import RequestFailed  # noqa: PLC0415 - not for the help and the completion

    free = asyncio.Semaphore(AT_ONCE)

    async def one(task_id: str) -> ExitCode:
        async with free:
            try:
                return await act(task_id)
            except RequestFailed as error:
                session.output.complain(sentence_of(error))
                return exit_code_of(error)
            finally:
                advance(1)

    codes = set(await asyncio.gather(*map(one, ids))) - {ExitCode.DONE}
    return codes.pop() if len(codes) == 1 else ExitCode.FAILED if codes else ExitCode.DONE


def _show(session: Session, task: "Task", news: str) -> None:
    session.output.say(task, f"Task {task.id} {news}")


def _reason(task: "Task") -> str:
    return f", {task.error.code}: {task.error.message}" if task.error is not None else ""
