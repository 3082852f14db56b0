"""Writes a stream of changes as server-sent events, to clients that may stop reading or be gone.

Source: the section "Server-sent events" of the HTML standard.
"""

import random
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web
from aiohttp_sse import EventSourceResponse

from app.api.problems import STARTED
from app.core.errors import StoreUnavailable
from app.core.event_id import EventId
from app.event_models import DeletedTask, EventName, TaskEvent, event_name_of
from app.services.stream import Change, Stream

MEDIA_TYPE = "text/event-stream"

PING_S = 15.0
"""How often a comment keeps proxies from closing a stream, and finds out that a client is gone without a word."""

SEND_PATIENCE_S = 10.0
"""How long one write may wait for a client that does not read."""

RETRY_MS = (1_000, 3_000)
"""When clients come back after a stream has ended: not all at once after a deploy."""


class Sender:
    """Writes to one client.

    Args:
        request: What it asked.
        stream: What it gets; it ends when the client is gone, and a write under way ends when it is dropped.
    """

    def __init__(self, request: web.Request, stream: Stream) -> None:
        self.stream = stream
        self.response = EventSourceResponse(ping_interval=PING_S, send_timeout=SEND_PATIENCE_S)
        self.response.headers[hdrs.CACHE_CONTROL] = "no-store"
        self._request = request
        self._writing = False
        stream.has_left = self._is_gone
        stream.on_close = self._stop_writing

    def _is_gone(self) -> bool:
        transport = self._request.transport
        return transport is None or transport.is_closing()

    def _stop_writing(self) -> None:
        """A stream that is closed in the middle of a write has a client that does not read."""
        if self._writing and self._request.transport is not None:
            self._request.transport.abort()

    async def open(self) -> None:
        """Send the headers, and say when to come back after the end."""
        await self.response.prepare(self._request)
        self._request[STARTED] = self.response
        await self._write(f"retry: {random.randint(*RETRY_MS)}\r\n\r\n")

    async def close(self) -> None:
        """Stop the pings."""
        if self.response.prepared:
            self.response.stop_streaming()
            await self.response.wait()

    async def send(self, change: Change) -> None:
        """Send a change.

        Raises:
            ConnectionResetError: the client is gone.
            TimeoutError: the client does not read.
        """
        name = EventName.DELETED if change.document is None else event_name_of(change.document)
        if change.text is None:
            change.text = _text_of(change)
        self._writing = True
        try:
            await self.response.send(change.text, id=str(change.id), event=name)
        finally:
            self._writing = False

    async def send_place(self, place: EventId) -> None:
        """Tell from where to go on; without data it is no event, and clients only remember the id."""
        await self._write(f"id: {place}\r\n\r\n")

    async def _write(self, text: str) -> None:
        self._writing = True
        try:
            await self.response.write(text.encode())
        finally:
            self._writing = False


async def serve_stream(
    request: web.Request, stream: Stream, tell: Callable[[Sender], Awaitable[None]]
) -> web.StreamResponse:
    """Answer a request with what `tell` sends.

    A client that is gone or does not read, and a store that is away, are no errors here: the client comes back.
    """
    sender = Sender(request, stream)
    try:
        await sender.open()
        await tell(sender)
    except (ConnectionResetError, TimeoutError, StoreUnavailable):
        stream.close()
    finally:
        await sender.close()
    return sender.response


def _text_of(change: Change) -> str:
    if change.document is None:
        return DeletedTask(id=change.id.task_id).model_dump_json()
    return TaskEvent.from_document(change.document).to_json()
