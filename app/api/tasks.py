"""Tasks that exist: list, read, retry, cancel, delete."""

import base64
import binascii
from http import HTTPStatus
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.api.endpoint import Reply
from app.api.filters import FilterFields
from app.core import limits
from app.core.ids import TaskId
from app.core.states import Status
from app.models import Name, Task
from app.services import change, read
from app.services.backend import Backend

_CURSOR_VERSION = b"\x01"
_CURSOR_BYTES = 1 + 12  # the version and the 12 bytes of an id


def write_cursor(after: TaskId) -> str:
    """Where a page ended, opaque to clients: they must not come to rely on what is in it."""
    return base64.urlsafe_b64encode(_CURSOR_VERSION + bytes.fromhex(after)).decode().rstrip("=")


def read_cursor(text: str) -> TaskId:
    """The inverse of `write_cursor`.

    Raises:
        ValueError: this was never a cursor.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("is not a cursor that was given out here") from error
    if len(raw) != _CURSOR_BYTES or not raw.startswith(_CURSOR_VERSION):
        raise ValueError("is not a cursor that was given out here")
    return TaskId(raw[1:].hex())


def _known_cursor(text: str) -> str:
    read_cursor(text)
    return text


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ListQuery(FilterFields):
    """Which tasks, and how many of them."""

    status: tuple[Status, ...] = Field((), description="Any of these; may be repeated.")
    tag: tuple[Name, ...] = Field((), max_length=limits.MAX_TAGS, description="All of these; may be repeated.")
    limit: int = Field(50, ge=1, le=limits.MAX_PAGE, description="The most tasks in one page.")
    cursor: Annotated[str, AfterValidator(_known_cursor)] | None = Field(
        None, description="`next_cursor` of the page before."
    )


class WaitQuery(_Query):
    """Whether to wait for the end of the task."""

    wait: float = Field(
        0.0, ge=0, le=limits.MAX_WAIT_S, description="Seconds to wait for the task to end before it is answered."
    )


class NoFields(_Query):
    """An empty object."""


class TaskPage(BaseModel):
    """Tasks, newest first."""

    items: list[Task]
    next_cursor: str | None = Field(description="Get the next page with it; null on the last page.")


async def list_tasks(backend: Backend, query: ListQuery) -> Reply:
    """One page of tasks."""
    which = query.to_filter(query.status, query.tag)
    after = None if query.cursor is None else read_cursor(query.cursor)
    page = await read.list_tasks(backend, which, limit=query.limit, after=after)
    next_cursor = None if page.next_after is None else write_cursor(page.next_after)
    return Reply({"items": page.tasks, "next_cursor": next_cursor})


async def get_task(backend: Backend, task_id: TaskId, query: WaitQuery) -> Reply:
    """One task, at once or when it has ended."""
    if query.wait:
        return Reply(await read.wait_for_task(backend, task_id, seconds=query.wait))
    return Reply(await read.get_task(backend, task_id))


async def retry_task(backend: Backend, task_id: TaskId, body: NoFields = NoFields()) -> Reply:  # noqa: ARG001, B008 - the body is checked, not used; it is frozen
    """Another round of attempts."""
    return Reply(await change.retry_task(backend, task_id))


async def cancel_task(backend: Backend, task_id: TaskId, body: NoFields = NoFields()) -> Reply:  # noqa: ARG001, B008 - as above
    """Cancel, or ask for it."""
    return Reply(await change.cancel_task(backend, task_id))


async def delete_task(backend: Backend, task_id: TaskId) -> Reply:
    """Remove a task that has ended."""
    await change.delete_task(backend, task_id)
    return Reply(status=HTTPStatus.NO_CONTENT)
