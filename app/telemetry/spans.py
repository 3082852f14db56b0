"""Makes OpenTelemetry spans: one for each request, each attempt, and each HTTP call of a handler.

Names and attributes follow OpenTelemetry's semantic conventions for HTTP and for messaging where those have a word.
Needs the extra `tracing`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace

import aiohttp
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer

from app.core.attempt import Attempt
from app.core.outcomes import Failed, Outcome, Rescheduled
from app.telemetry.catalogue import Role
from app.telemetry.metrics import label_of
from app.telemetry.tracing import TRACEPARENT, AttemptTrace, RequestTrace, Tracing, parse_traceparent
from app.telemetry.version import VERSION

SYSTEM = "arqive"

QUIET = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
"""What is asked every few seconds by machines, and would be most of all spans."""


class _RequestSpan(RequestTrace):
    def __init__(self, span: Span) -> None:
        self._span = span

    def end(self, status: int) -> None:
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
            self._span.set_attribute("error.type", str(status))
        self._span.end()


class _AttemptSpan(AttemptTrace):
    def __init__(self, span: Span, fallback: str | None) -> None:
        own = _traceparent_of(span)
        super().__init__(own or fallback, own)
        self._span = span

    def end(self, outcome: Outcome | None) -> None:
        """Without the failure's message, which may be about the payload."""
        self._span.set_attribute("arqive.attempt.outcome", "lease_lost" if outcome is None else label_of(outcome).value)
        if isinstance(outcome, Failed | Rescheduled):
            self._span.set_attribute("error.type", outcome.failure.code.value)
            self._span.set_status(Status(StatusCode.ERROR, outcome.failure.code.value))
        self._span.end()


class Spans(Tracing):
    """Tracing with spans.

    Args:
        tracer: Makes them.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def begin_request(self, method: str, endpoint: str, path: str, traceparent: str | None) -> RequestTrace:
        """A SERVER span, of the trace that the client names if it does."""
        if endpoint in QUIET:
            return RequestTrace()
        super().begin_request(method, endpoint, path, traceparent)
        span = self._tracer.start_span(
            f"{method} {endpoint}",
            context=_within(parse_traceparent(traceparent)),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "url.path": path},
        )
        if endpoint.startswith("/"):
            span.set_attribute("http.route", endpoint.removesuffix("?wait"))
        context.attach(trace.set_span_in_context(span))  # until the end of the request's task
        return _RequestSpan(span)

    def submitting(self, tasks: Sequence[tuple[str, str]]) -> str | None:
        """The span of the request, which now says what it submits."""
        span = trace.get_current_span()
        span.set_attributes({"messaging.system": SYSTEM, "messaging.operation.type": "send"})
        if len(tasks) == 1:
            [(task_id, queue)] = tasks
            span.set_attributes({"messaging.message.id": task_id, "messaging.destination.name": queue})
        else:
            span.set_attribute("messaging.batch.message_count", len(tasks))
        return _traceparent_of(span) or self.passed_on()

    def begin_attempt(self, attempt: Attempt) -> AttemptTrace:
        """A CONSUMER span under the request that submitted the task, with links to the attempts before it."""
        fallback = super().begin_attempt(attempt).traceparent
        span = self._tracer.start_span(
            f"process {attempt.type}",
            context=_within(attempt.traceparent),
            kind=SpanKind.CONSUMER,
            links=[Link(earlier) for each in attempt.earlier if (earlier := _context_of(each)) is not None],
            attributes={
                "messaging.system": SYSTEM,
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.destination.name": attempt.queue,
                "messaging.message.id": attempt.task_id,
                "messaging.client.id": attempt.worker,
                "arqive.task.type": attempt.type,
                "arqive.task.round": attempt.round,
                "arqive.attempt.number": attempt.number,
            },
        )
        context.attach(trace.set_span_in_context(span))  # until the end of the attempt's task
        return _AttemptSpan(span, fallback)

    def client_tracing(self) -> aiohttp.TraceConfig:
        """A CLIENT span for each call, whose traceparent is sent; those of the handler's own making are its parents."""
        config = aiohttp.TraceConfig()
        config.on_request_start.append(self._begin_call)
        config.on_request_end.append(_end_call)
        config.on_request_exception.append(_fail_call)
        return config

    async def _begin_call(
        self, _session: aiohttp.ClientSession, own: SimpleNamespace, request: aiohttp.TraceRequestStartParams
    ) -> None:
        url = request.url
        own.span = self._tracer.start_span(
            request.method,
            kind=SpanKind.CLIENT,
            attributes={
                "http.request.method": request.method,
                # Without credentials, query and fragment, which may hold secrets.
                "url.full": str(url.with_user(None).with_query(None).with_fragment(None)),
                "server.address": url.host or "",
                "server.port": url.port or 0,
            },
        )
        traceparent = _traceparent_of(own.span) or self.passed_on()
        if traceparent is not None:
            request.headers.setdefault(TRACEPARENT, traceparent)  # the handler's own wins


async def _end_call(
    _session: aiohttp.ClientSession, own: SimpleNamespace, request: aiohttp.TraceRequestEndParams
) -> None:
    own.span.set_attribute("http.response.status_code", request.response.status)
    if request.response.status >= 400:
        own.span.set_attribute("error.type", str(request.response.status))
        own.span.set_status(Status(StatusCode.ERROR))
    own.span.end()


async def _fail_call(
    _session: aiohttp.ClientSession, own: SimpleNamespace, request: aiohttp.TraceRequestExceptionParams
) -> None:
    own.span.set_attribute("error.type", type(request.exception).__qualname__)
    own.span.set_status(Status(StatusCode.ERROR))
    own.span.end()


def _context_of(traceparent: str) -> SpanContext | None:
    sound = parse_traceparent(traceparent)
    if sound is None:
        return None
    _, trace_id, span_id, flags = sound.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def _within(traceparent: str | None) -> context.Context:
    """A context in which what the header names is the parent; nothing is without one."""
    parent = None if traceparent is None else _context_of(traceparent)
    if parent is None:
        return context.Context()
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), context.Context())


def _traceparent_of(span: Span) -> str | None:
    own = span.get_span_context()
    if not own.is_valid:  # OTEL_SDK_DISABLED
        return None
    return f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags & 1:02x}"


@contextmanager
def open_spans(role: Role) -> Iterator[Tracing]:
    """Spans that are exported as the OTEL_* variables say; a provider that is set up already is used as it is.

    Handlers may make spans of their own by `opentelemetry.trace.get_tracer`: they are parts of their attempt's.
    """
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        yield Spans(trace.get_tracer(SYSTEM, VERSION))
        return
    named = Resource({"service.name": f"{SYSTEM}-{role}", "service.version": VERSION})
    provider = TracerProvider(resource=Resource.create().merge(named).merge(OTELResourceDetector().detect()))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield Spans(provider.get_tracer(SYSTEM, VERSION))
    finally:
        provider.shutdown()
