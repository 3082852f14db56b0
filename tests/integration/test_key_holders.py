"""Keys in the store: what has one, what gives it up, and how a batch comes out that meets some."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from app.core.clock import utc_now
from app.core.errors import StoreRefused, StoreUnavailable, UniqueKeyTaken
from app.core.ids import TaskId
from app.models import BackoffModel, Submission, Task
from app.services.backend import Backend
from app.services.change import cancel_task, retry_task
from app.services.read import get_task
from app.services.replay import How
from app.services.submit import new_document, submit_each
from app.store.documents import TaskDocument
from app.store.key_holders import Hold, find_holders
from app.worker import WorkerParts
from tests.integration.conftest import RunWorker, ended, submit_one
from tests.waiting import wait_until


def _document(backend: Backend, **fields: Any) -> TaskDocument:
    return new_document(Submission(type="echo", **fields), backend.types, utc_now())


async def _is_free(backend: Backend, key: str) -> bool:
    [outcome] = await submit_each(backend, [Submission(type="echo", unique_key=key, delay=3600)])
    return getattr(outcome, "how", None) is How.MADE


async def _completed(backend: Backend) -> None:
    await ended(backend, await submit_one(backend, "echo", unique_key="u"))


async def _failed(backend: Backend) -> None:
    await ended(backend, await submit_one(backend, "test.fail", unique_key="u"))


async def _until(backend: Backend, task: Task, status: str) -> Task:
    """The task once it has a status; workers tell nobody what they have ended unrun, so this looks often."""

    async def has_it() -> bool:
        return (await get_task(backend, TaskId(task.id))).status == status

    await wait_until(has_it)
    return await get_task(backend, TaskId(task.id))


async def _retrying_and_failed(backend: Backend) -> None:
    task = await submit_one(backend, "test.raise", unique_key="u", backoff=BackoffModel(base=0.3, jitter=False))
    await _until(backend, task, "retrying")
    assert not await _is_free(backend, "u")
    await ended(backend, task)


async def _cancelled_while_it_waits(backend: Backend) -> None:
    task = await submit_one(backend, "echo", unique_key="u", delay=60)
    assert not await _is_free(backend, "u")
    await cancel_task(backend, TaskId(task.id))


async def _cancelled_while_it_runs(backend: Backend) -> None:
    task = await submit_one(backend, "sleep", {"seconds": 60}, unique_key="u")
    await _until(backend, task, "running")
    assert not await _is_free(backend, "u")
    await cancel_task(backend, TaskId(task.id))
    await ended(backend, task)


@pytest.mark.parametrize(
    "end", [_completed, _failed, _retrying_and_failed, _cancelled_while_it_waits, _cancelled_while_it_runs]
)
async def test_whatever_ends_a_task_gives_up_its_key(
    backend: Backend, worker: WorkerParts, end: Callable[[Backend], Awaitable[None]]
) -> None:
    await end(backend)
    assert await _is_free(backend, "u")
    assert not await _is_free(backend, "u")


async def test_a_task_that_expires_gives_up_its_key(backend: Backend, run_worker: RunWorker) -> None:
    soon = utc_now() + timedelta(seconds=0.2)
    task = await submit_one(backend, "echo", unique_key="u", start_before=soon)
    await wait_until(lambda: utc_now() > soon)
    async with run_worker():
        done = await _until(backend, task, "failed")
    assert done.error is not None
    assert done.error.code == "expired"
    assert await _is_free(backend, "u")


async def test_a_task_whose_workers_are_lost_gives_up_its_key(backend: Backend, run_worker: RunWorker) -> None:
    task = await submit_one(backend, "echo", unique_key="u")
    lapsed = {"token": "gone", "worker": "w", "until": utc_now() - timedelta(seconds=1)}
    await backend.mongo.collection("tasks").update_one(
        {"_id": ObjectId(task.id)},
        {"$set": {"status": "running", "lease": lapsed, "started_at": utc_now(), "losses": 99}},
    )
    assert not await _is_free(backend, "u")
    async with run_worker():
        done = await _until(backend, task, "failed")
    assert done.error is not None
    assert done.error.code == "lost"
    assert await _is_free(backend, "u")


async def test_one_of_many_failed_tasks_is_retried_at_once(backend: Backend) -> None:
    """Twenty tasks that have ended share a key, and everybody wants theirs again."""
    ids = []
    for _ in range(20):
        task = await submit_one(backend, "echo", unique_key="u", delay=60)
        await cancel_task(backend, TaskId(task.id))
        ids.append(TaskId(task.id))
    outcomes = await asyncio.gather(*(retry_task(backend, each) for each in ids), return_exceptions=True)
    [won] = [outcome for outcome in outcomes if isinstance(outcome, Task)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, UniqueKeyTaken)]
    assert {error.holder for error in lost} == {won.id}
    assert len(lost) == 19
    assert await backend.mongo.collection("tasks").count_documents({"status": "pending"}) == 1


async def test_only_those_whose_key_is_taken_fall_out_of_a_batch(backend: Backend) -> None:
    first, held = _document(backend, idempotency_key="k"), _document(backend, unique_key="u")
    assert await backend.tasks.insert([first, held]) == {}
    same, twin, third, plain = (
        _document(backend, idempotency_key="k"),
        _document(backend, unique_key="u"),
        _document(backend, idempotency_key="k", unique_key="v"),
        _document(backend),
    )
    new, again = _document(backend, unique_key="w"), _document(backend, unique_key="w")
    instead = await backend.tasks.insert([same, twin, third, plain, new, again])
    assert {key: (holder.hold, holder.document["_id"]) for key, holder in instead.items()} == {
        same["_id"]: (Hold.IDEMPOTENCY, first["_id"]),
        twin["_id"]: (Hold.UNIQUE, held["_id"]),
        third["_id"]: (Hold.IDEMPOTENCY, first["_id"]),
        again["_id"]: (Hold.UNIQUE, new["_id"]),
    }
    kept = {document["_id"] async for document in backend.mongo.collection("tasks").find()}
    assert kept == {each["_id"] for each in (first, held, plain, new)}


async def test_an_insert_that_was_not_acknowledged_is_recognised(backend: Backend) -> None:
    """The same documents again: none of them is taken for another's."""
    documents = [_document(backend, idempotency_key="k", unique_key="u"), _document(backend, unique_key="v")]
    documents += [_document(backend, idempotency_key="l"), _document(backend)]
    assert await backend.tasks.insert(documents) == {}
    assert await backend.tasks.insert(documents) == {}
    await cancel_task(backend, TaskId(str(documents[1]["_id"])))
    assert await _is_free(backend, "v")
    assert await backend.tasks.insert(documents) == {}, "also when it has ended and its key is another's"


