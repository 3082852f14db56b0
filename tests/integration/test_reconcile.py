"""Redis is made to say what MongoDB knows."""

from datetime import timedelta

import pytest

from app.core.clock import utc_now
from app.core.ids import TaskId, WorkerId
from app.models import Submission
from app.queue import keys
from app.services import reconcile
from app.services.backend import Backend
from app.services.reconcile import Reconciler
from app.services.submit import new_document, submit
from app.store import unfinished
from app.store.attempts import AttemptStore
from tests.integration.conftest import submit_one
from tests.waiting import wait_until


def _reconciler(backend: Backend, holder: str = "one") -> Reconciler:
    return Reconciler(backend.mongo, backend.queue, backend.callbacks, holder=holder, retention=None)


async def _queued(backend: Backend) -> set[str]:
    return {member.decode() for member in await backend.queue.redis.zrange(keys.queue("default"), 0, -1)}


async def test_a_wiped_redis_is_rebuilt_in_batches(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "BATCH", 3)
    tasks = await submit(backend, [Submission(type="echo", delay=60 * (n % 2)) for n in range(10)])
    await backend.queue.redis.flushall()
    done = await _reconciler(backend).run_once()
    assert done is not None
    assert (done.full, done.offered) == (True, 10)
    assert await _queued(backend) == {task.id for task in tasks if not isinstance(task, Exception)}


async def test_a_short_pass_offers_what_became_due_and_is_missing(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfinished, "BATCH", 3)
    monkeypatch.setattr(reconcile, "SOON", timedelta(0))
    reconciler = _reconciler(backend)
    await reconciler.run_once()
    tasks = await submit(backend, [Submission(type="echo") for _ in range(10)])  # all due in the same millisecond
    ids = [task.id for task in tasks if not isinstance(task, Exception)]
    await backend.queue.redis.zrem(keys.queue("default"), *ids[3:])
    done = await reconciler.run_once()
    assert done is not None
    assert (done.full, done.offered) == (False, 7)
    assert await _queued(backend) == set(ids)
    again = await reconciler.run_once()
    assert again is not None
    assert again.offered == 0


async def test_a_write_that_took_long_to_be_seen_is_found_later(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it appears, the first look has been past its time."""
    now = utc_now()
    monkeypatch.setattr(reconcile, "utc_now", lambda: now)
    documents = [new_document(Submission(type="echo"), backend.types, now) for _ in range(3)]
    reconciler = _reconciler(backend)
    for _ in range(3):
        await reconciler.run_once()
        now += reconcile.SOON
    await backend.tasks.insert(documents)
    for _ in range(reconcile.LATER_EVERY):
        await reconciler.run_once()
    assert await _queued(backend) == set()
    now += reconcile.LATER
    for _ in range(reconcile.LATER_EVERY):
        await reconciler.run_once()
    assert len(await _queued(backend)) == len(documents)


async def test_what_is_queued_stays_as_it_is(backend: Backend) -> None:
    task = await submit_one(backend, "echo", priority=3)
    before = await backend.queue.redis.zscore(keys.queue("default"), task.id)
    await _reconciler(backend).run_once()
    assert await backend.queue.redis.zscore(keys.queue("default"), task.id) == before


async def test_an_attempt_that_nobody_remembers_is_offered_again(backend: Backend) -> None:
    """Its worker died, and Redis was wiped before the lease lapsed there."""
    task = await submit_one(backend, "echo")
    lease = timedelta(milliseconds=10)
    store = AttemptStore(
        backend.mongo, worker=WorkerId("dead"), lease=lease, max_losses=3, retention=None, types=["echo"]
    )
    claim, _ = await backend.queue.claim("default", limit=1, lease=lease)
    assert len((await store.begin(claim, now=utc_now())).attempts) == 1
    await backend.queue.redis.flushall()
    reconciler = _reconciler(backend)

    async def offered() -> bool:
        await reconciler.run_once()
        return await _queued(backend) == {task.id}

    await wait_until(offered)
    await backend.mongo.collection("tasks").delete_many({})


async def test_one_process_reconciles_at_a_time(backend: Backend) -> None:
    one, two = _reconciler(backend, "one"), _reconciler(backend, "two")
    assert await one.run_once() is not None
    assert await two.run_once() is None
    await one.give_up()
    assert await two.run_once() is not None


async def test_finished_tasks_are_left_alone(backend: Backend) -> None:
    task = await submit_one(backend, "echo", delay=60)
    assert await backend.tasks.cancel_waiting(TaskId(task.id), now=utc_now(), expire_at=None)
    await backend.queue.redis.flushall()
    done = await _reconciler(backend).run_once()
    assert done is not None
    assert done.offered == 0
