"""Things that happen at the same time share a write."""

import asyncio
from collections.abc import Sequence

import pytest

from app.services.batch import Batcher


class Slow:
    """A write that is held until it is let go, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()

    async def __call__(self, items: Sequence[int]) -> None:
        self.batches.append(list(items))
        self.begun.set()
        await self.gate.wait()
        if 13 in items:
            raise ValueError("13")


async def test_the_first_goes_at_once_and_the_rest_together() -> None:
    write = Slow()
    batcher = Batcher(write, limit=3)
    first = asyncio.create_task(batcher.add(0))
    await write.begun.wait()
    others = [asyncio.create_task(batcher.add(number)) for number in range(1, 6)]
    await asyncio.sleep(0)
    assert write.batches == [[0]], "one batch at a time"
    write.gate.set()
    await asyncio.gather(first, *others)
    assert write.batches == [[0], [1, 2, 3], [4, 5]]


async def test_an_error_is_everybodys_in_its_batch_and_nobodys_after() -> None:
    write = Slow()
    write.gate.set()
    batcher = Batcher(write, limit=2)
    results = await asyncio.gather(*(batcher.add(number) for number in (12, 13, 14)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, ValueError, type(None)]
    with pytest.raises(ValueError, match="13"):
        await batcher.add(13)


async def test_a_caller_that_leaves_does_not_take_its_item_along() -> None:
    write = Slow()
    batcher = Batcher(write, limit=10)
    leaver = asyncio.create_task(batcher.add(1))
    stayer = asyncio.create_task(batcher.add(2))
    await asyncio.sleep(0)
    leaver.cancel()
    write.gate.set()
    await stayer
    assert write.batches == [[1, 2]]
    with pytest.raises(asyncio.CancelledError):
        await leaver


async def test_each_item_may_have_an_error_of_its_own() -> None:
    async def write(items: Sequence[int]) -> list[Exception | None]:
        return [ValueError(str(item)) if item % 2 else None for item in items]

    batcher = Batcher(write, limit=10)
    results = await asyncio.gather(*(batcher.add(number) for number in range(4)), return_exceptions=True)
    assert [str(result) for result in results] == ["None", "1", "None", "3"]


async def test_patience_ends_before_the_write_does() -> None:
    """The caller goes on; the item is written all the same."""
    release = asyncio.Event()
    written: list[int] = []

    async def write(batch: Sequence[int]) -> None:
        await release.wait()
        written.extend(batch)

    batcher: Batcher[int] = Batcher(write, limit=10)
    await asyncio.gather(batcher.add(1, patience_s=0.01), batcher.add(2, patience_s=0.02))
    assert written == []
    release.set()
    await batcher.add(3, patience_s=5)
    assert written == [1, 2, 3]