async def test_requests_that_share_a_write_get_their_own_answers(backend: Backend) -> None:
    with_key = [Submission(type="echo", idempotency_key=f"k{n % 5}", payload={"n": n % 5}) for n in range(40)]
    plain = [Submission(type="echo") for _ in range(40)]
    mixed = [each for pair in zip(with_key, plain, strict=True) for each in pair]
    outcomes = [one for [one] in await asyncio.gather(*(submit_each(backend, [each]) for each in mixed))]
    made = [getattr(outcome, "how", None) for outcome in outcomes]
    assert (made.count(How.MADE), made.count(How.REPLAYED)) == (45, 35)
    for submission, outcome in zip(mixed, outcomes, strict=True):
        assert getattr(outcome, "task").payload == submission.payload  # noqa: B009 - Invalid has none


async def test_what_spoils_a_batch_spoils_no_key(backend: Backend) -> None:
    good, bad, twin = (_document(backend, idempotency_key=key) for key in ("k", "l", "k"))
    bad["payload"] = {"no": object()}
    outcomes = await asyncio.gather(
        *(backend.acceptor.accept([document]) for document in (good, bad, twin)), return_exceptions=True
    )
    assert outcomes[0] == {}
    assert isinstance(outcomes[1], StoreRefused)
    assert isinstance(outcomes[2], dict)
    assert outcomes[2][twin["_id"]].document["_id"] == good["_id"]


async def test_a_key_that_is_free_again_when_it_is_looked_up_is_taken(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder ended between the refusal and the look."""
    holder = await submit_one(backend, "echo", unique_key="u", delay=60)
    looks = []

    async def ends_before(tasks: Any, refused: Any) -> Any:
        looks.append(len(refused))
        await cancel_task(backend, TaskId(holder.id))
        return await find_holders(tasks, refused)

    monkeypatch.setattr("app.store.tasks.find_holders", ends_before)
    document = _document(backend, unique_key="u")
    assert await backend.tasks.insert([document, _document(backend)]) == {}
    assert looks == [1]
    assert await backend.tasks.get(TaskId(str(document["_id"]))) is not None


async def test_a_key_that_changes_hands_all_the_time_is_not_tried_for_ever(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submit_one(backend, "echo", unique_key="u", delay=60)

    async def nobody(_tasks: Any, _refused: Any) -> dict[Any, Any]:
        return {}

    monkeypatch.setattr("app.store.tasks.find_holders", nobody)
    with pytest.raises(StoreUnavailable):
        await backend.tasks.insert([_document(backend, unique_key="u")])


@pytest.mark.parametrize("count", [3, 50])
async def test_keys_are_found_one_by_one_or_together(backend: Backend, count: int) -> None:
    await submit_each(backend, [Submission(type="echo", idempotency_key=f"k{n}") for n in range(count)])
    found = await backend.tasks.by_idempotency_key([*(f"k{n}" for n in range(count)), "none"])
    assert sorted(found) == sorted(f"k{n}" for n in range(count))
