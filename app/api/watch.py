"""Watches every request: counts it, times it."""

import time

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from app.api.keys import BACKEND

UNMATCHED = "(unmatched)"
"""The endpoint of a request for a path that does not exist."""

OTHER_METHOD = "(other)"


@web.middleware
async def watch_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost middleware: sees every answer, problems included."""
    started = time.perf_counter()
    response = await handler(request)
    method = request.method if request.method in hdrs.METH_ALL else OTHER_METHOD
    request.app[BACKEND].metrics.requested(method, endpoint_of(request), response.status, time.perf_counter() - started)
    return response


def endpoint_of(request: web.Request) -> str:
    """The path with its parameters as names; there are as many as there are endpoints, whatever clients ask for."""
    resource = request.match_info.route.resource
    if resource is None:
        return UNMATCHED
    endpoint = resource.canonical
    # It waits because it was asked to: its time says nothing of the others'.
    return f"{endpoint}?wait" if "wait" in request.query else endpoint
