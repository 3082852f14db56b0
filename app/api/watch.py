"""Watches every request: counts it, times it, traces it, and logs it where ACCESS_LOG says so."""

import logging
import time

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from app.api.guard import API_KEY_NAME
from app.api.keys import BACKEND
from app.telemetry.logging import ACCESS
from app.telemetry.tracing import TRACEPARENT

access_logger = logging.getLogger(ACCESS)

UNMATCHED = "(unmatched)"
"""The endpoint of a request for a path that does not exist."""

OTHER_METHOD = "(other)"


@web.middleware
async def watch_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost middleware: sees every answer, problems included."""
    started = time.perf_counter()
    backend, endpoint = request.app[BACKEND], endpoint_of(request)
    method = request.method if request.method in hdrs.METH_ALL else OTHER_METHOD
    trace = backend.tracing.begin_request(method, endpoint, request.path, request.headers.get(TRACEPARENT))
    response = await handler(request)
    seconds = time.perf_counter() - started
    trace.end(response.status)
    backend.metrics.requested(method, endpoint, response.status, seconds)
    if access_logger.isEnabledFor(logging.INFO):
        _log(request, response, seconds)
    return response


def _log(request: web.Request, response: web.StreamResponse, seconds: float) -> None:
    """Without the query and without headers, which may hold secrets."""
    milliseconds = round(seconds * 1000, 1)
    access_logger.info(
        "%s %s: %d in %g ms", request.method, request.rel_url.raw_path, response.status, milliseconds,
        extra={
            "event": "request", "method": request.method, "path": request.rel_url.raw_path, "status": response.status,
            "duration_ms": milliseconds, "client": request.remote, **_caller(request),
        },
    )  # fmt: skip


def _caller(request: web.Request) -> dict[str, str]:
    """The name of the key that the request came with, if keys are needed."""
    return {"key": request[API_KEY_NAME]} if API_KEY_NAME in request else {}


def endpoint_of(request: web.Request) -> str:
    """The path with its parameters as names; there are as many as there are endpoints, whatever clients ask for."""
    resource = request.match_info.route.resource
    if resource is None:
        return UNMATCHED
    endpoint = resource.canonical
    # It waits because it was asked to: its time says nothing of the others'.
    return f"{endpoint}?wait" if "wait" in request.query else endpoint
