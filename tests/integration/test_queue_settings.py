"""Pause, max_running and rate inside the claim script, and what is left of them when Redis forgets."""

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio.client import PubSub

from app.core.clock import utc_now
from app.core.ids import TaskId
from app.core.queue_settings import QueueSettings, Rate, usual_burst
from app.queue import keys
from app.queue.queue_settings import SettingsMemory
from app.queue.scripts import Ending
from app.queue.task_queue import Entry, TaskQueue
from app.services.backend import Backend
from app.store.queues import QueueStore
from tests.waiting import PATIENCE_S, wait_until

MINUTE = timedelta(minutes=1)
DEFAULT = QueueSettings("default")


@pytest.fixture
async def queue(backend: Backend) -> TaskQueue:
    """A Redis that has been told of everything."""
    await _know_all(backend.queue)
    return backend.queue


async def _know_all(queue: TaskQueue) -> None:
    assert await queue.end_rebuild(await queue.begin_rebuild(await queue.identity()))


def _id(number: int) -> TaskId:
    return TaskId(f"{number:024x}")


async def _fill(queue: TaskQueue, count: int) -> None:
    await queue.dispatch([Entry(_id(number), "default", utc_now(), 0) for number in range(count)])


async def _claim(queue: TaskQueue, limit: int = 50, lease: timedelta = MINUTE) -> int:
    claim, _ = await queue.claim("default", limit=limit, lease=lease)
    return len(claim.task_ids)


async def _set(queue: TaskQueue, version: int = 1, **fields: Any) -> None:
    assert await queue.settings.tell(replace(DEFAULT, version=version, **fields))


async def test_nothing_set_costs_no_key(queue: TaskQueue) -> None:
    await _fill(queue, 2)
    assert await _claim(queue) == 2
    assert await queue.redis.keys("arqive:settings:*") == await queue.redis.keys("arqive:rate:*") == []


async def test_max_running_bounds_the_leases_of_all_claims(queue: TaskQueue) -> None:
    await _fill(queue, 20)
    await _set(queue, max_running=5)
    claim, _ = await queue.claim("default", limit=3, lease=MINUTE)
    assert (len(claim.task_ids), await _claim(queue), await _claim(queue)) == (3, 2, 0)
    await queue.settle("default", [Ending(task_id, claim.token) for task_id in claim.task_ids[:2]])
    assert await _claim(queue) == 2
    await _set(queue, 2, max_running=7)
    assert await _claim(queue) == 2
    await _set(queue, 3, max_running=1)
    assert await _claim(queue) == 0
    await _set(queue, 4)
    assert await _claim(queue) == 11


async def test_a_lapsed_lease_is_taken_over_within_max_running(queue: TaskQueue) -> None:
    await _fill(queue, 4)
    assert await _claim(queue, limit=2, lease=timedelta(milliseconds=50)) == 2
    await _set(queue, max_running=1)
    await wait_until(lambda: _lapsed(queue, 2))
    claim, _ = await queue.claim("default", limit=50, lease=MINUTE)
    assert claim.task_ids in {(_id(0),), (_id(1),)}, "one of those whose worker is gone, before those that wait"
    assert await _claim(queue) == 0


async def _lapsed(queue: TaskQueue, count: int) -> bool:
    now_s, microseconds = await queue.redis.time()
    now_ms = now_s * 1000 + microseconds // 1000
    return bool(await queue.redis.zcount(keys.leases("default"), "-inf", now_ms) == count)


async def _woken(queue: TaskQueue, pubsub: PubSub) -> bool:
    """Whether something was published since this was asked last."""
    await queue.redis.publish(keys.wake_channel("default"), "up to here")
    messages = []
    while b"up to here" not in messages:
        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=PATIENCE_S)
        messages += [message["data"]] if message else []
    return len(messages) > 1


async def test_a_free_slot_wakes_workers_only_where_one_was_wanted(queue: TaskQueue) -> None:
    async with queue.redis.pubsub() as pubsub:
        await _fill(queue, 4)
        claim, _ = await queue.claim("default", limit=2, lease=MINUTE)
        await pubsub.subscribe(keys.wake_channel("default"))
        assert await pubsub.get_message(timeout=PATIENCE_S), "that it has subscribed"
        await queue.settle("default", [Ending(claim.task_ids[0], claim.token)])
        assert not await _woken(queue, pubsub), "there is no limit"
        await _set(queue, max_running=3)
        assert await _woken(queue, pubsub), "of the change"
        await queue.settle("default", [Ending(claim.task_ids[1], claim.token)])
        assert not await _woken(queue, pubsub), "it was not reached"
        await _set(queue, 2, max_running=1)
        assert await _woken(queue, pubsub)
        claim, _ = await queue.claim("default", limit=5, lease=MINUTE)
        assert len(claim.task_ids) == 1
        await queue.settle("default", [Ending(claim.task_ids[0], claim.token)])
        assert await _woken(queue, pubsub), "one waits for the slot"
        claim, _ = await queue.claim("default", limit=5, lease=MINUTE)
        await queue.settle("default", [Ending(claim.task_ids[0], claim.token)])
        assert not await _woken(queue, pubsub), "nothing waits any more"


async def test_a_rate_starts_a_burst_and_then_so_many_a_second(queue: TaskQueue) -> None:
    await _fill(queue, 200)
    await _set(queue, rate=Rate(20, 10))
    begun, started = time.monotonic(), await _claim(queue)
    assert started == 10
    claims = 0
    while started < 30:
        claim, look_at = await queue.claim("default", limit=50, lease=MINUTE)
        started += len(claim.task_ids)
        claims += 1
        assert look_at is not None
        assert look_at - utc_now() <= timedelta(seconds=0.5), "by then there is a burst again"
        await asyncio.sleep(max(0.0, (look_at - utc_now()).total_seconds()))  # as a worker does
    seconds = time.monotonic() - begun
    assert started <= 10 + 20 * seconds
    assert claims <= 25 * seconds, "it tells when to look again, not at every token"


