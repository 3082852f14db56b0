"""The queue in Redis: order, leases, and what arq's own tools see."""

import asyncio
from datetime import timedelta

import pytest
from arq.jobs import Job, JobStatus

from app.core.clock import to_ms, utc_now
from app.core.ids import LeaseToken, TaskId
from app.core.queue_settings import QueueSettings
from app.queue import keys
from app.queue.connect import decode_job
from app.queue.leases import open_lease_queue
from app.queue.scripts import Ending
from app.queue.task_queue import Entry, TaskQueue
from app.services.backend import Backend
from settings import Settings
from tests.waiting import wait_until

MINUTE = timedelta(minutes=1)


@pytest.fixture
def queue(backend: Backend) -> TaskQueue:
    return backend.queue


def _id(number: int) -> TaskId:
    return TaskId(f"{number:024x}")


async def _dispatch(
    queue: TaskQueue, number: int, *, priority: int = 0, due_in: timedelta = timedelta(0), name: str = "default"
) -> None:
    await queue.dispatch([Entry(_id(number), name, utc_now() + due_in, priority)])


async def _claim(queue: TaskQueue, limit: int = 10, lease: timedelta = MINUTE, name: str = "default") -> list[int]:
    claim, _ = await queue.claim(name, limit=limit, lease=lease)
    return [int(task_id, 16) for task_id in claim.task_ids]


async def _renew(settings: Settings, *held: tuple[int, LeaseToken]) -> frozenset[TaskId]:
    def renew() -> frozenset[TaskId]:
        with open_lease_queue(settings.redis_url.get_secret_value(), timeout=MINUTE) as leases:
            return leases.renew([("default", _id(number), token) for number, token in held], lease=MINUTE)

    return await asyncio.to_thread(renew)


async def test_first_in_first_out(queue: TaskQueue) -> None:
    for number in (3, 1, 2):
        await _dispatch(queue, number, due_in=timedelta(seconds=-10 + 5 * (number == 1)))
    claimed = await _claim(queue, 2) + await _claim(queue, 2)
    assert sorted(claimed) == [1, 2, 3]
    assert claimed[-1] == 1, "the one that became due last comes last"
    assert await _claim(queue) == []


async def test_a_higher_priority_goes_first_and_age_catches_up(queue: TaskQueue) -> None:
    await _dispatch(queue, 1)
    await _dispatch(queue, 2, priority=9)
    await _dispatch(queue, 3, priority=5)
    await _dispatch(queue, 4, due_in=-4.5 * MINUTE)
    await _dispatch(queue, 5, due_in=-5.5 * MINUTE)
    await _dispatch(queue, 6, due_in=-9.5 * MINUTE)
    assert await _claim(queue) == [6, 2, 5, 3, 4, 1], "each step of priority is worth a minute of waiting"


async def _pass(queue: TaskQueue, time: timedelta, *numbers: int) -> None:
    """Let so much time have passed for ids that are deferred."""
    for number in numbers:
        await queue.redis.zincrby(keys.queue("default"), -time / timedelta(milliseconds=1), _id(number))


async def test_a_deferred_id_is_claimed_when_due_with_its_priority(queue: TaskQueue) -> None:
    await _dispatch(queue, 1)
    await _dispatch(queue, 2, priority=3, due_in=MINUTE)
    await _dispatch(queue, 3, priority=7, due_in=MINUTE)
    claim, due = await queue.claim("default", limit=0, lease=MINUTE)
    assert claim.task_ids == ()
    assert due is not None
    assert timedelta(0) < due - utc_now() <= MINUTE
    await _pass(queue, MINUTE, 2, 3)
    assert await _claim(queue) == [3, 2, 1]


async def test_dispatching_again_moves_an_id_and_only_missing_does_not(queue: TaskQueue) -> None:
    await _dispatch(queue, 1, due_in=MINUTE)
    await queue.dispatch([Entry(_id(1), "default", utc_now(), 0)], only_missing=True)
    assert await _claim(queue) == []
    await _dispatch(queue, 1)
    assert await _claim(queue) == [1]


async def test_a_claim_leaves_what_others_hold(queue: TaskQueue) -> None:
    await _dispatch(queue, 1)
    assert await _claim(queue) == [1]
    await _dispatch(queue, 1)
    assert await _claim(queue) == [], "it runs already, the second entry is dropped"
    assert await queue.redis.zcard(keys.queue("default")) == 0


async def test_a_lapsed_lease_is_claimed_by_the_next(queue: TaskQueue) -> None:
    await _dispatch(queue, 1)
    assert await _claim(queue, lease=timedelta(milliseconds=100)) == [1]

    async def claimed() -> bool:
        return await _claim(queue) == [1]

    await wait_until(claimed)


