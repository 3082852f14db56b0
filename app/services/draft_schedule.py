"""Works out what is to be stored of a schedule. May read files of time zones: not for the event loop."""

import secrets
from datetime import datetime, timedelta

from app.core.cron import BadCron, Cron
from app.core.errors import FieldError
from app.core.slots import CatchUp, slot_after_pause
from app.schedule_models import ScheduleSpec
from app.services.timing import UnknownZone, load_zone, timing_of
from app.store.schedules import ScheduleDocument


def timing_errors(spec: ScheduleSpec) -> list[FieldError]:
    """What is wrong with the times that a client asks for."""
    errors = []
    if (spec.cron is None) is (spec.interval is None):
        errors.append(FieldError("cron", "give cron or interval, one of them"))
    if spec.cron is not None:
        try:
            Cron.parse(spec.cron)
        except BadCron as error:
            errors.append(FieldError("cron", str(error)))
    if spec.time_zone is not None:
        if spec.cron is None:
            errors.append(FieldError("time_zone", "goes with cron only: an interval counts seconds"))
        try:
            load_zone(spec.time_zone)
        except UnknownZone as error:
            errors.append(FieldError("time_zone", str(error)))
    if spec.start_at is not None and spec.end_at is not None and spec.end_at < spec.start_at:
        errors.append(FieldError("end_at", "must not be before start_at"))
    return errors


def draft(current: ScheduleDocument | None, spec: ScheduleSpec, name: str, now: datetime) -> ScheduleDocument:
    """What is to be stored when a client puts a schedule.

    Args:
        current: What is stored, if anything.
        spec: What the client wants.
        name: Of the schedule.
        now: The moment.
    """
    document: ScheduleDocument = {
        "_id": name,
        "creation": current["creation"] if current else secrets.token_hex(8),
        "revision": current["revision"] + 1 if current else 1,
        "cron": spec.cron,
        "time_zone": (spec.time_zone or "UTC") if spec.cron is not None else None,
        # MongoDB keeps milliseconds: of a slot in between it would forget a part, and then come upon it again.
        "interval_s": None if spec.interval is None else round(spec.interval, 3),
        "anchor_at": None,
        "start_at": spec.start_at,
        "end_at": spec.end_at,
        "catch_up": spec.catch_up,
        "paused": spec.paused if spec.paused is not None else bool(current and current["paused"]),
        "task": spec.task.to_document(),
        "next_run_at": None,
        "due_at": current["due_at"] if current else None,
        "taken": current["taken"] if current else None,
        "last_run_at": current["last_run_at"] if current else None,
        "last_task_id": current["last_task_id"] if current else None,
        "last_error": None,
        "created_at": current["created_at"] if current else now,
        "updated_at": now,
    }
    if current is not None and _beat(current) == _beat(document):
        document["anchor_at"] = current["anchor_at"]
    elif spec.interval is not None:
        document["anchor_at"] = spec.start_at or now.replace(microsecond=0) + timedelta(
            seconds=document["interval_s"] or 0
        )
    if current is not None and _times(current) == _times(document):
        document["next_run_at"] = current["next_run_at"]
        if current["paused"] and not document["paused"]:
            document["next_run_at"] = _after_pause(document, now)
    else:
        # A clock that is behind must not come upon a slot that another has submitted.
        last = document["last_run_at"] or now
        document["next_run_at"] = timing_of(document).next_after(max(now, last))
    document["due_at"] = _due_at(document)
    return document


def _beat(document: ScheduleDocument) -> tuple[object, ...]:
    return document["interval_s"], document["start_at"]


def _times(document: ScheduleDocument) -> tuple[object, ...]:
    return *_beat(document), document["cron"], document["time_zone"], document["end_at"]


def paused(current: ScheduleDocument, now: datetime) -> ScheduleDocument:
    """The schedule, paused; itself where it is."""
    if current["paused"]:
        return current
    document = _changed(current, now)
    document["paused"] = True
    document["due_at"] = _due_at(document)
    return document


def resumed(current: ScheduleDocument, now: datetime) -> ScheduleDocument:
    """The schedule, no longer paused; itself where it is not."""
    if not current["paused"]:
        return current
    document = _changed(current, now)
    document["paused"] = False
    document["next_run_at"] = _after_pause(document, now)
    document["due_at"] = _due_at(document)
    return document


def _changed(current: ScheduleDocument, now: datetime) -> ScheduleDocument:
    document = current.copy()
    document["revision"] += 1
    document["updated_at"] = now
    return document


def _after_pause(document: ScheduleDocument, now: datetime) -> datetime | None:
    first = document["next_run_at"]
    if first is None:
        return None
    return slot_after_pause(timing_of(document), first, now=now, catch_up=CatchUp(document["catch_up"]))


def _due_at(document: ScheduleDocument) -> datetime | None:
    """Slots that somebody has taken come first: until they are submitted, or taken over, nothing else is due."""
    if document["taken"] is not None:
        return document["due_at"]
    return None if document["paused"] else document["next_run_at"]
