"""Callbacks: what a client asks for, where one stands, and which task delivers it."""

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Literal

from app.core.ids import TaskId

DELIVER_TYPE = "callback.deliver"
"""The type of the tasks that deliver callbacks. Clients cannot submit it: it signs what it sends."""

Event = Literal["completed", "failed", "cancelled"]
"""A way for a task to end; the terminal statuses by name."""

EVENTS: tuple[Event, ...] = ("completed", "failed", "cancelled")


class CallbackState(StrEnum):
    """Where a callback stands. Each member says what moves it on."""

    WAITING = "waiting"  # the task has not ended
    DUE = "due"  # the task has ended; within seconds a task of its own delivers the callback
    DELIVERING = "delivering"  # `task_id` delivers it, with retries
    DELIVERED = "delivered"  # the receiver answered 2xx
    FAILED = "failed"  # `task_id` has ended without; retry that task to try again
    SKIPPED = "skipped"  # the task ended in a way that `events` leaves out


def deliverer_of(task_id: TaskId, round_number: int, ended_at: datetime) -> TaskId:
    """The id of the task that delivers the callback for one end of a task.

    The same end has the same id, whoever works it out and however often, so that inserting it twice is noticed. It
    starts with the second of the end, as ids start with the second in which they are made.
    """
    digest = hashlib.sha256(f"{task_id} {round_number}".encode()).hexdigest()
    return TaskId(f"{int(ended_at.timestamp()):08x}{digest[:16]}")
