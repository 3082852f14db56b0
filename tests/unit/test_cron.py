"""Cron expressions, above all at the changes of the clock: Berlin by an hour, Lord Howe by half of one."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.cron import BadCron, Cron

BERLIN = ZoneInfo("Europe/Berlin")  # forward 2026-03-29 02:00 to 03:00, back 2026-10-25 03:00 to 02:00
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # back 2026-04-05 02:00 to 01:30, forward 2026-10-04 02:00 to 02:30
SANTIAGO = ZoneInfo("America/Santiago")  # forward 2026-09-06 00:00 to 01:00, back 2026-04-05 00:00 to 23:00
MINUTE = timedelta(minutes=1)


def _slots(expression: str, zone: ZoneInfo, start: str, count: int) -> list[str]:
    """What the clock shows at the next moments, with its offset."""
    cron, moment = Cron.parse(expression), datetime.fromisoformat(start).replace(tzinfo=zone)
    shown = []
    for _ in range(count):
        found = cron.next_after(moment, zone)
        assert found is not None
        moment = found
        shown.append(moment.astimezone(zone).strftime("%d %H:%M%z"))
    return shown


@pytest.mark.parametrize(
    ("expression", "zone", "start", "shown"),
    [
        # Forward: fixed times that are left out are made up for when the clock is changed, once.
        ("30 2 * * *", BERLIN, "2026-03-28T12:00", ["29 03:00+0200", "30 02:30+0200"]),
        ("0 30 2 * * *", BERLIN, "2026-03-28T12:00", ["29 03:00+0200", "30 02:30+0200"]),
        ("10,50 2 * * *", BERLIN, "2026-03-28T12:00", ["29 03:00+0200", "30 02:10+0200", "30 02:50+0200"]),
        ("0 2,3 * * *", BERLIN, "2026-03-28T12:00", ["29 03:00+0200", "30 02:00+0200"]),
        ("15 2 * * *", LORD_HOWE, "2026-10-03T12:00", ["04 02:30+1100", "05 02:15+1100"]),
        ("45 2 * * *", LORD_HOWE, "2026-10-03T12:00", ["04 02:45+1100", "05 02:45+1100"]),
        ("0 0 * * *", SANTIAGO, "2026-09-05T12:00", ["06 01:00-0300", "07 00:00-0300"]),
        # Forward: a steady beat leaves out what the clock does.
        ("0 * * * *", BERLIN, "2026-03-29T00:30", ["29 01:00+0100", "29 03:00+0200", "29 04:00+0200"]),
        ("*/30 2 * * *", BERLIN, "2026-03-28T12:00", ["30 02:00+0200", "30 02:30+0200"]),
        ("*/20 * * * *", LORD_HOWE, "2026-10-04T01:30", ["04 01:40+1030", "04 02:40+1100", "04 03:00+1100"]),
        ("*/10 3 * * *", LORD_HOWE, "2026-10-03T12:00", ["04 03:00+1100", "04 03:10+1100"]),
        # Back: fixed times that are shown twice count the first time.
        ("30 2 * * *", BERLIN, "2026-10-24T12:00", ["25 02:30+0200", "26 02:30+0100"]),
        ("0 30 2 * * *", BERLIN, "2026-10-24T12:00", ["25 02:30+0200", "26 02:30+0100"]),
        ("0 2,3 * * *", BERLIN, "2026-10-24T12:00", ["25 02:00+0200", "25 03:00+0100", "26 02:00+0100"]),
        ("45 1 * * *", LORD_HOWE, "2026-04-04T12:00", ["05 01:45+1100", "06 01:45+1030"]),
        ("30 23 * * *", SANTIAGO, "2026-04-04T12:00", ["04 23:30-0300", "05 23:30-0400"]),
        # Back: a steady beat goes on.
        ("0 * * * *", BERLIN, "2026-10-25T01:30", ["25 02:00+0200", "25 02:00+0100", "25 03:00+0100"]),
        ("*/15 * * * *", LORD_HOWE, "2026-04-05T01:40", ["05 01:45+1100", "05 01:30+1030", "05 01:45+1030"]),
        ("*/10 2 * * *", LORD_HOWE, "2026-04-04T12:00", ["05 02:00+1030", "05 02:10+1030", "05 02:20+1030"]),
    ],
)  # fmt: skip
def test_when_the_clock_is_changed(expression: str, zone: ZoneInfo, start: str, shown: list[str]) -> None:
    assert _slots(expression, zone, start, len(shown)) == shown


def test_a_time_that_is_shown_twice_is_over_when_it_is_shown_again() -> None:
    again = datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1)
    found = Cron.parse("30 2 * * *").next_after(again, BERLIN)
    assert found == datetime(2026, 10, 26, 2, 30, tzinfo=BERLIN)
    assert Cron.parse("0 3 * * *").next_after(again, BERLIN) == datetime(2026, 10, 25, 3, 0, tzinfo=BERLIN)


def test_a_change_in_between_is_seen_though_the_offset_is_the_same_again() -> None:
    first = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)
    found = Cron.parse("*/30 2 25 10 *").next_after(first, BERLIN)
    assert found == datetime(2026, 10, 25, 1, 0, tzinfo=UTC)  # 02:00, for the second time


@pytest.mark.parametrize(
    ("expression", "start", "found"),
    [
        ("0 0 L * *", "2026-02-01T00:00", "2026-02-28T00:00"),
        ("0 9 * * MON#1", "2026-02-03T00:00", "2026-03-02T09:00"),
        ("0 9 1-7 * MON", "2026-02-08T00:00", "2026-02-09T09:00"),  # day or weekday, when neither has a star
        ("0 9 */2 * MON", "2026-02-03T00:00", "2026-02-09T09:00"),  # day and weekday, when one has
        ("*/20 * * * * *", "2026-02-03T00:00:25", "2026-02-03T00:00:40"),
        ("0 0 29 2 *", "2026-03-01T00:00", "2028-02-29T00:00"),
        ("@hourly", "2026-02-03T00:00:00.000001", "2026-02-03T01:00"),
        (" 0\t9  * * MON ", "2026-02-03T00:00", "2026-02-09T09:00"),
        ("@WEEKLY", "2026-02-03T00:00", "2026-02-08T00:00"),
    ],
)
def test_what_is_understood(expression: str, start: str, found: str) -> None:
    after = Cron.parse(expression).next_after(datetime.fromisoformat(start + "Z"), UTC)
    assert after == datetime.fromisoformat(found + "Z")


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "* * * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *",
     "*/0 * * * *", "a * * * *", "* * * * L", "@often", "0 0 31 2 *", "0 0 30 2 *", "1\n* * * *", "1,, * * * *",
     f"{'9' * 100} * * * *", "٣ * * * *"],
)  # fmt: skip
def test_what_is_refused(text: str) -> None:
    with pytest.raises(BadCron):
        Cron.parse(text)


@given(st.text("0123456789*,/#-LWMON ", max_size=24))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        cron = Cron.parse(text)
    except BadCron:
        return
    assert cron.next_after(datetime(2026, 1, 1, tzinfo=UTC), BERLIN) is not None


def test_nothing_comes_after_the_last_year() -> None:
    assert Cron.parse("* * * * *").next_after(datetime(2099, 12, 31, 23, 59, tzinfo=UTC), UTC) is None


MINUTES = st.sampled_from(["*", "*/7", "*/30", "0", "0,30", "15-45/10", "59"])
HOURS = st.sampled_from(["*", "*/2", "0", "1", "2", "1-3", "23,0", "2,3"])
CHANGES = [
    (BERLIN, datetime(2026, 3, 29, 1, tzinfo=UTC)),
    (BERLIN, datetime(2026, 10, 25, 1, tzinfo=UTC)),
    (LORD_HOWE, datetime(2026, 4, 4, 15, tzinfo=UTC)),
    (LORD_HOWE, datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    (SANTIAGO, datetime(2026, 4, 5, 3, tzinfo=UTC)),
    (SANTIAGO, datetime(2026, 9, 6, 4, tzinfo=UTC)),
]


def _by_hand(cron: Cron, zone: ZoneInfo, begin: datetime, end: datetime) -> list[datetime]:
    """Every moment of the rule as docs/schedules.md says it, found minute by minute."""
    minutes, hours = (_numbers(field) for field in cron.expression.split()[:2])
    found = set()
    moment = begin
    while moment < end:
        local = moment.astimezone(zone)
        again = local.fold == 1
        if local.minute in minutes(60) and local.hour in hours(24) and not (cron.at_fixed_times and again):
            found.add(moment)
        if cron.at_fixed_times:
            left_out = local.replace(tzinfo=None) - (moment - MINUTE).astimezone(zone).replace(tzinfo=None) - MINUTE
            for missing in range(int(left_out / MINUTE)):
                shown = local - (missing + 1) * MINUTE
                if shown.minute in minutes(60) and shown.hour in hours(24):
                    found.add(moment)
        moment += MINUTE
    return sorted(found)


def _numbers(field: str) -> Callable[[int], set[int]]:
    def numbers(size: int) -> set[int]:
        every: set[int] = set()
        for part in field.split(","):
            span, _, step = part.partition("/")
            low, _, high = span.partition("-")
            whole = range(size) if span == "*" else range(int(low), int(high or low) + 1)
            every |= set(whole[:: int(step or 1)])
        return every

    return numbers


@settings(max_examples=30, deadline=None)
@given(MINUTES, HOURS, st.sampled_from(CHANGES), st.integers(0, 299))
def test_around_every_change_it_is_as_counted_by_hand(
    minute: str, hour: str, change: tuple[ZoneInfo, datetime], start: int
) -> None:
    zone, at = change
    cron = Cron.parse(f"{minute} {hour} * * *")
    begin, end = at - 150 * MINUTE + start * MINUTE, at + 27 * 60 * MINUTE
    found, moment = [], cron.next_after(begin - MINUTE, zone)
    while moment is not None and moment < end:
        found.append(moment)
        moment = cron.next_after(moment, zone)
    assert found == _by_hand(cron, zone, begin, end)


@settings(max_examples=60, deadline=None)
@given(MINUTES, HOURS, st.sampled_from(CHANGES), st.integers(-20_000, 20_000), st.floats(0, 1))
def test_whoever_asks_earlier_gets_the_same(
    minute: str, hour: str, change: tuple[ZoneInfo, datetime], seconds: int, part: float
) -> None:
    zone, at = change
    cron = Cron.parse(f"{minute} {hour} * * *")
    moment = at + timedelta(seconds=seconds)
    found = cron.next_after(moment, zone)
    assert found is not None
    assert found > moment
    between = moment + (found - moment) * part
    if between < found:
        assert cron.next_after(between, zone) == found