async def test_a_slow_rate_tells_when_to_look_again(queue: TaskQueue) -> None:
    await _fill(queue, 3)
    await _set(queue, rate=Rate(0.001, 1))
    assert await _claim(queue) == 1
    claim, look_at = await queue.claim("default", limit=5, lease=MINUTE)
    assert claim.task_ids == ()
    assert look_at is not None
    assert 900 < (look_at - utc_now()).total_seconds() <= 1001
    assert 900_000 < await queue.redis.pttl(keys.rate("default")) <= 1_000_000, "gone once the bucket is full"
    await _set(queue, 2, rate=Rate(1000, 3))
    await wait_until(lambda: _claimed(queue, 1), what="a faster rate does not wait for the slower one")


async def _claimed(queue: TaskQueue, count: int) -> bool:
    return await _claim(queue, limit=count) == count


async def test_an_empty_queue_with_a_rate_needs_no_look(queue: TaskQueue) -> None:
    await _fill(queue, 1)
    await _set(queue, rate=Rate(1, 1))
    assert await _claim(queue) == 1
    _, look_at = await queue.claim("default", limit=5, lease=MINUTE)
    assert look_at is None


async def test_both_limits_hold_together(queue: TaskQueue) -> None:
    await _fill(queue, 20)
    await _set(queue, max_running=4, rate=Rate(0.01, 6))
    claim, _ = await queue.claim("default", limit=50, lease=MINUTE)
    assert len(claim.task_ids) == 4
    await queue.settle("default", [Ending(task_id, claim.token) for task_id in claim.task_ids])
    assert await _claim(queue) == 2


async def test_older_settings_do_not_replace_newer_ones(queue: TaskQueue) -> None:
    await _fill(queue, 1)
    await _set(queue, 5, paused=True)
    assert not await queue.settings.tell(replace(DEFAULT, version=4))
    assert not await queue.settings.tell(replace(DEFAULT, version=5, paused=True)), "it knows that already"
    assert await _claim(queue) == 0
    [text] = await queue.settings.told(["default"])
    assert await queue.settings.tell(replace(DEFAULT, version=4), instead_of=text), "unless it is from another life"
    queue.memory.learn_all([replace(DEFAULT, version=4)])  # as a worker does every few seconds
    assert await _claim(queue) == 1


@pytest.mark.parametrize("fields", [{"paused": True}, {"max_running": 9}, {"rate": Rate(0.001, 1)}])
async def test_what_a_worker_knows_holds_when_redis_forgets(queue: TaskQueue, fields: dict[str, Any]) -> None:
    """From the moment of the wipe on, and not only once reconcile has seen it."""
    await _set(queue, **fields)
    await _fill(queue, 1)
    await _claim(queue)
    await queue.redis.flushall()
    await _fill(queue, 5)
    assert await _claim(queue) == (1 if "rate" in fields else 0)


async def test_who_knows_nothing_asks_whether_redis_does(backend: Backend) -> None:
    fresh = TaskQueue(backend.queue.redis, SettingsMemory(complete=False))
    await _fill(fresh, 1)
    claim, look_at = await fresh.claim("default", limit=5, lease=MINUTE)
    assert claim.task_ids == ()
    assert look_at is not None
    fresh.memory.learn_all([QueueSettings("other", paused=True, version=3)])
    assert await _claim(fresh) == 1
    another = TaskQueue(backend.queue.redis, SettingsMemory(complete=False))
    await _know_all(another)
    await another.dispatch([Entry(_id(7), "default", utc_now(), 0)])
    assert await _claim(another) == 1


async def test_a_limited_queue_waits_until_its_leases_are_counted(queue: TaskQueue) -> None:
    """A Redis that was restarted with old data carries the run id of another."""
    await _fill(queue, 3)
    identity = await queue.identity()
    await queue.settings.tell(replace(DEFAULT, version=1, max_running=3), run_id="another")
    assert await _claim(queue) == 0
    await queue.settings.tell(replace(DEFAULT, version=1, max_running=3), run_id=identity.run_id)
    assert await _claim(queue) == 3


async def test_settings_are_kept_with_growing_versions(backend: Backend) -> None:
    store = QueueStore(backend.mongo)
    await store.note({"mail", "default"})
    await store.note({"mail"})
    mail = QueueSettings("mail")
    assert await store.all() == [DEFAULT, mail]
    first = await store.change(mail, replace(mail, paused=True), now=utc_now())
    assert first is not None
    assert await store.get("mail") == first
    assert await store.change(mail, replace(mail, max_running=3), now=utc_now()) is None, "somebody was faster"
    second = await store.change(first, replace(first, rate=Rate(1.5, 2)), now=utc_now() - MINUTE)
    assert second is not None
    assert second.version > first.version
    assert await store.named({"mail", "nope"}) == [second]
    new = await store.change(QueueSettings("new"), QueueSettings("new", max_running=1), now=utc_now())
    assert (await store.get("new"), await store.get("nope")) == (new, None)


@pytest.mark.parametrize(("per_second", "burst"), [(0.001, 1), (1, 1), (1.2, 2), (50, 50)])
def test_the_usual_burst_is_that_of_a_second(per_second: float, burst: int) -> None:
    assert usual_burst(per_second) == burst
