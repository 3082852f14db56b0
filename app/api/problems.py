"""Errors as RFC 9457 problem documents: one table from error to status, one middleware, and never a traceback."""

import logging
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from app.core import errors
from app.core.api_keys import Scope
from app.core.errors import ArqiveError, FieldError
from app.telemetry.logging import name_request

logger = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
REQUEST_ID = "X-Request-ID"
REALM = "arqive"
REQUEST_ID_KEY = web.RequestKey("request_id", str)
"""What a request is called in the log and in the header of its answer."""

RETRY_AFTER_S = 2
MAX_ERRORS = 100  # fields named in one problem

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")

STARTED = web.RequestKey("started", web.StreamResponse)
"""A response that is being sent already: what goes wrong then can only end it."""


class BadJson(ArqiveError):  # noqa: N818 - named for what the body is
    """The body is not JSON."""

    code = "bad_json"


class BodyTooLarge(ArqiveError):  # noqa: N818 - a fact about the body
    """The body is larger than MAX_BODY_BYTES."""

    code = "body_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is larger than {limit:,} bytes.")


class UnsupportedMediaType(ArqiveError):  # noqa: N818 - a fact about the body
    """The body does not say that it is plain JSON in UTF-8."""

    code = "unsupported_media_type"


class NotFound(ArqiveError):  # noqa: N818 - a fact about the path
    """Nothing is at this path."""

    code = "not_found"


class MethodNotAllowed(ArqiveError):  # noqa: N818 - a fact about the path
    """The path exists, but not with this method."""

    code = "method_not_allowed"


class Unauthorized(ArqiveError):  # noqa: N818 - a fact about the caller
    """The request has no API key, or one that is not known."""

    code = "unauthorized"

    def __init__(self, message: str, challenge: str) -> None:
        self.challenge = challenge
        super().__init__(message)


class Forbidden(ArqiveError):  # noqa: N818 - a fact about the caller
    """The API key has another scope than is needed."""

    code = "forbidden"

    def __init__(self, name: str, *, has: Scope, needed: Scope) -> None:
        self.challenge = f'Bearer realm="{REALM}", error="insufficient_scope", scope="{needed}"'
        super().__init__(f"This needs the scope {needed}; the key {name!r} has {has}.")


class RateLimited(ArqiveError):  # noqa: N818 - a fact about the caller
    """The API key is used more often than it may be."""

    code = "rate_limited"

    def __init__(self, name: str, *, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"The key {name!r} has made more requests than it may; try again in {retry_after_s} s.")


class InternalError(ArqiveError):
    """Something that nobody foresaw; the log has the rest."""


STATUSES: Mapping[type[ArqiveError], HTTPStatus] = {
    BadJson: HTTPStatus.BAD_REQUEST,
    Unauthorized: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    errors.TaskNotFound: HTTPStatus.NOT_FOUND,
    errors.ScheduleNotFound: HTTPStatus.NOT_FOUND,
    errors.QueueNotFound: HTTPStatus.NOT_FOUND,
    MethodNotAllowed: HTTPStatus.METHOD_NOT_ALLOWED,
    errors.WrongState: HTTPStatus.CONFLICT,
    errors.UniqueKeyTaken: HTTPStatus.CONFLICT,
    BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.IdempotencyKeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    InternalError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.TooManyStreams: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StoreUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""Every error that an answer can be about. What is not here is answered as an InternalError."""


class BadField(BaseModel):
    """One thing that is wrong with one field."""

    field: str = Field(description="Dotted path, such as `payload.to`, `tags[2]` or `[3].type`; a query parameter.")
    message: str


class Problem(BaseModel):
    """An error as RFC 9457 has it. Branch on `code`: it is stable."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(description="Always about:blank: `code` tells what happened.")
    title: str
    status: int
    code: str
    detail: str
    errors: list[BadField] | None = Field(None, description=f"With 422: what is wrong, at most {MAX_ERRORS} fields.")
    task_status: str | None = Field(None, description="With wrong_state: the state that the task is in.")
    holder: str | None = Field(None, description="With unique_key_taken: the id of the task that has the key.")


def problem_of(error: ArqiveError, place: Callable[[str], str] = str) -> dict[str, Any]:
    """The problem document of an error that is in `STATUSES`.

    Args:
        error: What happened.
        place: What a field is called in the whole of the request.
    """
    status = STATUSES[type(error)]
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "code": error.code,
        "detail": str(error),
    }
    if isinstance(error, errors.Invalid):
        placed = [FieldError(place(bad.field), bad.message) for bad in error.errors]
        problem["detail"] = _summary(placed)
        problem["errors"] = [{"field": bad.field, "message": bad.message} for bad in placed[:MAX_ERRORS]]
    if isinstance(error, errors.WrongState):
        problem["task_status"] = error.status
    if isinstance(error, errors.UniqueKeyTaken):
        problem["holder"] = error.holder
    return problem


def _summary(bad: Sequence[FieldError]) -> str:
    if len(bad) == 1:
        return f"{bad[0].field}: {bad[0].message}."
    shown = f"; the first {MAX_ERRORS} are named" if len(bad) > MAX_ERRORS else ""
    return f"{len(bad):,} fields cannot be accepted{shown}."


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every answer a request id, and turn whatever is raised into a problem document."""
    given = request.headers.get(REQUEST_ID, "")
    request_id = given if _SANE_REQUEST_ID.fullmatch(given) else secrets.token_hex(12)
    name_request(request_id)
    request[REQUEST_ID_KEY] = request_id
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 - no client ever gets a traceback
        response = _response_to(error, request, request_id)
        started: web.StreamResponse | None = request.get(STARTED)
        return response if started is None else started


def _response_to(error: Exception, request: web.Request, request_id: str) -> web.Response:
    headers: dict[str, str] = {}
    match error:
        case web.HTTPMethodNotAllowed():
            refusal: ArqiveError = MethodNotAllowed(f"{request.method} is not allowed here.")
            headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
        case web.HTTPNotFound():
            refusal = NotFound("There is nothing at this path.")
        case ArqiveError() if type(error) in STATUSES:
            refusal = error
        case _:
            logger.error(
                "Request %s failed: %s %s", request_id, request.method, request.rel_url.raw_path, exc_info=error,
                extra={"event": "request_failed", "request_id": request_id},
            )  # fmt: skip
            refusal = InternalError(f"Something unexpected happened; the log has it under the request id {request_id}.")
    match refusal:
        case errors.StoreUnavailable() | errors.TooManyStreams():
            headers[hdrs.RETRY_AFTER] = str(RETRY_AFTER_S)
        case RateLimited():
            headers[hdrs.RETRY_AFTER] = str(refusal.retry_after_s)
        case Unauthorized() | Forbidden():
            headers[hdrs.WWW_AUTHENTICATE] = refusal.challenge
    return web.Response(
        status=STATUSES[type(refusal)], body=to_json(problem_of(refusal)), content_type=PROBLEM_JSON, headers=headers
    )
