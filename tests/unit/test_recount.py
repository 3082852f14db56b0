"""Figures that are dear to find: found once for all who ask, kept for a while, and never waited for for long."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from app.core.errors import StoreUnavailable
from app.services import recount
from app.services.recount import Recount
from tests.waiting import PATIENCE_S, wait_until


class Clock:
    """Goes on when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def utc_now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)


class Counting:
    """Counts the counts; each takes some seconds of the clock, ends when it is let, and gives its number."""

    def __init__(self, clock: Clock, *seconds: float) -> None:
        self.clock = clock
        self.seconds = list(seconds)
        self.begun = self.under_way = self.most = 0
        self.let = asyncio.Event()
        self.let.set()

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0)
            await self.let.wait()
            self.clock.seconds += self.seconds.pop(0) if self.seconds else 0
        finally:
            self.under_way -= 1
        return number


async def _figures(recounts: Recount[int], count: Callable[[], Awaitable[int]]) -> int | None:
    counted = await recounts.get(count)
    return None if counted is None else counted.figures


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(recount, "time", SimpleNamespace(monotonic=lambda: clock.seconds))
    monkeypatch.setattr(recount, "utc_now", clock.utc_now)
    monkeypatch.setattr(recount, "CHEAP_S", 0.25)
    monkeypatch.setattr(recount, "WORTH", 10)
    return clock


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recount, "PATIENCE_S", 0.01)
    monkeypatch.setattr(recount, "FIRST_PATIENCE_S", 0.01)


async def test_those_who_come_together_share_a_count(clock: Clock) -> None:
    recounts, counting = Recount[int](), Counting(clock, 1)
    assert await asyncio.gather(*(_figures(recounts, counting) for _ in range(20))) == [1] * 20
    assert (counting.begun, counting.most) == (1, 1)


async def test_dear_figures_are_kept_and_tell_their_age(clock: Clock) -> None:
    recounts, counting = Recount[int](), Counting(clock, 1)
    first = await recounts.get(counting)
    clock.seconds += 9
    again = await recounts.get(counting)
    assert first is again is not None
    assert again.age == timedelta(seconds=10), "since the count began"
    assert counting.begun == 1
    clock.seconds += 2
    assert await _figures(recounts, counting) == 2


async def test_cheap_figures_are_fresh(clock: Clock) -> None:
    recounts, counting = Recount[int](), Counting(clock, 0.2)
    assert await _figures(recounts, counting) == 1
    clock.seconds += 0.3
    assert await _figures(recounts, counting) == 2


@pytest.mark.usefixtures("impatient")
async def test_nobody_waits_for_a_new_count_when_there_is_an_old_one(clock: Clock) -> None:
    recounts, counting = Recount[int](), Counting(clock, 0, 1)
    assert await _figures(recounts, counting) == 1
    counting.let.clear()
    assert await asyncio.wait_for(_figures(recounts, counting), PATIENCE_S) == 1
    assert await asyncio.gather(*(_figures(recounts, counting) for _ in range(10))) == [1] * 10
    assert (counting.begun, counting.most) == (2, 1)
    counting.let.set()
    await wait_until(lambda: counting.under_way == 0)
    assert await _figures(recounts, counting) == 2


@pytest.mark.usefixtures("impatient")
async def test_a_first_count_that_takes_long_is_not_waited_for(clock: Clock) -> None:
    recounts, counting = Recount[int](), Counting(clock, 1)
    counting.let.clear()
    assert await asyncio.wait_for(_figures(recounts, counting), PATIENCE_S) is None
    counting.let.set()
    await wait_until(lambda: counting.under_way == 0)
    assert await _figures(recounts, counting) == 1


@pytest.mark.parametrize("counted_before", [False, True])
async def test_who_comes_late_to_a_long_count_does_not_wait_for_it(clock: Clock, counted_before: bool) -> None:
    recounts, counting = Recount[int](), Counting(clock)
    before = await _figures(recounts, counting) if counted_before else None
    clock.seconds += 1
    counting.let.clear()
    first = asyncio.create_task(_figures(recounts, counting))
    await wait_until(lambda: counting.under_way == 1)
    clock.seconds += recount.PATIENCE_S if counted_before else recount.FIRST_PATIENCE_S
    late = asyncio.create_task(_figures(recounts, counting))
    await wait_until(late.done)
    assert not first.done()
    assert late.result() == before
    counting.let.set()
    await first


async def test_a_caller_that_is_cancelled_does_not_end_the_count(clock: Clock) -> None:
    recounts, counting = Recount[int](), Counting(clock, 1)
    first = asyncio.create_task(_figures(recounts, counting))
    await asyncio.sleep(0)
    second = asyncio.create_task(_figures(recounts, counting))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 1


async def test_a_count_that_fails_fails_for_those_who_wait_and_is_made_again(clock: Clock) -> None:
    async def fails() -> int:
        raise StoreUnavailable("away")

    recounts = Recount[int]()
    for outcome in await asyncio.gather(*(recounts.get(fails) for _ in range(3)), return_exceptions=True):
        assert isinstance(outcome, StoreUnavailable)
    assert await _figures(recounts, Counting(clock)) == 1


@pytest.mark.usefixtures("impatient")
async def test_closing_ends_a_count(clock: Clock) -> None:
    recounts, counting = Recount[int](), Counting(clock)
    counting.let.clear()
    assert await _figures(recounts, counting) is None
    await recounts.close()
    assert counting.under_way == 0
