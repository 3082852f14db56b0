"""Schedules: put, list, read, pause, resume, run now, delete."""

import base64
import binascii
from http import HTTPStatus
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.api.endpoint import Reply
from app.api.tasks import NoFields
from app.core import limits
from app.core.ids import ScheduleName
from app.schedule_models import Schedule, ScheduleSpec
from app.services import keep_schedules
from app.services.backend import Backend

_CURSOR_VERSION = b"\x01"

EXAMPLES = {
    "cron": {
        "summary": "Every weekday at nine in Berlin",
        "value": {
            "cron": "0 9 * * MON-FRI",
            "time_zone": "Europe/Berlin",
            "task": {"type": "http.request", "payload": {"url": "https://example.com/report"}, "max_attempts": 8},
        },
    },
    "interval": {
        "summary": "Every ninety seconds; what was missed is left out",
        "value": {"interval": 90, "catch_up": "skip", "task": {"type": "echo"}},
    },
}


def write_cursor(after: ScheduleName) -> str:
    """Where a page ended, opaque to clients."""
    return base64.urlsafe_b64encode(_CURSOR_VERSION + after.encode()).decode().rstrip("=")


def read_cursor(text: str) -> ScheduleName:
    """The inverse of `write_cursor`.

    Raises:
        ValueError: this was never a cursor.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        name = raw.removeprefix(_CURSOR_VERSION).decode()
    except (binascii.Error, ValueError) as error:
        raise ValueError("is not a cursor that was given out here") from error
    if not raw.startswith(_CURSOR_VERSION):
        raise ValueError("is not a cursor that was given out here")
    return ScheduleName(name)


def _known_cursor(text: str) -> str:
    read_cursor(text)
    return text


class ScheduleQuery(BaseModel):
    """How many schedules, and after which."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(50, ge=1, le=limits.MAX_PAGE, description="The most schedules in one page.")
    cursor: Annotated[str, AfterValidator(_known_cursor)] | None = Field(
        None, description="`next_cursor` of the page before."
    )


class SchedulePage(BaseModel):
    """Schedules, by name."""

    items: list[Schedule]
    next_cursor: str | None = Field(description="Get the next page with it; null on the last page.")


async def list_schedules(backend: Backend, query: ScheduleQuery) -> Reply:
    """One page of schedules."""
    after = None if query.cursor is None else read_cursor(query.cursor)
    page = await keep_schedules.list_schedules(backend, limit=query.limit, after=after)
    next_cursor = None if page.next_after is None else write_cursor(page.next_after)
    return Reply({"items": page.schedules, "next_cursor": next_cursor})


async def get_schedule(backend: Backend, name: ScheduleName) -> Reply:
    """One schedule."""
    return Reply(await keep_schedules.get_schedule(backend, name))


async def put_schedule(backend: Backend, name: ScheduleName, body: ScheduleSpec) -> Reply:
    """Create a schedule, or replace it."""
    schedule, created = await keep_schedules.put_schedule(backend, name, body)
    return Reply(schedule, HTTPStatus.CREATED if created else HTTPStatus.OK)


async def delete_schedule(backend: Backend, name: ScheduleName) -> Reply:
    """Remove a schedule; its tasks stay."""
    await keep_schedules.delete_schedule(backend, name)
    return Reply(status=HTTPStatus.NO_CONTENT)


async def pause_schedule(backend: Backend, name: ScheduleName, body: NoFields = NoFields()) -> Reply:  # noqa: ARG001, B008 - the body is checked, not used; it is frozen
    """Submit nothing until it is resumed."""
    return Reply(await keep_schedules.pause_schedule(backend, name))


async def resume_schedule(backend: Backend, name: ScheduleName, body: NoFields = NoFields()) -> Reply:  # noqa: ARG001, B008 - as above
    """Go on with the slots."""
    return Reply(await keep_schedules.resume_schedule(backend, name))


EXISTING = {"Existing-Task": "`true`: no task was made."}


async def run_schedule(backend: Backend, name: ScheduleName, body: NoFields = NoFields()) -> Reply:  # noqa: ARG001, B008 - as above
    """Submit its task now."""
    task, is_new = await keep_schedules.run_schedule(backend, name)
    headers = {"Location": f"/tasks/{task.id}"}
    if is_new:
        return Reply(task, HTTPStatus.CREATED, headers)
    return Reply(task, HTTPStatus.OK, {**headers, "Existing-Task": "true"})
