"""Which slots are due, however late somebody looks."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.cron import Cron
from app.core.slots import (
    MOST_COUNTED,
    ON_TIME,
    CatchUp,
    CronRule,
    DueSlots,
    IntervalRule,
    Timing,
    count_missed,
    due_slots,
    slot_after_pause,
)

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BERLIN = ZoneInfo("Europe/Berlin")


def every(seconds: float, anchor: datetime = NOON) -> Timing:
    return Timing(IntervalRule(timedelta(seconds=seconds), anchor))


def cron(expression: str, **bounds: datetime) -> Timing:
    return Timing(CronRule(Cron.parse(expression), BERLIN), **bounds)


TIMINGS = st.one_of(
    st.integers(1_000, 10_000_000).map(lambda ms: every(ms / 1000)),
    st.sampled_from(["* * * * *", "*/5 * * * *", "0 3 * * *", "30 2 25 10 *", "*/20 * * * * *"]).map(cron),
)


@pytest.mark.parametrize(
    ("seconds", "after", "found"),
    [(90, -1, 0), (90, 0, 90), (90, 89.999, 90), (90, 90, 180), (90, 90 * 10**6 + 1, 90 * 10**6 + 90), (1.5, 1.5, 3)],
)
def test_an_interval_counts_from_its_anchor(seconds: float, after: float, found: float) -> None:
    assert every(seconds).next_after(NOON + timedelta(seconds=after)) == NOON + timedelta(seconds=found)


def test_an_interval_takes_no_notice_of_a_change_of_the_clock() -> None:
    daily = every(86_400, datetime(2026, 10, 24, 12, tzinfo=BERLIN).astimezone(UTC))
    slot = daily.next_after(datetime(2026, 10, 24, 12, tzinfo=BERLIN).astimezone(UTC))
    assert slot is not None
    assert slot.astimezone(BERLIN).hour == 11


def test_bounds_are_within() -> None:
    timing = cron("0 * * * *", start_at=NOON, end_at=NOON + 60 * MINUTE)
    assert timing.next_after(NOON - 1_000 * MINUTE) == NOON
    assert timing.next_after(NOON) == NOON + 60 * MINUTE
    assert timing.next_after(NOON + 60 * MINUTE) is None
    assert cron("0 * * * *", start_at=NOON + timedelta(milliseconds=1)).next_after(NOON) == NOON + 60 * MINUTE


def test_what_is_on_time_is_due_whole() -> None:
    done = due_slots(every(20), NOON, now=NOON + timedelta(seconds=45), catch_up=CatchUp.SKIP)
    assert done == DueSlots(
        (NOON, NOON + timedelta(seconds=20), NOON + timedelta(seconds=40)), NOON + timedelta(seconds=60)
    )
    assert due_slots(every(20), NOON, now=NOON - MINUTE, catch_up=CatchUp.ONE) == DueSlots((), NOON)
    assert due_slots(every(600), NOON, now=NOON + ON_TIME, catch_up=CatchUp.SKIP).slots == (NOON,)


@pytest.mark.parametrize(("catch_up", "slots"), [(CatchUp.SKIP, ()), (CatchUp.ONE, (NOON + 50 * MINUTE,))])
def test_of_what_was_missed_the_last_or_none_is_made_up_for(catch_up: CatchUp, slots: tuple[datetime, ...]) -> None:
    done = due_slots(every(600), NOON, now=NOON + 55 * MINUTE, catch_up=catch_up)
    assert done == DueSlots(slots, NOON + 60 * MINUTE)


@pytest.mark.parametrize("catch_up", CatchUp)
def test_what_was_missed_is_not_made_up_for_beside_one_that_is_on_time(catch_up: CatchUp) -> None:
    done = due_slots(every(600), NOON, now=NOON + 50 * MINUTE, catch_up=catch_up)
    assert done == DueSlots((NOON + 50 * MINUTE,), NOON + 60 * MINUTE)


def test_the_last_slot_of_all() -> None:
    timing = cron("0 * * * *", end_at=NOON)
    assert due_slots(timing, NOON, now=NOON, catch_up=CatchUp.SKIP) == DueSlots((NOON,), None)
    assert due_slots(timing, NOON, now=NOON + 90 * MINUTE, catch_up=CatchUp.ONE) == DueSlots((NOON,), None)
    assert due_slots(timing, NOON, now=NOON + 90 * MINUTE, catch_up=CatchUp.SKIP) == DueSlots((), None)


def test_a_pause_ends() -> None:
    minutely = every(60)
    assert slot_after_pause(minutely, NOON, now=NOON - MINUTE, catch_up=CatchUp.ONE) == NOON
    late = NOON + 90.5 * MINUTE
    assert slot_after_pause(minutely, NOON, now=late, catch_up=CatchUp.ONE) == NOON + 90 * MINUTE
    assert slot_after_pause(minutely, NOON, now=late, catch_up=CatchUp.SKIP) == NOON + 91 * MINUTE
    soon = NOON + timedelta(seconds=30)  # what fell into a pause was not on time, however short the pause
    assert slot_after_pause(minutely, NOON, now=soon, catch_up=CatchUp.SKIP) == NOON + MINUTE


@given(TIMINGS, st.integers(0, 40_000_000))
def test_the_last_slot_is_found_from_any_distance(timing: Timing, milliseconds: int) -> None:
    first = timing.next_after(NOON)
    assert first is not None
    now = first + timedelta(milliseconds=milliseconds * 40)
    last = timing.last_until(now, since=first)
    following = timing.next_after(last)
    assert following is not None
    assert first <= last <= now < following


@given(TIMINGS, st.lists(st.integers(0, 59_000), max_size=12), st.sampled_from(CatchUp))
def test_who_looks_often_enough_misses_nothing_and_doubles_nothing(
    timing: Timing, pauses_ms: list[int], catch_up: CatchUp
) -> None:
    first = timing.next_after(NOON)
    assert first is not None
    now, waiting = first, first
    submitted: list[datetime] = []
    for pause in pauses_ms:
        now += timedelta(milliseconds=pause)
        done = due_slots(timing, waiting, now=now, catch_up=catch_up)
        submitted += done.slots
        assert done.next_slot is not None
        waiting = done.next_slot
    expected, slot = [], first
    while pauses_ms and slot <= now:
        expected.append(slot)
        following = timing.next_after(slot)
        assert following is not None
        slot = following
    assert submitted == expected


@pytest.mark.parametrize(
    ("timing", "before", "count"),
    [
        (every(60), NOON, 0),
        (every(60), NOON - MINUTE, 0),
        (every(60), NOON + timedelta(milliseconds=1), 1),
        (every(60), NOON + 5 * MINUTE, 5),
        (every(1), NOON + 60 * MINUTE, MOST_COUNTED),
        (cron("0 * * * *"), NOON + 150 * MINUTE, 3),
        (cron("0 * * * *", end_at=NOON + 60 * MINUTE), NOON + 999 * MINUTE, 2),
    ],
)
def test_missed_slots_are_counted_as_far_as_it_is_cheap(timing: Timing, before: datetime, count: int) -> None:
    assert count_missed(timing, NOON, before=before) == count


@given(TIMINGS, st.integers(0, 20_000), st.sampled_from(CatchUp))
def test_a_slot_is_due_missed_or_still_to_come(timing: Timing, seconds: int, catch_up: CatchUp) -> None:
    first = timing.next_after(NOON)
    assert first is not None
    now = first + timedelta(seconds=seconds)
    due = due_slots(timing, first, now=now, catch_up=catch_up)
    everything = count_missed(timing, first, before=now + timedelta(microseconds=1))
    missed = count_missed(timing, first, before=min(due.slots, default=now))
    if everything < MOST_COUNTED:
        assert missed + len(due.slots) == everything
