"""Changes by filter, with workers, with Redis away, with callbacks, and with tasks that move on meanwhile."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from app.callback_models import CallbackRequest
from app.core.callbacks import DELIVER_TYPE
from app.core.clock import utc_now
from app.core.ids import TaskId
from app.core.outcomes import ErrorCode
from app.core.states import UNFINISHED, Status
from app.models import BackoffModel, Submission, Task
from app.queue import keys
from app.services import accept, change_many
from app.services.backend import Backend
from app.services.change_many import cancel_many, retry_many
from app.services.read import get_task
from app.services.submit import submit
from app.store.selection import Selection, SelectionStore
from app.store.tasks import TaskFilter
from app.worker import WorkerParts
from settings import Settings, load_settings
from tests.callback_receiver import SECRET
from tests.integration.conftest import RunWorker, a_redis_that_hangs, ended, submit_one
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return load_settings(**{**settings.model_dump(), "callback_secrets": SECRET})


async def _many(backend: Backend, count: int, type: str = "echo", **fields: Any) -> list[Task]:  # noqa: A002
    accepted = await submit(backend, [Submission(type=type, **fields) for _ in range(count)])
    return [task for task in accepted if isinstance(task, Task)]


def _unfinished(**which: Any) -> Selection:
    return Selection(TaskFilter(statuses=tuple(sorted(UNFINISHED)), **which), utc_now(), unasked=True)


def _ended(*statuses: Status, **which: Any) -> Selection:
    return Selection(TaskFilter(statuses=statuses, **which), utc_now())


async def _statuses(backend: Backend) -> Counter[str]:
    return Counter([task["status"] async for task in backend.mongo.collection("tasks").find()])


async def test_running_and_waiting_tasks_are_cancelled_together(backend: Backend, run_worker: RunWorker) -> None:
    tasks = await _many(backend, 12, "sleep", payload={"seconds": 60})
    async with run_worker(concurrency=5, lease_seconds=3600):

        async def five_run() -> bool:
            return (await _statuses(backend))["running"] == 5

        await wait_until(five_run)
        done = await cancel_many(backend, _unfinished(), limit=100)
        assert (done.walked.matched, done.changed, done.requested) == (12, 12, 5)
        for task in tasks:
            assert (await ended(backend, task)).status == "cancelled"
    assert await backend.queue.redis.zcard(keys.queue("default")) == 0


async def test_what_is_retried_runs(backend: Backend, worker: WorkerParts) -> None:
    failed = await _many(backend, 30, "test.fail")
    for task in failed:
        await ended(backend, task)
    done = await retry_many(backend, _ended(Status.FAILED), limit=100)
    assert (done.walked.matched, done.changed, done.conflicts) == (30, 30, 0)
    for task in failed:
        again = await ended(backend, task)
        assert (again.round, [entry.round for entry in again.history]) == (2, [1, 2])


async def test_listeners_are_told_of_every_change(
    backend: Backend, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, waiting = await submit_one(backend, "sleep", {"seconds": 60}), await submit_one(backend, "echo", delay=60)
    monkeypatch.setattr(type(backend.queue.audience), "present", True)
    async with run_worker(lease_seconds=3600), backend.queue.redis.pubsub() as heard:

        async def runs() -> bool:
            return (await _statuses(backend))["running"] == 1

        await wait_until(runs)
        await heard.subscribe(keys.CHANGED_CHANNEL, keys.ENDED_CHANNEL)
        await cancel_many(backend, _unfinished(), limit=10)
        await ended(backend, running)
        await retry_many(backend, _ended(Status.CANCELLED, type="echo"), limit=10)
        told: list[tuple[str, str]] = []

        async def all_told() -> bool:
            message = await heard.get_message(ignore_subscribe_messages=True)
            told.extend(
                [(message["channel"].decode(), id_) for id_ in message["data"].decode().split()] if message else []
            )
            return told.count((keys.CHANGED_CHANNEL, waiting.id)) == 1

        await wait_until(all_told)
        assert (keys.CHANGED_CHANNEL, running.id) in told
        assert {(keys.ENDED_CHANNEL, running.id), (keys.ENDED_CHANNEL, waiting.id)} <= set(told)


async def test_whoever_waits_for_a_cancelled_task_is_told(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by a look of its own."""
    monkeypatch.setattr("app.services.read.LOOK_S", 3600)
    task = await submit_one(backend, "echo", delay=60)
    waiting = asyncio.create_task(ended(backend, task, timeout_s=3600))
    await wait_until(lambda: backend.endings._waiters)
    await cancel_many(backend, _unfinished(), limit=10)
    assert (await asyncio.wait_for(waiting, PATIENCE_S)).status == "cancelled"


