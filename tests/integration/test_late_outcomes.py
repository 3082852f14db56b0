"""What is counted where an outcome comes too late, and where only its answer was lost."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from bson import ObjectId

from app.core.attempt import Attempt, Settlement
from app.core.clock import utc_now
from app.core.errors import StoreUnavailable
from app.core.ids import WorkerId
from app.core.outcomes import Completed, ErrorCode, Failed, Failure
from app.services.backend import Backend
from app.services.settle import Settler
from app.store.attempts import AttemptStore
from app.store.settlements import Record, SettlementStore
from app.telemetry.catalogue import Role
from app.telemetry.exposition import Exposition
from app.telemetry.metrics import Metrics
from tests.integration.conftest import submit_one
from tests.scraping import Scrape
from tests.waiting import wait_until

LEASE = timedelta(seconds=30)
SHORT = timedelta(seconds=0.3)


class AnswersOnceLost(SettlementStore):
    """Writes, and the first time nobody hears of it."""

    lost = False

    async def settle(self, records: Sequence[Record]) -> int:
        recorded = await super().settle(records)
        if not self.lost:
            self.lost = True
            raise StoreUnavailable("the answer was lost")
        return recorded


async def _begin(backend: Backend, worker: str, *, lease: timedelta = LEASE) -> list[Attempt]:
    store = AttemptStore(
        backend.mongo, worker=WorkerId(worker), lease=lease, max_losses=3, retention=None, types=["echo"]
    )
    claim, _ = await backend.queue.claim("default", limit=10, lease=lease)
    return list((await store.begin(claim, now=utc_now())).attempts)


async def _counted(metrics: Metrics) -> dict[str, float]:
    told = Scrape(await Exposition(metrics).text())
    return {
        "attempts": told.value("arqive_attempts_total"),
        "runs": told.value("arqive_task_run_seconds_count"),
        "finished": told.value("arqive_tasks_finished_total"),
        "late": told.value("arqive_outcomes_late_total"),
    }


def _completed(attempt: Attempt) -> Record:
    return Record(Settlement(attempt, Completed(1), utc_now()), None, [])


def _failed(attempt: Attempt) -> Record:
    return Record(Settlement(attempt, Failed(Failure(ErrorCode.HANDLER_ERROR, "no")), utc_now()), None, [])


async def _until_taken_over(backend: Backend, worker: str) -> Attempt:
    found: list[Attempt] = []

    async def begun() -> bool:
        found.extend(await _begin(backend, worker))
        return bool(found)

    await wait_until(begun, 5)
    [attempt] = found
    assert attempt.taken_over
    return attempt


async def test_a_late_outcome_is_counted_as_late_alone(backend: Backend) -> None:
    await submit_one(backend, "echo")
    [zombie] = await _begin(backend, "first", lease=SHORT)
    second = await _until_taken_over(backend, "second")
    for _ in range(2):
        await submit_one(backend, "echo")
    good, bad = await _begin(backend, "first")

    store = SettlementStore(backend.mongo, retention=None)
    ours, theirs = Metrics(Role.WORKER), Metrics(Role.WORKER)
    settler = Settler(store, backend.queue, backend.callbacks, patience=LEASE, metrics=ours)
    await asyncio.gather(*map(settler.settle, [_completed(zombie), _completed(good), _failed(bad)]))
    assert await _counted(ours) == {"attempts": 2, "runs": 2, "finished": 2, "late": 1}

    other = Settler(store, backend.queue, backend.callbacks, patience=LEASE, metrics=theirs)
    await other.settle(_completed(second))
    assert await _counted(theirs) == {"attempts": 1, "runs": 1, "finished": 1, "late": 0}
    await settler.settle(_failed(zombie))
    assert await _counted(ours) == {"attempts": 2, "runs": 2, "finished": 2, "late": 2}
    await backend.queue.redis.flushall()


async def test_an_outcome_whose_answer_was_lost_was_not_late(backend: Backend) -> None:
    for _ in range(3):
        await submit_one(backend, "echo")
    one, two, three = await _begin(backend, "first")
    metrics = Metrics(Role.WORKER)
    store = AnswersOnceLost(backend.mongo, retention=None)
    settler = Settler(store, backend.queue, backend.callbacks, patience=LEASE, metrics=metrics)
    await asyncio.gather(*map(settler.settle, [_completed(one), _completed(two), _failed(three)]))
    assert store.lost
    assert await _counted(metrics) == {"attempts": 3, "runs": 3, "finished": 3, "late": 0}


async def test_the_outcome_of_a_task_that_was_deleted_is_late(backend: Backend) -> None:
    await submit_one(backend, "echo")
    [attempt] = await _begin(backend, "first")
    await backend.mongo.collection("tasks").delete_one({"_id": ObjectId(attempt.task_id)})
    metrics = Metrics(Role.WORKER)
    store = SettlementStore(backend.mongo, retention=None)
    await Settler(store, backend.queue, backend.callbacks, patience=LEASE, metrics=metrics).settle(_completed(attempt))
    assert await _counted(metrics) == {"attempts": 0, "runs": 0, "finished": 0, "late": 1}