async def test_queues_are_apart(queue: TaskQueue) -> None:
    await _dispatch(queue, 1, name="one")
    await _dispatch(queue, 2, name="two")
    assert await _claim(queue, name="two") == [2]
    assert await _claim(queue, name="one") == [1]


async def test_only_the_holder_ends_a_lease(queue: TaskQueue) -> None:
    await _dispatch(queue, 1)
    claim, _ = await queue.claim("default", limit=1, lease=MINUTE)
    await queue.settle("default", [Ending(_id(1), LeaseToken("another"))])
    assert await queue.redis.exists(keys.in_progress(_id(1))) == 1
    await queue.settle("default", [Ending(_id(1), claim.token)])
    assert await queue.redis.keys("*") == [], "nothing of a finished task is left"


async def test_who_waits_is_told_of_all_that_ended(queue: TaskQueue) -> None:
    """Of one that another lease holds too: its task has ended in MongoDB. Not of one that runs again."""
    for number in (1, 2, 3):
        await _dispatch(queue, number)
    claim, _ = await queue.claim("default", limit=3, lease=MINUTE)
    again = Ending(_id(3), claim.token, 0, to_ms(utc_now()))
    async with queue.redis.pubsub() as heard:
        await heard.subscribe(keys.ENDED_CHANNEL)
        await heard.get_message(timeout=5)
        await queue.settle("default", [Ending(_id(1), claim.token), Ending(_id(2), LeaseToken("another")), again])
        await queue.settle("default", [again])
        message = await heard.get_message(timeout=5)
        assert message is not None
        assert message["data"].decode() == f"{_id(1)} {_id(2)}"
        assert await heard.get_message(timeout=0.1) is None


async def test_a_renewal_is_for_the_holder_only(queue: TaskQueue, settings: Settings) -> None:
    await _dispatch(queue, 1)
    await _dispatch(queue, 2)
    claim, _ = await queue.claim("default", limit=2, lease=MINUTE / 2)
    lost = await _renew(settings, (1, claim.token), (2, LeaseToken("another")))
    assert lost == {_id(2)}
    assert await queue.redis.pttl(keys.in_progress(_id(1))) > 30_000
    assert await queue.redis.pttl(keys.in_progress(_id(2))) <= 30_000


async def test_a_renewal_restores_a_lease_that_redis_forgot(queue: TaskQueue, settings: Settings) -> None:
    await _dispatch(queue, 1)
    claim, _ = await queue.claim("default", limit=1, lease=MINUTE)
    await queue.redis.flushall()
    assert await _renew(settings, (1, claim.token)) == frozenset()
    await _dispatch(queue, 1)
    assert await _claim(queue) == [], "nobody else gets it"


async def test_a_renewal_does_not_touch_what_was_queued_again(queue: TaskQueue, settings: Settings) -> None:
    await _dispatch(queue, 1)
    claim, _ = await queue.claim("default", limit=1, lease=MINUTE)
    await queue.settle("default", [Ending(_id(1), claim.token, 0, to_ms(utc_now()))])
    await _renew(settings, (1, claim.token))
    assert await _claim(queue) == [1]


async def test_arq_sees_the_truth(queue: TaskQueue) -> None:
    job = Job(_id(1), queue.redis, _queue_name=keys.queue("default"), _deserializer=decode_job)
    assert await job.status() is JobStatus.not_found

    await _dispatch(queue, 1, due_in=MINUTE, priority=4)
    assert await job.status() is JobStatus.deferred
    info = await job.info()
    assert info is not None
    assert (info.function, list(info.args)) == ("task", [_id(1)])
    assert info.score is not None
    assert 0 < info.score - to_ms(utc_now()) <= 60_000

    await _pass(queue, MINUTE, 1)
    assert await job.status() is JobStatus.queued
    await queue.claim("default", limit=0, lease=MINUTE)
    assert await job.status() is JobStatus.queued, "also after it moved to the ready band"

    claim, _ = await queue.claim("default", limit=1, lease=MINUTE)
    assert await job.status() is JobStatus.in_progress
    await queue.settle("default", [Ending(_id(1), claim.token, 4, to_ms(utc_now()) + 60_000)])
    assert await job.status() is JobStatus.deferred, "as when it waits for its next attempt"
    await queue.withdraw("default", [_id(1)])
    assert await job.status() is JobStatus.not_found
    assert await job.info() is None


async def test_a_paused_queue_gives_nothing_away(queue: TaskQueue) -> None:
    await _dispatch(queue, 1)
    await _dispatch(queue, 2, name="other")
    await queue.settings.tell(QueueSettings("default", paused=True, version=1))
    assert await _claim(queue) == []
    assert await _claim(queue, name="other") == [2]
    await queue.settings.tell(QueueSettings("default", version=2))
    assert await _claim(queue) == [1]
