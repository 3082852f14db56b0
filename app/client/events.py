"""Follows what happens to tasks, across breaks of the connection."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from itertools import chain

from pydantic import BaseModel, ValidationError

from app.client.connection import PAUSES, Connection, Query
from app.client.errors import NotFound, Refusal, RequestFailed, Unreachable
from app.client.event_stream import EventParser, Frame
from app.core.states import TERMINAL
from app.event_models import EventName, TaskEvent

SILENCE_S = 45.0
"""The service sends something every 15 seconds: after three times that the connection is lost."""


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a task.

    Attributes:
        id: Give it as `last_event_id` to go on after this event.
        name: `status`, `progress` or `deleted`.
        task_id: The task.
        task: The state that it came into, without its payload and log; None when it was deleted.
    """

    id: str
    name: EventName
    task_id: str
    task: TaskEvent | None

    @property
    def is_end(self) -> bool:
        """Whether the task has ended, or is no longer kept."""
        return self.task is None or self.task.status in TERMINAL


async def follow(
    connection: Connection, path: str, *, query: Query = (), last_id: str = "", to_its_end: bool
) -> AsyncGenerator[Event, None]:
    """The events of a stream; where it breaks off it is opened again, and goes on after the last event.

    Args:
        connection: To the service.
        path: Of the stream.
        query: Its filters.
        last_id: What to go on after; empty for what is to come.
        to_its_end: Whether it is of one task, and over when that has ended.

    Raises:
        RequestFailed: the service refused, or was away for longer than `retry_for`.
    """
    parser = EventParser(last_id)
    patience = _Patience(connection.retry_for_s)
    while True:
        headers = {"Last-Event-ID": parser.last_id} if parser.last_id else {}
        try:
            async with connection.stream(path, query=query, headers=headers, silence_s=SILENCE_S) as response:
                if response.status == HTTPStatus.NO_CONTENT:
                    return  # the event that it was to go on after was the last one
                async for some in response.content.iter_any():
                    patience.restore()
                    for event in chain.from_iterable(map(_read, parser.feed(some))):
                        yield event
                        if to_its_end and event.is_end:
                            return
            failure: RequestFailed = Unreachable(Refusal(detail="The service has ended the stream."))
        except NotFound:
            if patience.is_new:
                raise
            return  # it was deleted in the meantime
        except RequestFailed as error:
            failure = error
        parser = EventParser(parser.last_id, parser.retry_ms)  # half an event is none
        await patience.rest(failure, parser.retry_ms)


class _Deleted(BaseModel):
    id: str


def _read(frame: Frame) -> Iterator[Event]:
    """The event; none where it is about something that this version does not know."""
    if frame.name not in set(EventName):
        return
    name = EventName(frame.name)
    try:
        if name is EventName.DELETED:
            yield Event(frame.last_id, name, _Deleted.model_validate_json(frame.data).id, None)
        else:
            task = TaskEvent.model_validate_json(frame.data)
            yield Event(frame.last_id, name, task.id, task)
    except ValidationError as error:
        detail = f"The service sent an event that this client cannot read: {str(error).splitlines()[0]}."
        raise RequestFailed(Refusal(detail=detail)) from error


class _Patience:
    """How long to go on without anything from the service."""

    def __init__(self, retry_for_s: float) -> None:
        self.is_new = True
        self._retry_for_s = retry_for_s
        self._failures = 0
        self._failing_since = 0.0

    def restore(self) -> None:
        """Something came."""
        self.is_new, self._failures = False, 0

    async def rest(self, failure: RequestFailed, retry_ms: int | None) -> None:
        """Wait before the next try, as the service asked for when all was well, or ever longer.

        Raises:
            RequestFailed: the failure, when there should be no other try.
        """
        now = asyncio.get_running_loop().time()
        if self._failures == 0:
            self._failing_since = now
        self._failures += 1
        asked = timedelta(milliseconds=retry_ms) if retry_ms is not None and self._failures == 1 else None
        pause = failure.refusal.retry_after or asked or PAUSES.delay(self._failures)
        if not failure.passing or now + pause.total_seconds() - self._failing_since >= self._retry_for_s:
            raise failure
        await asyncio.sleep(pause.total_seconds())
