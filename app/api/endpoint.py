"""What is said of an endpoint: enough to route it, to document it and to guard it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from aiohttp import web

from app.core.errors import ArqiveError

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a handler answers.

    Attributes:
        body: Anything that pydantic writes as JSON; bytes are sent as they are; None sends no body.
        status: The HTTP status.
        headers: Besides the content type.
        media_type: Of the body.
    """

    body: object = None
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = JSON


Handler = Callable[..., Awaitable[Reply | web.StreamResponse]]
"""An async function; `app.api.binding` says what its parameters may be. A response of its own has been sent already."""


class Permission(StrEnum):
    """What a caller needs to be allowed."""

    NONE = "none"  # anybody: probes and documentation
    READ = "read"  # to see tasks
    WRITE = "write"  # to submit and change tasks
    ADMIN = "admin"  # to change how the service runs


class Opening(StrEnum):
    """What an operator may leave open while everything else needs a key; the words of OPEN_ENDPOINTS."""

    HEALTH = "health"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class Answer:
    """One status that an endpoint answers with when all is well, or as well as it can be.

    Attributes:
        description: For the document.
        body: The type of the body, or None without one.
        headers: Those it always has, by name, with their descriptions.
        media_type: Of the body.
        sometimes: Those it may have.
    """

    description: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = JSON
    sometimes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation.

    Attributes:
        method: In upper case; GET answers HEAD too.
        path: With parameters as `{task_id}`.
        handler: Its signature names the path parameters and carries the models of query and body.
        summary: One line.
        tag: The resource it belongs to.
        permission: What a caller needs.
        answers: By status.
        errors: What it raises besides what every endpoint can.
        examples: Request bodies by name.
        documented: Whether the OpenAPI document has it.
        opening: What it is one of, if an operator may leave it open.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    permission: Permission
    answers: Mapping[HTTPStatus, Answer]
    errors: tuple[type[ArqiveError], ...] = ()
    examples: Mapping[str, object] = field(default_factory=dict)
    documented: bool = True
    opening: Opening | None = None

    @property
    def name(self) -> str:
        """The operation's id."""
        return self.handler.__name__
