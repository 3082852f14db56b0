"""When a schedule has its slots, and which of them are due."""

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum

from app.core.cron import Cron

ON_TIME = timedelta(seconds=60)
"""A slot that is no later than this is submitted whatever happened meanwhile; one that is later was missed."""

MOST_COUNTED = 1_000
"""Missed slots are counted no further."""

_SECOND = timedelta(seconds=1)
_MOMENT = timedelta(microseconds=1)


class CatchUp(StrEnum):
    """What becomes of slots that were missed, because nothing ran or because the schedule was paused."""

    ONE = "one"  # the last of them is made up for
    SKIP = "skip"  # none is


@dataclass(frozen=True, slots=True)
class CronRule:
    """A slot whenever a wall clock shows what a cron expression asks for."""

    cron: Cron
    zone: tzinfo

    def next_after(self, moment: datetime) -> datetime | None:
        """The first slot after a moment."""
        return self.cron.next_after(moment, self.zone)


@dataclass(frozen=True, slots=True)
class IntervalRule:
    """A slot at the anchor and every `interval` from there: however late one is, the next is where it would be.

    Attributes:
        interval: At least a second.
        anchor: The first slot.
    """

    interval: timedelta
    anchor: datetime

    def next_after(self, moment: datetime) -> datetime | None:
        """The first slot after a moment."""
        if moment < self.anchor:
            return self.anchor
        return self.anchor + ((moment - self.anchor) // self.interval + 1) * self.interval


@dataclass(frozen=True, slots=True)
class Timing:
    """The slots of a rule within bounds, at least a second apart.

    Attributes:
        rule: Where they come from.
        start_at: No slot is before it.
        end_at: No slot is after it.
    """

    rule: CronRule | IntervalRule
    start_at: datetime | None = None
    end_at: datetime | None = None

    def next_after(self, moment: datetime) -> datetime | None:
        """The first slot after a moment, or None when there are no more."""
        if self.start_at is not None:
            moment = max(moment, self.start_at - _MOMENT)
        slot = self.rule.next_after(moment)
        return None if slot is None or (self.end_at is not None and slot > self.end_at) else slot

    def last_until(self, moment: datetime, *, since: datetime) -> datetime:
        """The last slot up to a moment, given one slot `since` that is not after it."""
        # The slots do not depend on where one asks from, so the place from which the next one is too late can be
        # halved for: a minutely schedule that was away for a year costs as much as a daily one.
        low, high = -1, (moment - since) // _SECOND + 1
        found = since
        while high - low > 1:
            middle = (low + high) // 2
            slot = self.next_after(since + middle * _SECOND)
            if slot is not None and slot <= moment:
                low, found = middle, slot
            else:
                high = middle
        return found


@dataclass(frozen=True, slots=True)
class DueSlots:
    """The slots to submit now, oldest first, and the one after them, or None when there are no more."""

    slots: tuple[datetime, ...]
    next_slot: datetime | None


def due_slots(timing: Timing, first: datetime, *, now: datetime, catch_up: CatchUp) -> DueSlots:
    """What is due of a schedule.

    Every slot that is not older than `ON_TIME` is; of older ones at most one, and only when no other is due.

    Args:
        timing: Of the schedule.
        first: The oldest slot that was not dealt with.
        now: The moment.
        catch_up: What becomes of those that were missed.
    """
    slots: list[datetime] = []
    oldest = now - ON_TIME
    slot = first if first >= oldest else timing.next_after(oldest - _MOMENT)
    while slot is not None and slot <= now:
        slots.append(slot)
        slot = timing.next_after(slot)
    if not slots and first < oldest and catch_up is CatchUp.ONE:
        slots.append(timing.last_until(now, since=first))
    return DueSlots(tuple(slots), slot)


def count_missed(timing: Timing, first: datetime, *, before: datetime) -> int:
    """How many slots from the slot `first` on are before a moment, as far as `MOST_COUNTED`."""
    count, slot = 0, timing.next_after(first - _MOMENT)
    while slot is not None and slot < before and count < MOST_COUNTED:
        count += 1
        slot = timing.next_after(slot)
    return count


def slot_after_pause(timing: Timing, first: datetime, *, now: datetime, catch_up: CatchUp) -> datetime | None:
    """The slot that a schedule goes on with after a pause in which `first` was the first slot."""
    if first > now:
        return first
    return timing.last_until(now, since=first) if catch_up is CatchUp.ONE else timing.next_after(now)
