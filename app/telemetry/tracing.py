"""Passes on which trace things belong to: from the request through the task into the calls of its handler.

A request's W3C `traceparent` is kept with the tasks that it submits and sent with the HTTP calls of their handlers.
That needs nothing and costs next to nothing. Spans of our own are made by `app.telemetry.spans`, and only where the
extra `tracing` is installed and an endpoint to export them to is set.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import SimpleNamespace

import aiohttp

from app.core.attempt import Attempt
from app.core.outcomes import Outcome
from app.telemetry.catalogue import Role

logger = logging.getLogger(__name__)

TRACEPARENT = "traceparent"

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]([0-9a-f])(-.*)?")

_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


def parse_traceparent(text: str | None) -> str | None:
    """The header in version 00, or None when it is none or not sound.

    Source: W3C Trace Context, 3.2: higher versions begin like version 00, of its flags only the first is defined.
    """
    match = _TRACEPARENT.fullmatch(text) if text else None
    if match is None or (match.string.startswith("00") and match[4]):
        return None
    return f"00-{match[1]}-{match[2]}-0{int(match[3], 16) & 1}"


class RequestTrace:
    """What is traced of one request: nothing."""

    def end(self, status: int) -> None:
        """It was answered."""


class AttemptTrace:
    """What is traced of one attempt: nothing.

    Attributes:
        traceparent: What the handler's own calls send on.
        own: The same, if it names a span of the attempt itself that later ones can link to.
    """

    def __init__(self, traceparent: str | None, own: str | None = None) -> None:
        self.traceparent = traceparent
        self.own = own

    def end(self, outcome: Outcome | None) -> None:
        """The handler has ended; without an outcome its lease was lost."""


class Tracing:
    """Passes traces on and makes no spans. Everything that is current is so for the asyncio task that it began in."""

    def begin_request(self, method: str, endpoint: str, path: str, traceparent: str | None) -> RequestTrace:  # noqa: ARG002
        """A request has come.

        Args:
            method: Its method.
            endpoint: The path with its parameters as names.
            path: The path.
            traceparent: The header as it was sent.
        """
        if traceparent is not None:
            _current.set(parse_traceparent(traceparent))
        return _NO_REQUEST

    def submitting(self, tasks: Sequence[tuple[str, str]]) -> str | None:  # noqa: ARG002
        """What to keep with the tasks, given as (id, queue), that the current request submits."""
        return self.passed_on()

    def begin_attempt(self, attempt: Attempt) -> AttemptTrace:
        """A handler is about to be called."""
        _current.set(attempt.traceparent)
        return AttemptTrace(attempt.traceparent)

    def passed_on(self) -> str | None:
        """What the current request or attempt was given."""
        return _current.get()

    def client_tracing(self) -> aiohttp.TraceConfig:
        """What a client session of handlers needs to send the current trace on."""
        config = aiohttp.TraceConfig()
        config.on_request_start.append(_send_on)
        return config


async def _send_on(
    _session: aiohttp.ClientSession, _own: SimpleNamespace, request: aiohttp.TraceRequestStartParams
) -> None:
    traceparent = _current.get()
    if traceparent is not None:
        request.headers.setdefault(TRACEPARENT, traceparent)  # the handler's own wins


_NO_REQUEST = RequestTrace()


@contextmanager
def open_tracing(role: Role, *, exports: bool) -> Iterator[Tracing]:
    """Tracing for a process; spans that are still to be exported are so at the end.

    Args:
        role: What kind of process.
        exports: Whether there is an endpoint to export spans to; the SDK reads the OTEL_* variables itself.
    """
    if not exports:
        yield Tracing()
        return
    try:
        from app.telemetry.spans import open_spans  # noqa: PLC0415 - it needs the extra
    except ImportError as error:
        logger.warning("An endpoint for spans is set and none are made, for want of arqive[tracing]: %s", error)
        yield Tracing()
        return
    with open_spans(role) as spans:
        yield spans
