"""Figures that are dear to find: found once for all who ask, kept for a while, and never waited for for long."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from app.core.errors import StoreUnavailable
from app.services import recount
from app.services.recount import Recount


class Counting:
    """Counts the counts; each takes some seconds and gives its number."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)
        self.begun = self.under_way = self.most = 0

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self.seconds.pop(0) if self.seconds else 0)
        finally:
            self.under_way -= 1
        return number


async def _figures(recounts: Recount[int], count: Callable[[], Awaitable[int]]) -> int | None:
    counted = await recounts.get(count)
    return None if counted is None else counted.figures


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recount, "CHEAP_S", 0.02)
    monkeypatch.setattr(recount, "PATIENCE_S", 0.02)
    monkeypatch.setattr(recount, "FIRST_PATIENCE_S", 0.1)


async def test_those_who_come_together_share_a_count() -> None:
    recounts, counting = Recount[int](), Counting(0.05)
    assert await asyncio.gather(*(_figures(recounts, counting) for _ in range(20))) == [1] * 20
    assert (counting.begun, counting.most) == (1, 1)


async def test_dear_figures_are_kept_and_tell_their_age() -> None:
    recounts, counting = Recount[int](), Counting(0.05)
    first = await recounts.get(counting)
    await asyncio.sleep(0.1)
    again = await recounts.get(counting)
    assert first is again is not None
    assert again.age.total_seconds() >= 0.1
    assert counting.begun == 1


async def test_cheap_figures_are_fresh() -> None:
    recounts, counting = Recount[int](), Counting()
    assert await _figures(recounts, counting) == 1
    await asyncio.sleep(0.03)
    assert await _figures(recounts, counting) == 2


async def test_nobody_waits_for_a_new_count_when_there_is_an_old_one() -> None:
    recounts, counting = Recount[int](), Counting(0, 0.3)
    assert await _figures(recounts, counting) == 1
    await asyncio.sleep(0.03)
    assert await asyncio.wait_for(_figures(recounts, counting), 0.2) == 1
    assert await asyncio.gather(*(_figures(recounts, counting) for _ in range(10))) == [1] * 10
    assert (counting.begun, counting.most) == (2, 1)
    await asyncio.sleep(0.35)
    assert await _figures(recounts, counting) == 2


async def test_a_first_count_that_takes_long_is_not_waited_for() -> None:
    recounts, counting = Recount[int](), Counting(0.3)
    assert await asyncio.wait_for(_figures(recounts, counting), 0.2) is None
    await asyncio.sleep(0.3)
    assert await _figures(recounts, counting) == 1


async def test_a_caller_that_is_cancelled_does_not_end_the_count() -> None:
    recounts, counting = Recount[int](), Counting(0.05)
    first = asyncio.create_task(_figures(recounts, counting))
    await asyncio.sleep(0)
    second = asyncio.create_task(_figures(recounts, counting))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 1


async def test_a_count_that_fails_fails_for_those_who_wait_and_is_made_again() -> None:
    async def fails() -> int:
        raise StoreUnavailable("away")

    recounts = Recount[int]()
    for outcome in await asyncio.gather(*(recounts.get(fails) for _ in range(3)), return_exceptions=True):
        assert isinstance(outcome, StoreUnavailable)
    await asyncio.sleep(0.01)
    assert await _figures(recounts, Counting()) == 1


async def test_closing_ends_a_count() -> None:
    recounts, counting = Recount[int](), Counting(60)
    assert await _figures(recounts, counting) is None
    await recounts.close()
    assert counting.under_way == 0