class Restless:
    """The collection, in which a task runs whenever waiting ones are written and waits whenever running ones are."""

    def __init__(self, tasks: Any, task_id: TaskId, moves: int) -> None:
        self._tasks = tasks
        self._own = {"_id": ObjectId(task_id)}
        self._moves = moves

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tasks, name)

    async def update_many(self, where: dict[str, Any], update: dict[str, Any]) -> Any:
        if self._moves:
            self._moves -= 1
            lease = {"token": "t", "worker": "w", "until": utc_now() + timedelta(seconds=60)}
            waits = {"status": "retrying", "lease": None}
            moved = waits if where["status"] == "running" else {"status": "running", "lease": lease}
            await self._tasks.update_one(self._own, {"$set": moved})
        return await self._tasks.update_many(where, update)


@pytest.mark.parametrize(("moves", "status"), [(2, "cancelled"), (3, "running"), (1000, "retrying")])
async def test_a_task_that_moves_between_the_writes_is_tried_again(backend: Backend, moves: int, status: str) -> None:
    task = await submit_one(backend, "echo", delay=60)
    store = SelectionStore(backend.mongo)
    store._tasks = Restless(store._tasks, TaskId(task.id), moves)  # type: ignore[assignment]
    done = await store.cancel([TaskId(task.id)], now=utc_now(), expire_at=None)
    found = await get_task(backend, TaskId(task.id))
    assert found.status == status
    assert (done.waiting, done.running) == (int(status == "cancelled"), int(status == "running"))
    assert (found.cancel_requested_at is not None) is (status != "retrying")


async def test_without_redis_a_change_does_not_wait_for_it_page_by_page(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(change_many, "PAGE", 5)
    monkeypatch.setattr(change_many, "PATIENCE_S", 0.1)
    monkeypatch.setattr(accept, "DISPATCH_PATIENCE_S", 0.1)
    monkeypatch.setattr(accept, "OUTAGE_PAUSE_S", 3600)
    await _many(backend, 50, delay=60)
    async with a_redis_that_hangs(backend) as away:
        assert (await cancel_many(away, _unfinished(), limit=100)).changed == 50
        assert (await retry_many(away, _ended(Status.CANCELLED), limit=100)).changed == 50
    assert [record.getMessage() for record in caplog.records if "no answer" in record.getMessage()] == [
        "Cancels are kept but not signalled: no answer within 0.1 s",
        "Kept 5 tasks but could not queue them, reconcile will: no answer within 0.1 s",
    ]
    assert await _statuses(backend) == {"pending": 50}


async def test_a_shutdown_ends_a_change_early(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_many, "PAGE", 5)
    tasks = await _many(backend, 20)
    backend.endings.close()
    done = await cancel_many(backend, _unfinished(), limit=100)
    assert (done.walked.matched, done.changed) == (5, 5)
    assert done.walked.next_after == TaskId(tasks[4].id)


async def test_memory_and_pages_are_bounded(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    cancel = SelectionStore.cancel

    async def counted(self: Any, ids: Any, **rest: Any) -> Any:
        sizes.append(len(ids))
        return await cancel(self, ids, **rest)

    monkeypatch.setattr(SelectionStore, "cancel", counted)
    monkeypatch.setattr(change_many, "PAGE", 10)
    await _many(backend, 35)
    done = await cancel_many(backend, _unfinished(), limit=32)
    assert (done.changed, sizes) == (32, [10, 10, 10, 2])
    assert done.walked.next_after is not None


async def test_the_end_that_a_retry_undoes_is_told_before(backend: Backend) -> None:
    """And the tasks that tell it are not cancelled with the others."""
    callback = CallbackRequest(url="http://127.0.0.1:9/")
    tasks = await _many(backend, 5, delay=60, callback=callback)
    assert (await cancel_many(backend, _unfinished(), limit=100)).changed == 5
    stored = backend.mongo.collection("tasks")
    assert await stored.count_documents({"type": DELIVER_TYPE, "status": "pending"}) == 5
    assert (await cancel_many(backend, _unfinished(), limit=100)).walked.matched == 0, "they tell of the end of others"
    # As if nobody had followed.
    await stored.update_many({"type": "echo"}, {"$rename": {"callback.done": "callback.owed"}})
    await stored.delete_many({"type": DELIVER_TYPE})
    assert (await retry_many(backend, _ended(Status.CANCELLED), limit=100)).changed == 5
    told = [document["payload"]["data"]["id"] async for document in stored.find({"type": DELIVER_TYPE})]
    assert sorted(told) == [task.id for task in tasks]
    assert await stored.count_documents({"type": "echo", "callback.owed": True}) == 5
    assert (await cancel_many(backend, _unfinished(type=DELIVER_TYPE), limit=100)).changed == 5, "unless named"


async def test_a_retrying_task_of_an_error_is_cancelled(backend: Backend, worker: WorkerParts) -> None:
    task = await submit_one(backend, "test.raise", backoff=BackoffModel(base=60, jitter=False))
    waiting = await submit_one(backend, "echo", delay=60)

    async def retrying() -> bool:
        return (await get_task(backend, TaskId(task.id))).status == "retrying"

    await wait_until(retrying)
    assert (await cancel_many(backend, _unfinished(error=ErrorCode.HANDLER_ERROR), limit=10)).changed == 1
    assert (await get_task(backend, TaskId(task.id))).status == "cancelled"
    assert (await get_task(backend, TaskId(waiting.id))).status == "pending"
