"""Lets a handler be a plain function: reads the request into its parameters, and its reply into a response.

A parameter is recognised by its annotation or its name:

- `Backend` and `web.Request` are what they say;
- `TaskId`, `ScheduleName` and `QueueName` are the path parameter of the same name;
- `IdempotencyKey` is the header, or None without it, and `EventId` is `Last-Event-ID`;
- `query` is a model of the query parameters, fields that are tuples may be given more than once;
- `body` is whatever a TypeAdapter takes; with a default the body may be missing. Validators get the registered types
  as their context.

Unknown query parameters are refused, also where there is no `query`.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, get_origin, get_type_hints

from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import to_json

from app.api.endpoint import Endpoint, Handler, Reply
from app.api.keys import BACKEND
from app.api.problems import BadJson, BodyTooLarge, UnsupportedMediaType
from app.api.request_headers import HEADERS, RequestHeader
from app.core.errors import FieldError, Invalid
from app.core.field_errors import field_errors
from app.core.ids import QueueName, ScheduleName, TaskId, parse_queue_name, parse_task_id
from app.services.backend import Backend


class NoQuery(BaseModel):
    """No query parameters."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Signature:
    """What a handler asks for.

    Attributes:
        sources: Where each of its parameters but `query` and `body` comes from.
        headers: Those that it reads.
        query: The model of the query parameters.
        has_query: Whether it wants them.
        body: Reads the body, or None.
        body_default: What stands for an empty body; `inspect.Parameter.empty` requires one.
    """

    sources: Mapping[str, Callable[[web.Request], object]]
    headers: Sequence[RequestHeader]
    query: type[BaseModel]
    has_query: bool
    body: TypeAdapter[Any] | None
    body_default: object

    @property
    def body_required(self) -> bool:
        """Whether an empty body is refused."""
        return self.body_default is inspect.Parameter.empty


@cache  # the router and the OpenAPI document both ask, and the answer takes building validators
def read_signature(handler: Handler) -> Signature:
    """What the handler asks for.

    Raises:
        TypeError: it has a parameter that nothing can fill.
    """
    hints = get_type_hints(handler, include_extras=True)
    parameters = inspect.signature(handler).parameters
    sources = {name: _source(name, hints[name]) for name in parameters if name not in {"query", "body"}}
    return Signature(
        sources=sources,
        headers=[HEADERS[hints[name]] for name in sources if hints[name] in HEADERS],
        query=hints.get("query", NoQuery),
        has_query="query" in parameters,
        body=TypeAdapter(hints["body"]) if "body" in parameters else None,
        body_default=parameters["body"].default if "body" in parameters else None,
    )


def _source(name: str, annotation: object) -> Callable[[web.Request], object]:
    if annotation is Backend:
        return lambda request: request.app[BACKEND]
    if annotation is web.Request:
        return lambda request: request
    if annotation is TaskId:
        return lambda request: parse_task_id(request.match_info[name])
    if annotation is QueueName:
        return lambda request: parse_queue_name(request.match_info[name])
    if annotation in HEADERS:
        header = HEADERS[annotation]
        return lambda request: header.read(request.headers.getall(header.name, ()))
    if annotation is ScheduleName:
        return lambda request: ScheduleName(request.match_info[name])
    raise TypeError(f"nothing fills the parameter {name!r} of type {annotation!r}")


def bind(endpoint: Endpoint) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The endpoint as aiohttp calls it."""
    signature = read_signature(endpoint.handler)

    async def handle(request: web.Request) -> web.StreamResponse:
        arguments = {name: source(request) for name, source in signature.sources.items()}
        query = _read_query(signature.query, request)
        if signature.has_query:
            arguments["query"] = query
        if signature.body is not None:
            arguments["body"] = await _read_body(signature, signature.body, request)
        return _respond(await endpoint.handler(**arguments))

    return handle


def _respond(reply: Reply | web.StreamResponse) -> web.StreamResponse:
    if isinstance(reply, web.StreamResponse):
        return reply
    if reply.body is None:
        return web.Response(status=reply.status, headers=reply.headers)
    body = reply.body if isinstance(reply.body, bytes) else to_json(reply.body)
    charset = "utf-8" if reply.media_type.startswith("text/") else None  # JSON has no such parameter
    return web.Response(
        status=reply.status, body=body, content_type=reply.media_type, charset=charset, headers=reply.headers
    )


def _read_query(model: type[BaseModel], request: web.Request) -> BaseModel:
    values: dict[str, object] = {}
    repeated: list[FieldError] = []
    for name in dict.fromkeys(request.query):
        given = request.query.getall(name)
        field = model.model_fields.get(name)
        if field is not None and get_origin(field.annotation) is tuple:
            values[name] = given
        else:
            values[name] = given[0]
            if field is not None and len(given) > 1:
                repeated.append(FieldError(name, "is given more than once"))
    try:
        query = model.model_validate(values)
    except ValidationError as error:
        raise Invalid([*repeated, *field_errors(error)]) from error
    if repeated:
        raise Invalid(repeated)
    return query


async def _read_body(signature: Signature, adapter: TypeAdapter[Any], request: web.Request) -> object:
    if signature.body_required:
        _require_json(request)
    raw = await _read_bytes(request)
    if not signature.body_required:
        if not raw:
            return signature.body_default
        _require_json(request)
    try:
        return adapter.validate_json(raw, context=request.app[BACKEND].types)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise BadJson(f"The body is not JSON: {first['ctx']['error']}.") from error
        raise Invalid(field_errors(error)) from error


async def _read_bytes(request: web.Request) -> bytes:
    limit = request.client_max_size
    if request.content_length is not None and request.content_length > limit:
        raise BodyTooLarge(limit)
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise BodyTooLarge(limit) from error
    except (web.RequestPayloadError, ConnectionResetError) as error:  # the second has nobody left to tell
        raise BadJson("The body does not arrive as its headers say.") from error


def _require_json(request: web.Request) -> None:
    kind = request.content_type
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMediaType("The Content-Type must be application/json.")
    if (request.charset or "utf-8").lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise UnsupportedMediaType("The body must be in UTF-8.")
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise UnsupportedMediaType("The body must not be compressed.")
