"""Which tasks: the filters of a list, of the changes to all that match, and of the streams of events."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypedDict

from pydantic_core import to_jsonable_python

from app.client.connection import Query
from app.core.outcomes import ErrorCode
from app.core.states import Status


class EventFilter(TypedDict, total=False):
    """Which tasks; what is left out or None does not matter. See `GET /events`."""

    status: Status | str | Iterable[Status | str] | None
    type: str | None
    queue: str | None
    tags: Iterable[str] | None


class TaskFilter(EventFilter, total=False):
    """Which tasks; what is left out or None does not matter. See `GET /tasks`."""

    schedule: str | None
    error_code: ErrorCode | str | None
    created_after: datetime | None
    created_before: datetime | None


def body_of(which: EventFilter) -> dict[str, Any]:
    """The filter as the body of a request has it."""
    body: dict[str, Any] = {name: value for name, value in which.items() if value is not None}
    if isinstance(body.get("status"), str):
        body["status"] = [body["status"]]
    return {**body, **{name: list(body[name]) for name in ("status", "tags") if name in body}}


def query_of(which: EventFilter) -> Query:
    """The filter as query parameters."""
    body = to_jsonable_python(body_of(which))
    lists = {"status": body.pop("status", []), "tag": body.pop("tags", [])}
    return [*((name, value) for name, values in lists.items() for value in values), *body.items()]
