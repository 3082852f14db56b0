"""Builds the web application from the table of endpoints."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from itertools import groupby
from types import MappingProxyType
from typing import Any, NoReturn

from aiohttp import hdrs, web
from aiohttp.http_exceptions import BadHttpMessage
from pydantic_core import to_json

from app.api.binding import bind
from app.api.endpoint import Endpoint
from app.api.endpoints import ENDPOINTS
from app.api.guard import Access, Guard
from app.api.headers import add_headers
from app.api.keys import BACKEND, OPENAPI, RESTRICTED
from app.api.openapi import build_document
from app.api.problems import answer_problems
from app.api.watch import watch_requests
from app.services.backend import Backend


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a line of the server's is worth an error: what is not HTTP is answered with 400, and is not our mistake.

    aiohttp logs it with a traceback, so that whoever reaches the port could fill the log.
    """
    return record.exc_info is None or not isinstance(record.exc_info[1], BadHttpMessage)


_server_log = logging.getLogger("aiohttp.server")
_server_log.addFilter(_is_ours)

SERVER_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {
        "logger": _server_log,
        "access_log": None,  # what goes wrong is logged where it does
        "auto_decompress": False,  # compressed bodies are refused, so nobody should unpack them
        "handler_cancellation": False,  # a client that hangs up must not stop a write half-way
    }
)
"""What the application wants of whatever serves it."""

OpenBackend = Callable[[], AbstractAsyncContextManager[Backend]]


def build_app(
    open_backend: OpenBackend, *, max_body_bytes: int, version: str, access: Access | None = None
) -> web.Application:
    """The application, which opens its backend when it starts and closes it when it has stopped.

    Args:
        open_backend: Opens what the handlers work on.
        max_body_bytes: The largest request body that is accepted.
        version: Of the service, for the OpenAPI document.
        access: Who may do what; without it everybody may do everything.
    """
    access = access or Access()
    application = web.Application(middlewares=[watch_requests, answer_problems], client_max_size=max_body_bytes)
    application[RESTRICTED] = access.restricted
    application[OPENAPI] = to_json(build_document(ENDPOINTS, version=version, access=access))
    guard = Guard(access)
    for path, endpoints in groupby(sorted(ENDPOINTS, key=_literal_first), key=lambda endpoint: endpoint.path):
        _add(application.router, path, list(endpoints), guard)

    async def backend(application: web.Application) -> AsyncIterator[None]:
        async with open_backend() as opened:
            application[BACKEND] = opened
            yield

    application.cleanup_ctx.append(backend)
    application.on_shutdown.append(_end_waits)
    application.on_response_prepare.append(add_headers)
    return application


def _literal_first(endpoint: Endpoint) -> tuple[bool, str]:
    return "{" in endpoint.path, endpoint.path


def _add(router: web.UrlDispatcher, path: str, endpoints: list[Endpoint], guard: Guard) -> None:
    # By default the router takes no braces in a parameter, and no such task is another answer than no such path.
    resource = router.add_resource(path.replace("}", ":[^/]+}"))
    allowed: set[str] = set()
    for endpoint in endpoints:
        handle = guard.over(endpoint, bind(endpoint))
        methods = {hdrs.METH_GET, hdrs.METH_HEAD} if endpoint.method == hdrs.METH_GET else {endpoint.method}
        for method in sorted(methods):
            resource.add_route(method, handle)
        allowed |= methods
    # By itself the router would go on to `/tasks/{task_id}` for a method that `/tasks/bulk` does not have.
    resource.add_route(hdrs.METH_ANY, _refuse_method(allowed))


def _refuse_method(allowed: set[str]) -> Callable[[web.Request], Awaitable[NoReturn]]:
    async def refuse(request: web.Request) -> NoReturn:
        raise web.HTTPMethodNotAllowed(request.method, sorted(allowed))

    return refuse


async def _end_waits(application: web.Application) -> None:
    """Answer requests that wait with what there is and end streams: the rest of the shutdown need not wait for them."""
    application[BACKEND].endings.close()
    application[BACKEND].live.close()
