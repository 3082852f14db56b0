"""POST /tasks/cancel and POST /tasks/retry: the same change to all tasks that match."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from app.api.endpoint import Reply
from app.api.filters import FilterFields
from app.core import limits
from app.core.clock import from_ms, to_ms, utc_now
from app.core.ids import TaskId
from app.core.states import UNFINISHED, Status
from app.models import Name
from app.services import change_many
from app.services.backend import Backend
from app.store.attempts import CLOCK_TOLERANCE
from app.store.selection import Selection

_VERSION = b"\x02"
_MOMENT_BYTES = 8
_CURSOR_BYTES = 1 + _MOMENT_BYTES + 12

_FILTERS = ("status", "type", "queue", "tags", "schedule", "created_after", "created_before", "error_code")


def write_cursor(until: datetime, after: TaskId) -> str:
    """Where a call ended and when the first one began, opaque to clients.

    With the moment, a client that goes on until the end does not chase what is submitted meanwhile.
    """
    raw = _VERSION + to_ms(until).to_bytes(_MOMENT_BYTES) + bytes.fromhex(after)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def read_cursor(text: str) -> tuple[datetime, TaskId]:
    """The inverse of `write_cursor`.

    Raises:
        ValueError: this was never a cursor.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        until = from_ms(int.from_bytes(raw[1 : 1 + _MOMENT_BYTES]))
    except (binascii.Error, ValueError, OverflowError) as error:
        raise ValueError("is not a cursor that was given out here") from error
    if len(raw) != _CURSOR_BYTES or not raw.startswith(_VERSION) or until.year >= limits.LAST_YEAR:
        raise ValueError("is not a cursor that was given out here")
    return until, TaskId(raw[1 + _MOMENT_BYTES :].hex())


def _known_cursor(text: str) -> str:
    read_cursor(text)
    return text


class _Change(FilterFields):
    tags: tuple[Name, ...] = Field((), max_length=limits.MAX_TAGS, description="All of these.")
    all: bool = Field(default=False, strict=True, description="Instead of a filter: all there are.")
    dry_run: bool = Field(default=False, strict=True, description="Count what matches, change nothing.")
    limit: int = Field(
        limits.MAX_CHANGES, ge=1, le=limits.MAX_CHANGES, strict=True, description="The most tasks to go through."
    )
    cursor: Annotated[str, AfterValidator(_known_cursor)] | None = Field(
        None, description="`next_cursor` of the call before."
    )

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        given = [name for name in _FILTERS if getattr(self, name)]
        if self.all and given:
            raise ValueError(f"give a filter or all, not both: {', '.join(given)}")
        if not self.all and not given:
            raise ValueError(f"give at least one of {', '.join(_FILTERS)}, or all: true")
        return self

    def selection(self, statuses: tuple[Status, ...], *, unasked: bool) -> Selection:
        """What is to be changed."""
        which = self.to_filter(statuses, self.tags)
        until, after = (utc_now() + CLOCK_TOLERANCE, None) if self.cursor is None else read_cursor(self.cursor)
        return Selection(which, until, after, unasked=unasked)


class CancelFilter(_Change):
    """Which unfinished tasks to cancel."""

    status: tuple[Literal[Status.PENDING, Status.RUNNING, Status.RETRYING], ...] = Field(
        (), max_length=3, description="Any of these; without it all three."
    )


class RetryFilter(_Change):
    """Which tasks that have ended to run again."""

    status: tuple[Literal[Status.FAILED, Status.CANCELLED], ...] = Field(
        (), max_length=2, description="Any of these; without it only failed ones."
    )


class _Changed(BaseModel):
    matched: int = Field(description="Tasks that this call has gone through; in a dry run all that match.")
    changed: int = Field(description="Those of them that it has changed.")


class CancelResult(_Changed):
    """What a call has cancelled."""

    requested: int = Field(description="Those of the changed that run: they are cancelled once they have stopped.")
    next_cursor: str | None = Field(description="Go on with it; null when all have been gone through.")


class RetryResult(_Changed):
    """What a call has retried."""

    conflicts: int = Field(description="Those not changed since an unfinished task has their unique key.")
    next_cursor: str | None = Field(description="Go on with it; null when all have been gone through.")


CANCEL_EXAMPLE = {
    "queue": {"summary": "Count what would be cancelled", "value": {"queue": "mail", "dry_run": True}},
    "tag": {"summary": "Everything for one customer", "value": {"tags": ["customer-17"]}},
}
RETRY_EXAMPLE = {
    "timeouts": {"summary": "What timed out", "value": {"type": "http.request", "error_code": "timed_out"}},
    "all": {"summary": "Everything that failed", "value": {"all": True}},
}


async def cancel_tasks(backend: Backend, body: CancelFilter) -> Reply:
    """Cancel what matches, or ask for it."""
    selection = body.selection(body.status or tuple(sorted(UNFINISHED)), unasked=True)
    if body.dry_run:
        matched = await change_many.count_selected(backend, selection)
        return Reply(CancelResult(matched=matched, changed=0, requested=0, next_cursor=None))
    done = await change_many.cancel_many(backend, selection, limit=body.limit)
    return Reply(
        CancelResult(
            matched=done.walked.matched,
            changed=done.changed,
            requested=done.requested,
            next_cursor=_next(selection, done.walked),
        )
    )


async def retry_tasks(backend: Backend, body: RetryFilter) -> Reply:
    """Another round of attempts for what matches."""
    selection = body.selection(body.status or (Status.FAILED,), unasked=False)
    if body.dry_run:
        matched = await change_many.count_selected(backend, selection)
        return Reply(RetryResult(matched=matched, changed=0, conflicts=0, next_cursor=None))
    done = await change_many.retry_many(backend, selection, limit=body.limit)
    return Reply(
        RetryResult(
            matched=done.walked.matched,
            changed=done.changed,
            conflicts=done.conflicts,
            next_cursor=_next(selection, done.walked),
        )
    )


def _next(selection: Selection, walked: change_many.Walked) -> str | None:
    return None if walked.next_after is None else write_cursor(selection.until, walked.next_after)
