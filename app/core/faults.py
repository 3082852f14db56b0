"""Named points in the path of a task at which tests make it crash, hang or fail. In production they do nothing."""

from collections.abc import Awaitable, Callable
from enum import StrEnum


class FaultPoint(StrEnum):
    """Where a crash would hurt most: between two writes that belong together."""

    AFTER_INSERT = "after_insert"  # accepted and kept, not queued yet
    AFTER_DISPATCH = "after_dispatch"  # queued, the client has no answer yet
    AFTER_CLAIM = "after_claim"  # leased in Redis, not begun in MongoDB
    AFTER_BEGIN = "after_begin"  # running in MongoDB, the handler has not started
    BEFORE_SETTLE = "before_settle"  # the handler has ended, nothing is recorded
    AFTER_SETTLE = "after_settle"  # recorded in MongoDB, Redis does not know
    AFTER_FINISH = "after_finish"  # Redis knows, and who waits was told
    BEFORE_CALLBACK = "before_callback"  # a task has ended, its callback is owed
    AFTER_CALLBACK = "after_callback"  # the task that delivers it is kept, nobody has noted that
    AFTER_HAND_OVER = "after_hand_over"  # it is noted, and not queued
    AFTER_TAKE = "after_take"  # slots of schedules are taken, their tasks are not there yet
    AFTER_SLOTS = "after_slots"  # the tasks of slots are there, the schedules do not say so yet
    DURING_REBUILD = "during_rebuild"  # some of the waiting tasks are back in Redis


Action = Callable[[], Awaitable[None]]

_armed: dict[FaultPoint, Action] = {}


def arm(point: FaultPoint, action: Action) -> None:
    """From now on do this whenever the point is reached."""
    _armed[point] = action


def disarm_all() -> None:
    """Make every point do nothing again."""
    _armed.clear()


async def reach(point: FaultPoint) -> None:
    """Do what the point was armed with, if anything."""
    action = _armed.get(point)
    if action is not None:
        await action()
