"""What the end of an attempt writes, alone and together with others."""

from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId
from pymongo.errors import OperationFailure

from app.core.attempt import Attempt, Settlement
from app.core.clock import utc_now
from app.core.errors import StoreRefused
from app.core.ids import WorkerId
from app.core.outcomes import Completed, ErrorCode, Failed, Failure
from app.models import Submission
from app.services.backend import Backend
from app.services.submit import submit
from app.store.attempts import AttemptStore
from app.store.mongo import store_errors
from app.store.settlements import Record, SettlementStore

LEASE = timedelta(seconds=30)
RETENTION = timedelta(days=7)

RESULTS: list[Any] = [
    None,
    0,
    -1.5,
    True,
    "$status",
    "",
    [],
    ["$_id", {"$add": [1, 2]}],
    {},
    {"$set": {"status": "failed"}},
    {"a.b": 1, "$c": "$$ROOT"},
    {"nested": {"deep": [None, {"x": 2**40}]}},
]


async def _begun(backend: Backend, count: int) -> list[Attempt]:
    await submit(backend, [Submission(type="echo") for _ in range(count)])
    store = AttemptStore(
        backend.mongo, worker=WorkerId("w"), lease=LEASE, max_losses=3, retention=RETENTION, types=["echo"]
    )
    claim, _ = await backend.queue.claim("default", limit=count, lease=LEASE)
    attempts = (await store.begin(claim, now=utc_now())).attempts
    assert len(attempts) == count
    await backend.queue.redis.flushall()  # only MongoDB is looked at here
    return attempts


def _record(attempt: Attempt, result: Any, **changes: Any) -> Record:
    return Record(Settlement(attempt, Completed(result), utc_now(), **changes), None, [])


async def _documents(backend: Backend, records: list[Record]) -> list[dict[str, Any]]:
    ids = [ObjectId(record.settlement.attempt.task_id) for record in records]
    tasks = backend.mongo.collection("tasks")
    found = {each["_id"]: each for each in await tasks.find({"_id": {"$in": ids}}).to_list(None)}
    return [found[each] for each in ids]


@pytest.mark.parametrize("retention", [RETENTION, None])
async def test_together_is_written_what_is_written_alone(backend: Backend, retention: timedelta | None) -> None:
    store = SettlementStore(backend.mongo, retention=retention)
    attempts = await _begun(backend, 2 * len(RESULTS))
    alone = [_record(attempt, result) for attempt, result in zip(attempts, RESULTS, strict=False)]
    together = [_record(attempt, result) for attempt, result in zip(attempts[len(RESULTS) :], RESULTS, strict=True)]
    for record in alone:
        assert await store.settle([record]) == 1
    assert await store.settle(together) == len(together)

    for first, second in zip(await _documents(backend, alone), await _documents(backend, together), strict=True):
        assert list(first) == list(second)
        assert list(first["history"][0]) == list(second["history"][0])
        for field in ("_id", "created_at", "run_at", "updated_at", "finished_at", "expire_at"):
            del first[field], second[field]
        del first["history"][0]["finished_at"], second["history"][0]["finished_at"]
        assert first == second
    for record, document in zip(together, await _documents(backend, together), strict=True):
        at = record.settlement.finished_at.replace(microsecond=record.settlement.finished_at.microsecond // 1000 * 1000)
        assert document["result"] == record.settlement.outcome.result  # type: ignore[union-attr]
        assert document["finished_at"] == document["updated_at"] == document["history"][0]["finished_at"] == at
        assert document["expire_at"] == (None if retention is None else at + retention)


async def test_each_outcome_among_others_needs_its_own_lease(backend: Backend) -> None:
    """One that another worker has taken over stays as it is; so does one that has been settled.

    Fails without the token in the filter of the update that they share.
    """
    store = SettlementStore(backend.mongo, retention=None)
    records = [_record(attempt, "mine") for attempt in await _begun(backend, 4)]
    taken = ObjectId(records[0].settlement.attempt.task_id)
    tasks = backend.mongo.collection("tasks")
    await tasks.update_one({"_id": taken}, {"$set": {"lease.token": "another"}})
    assert await store.settle(records[1:2]) == 1
    assert await store.settle(records) == 2
    first, *others = await _documents(backend, records)
    assert (first["status"], first["history"], first["result"]) == ("running", [], None)
    assert [(each["status"], len(each["history"])) for each in others] == [("completed", 1)] * 3
    await tasks.delete_one({"_id": taken})


async def test_outcomes_of_two_claims_and_of_every_kind_go_together(backend: Backend) -> None:
    store = SettlementStore(backend.mongo, retention=None)
    attempts = await _begun(backend, 3) + await _begun(backend, 3)
    records = [_record(attempt, attempt.task_id) for attempt in attempts]
    records[1] = Record(Settlement(attempts[1], Failed(Failure(ErrorCode.HANDLER_ERROR, "no")), utc_now()), None, [])
    records[4] = _record(attempts[4], 1, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    assert await store.settle(records) == 6
    documents = await _documents(backend, records)
    statuses = [document["status"] for document in documents]
    assert statuses == ["completed", "failed", "completed", "completed", "completed", "completed"]
    assert [document["result"] for document in documents] == [
        attempts[0].task_id, None, attempts[2].task_id, attempts[3].task_id, 1, attempts[5].task_id
    ]  # fmt: skip
    assert "traceparent" in documents[4]["history"][0]
    assert not any("part" in document for document in documents)


async def test_too_much_for_one_message_is_refused_and_can_be_settled_one_by_one(backend: Backend) -> None:
    store = SettlementStore(backend.mongo, retention=None)
    records = [_record(attempt, "x" * 10_000_000) for attempt in await _begun(backend, 5)]
    with pytest.raises(StoreRefused):
        await store.settle(records)
    for record in records:
        assert await store.settle([record]) == 1


@pytest.mark.parametrize("code", [10334, 17419])
def test_what_the_server_finds_too_large_is_refused(code: int) -> None:
    """Outcomes that are too large together are then settled one by one, and one that is too large alone fails."""
    with pytest.raises(StoreRefused), store_errors():
        raise OperationFailure("BSONObj size: 17000000 is invalid", code)
