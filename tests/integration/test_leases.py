"""Who may run a task, and who may say how it ended."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from bson import ObjectId

from app.core.attempt import Attempt, Claim, Settlement
from app.core.clock import to_ms, utc_now
from app.core.errors import StoreUnavailable
from app.core.ids import TaskId, WorkerId, new_lease_token
from app.core.outcomes import Completed, ErrorCode, Failed, Failure, Released, Rescheduled
from app.queue import keys
from app.queue.leases import open_lease_queue
from app.services.backend import Backend
from app.services.keep_leases import LeaseKeeper
from app.services.read import get_task
from app.services.settle import Settler
from app.store import attempts as attempts_room
from app.store.attempts import AttemptStore
from app.store.begun import attempt_of
from app.store.leases import LeaseStore
from app.store.mongo import Mongo, open_mongo, open_mongo_for_thread
from app.store.settlements import Record, SettlementStore
from app.telemetry.catalogue import Role
from app.telemetry.exposition import Exposition
from app.telemetry.metrics import Metrics
from settings import Settings
from tests.integration.conftest import RunWorker, ended, submit_one
from tests.scraping import Scrape
from tests.waiting import wait_until

LEASE = timedelta(seconds=0.3)
MINUTE = timedelta(minutes=1)


def _attempts(backend: Backend, worker: str, **changes: Any) -> AttemptStore:
    options: dict[str, Any] = {"lease": LEASE, "max_losses": 3, "retention": None, "types": ["echo"], **changes}
    return AttemptStore(backend.mongo, worker=WorkerId(worker), **options)


async def _claim_and_begin(backend: Backend, store: AttemptStore, lease: timedelta = LEASE) -> list[Attempt]:
    claim, _ = await backend.queue.claim("default", limit=10, lease=lease)
    return (await store.begin(claim, now=utc_now())).attempts


def _completed(attempt: Attempt, result: Any) -> Record:
    return Record(Settlement(attempt, Completed(result), utc_now()), None, [])


async def _until_claimed(backend: Backend, store: AttemptStore) -> Attempt:
    found: list[Attempt] = []

    async def claimed() -> bool:
        found.extend(await _claim_and_begin(backend, store))
        return bool(found)

    await wait_until(claimed)
    return found[0]


@pytest.mark.parametrize("read_first", [True, False])
async def test_a_first_attempt_is_known_whether_it_was_read_before_or_after_it_began(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, *, read_first: bool
) -> None:
    go, both = asyncio.Event(), Mongo.at_one_go

    async def in_order(mongo: Mongo, name: str, work: Any) -> Any:
        if (work.func is attempts_room._read) is not read_first:
            await go.wait()
        answer = await both(mongo, name, work)
        go.set()
        return answer

    for number in range(3):
        await submit_one(backend, "echo", {"number": number})
    monkeypatch.setattr(Mongo, "at_one_go", in_order)
    begun = await _claim_and_begin(backend, _attempts(backend, "worker"))
    kept = await backend.mongo.collection("tasks").find().to_list(None)
    assert len(begun) == 3
    assert {attempt.task_id: attempt for attempt in begun} == {
        TaskId(str(document["_id"])): attempt_of(document) for document in kept
    }


async def test_first_and_later_attempts_of_one_claim_begin_alike(backend: Backend) -> None:
    store = _attempts(backend, "worker")
    again, cancelled = [await submit_one(backend, "echo", max_attempts=2) for _ in range(2)]
    [_, _] = await _claim_and_begin(backend, store)
    tasks = backend.mongo.collection("tasks")
    for task, status, finished_at in ((again, "retrying", None), (cancelled, "cancelled", utc_now())):
        change = {"status": status, "finished_at": finished_at, "lease": None}
        await tasks.update_one({"_id": ObjectId(task.id)}, {"$set": change})
    first = await submit_one(backend, "echo")
    claim = Claim("default", new_lease_token(), tuple(TaskId(task.id) for task in (again, cancelled, first)))
    begun = await store.begin(claim, now=utc_now())
    assert {attempt.task_id: attempt.number for attempt in begun.attempts} == {again.id: 2, first.id: 1}
    assert begun.gone == [cancelled.id]


async def test_a_lapsed_lease_is_taken_over_and_the_old_attempt_recorded_as_lost(backend: Backend) -> None:
    task = await submit_one(backend, "echo")
    [first] = await _claim_and_begin(backend, _attempts(backend, "first"))
    second = await _until_claimed(backend, _attempts(backend, "second"))
    assert (second.task_id, second.number, second.losses) == (first.task_id, 2, 1)

    store = SettlementStore(backend.mongo, retention=None)
    await store.settle([_completed(first, "from a zombie")])
    assert (await get_task(backend, TaskId(task.id))).status == "running", "the first has no say any more"

    await store.settle([_completed(second, "right")])
    done = await get_task(backend, TaskId(task.id))
    assert (done.status, done.result) == ("completed", "right")
    assert [(entry.attempt, entry.outcome, entry.worker) for entry in done.history] == [
        (1, "lost", "first"),
        (2, "completed", "second"),
    ]

    late = Failed(Failure(ErrorCode.HANDLER_ERROR, "too late"))
    await store.settle([Record(Settlement(first, late, utc_now()), None, [])])
    assert await get_task(backend, TaskId(task.id)) == done, "a terminal task is immutable"
    await backend.queue.redis.flushall()


async def test_a_task_that_loses_its_workers_is_failed(backend: Backend) -> None:
    task = await submit_one(backend, "echo", max_attempts=1)
    await _claim_and_begin(backend, _attempts(backend, "first"))
    for worker in ("second", "third"):
        attempt = await _until_claimed(backend, _attempts(backend, worker))
        assert attempt.max_attempts == 1, "lost attempts use up none"

    async def failed() -> bool:
        assert await _claim_and_begin(backend, _attempts(backend, "fourth")) == []
        return (await get_task(backend, TaskId(task.id))).status == "failed"

    await wait_until(failed)
    done = await get_task(backend, TaskId(task.id))
    assert done.error is not None
    assert (done.error.code, done.losses, done.lease) == ("lost", 3, None)
    assert [entry.outcome for entry in done.history] == ["lost", "lost", "lost"]
    await backend.queue.redis.flushall()


async def test_a_cancel_of_a_lost_attempt_ends_the_task(backend: Backend) -> None:
    task = await submit_one(backend, "echo")
    await _claim_and_begin(backend, _attempts(backend, "first"))
    assert await backend.tasks.request_cancel(TaskId(task.id), now=utc_now())

    async def cancelled() -> bool:
        assert await _claim_and_begin(backend, _attempts(backend, "second")) == []
        return (await get_task(backend, TaskId(task.id))).status == "cancelled"

    await wait_until(cancelled)
    await backend.queue.redis.flushall()


async def test_a_lease_that_is_renewed_is_nobody_elses(backend: Backend, run_worker: RunWorker) -> None:
    async with run_worker(lease_seconds=3), run_worker(lease_seconds=3):
        done = await ended(backend, await submit_one(backend, "sleep", {"seconds": 5}))
    assert [entry.outcome for entry in done.history] == ["completed"]


async def _renew_once(
    settings: Settings, attempt: Attempt, mongo_url: str, patience: timedelta = MINUTE, *, looks: int = 9
) -> Metrics:
    """As the thread of the worker that holds the attempt, or thinks that it does; it runs for so many looks."""
    runs = [SimpleNamespace(attempt=attempt, waits=False)]
    executions = Mock(all=Mock(side_effect=chain(repeat(runs, looks), repeat([]))))
    metrics = Metrics(Role.WORKER)

    def renew() -> None:
        with (
            open_mongo_for_thread(mongo_url, settings.mongo_database, timeout=patience) as database,
            open_lease_queue(settings.redis_url.get_secret_value(), timeout=MINUTE) as queue,
        ):
            store = LeaseStore(database, lease=MINUTE)
            LeaseKeeper(store, queue, executions, Mock(), lease=MINUTE, metrics=metrics).renew()

    await asyncio.to_thread(renew)
    return metrics


async def test_who_was_frozen_leases_nothing_that_has_ended(backend: Backend, settings: Settings) -> None:
    """Redis knows nothing of the id any more, so only MongoDB can say that the lease is gone."""
    await submit_one(backend, "echo")
    frozen, other = _attempts(backend, "frozen"), _attempts(backend, "other")
    [zombie] = await _claim_and_begin(backend, frozen)
    attempt = await _until_claimed(backend, other)
    store = SettlementStore(backend.mongo, retention=None)
    await Settler(store, backend.queue, backend.callbacks, patience=MINUTE).settle(_completed(attempt, None))
    await _renew_once(settings, zombie, settings.mongo_url.get_secret_value())
    assert not await backend.queue.redis.exists(keys.in_progress(zombie.task_id))
    assert not await backend.queue.redis.zcard(keys.leases("default"))


async def test_what_ends_during_a_renewal_is_neither_leased_anew_nor_lost(backend: Backend, settings: Settings) -> None:
    await submit_one(backend, "echo")
    [attempt] = await _claim_and_begin(backend, _attempts(backend, "worker", lease=MINUTE), MINUTE)
    store = SettlementStore(backend.mongo, retention=None)
    await Settler(store, backend.queue, backend.callbacks, patience=MINUTE).settle(_completed(attempt, None))
    metrics = await _renew_once(settings, attempt, settings.mongo_url.get_secret_value(), looks=1)
    assert not await backend.queue.redis.exists(keys.in_progress(attempt.task_id))
    scrape = Scrape(await Exposition(metrics).text())
    assert (scrape.value("arqive_leases_renewed_total"), scrape.value("arqive_leases_lost_total")) == (0, 0)


async def test_a_lease_is_renewed_in_redis_while_mongodb_is_away(backend: Backend, settings: Settings) -> None:
    """Else others would be offered what runs here."""
    await submit_one(backend, "echo")
    [attempt] = await _claim_and_begin(backend, _attempts(backend, "worker"))
    await backend.queue.redis.flushall()
    with pytest.raises(StoreUnavailable):
        await _renew_once(settings, attempt, "mongodb://127.0.0.1:1", patience=LEASE)
    assert await backend.queue.redis.exists(keys.in_progress(attempt.task_id))
    await SettlementStore(backend.mongo, retention=None).settle([_completed(attempt, None)])
    await backend.queue.redis.flushall()


async def test_two_claims_of_the_same_id_begin_it_once(backend: Backend) -> None:
    """As after a rebuild of the queue: the id is claimed twice, the store lets one through."""
    await submit_one(backend, "echo")
    claim, _ = await backend.queue.claim("default", limit=10, lease=MINUTE)
    stores = [_attempts(backend, f"worker {number}", lease=MINUTE) for number in range(5)]
    claims = [claim, *(replace(claim, token=new_lease_token()) for _ in range(4))]
    begun = await asyncio.gather(
        *(store.begin(each, now=utc_now()) for store, each in zip(stores, claims, strict=True))
    )
    assert sorted(len(each.attempts) for each in begun) == [0, 0, 0, 0, 1]
    assert sum(len(each.waiting) for each in begun) == 4, "the others are told to look again when the lease ends"
    [attempt] = [attempt for each in begun for attempt in each.attempts]
    await SettlementStore(backend.mongo, retention=None).settle([_completed(attempt, None)])
    await backend.queue.redis.flushall()


async def test_begin_again_finds_what_it_has_begun(backend: Backend) -> None:
    """As after an acknowledgement that got lost."""
    await submit_one(backend, "echo")
    store = _attempts(backend, "worker", lease=MINUTE)
    claim, _ = await backend.queue.claim("default", limit=10, lease=MINUTE)
    first, second = await store.begin(claim, now=utc_now()), await store.begin(claim, now=utc_now())
    assert [attempt.number for attempt in first.attempts] == [attempt.number for attempt in second.attempts] == [1]
    await SettlementStore(backend.mongo, retention=None).settle([_completed(first.attempts[0], None)])
    await backend.queue.redis.flushall()


async def test_an_unknown_type_is_left_for_a_worker_that_knows_it(backend: Backend, run_worker: RunWorker) -> None:
    task = await submit_one(backend, "echo")
    store = _attempts(backend, "old", types=["sleep"])
    claim, _ = await backend.queue.claim("default", limit=10, lease=LEASE)
    begun = await store.begin(claim, now=utc_now())
    assert begun.attempts == []
    assert [entry.task_id for entry in begun.waiting] == [task.id]
    assert (await get_task(backend, TaskId(task.id))).status == "pending"
    async with run_worker():
        done = await ended(backend, task)
    assert (done.status, done.attempt) == ("completed", 1)


@pytest.mark.parametrize("max_attempts", [1, 3])
async def test_a_shutdown_gives_tasks_back_uncounted(
    backend: Backend, run_worker: RunWorker, max_attempts: int
) -> None:
    task = await submit_one(backend, "sleep", {"seconds": 60}, max_attempts=max_attempts)

    async def running() -> bool:
        return (await get_task(backend, TaskId(task.id))).status == "running"

    for _ in range(2):
        async with run_worker():
            await wait_until(running)
        released = await get_task(backend, TaskId(task.id))
        assert (released.status, released.attempt, released.lease) == ("pending", 0, None)
    assert [entry.outcome for entry in released.history] == ["released", "released"]
    assert await backend.queue.redis.exists(f"arq:in-progress:{task.id}") == 0


async def test_an_outcome_that_cannot_be_stored_fails_alone(backend: Backend) -> None:
    tasks = [await submit_one(backend, "echo", max_attempts=1) for _ in range(3)]
    attempts = await _claim_and_begin(backend, _attempts(backend, "worker", lease=MINUTE))
    settler = Settler(SettlementStore(backend.mongo, retention=None), backend.queue, backend.callbacks, patience=MINUTE)
    results = {tasks[0].id: 1, tasks[1].id: {"no": object()}, tasks[2].id: 3}
    await asyncio.gather(*(settler.settle(_completed(each, results[each.task_id])) for each in attempts))
    first, second, third = [await get_task(backend, TaskId(task.id)) for task in tasks]
    assert (first.result, third.result) == (1, 3)
    assert second.error is not None
    assert (second.status, second.error.code) == ("failed", "result_not_storable")


@pytest.mark.parametrize(
    ("outcome", "word", "stays"),
    [
        (Rescheduled(Failure(ErrorCode.HANDLER_ERROR, "no"), utc_now()), "failed", "retrying"),
        (Released(utc_now()), "released", "pending"),
    ],
)
async def test_what_was_to_run_again_ends_where_a_client_has_cancelled_it(
    backend: Backend, outcome: Rescheduled | Released, word: str, stays: str
) -> None:
    """Of those that are settled together only that one, and Redis has no more of it."""
    tasks = [await submit_one(backend, "echo", max_attempts=3) for _ in range(3)]
    attempts = await _claim_and_begin(backend, _attempts(backend, "worker", lease=MINUTE), MINUTE)
    unwanted = TaskId(tasks[1].id)
    assert await backend.tasks.request_cancel(unwanted, now=utc_now())
    settler = Settler(SettlementStore(backend.mongo, retention=None), backend.queue, backend.callbacks, patience=MINUTE)
    await asyncio.gather(
        *(settler.settle(Record(Settlement(attempt, outcome, utc_now()), None, [])) for attempt in attempts)
    )
    found = [await get_task(backend, TaskId(task.id)) for task in tasks]
    assert [task.status for task in found] == [stays, "cancelled", stays]
    assert [[entry.outcome for entry in task.history] for task in found] == [[word]] * 3
    known = [await backend.queue.redis.exists(keys.job(TaskId(task.id))) for task in tasks]
    assert known == [1, 0, 1]


async def test_an_outcome_waits_for_mongodb_within_its_patience(backend: Backend, settings: Settings) -> None:
    await submit_one(backend, "echo")
    [attempt] = await _claim_and_begin(backend, _attempts(backend, "worker", lease=MINUTE))
    async with open_mongo("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100", settings.mongo_database) as away:
        store = SettlementStore(away, retention=None)
        settler = Settler(store, backend.queue, backend.callbacks, patience=timedelta(seconds=0.5))
        with pytest.raises(StoreUnavailable):
            await settler.settle(_completed(attempt, "nobody will know"))
        settler = Settler(store, backend.queue, backend.callbacks, patience=MINUTE)
        waiting = asyncio.create_task(settler.settle(_completed(attempt, "kept")))
        await wait_until(lambda: settler._records._flushing is not None)
        store._tasks = backend.mongo.collection("tasks")  # MongoDB is back
        await waiting
    assert (await get_task(backend, attempt.task_id)).result == "kept"


async def test_a_task_that_is_claimed_much_too_early_goes_back(backend: Backend) -> None:
    """Its attempt was settled, and the worker died before Redis was told when the next is due."""
    task = await submit_one(backend, "echo")
    later = utc_now() + timedelta(minutes=1)
    await backend.mongo.collection("tasks").update_one({}, {"$set": {"run_at": later, "status": "retrying"}})
    claim, _ = await backend.queue.claim("default", limit=1, lease=LEASE)
    begun = await _attempts(backend, "worker").begin(claim, now=utc_now())
    assert begun.attempts == []
    assert [(entry.task_id, to_ms(entry.again_at)) for entry in begun.waiting] == [(task.id, to_ms(later))]
    await backend.queue.redis.flushall()
