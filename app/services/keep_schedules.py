"""What a client may do with schedules: put, read, pause, resume, delete, and have one run now."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from app.core import limits
from app.core.clock import utc_now
from app.core.errors import FieldError, Invalid, ScheduleNotFound
from app.core.ids import ScheduleName
from app.models import Task
from app.schedule_models import Schedule, ScheduledTask, ScheduleSpec
from app.services.backend import Backend
from app.services.draft_schedule import draft, paused, resumed, timing_errors
from app.services.submit import new_document
from app.store.schedules import ScheduleDocument

_NAME = re.compile(limits.NAME_PATTERN)


@dataclass(frozen=True, slots=True)
class Page:
    """Schedules by name, and the name to go on after, or None at the end."""

    schedules: list[Schedule]
    next_after: ScheduleName | None


async def put_schedule(backend: Backend, name: ScheduleName, spec: ScheduleSpec) -> tuple[Schedule, bool]:
    """Create a schedule, or replace what is not its past.

    Putting again what is there changes nothing: a slot that is due stays due, an interval keeps its beat. Only where
    the times are others are the slots counted anew, from now on.

    Returns:
        The schedule, and whether it is new.

    Raises:
        Invalid: it cannot be accepted; names every bad field.
        StoreUnavailable: MongoDB cannot serve.
    """
    if not _possible(name):
        raise Invalid([FieldError("name", f"must match {limits.NAME_PATTERN} and have at most {limits.MAX_NAME}")])
    errors = await asyncio.to_thread(timing_errors, spec)
    try:
        new_document(spec.task.to_submission(), backend.types, utc_now(), can_call_back=backend.signs_callbacks)
    except Invalid as invalid:
        errors += [FieldError(f"task.{error.field}", error.message) for error in invalid.errors]
    if errors:
        raise Invalid(errors)
    while True:
        current = await backend.schedules.get(name)
        document = await asyncio.to_thread(draft, current, spec, name, utc_now())
        if current is None:
            kept = await backend.schedules.insert(document)
        else:
            kept = await backend.schedules.replace(document, revision=current["revision"])
        if kept:  # else somebody was faster: look again
            return Schedule.from_document(document), current is None


async def get_schedule(backend: Backend, name: ScheduleName) -> Schedule:
    """The schedule as it is now.

    Raises:
        ScheduleNotFound: there is none.
        StoreUnavailable: MongoDB cannot serve.
    """
    return Schedule.from_document(await _find(backend, name))


async def list_schedules(backend: Backend, *, limit: int, after: ScheduleName | None) -> Page:
    """Up to `limit` schedules by name, going on after the name `after`.

    Raises:
        StoreUnavailable: MongoDB cannot serve.
    """
    documents = await backend.schedules.page(limit=limit + 1, after=after)
    schedules = [Schedule.from_document(document) for document in documents[:limit]]
    return Page(schedules, ScheduleName(schedules[-1].name) if len(documents) > limit else None)


async def delete_schedule(backend: Backend, name: ScheduleName) -> None:
    """Remove a schedule; the tasks that it submitted stay.

    Raises:
        ScheduleNotFound: there is none.
        StoreUnavailable: MongoDB cannot serve.
    """
    if not _possible(name) or not await backend.schedules.delete(name):
        raise ScheduleNotFound(name)


async def pause_schedule(backend: Backend, name: ScheduleName) -> Schedule:
    """Have a schedule submit nothing until it is resumed; one that is paused stays as it is.

    Raises:
        ScheduleNotFound: there is none.
        StoreUnavailable: MongoDB cannot serve.
    """
    return await _change(backend, name, paused)


async def resume_schedule(backend: Backend, name: ScheduleName) -> Schedule:
    """End the pause of a schedule; what fell into it is subject to `catch_up`. One that is not paused stays as it is.

    Raises:
        ScheduleNotFound: there is none.
        StoreUnavailable: MongoDB cannot serve.
    """
    return await _change(backend, name, resumed)


async def run_schedule(backend: Backend, name: ScheduleName) -> tuple[Task, bool]:
    """Submit the task of a schedule now, beside its slots and also while it is paused.

    Returns:
        The task, and whether it is new: where it has a unique key, another may stand for it.

    Raises:
        ScheduleNotFound: there is none.
        Invalid: its task is not accepted any more.
        StoreUnavailable: MongoDB cannot serve.
    """
    schedule = await _find(backend, name)
    submission = ScheduledTask.model_validate(schedule["task"]).to_submission()
    document = new_document(submission, backend.types, utc_now(), can_call_back=backend.signs_callbacks)
    document["schedule"] = {"name": name, "slot_at": None}
    instead = await backend.acceptor.accept([document])
    holder = instead.get(document["_id"])
    return Task.from_document(document if holder is None else holder.document), holder is None


def _possible(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and len(name) <= limits.MAX_NAME


async def _find(backend: Backend, name: ScheduleName) -> ScheduleDocument:
    document = await backend.schedules.get(name) if _possible(name) else None
    if document is None:
        raise ScheduleNotFound(name)
    return document


async def _change(
    backend: Backend, name: ScheduleName, change: Callable[[ScheduleDocument, datetime], ScheduleDocument]
) -> Schedule:
    while True:
        current = await _find(backend, name)
        changed = await asyncio.to_thread(change, current, utc_now())
        if changed is current or await backend.schedules.replace(changed, revision=current["revision"]):
            return Schedule.from_document(changed)
