"""Shows what happens to tasks, a line an event."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from app.commands.session import ExitCode, Session
from app.core.states import Status

if TYPE_CHECKING:
    from app.client import Event


async def show_all(session: Session, events: "AsyncIterator[Event]") -> int:
    """Show events for as long as there are any."""
    async for event in events:
        _show(session, event)
    return ExitCode.DONE


async def show_to_its_end(session: Session, events: "AsyncIterator[Event]") -> int:
    """Show the events of one task; 1 when it failed or was cancelled, 3 when it is no longer kept."""
    last = None
    async for event in events:
        _show(session, event)
        last = event
    if last is None:
        return ExitCode.DONE  # the event that it went on after was the last one
    if last.task is None or not last.is_end:
        return ExitCode.NOT_FOUND
    return ExitCode.DONE if last.task.status is Status.COMPLETED else ExitCode.FAILED


def _show(session: Session, event: "Event") -> None:
    if session.output.as_json:
        data = {"id": event.task_id} if event.task is None else event.task
        session.output.json({"id": event.id, "event": event.name, "data": data})
        return
    from app.commands.task_view import event_line  # noqa: PLC0415 - draws with what only people need

    session.output.say(None, event_line(event))
