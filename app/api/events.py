"""GET /tasks/{id}/events and GET /events: changes as server-sent events.

Source: the section "Server-sent events" of the HTML standard.
"""

from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Annotated

from aiohttp import hdrs, web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.api.endpoint import Reply
from app.api.event_stream import MEDIA_TYPE, Sender, serve_stream
from app.api.request_headers import LAST_EVENT_ID
from app.core import limits
from app.core.clock import to_ms, utc_now
from app.core.errors import TaskNotFound
from app.core.event_id import PATTERN, EventId
from app.core.ids import TaskId
from app.core.states import TERMINAL, Status
from app.event_models import TaskEvent, event_id_of
from app.models import Name
from app.services.backend import Backend
from app.services.live import OVERLAP
from app.services.stream import Change
from app.store.changes import BATCH, ChangeFilter

PLACE_S = 30.0
"""How often a client that gets no events learns from where it can go on."""

HANDOVER = timedelta(seconds=15)
"""For how long what was caught up with is remembered, to not be sent again."""


def _known_id(text: str) -> str:
    EventId.parse(text)
    return text


LastId = Annotated[str, Field(pattern=PATTERN), AfterValidator(_known_id)]


_EMPTY = Reply(b"", media_type=MEDIA_TYPE)


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    last_event_id: LastId | None = Field(None, description=f"The same as the header {LAST_EVENT_ID}, which wins.")

    @property
    def place(self) -> EventId | None:
        """From where to go on."""
        return None if self.last_event_id is None else EventId.parse(self.last_event_id)


class TaskEventsQuery(_Query):
    """From where to go on."""


class EventsQuery(_Query):
    """Which changes, and from where to go on."""

    status: tuple[Status, ...] = Field((), description="Changes to any of these; may be repeated.")
    type: Name | None = Field(None, description="Of tasks of exactly this type.")
    queue: Name | None = Field(None, description="Of tasks in exactly this queue.")
    tag: tuple[Name, ...] = Field(
        (), max_length=limits.MAX_TAGS, description="Of tasks with all of these; may be repeated."
    )


async def stream_task_events(
    backend: Backend, request: web.Request, task_id: TaskId, last_event_id: EventId | None, query: TaskEventsQuery
) -> Reply | web.StreamResponse:
    """The state of one task, then its changes, until it has ended."""
    last = last_event_id or query.place
    with backend.live.stream_of_task(task_id) as stream:
        task = await backend.tasks.get(task_id)
        if task is None:
            raise TaskNotFound(task_id)
        now = Change(event_id_of(task), task)
        if now.id == last and task["status"] in TERMINAL:
            # That is how a browser's EventSource, which comes back after every end, is told to stay away.
            return Reply(status=HTTPStatus.NO_CONTENT)
        if request.method == hdrs.METH_HEAD:
            return _EMPTY
        stream.start(last=now.id)
        backend.live.look_at(task_id)  # what has changed since it was read was not offered yet
        return await serve_stream(request, stream, partial(_tell_of_task, backend, None if now.id == last else now))


async def _tell_of_task(backend: Backend, first: Change | None, sender: Sender) -> None:
    change = first
    while not sender.stream.closed:
        if change is not None and not await _send_of_task(backend, sender, change):
            return
        change = await sender.stream.next(PLACE_S)


async def _send_of_task(backend: Backend, sender: Sender, change: Change) -> bool:
    """Send a change of a stream's own task; whether others may follow."""
    if change.document is None or change.document["status"] not in TERMINAL:
        await sender.send(change)
        return change.document is not None
    task = await backend.tasks.get(TaskId(change.id.task_id))
    if task is None or task["status"] not in TERMINAL:
        return True  # it was deleted or is retried by now, and that is told next
    event = TaskEvent.from_document(task, result=task["result"])
    await sender.send(Change(event_id_of(task), task, event.to_json()))
    return False


async def stream_events(
    backend: Backend, request: web.Request, last_event_id: EventId | None, query: EventsQuery
) -> Reply | web.StreamResponse:
    """The changes of every task that matches, from now or from an event on."""
    last, now = last_event_id or query.place, utc_now()
    which = ChangeFilter(statuses=query.status, type=query.type, queue=query.queue, tags=query.tag)
    with backend.live.stream_of_all(which, since=now if last is None else now - OVERLAP) as stream:
        if request.method == hdrs.METH_HEAD:
            return _EMPTY
        if last is None:
            stream.start()
            return await serve_stream(request, stream, partial(_tell_of_all, backend, EventId(to_ms(now)), {}))
        return await serve_stream(request, stream, partial(_go_on, backend, which, last))


async def _tell_of_all(backend: Backend, place: EventId | None, known: dict[str, EventId], sender: Sender) -> None:
    """Send changes as they come, but for those that are known."""
    if place is not None:
        await sender.send_place(place)
    known_until = utc_now() + HANDOVER
    while not sender.stream.closed:
        change = await sender.stream.next(PLACE_S)
        if known and utc_now() > known_until:
            known = {}
        if change is not None and known.get(change.id.task_id) != change.id:
            await sender.send(change)
        elif change is None and not sender.stream.closed:
            await sender.send_place(backend.live.place)


async def _go_on(backend: Backend, which: ChangeFilter, last: EventId, sender: Sender) -> None:
    """Send what has changed since an event, and then what changes.

    It goes back a little further than the event: clocks differ, so changes do not come in the order of their moments.
    """
    known: dict[str, EventId] = {}
    place = _before(last)
    while not sender.stream.closed:
        page = await backend.live.changes.after(place, which)
        horizon_ms = to_ms(utc_now() - HANDOVER)
        for document in page:
            change = Change(event_id_of(document), document)
            place = change.id
            if known.get(place.task_id) != place:
                await sender.send(change)
                if place.at_ms >= horizon_ms:
                    known[place.task_id] = place
        if len(page) == BATCH:
            continue
        if sender.stream.started:
            await _tell_of_all(backend, None, known, sender)
            return
        # Once more from a little before, for what came between the last look and the start.
        sender.stream.start()
        place = _before(place)


def _before(place: EventId) -> EventId:
    return EventId(max(0, place.at_ms - OVERLAP // timedelta(milliseconds=1)))
