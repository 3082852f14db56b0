"""The end of a task is told to the URL that its client gave, once for each end, whatever crashes meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from app.callback_models import CallbackRequest
from app.core import faults, limits
from app.core.callbacks import DELIVER_TYPE, Event
from app.core.clock import utc_now
from app.core.faults import FaultPoint
from app.core.ids import TaskId, WorkerId
from app.models import Task
from app.services.backend import Backend
from app.services.callbacks import Callbacks
from app.services.change import cancel_task, retry_task
from app.services.read import get_task
from app.services.reconcile import Reconciler
from app.store.attempts import AttemptStore
from app.worker import WorkerParts
from settings import Settings, load_settings
from tests.callback_receiver import NEXT_SECRET, SECRET, Receiver, receiving
from tests.integration.conftest import RunWorker, ended, submit_one, too_late
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return load_settings(**{**settings.model_dump(), "callback_secrets": SECRET})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


async def _submit(backend: Backend, receiver: Receiver, type: str = "echo", *events: Event, **fields: Any) -> Task:  # noqa: A002
    given: dict[str, Any] = {"events": events} if events else {}
    return await submit_one(backend, type, callback=CallbackRequest(url=receiver.url, **given), **fields)


async def _until(backend: Backend, task: Task, state: str, timeout_s: float = PATIENCE_S) -> Task:
    async def reached() -> bool:
        callback = (await get_task(backend, TaskId(task.id))).callback
        return callback is not None and callback.state == state

    await wait_until(reached, timeout_s, f"the callback is not {state}")
    return await get_task(backend, TaskId(task.id))


async def _deliverer(backend: Backend, task: Task) -> Task:
    current = await get_task(backend, TaskId(task.id))
    assert current.callback is not None
    assert current.callback.task_id is not None
    return await get_task(backend, TaskId(current.callback.task_id))


async def _deliverers(backend: Backend) -> int:
    return await backend.mongo.collection("tasks").count_documents({"type": DELIVER_TYPE})


@pytest.mark.usefixtures("worker")
async def test_a_completed_task_is_told(backend: Backend, receiver: Receiver) -> None:
    task = await _submit(backend, receiver, "test.numbers", payload={"low": 1}, tags=("a",), queue="default")
    assert task.callback is not None
    assert (task.callback.state, task.callback.events) == ("waiting", ["cancelled", "completed", "failed"])
    done = await _until(backend, task, "delivered")
    [message] = receiver.messages
    assert message["type"] == "task.completed"
    data = message["data"]
    assert done.finished_at is not None
    assert message["timestamp"] == data["finished_at"] == done.finished_at.isoformat().replace("+00:00", "Z")
    assert (data["id"], data["status"], data["result"]) == (task.id, "completed", {"low": 1, "high": 10})
    assert (data["tags"], data["attempt"], data["round"], data["error"]) == (["a"], 1, 1, None)
    assert "payload" not in data
    deliverer = await _deliverer(backend, task)
    assert receiver.ids == [deliverer.id]
    assert deliverer.callback_of == task.id
    assert (deliverer.status, deliverer.result, deliverer.callback) == ("completed", {"status": 204}, None)
    assert deliverer.created_at == done.finished_at, "its id is of that second"


@pytest.mark.usefixtures("worker")
async def test_a_failed_task_is_told_without_its_traceback(backend: Backend, receiver: Receiver) -> None:
    task = await _submit(backend, receiver, "test.raise")
    await _until(backend, task, "delivered")
    [message] = receiver.messages
    assert message["type"] == "task.failed"
    assert message["data"]["error"] == {"code": "handler_error", "message": "ValueError: boom"}


@pytest.mark.usefixtures("worker")
async def test_a_cancelled_task_is_told(backend: Backend, receiver: Receiver) -> None:
    waiting = await _submit(backend, receiver, delay=60)
    cancelled = await cancel_task(backend, TaskId(waiting.id))
    assert cancelled.callback is not None
    assert cancelled.callback.state == "delivering", "at once"
    running = await _submit(backend, receiver, "sleep", payload={"seconds": 60})

    async def runs() -> bool:
        return (await get_task(backend, TaskId(running.id))).status == "running"

    await wait_until(runs)
    await cancel_task(backend, TaskId(running.id))
    for task in (waiting, running):
        await _until(backend, task, "delivered")
    assert [message["type"] for message in receiver.messages] == ["task.cancelled"] * 2


async def test_ends_that_nobody_stays_with_are_found(backend: Backend, receiver: Receiver) -> None:
    """A task that expires, one that is lost and one that is cancelled past the services: reconcile looks for them."""
    expired = await _submit(backend, receiver, start_before=utc_now() + timedelta(minutes=1))
    lost = await _submit(backend, receiver)
    cancelled = await _submit(backend, receiver, delay=60)
    lease = timedelta(milliseconds=10)
    store = AttemptStore(backend.mongo, worker=WorkerId("w"), lease=lease, max_losses=1, retention=None, types=["echo"])
    await too_late(backend, expired)

    async def both_have_failed() -> bool:
        claim, _ = await backend.queue.claim("default", limit=2, lease=lease)
        await store.begin(claim, now=utc_now())
        return all([(await get_task(backend, TaskId(task.id))).status == "failed" for task in (expired, lost)])

    await wait_until(both_have_failed)
    await backend.tasks.cancel_waiting(TaskId(cancelled.id), now=utc_now(), expire_at=None)
    states = {(await get_task(backend, TaskId(task.id))).callback.state for task in (expired, lost, cancelled)}  # type: ignore[union-attr]
    assert states == {"due"}
    reconciler = Reconciler(backend.mongo, backend.queue, backend.callbacks, holder="one", retention=None)
    await reconciler.run_once()
    assert [(await _deliverer(backend, task)).payload["event"] for task in (expired, lost, cancelled)] == [  # type: ignore[index,call-overload]
        "task.failed",
        "task.failed",
        "task.cancelled",
    ]
    assert await backend.callbacks.catch_up() == 0


@pytest.mark.usefixtures("worker")
async def test_only_the_ends_asked_for_are_told(backend: Backend, receiver: Receiver) -> None:
    task = await _submit(backend, receiver, "echo", "failed")
    done = await ended(backend, task)
    assert done.callback is not None
    assert done.callback.state == "skipped"
    waiting = await _submit(backend, receiver, "echo", "completed", delay=60)
    cancelled = await cancel_task(backend, TaskId(waiting.id))
    assert cancelled.callback is not None
    assert cancelled.callback.state == "skipped"
    for one in (done, cancelled):
        document = await backend.tasks.get(TaskId(one.id))
        assert document is not None
        assert "owed" not in document["callback"], "nobody has to look at it again"
    assert await _deliverers(backend) == 0


@pytest.mark.usefixtures("worker")
async def test_a_busy_receiver_is_asked_again_with_the_same_id(backend: Backend, receiver: Receiver) -> None:
    receiver.answers = [503, 429, 408]
    task = await _submit(backend, receiver)
    await _until(backend, task, "delivered")
    assert len(receiver.ids) == 4
    assert len(set(receiver.ids)) == 1
    assert [headers["arqive-attempt"] for headers in receiver.headers] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("status", [410, 404, 302])
@pytest.mark.usefixtures("worker")
async def test_a_receiver_that_is_gone_is_left_alone_until_somebody_retries(
    backend: Backend, receiver: Receiver, status: int
) -> None:
    receiver.answers = [status]
    task = await _submit(backend, receiver)
    await _until(backend, task, "failed")
    deliverer = await _deliverer(backend, task)
    assert (deliverer.status, deliverer.attempt) == ("failed", 1)
    assert deliverer.error is not None
    assert f"answered {status}" in deliverer.error.message
    await retry_task(backend, TaskId(deliverer.id))
    await _until(backend, task, "delivered")
    assert len(receiver.ids) == 2
    assert len(set(receiver.ids)) == 1


async def test_a_private_address_is_refused_at_the_moment_of_the_call(
    backend: Backend, receiver: Receiver, run_worker: RunWorker
) -> None:
    async with run_worker(http_allow_private=False):
        task = await _submit(backend, receiver)
        await _until(backend, task, "failed")
    error = (await _deliverer(backend, task)).error
    assert error is not None
    assert "HTTP_ALLOW_PRIVATE is off" in error.message
    assert receiver.messages == []


async def test_a_receiver_that_does_not_listen_is_tried_later(backend: Backend, worker: WorkerParts) -> None:
    url = "http://127.0.0.1:1/hook?token=secret"
    task = await submit_one(backend, "echo", callback=CallbackRequest(url=url))
    await _until(backend, task, "delivering")

    async def tried() -> bool:
        return (await _deliverer(backend, task)).status == "retrying"

    await wait_until(tried)
    deliverer = await _deliverer(backend, task)
    assert deliverer.error is not None
    assert "secret" not in deliverer.error.message
    assert deliverer.max_attempts == 10
    assert deliverer.run_at - utc_now() <= timedelta(seconds=10)


@pytest.mark.parametrize("known", [SECRET, NEXT_SECRET])
async def test_while_secrets_are_exchanged_either_verifies(backend: Backend, run_worker: RunWorker, known: str) -> None:
    async with receiving(secret=known) as receiver, run_worker(callback_secrets=f"{NEXT_SECRET},{SECRET}"):
        await _until(backend, await _submit(backend, receiver), "delivered")


async def test_a_worker_without_a_secret_sends_nothing_and_says_so(
    backend: Backend, receiver: Receiver, run_worker: RunWorker
) -> None:
    async with run_worker(callback_secrets=()):
        task = await _submit(backend, receiver)
        await _until(backend, task, "delivering")

        async def told() -> bool:
            error = (await _deliverer(backend, task)).error
            return error is not None and "CALLBACK_SECRETS" in error.message

        await wait_until(told)
    assert receiver.messages == []


@pytest.mark.usefixtures("worker")
async def test_each_round_is_told(backend: Backend, receiver: Receiver) -> None:
    task = await _submit(backend, receiver, "test.fail")
    await _until(backend, task, "delivered")
    again = await retry_task(backend, TaskId(task.id))
    assert again.callback is not None
    assert again.callback.state == "waiting"
    await wait_until(lambda: len(receiver.messages) == 2)
    await _until(backend, task, "delivered")
    assert [message["data"]["round"] for message in receiver.messages] == [1, 2]
    assert len(set(receiver.ids)) == 2


async def test_an_end_is_told_although_it_is_undone_at_once(backend: Backend, receiver: Receiver) -> None:
    task = await _submit(backend, receiver, delay=60)
    await backend.tasks.cancel_waiting(TaskId(task.id), now=utc_now(), expire_at=None)
    again = await retry_task(backend, TaskId(task.id))
    assert again.callback is not None
    assert again.callback.state == "waiting"
    assert await _deliverers(backend) == 1


async def test_the_news_of_a_round_changes_nothing_in_the_next(backend: Backend, receiver: Receiver) -> None:
    """The call for the first end fails only after a second round has begun."""
    task = await _submit(backend, receiver, delay=60)
    await cancel_task(backend, TaskId(task.id))
    deliverer = await _deliverer(backend, task)
    await retry_task(backend, TaskId(task.id))
    await cancel_task(backend, TaskId(deliverer.id))
    assert (await get_task(backend, TaskId(deliverer.id))).status == "cancelled"
    await backend.callbacks.catch_up()
    again = await get_task(backend, TaskId(task.id))
    assert again.callback is not None
    assert again.callback.state == "waiting"


@pytest.mark.usefixtures("worker")
async def test_a_large_result_is_left_out(backend: Backend, receiver: Receiver) -> None:
    task = await _submit(backend, receiver, "test.large", payload={"size": limits.MAX_CALLBACK_RESULT + 1})
    await _until(backend, task, "delivered")
    data = receiver.messages[0]["data"]
    assert (data["result"], data["result_omitted"]) == (None, True)


@pytest.mark.parametrize("point", [FaultPoint.BEFORE_CALLBACK, FaultPoint.AFTER_CALLBACK, FaultPoint.AFTER_HAND_OVER])
async def test_what_breaks_off_is_taken_up_again(backend: Backend, receiver: Receiver, point: FaultPoint) -> None:
    task = await _submit(backend, receiver, delay=60)
    await backend.tasks.cancel_waiting(TaskId(task.id), now=utc_now(), expire_at=None)

    async def break_off() -> None:
        raise RuntimeError(point)

    faults.arm(point, break_off)
    try:
        with pytest.raises(RuntimeError):
            await backend.callbacks.follow(TaskId(task.id))
    finally:
        faults.disarm_all()
    await backend.callbacks.catch_up()
    assert (await _deliverer(backend, task)).status == "pending"
    assert await _deliverers(backend) == 1


async def test_one_end_has_one_callback_however_many_see_it(
    backend: Backend, receiver: Receiver, run_worker: RunWorker
) -> None:
    tasks = [await _submit(backend, receiver, delay=60) for _ in range(5)]
    for task in tasks:
        await backend.tasks.cancel_waiting(TaskId(task.id), now=utc_now(), expire_at=None)
    seers = [Callbacks(backend.mongo, backend.queue, backend.types) for _ in range(4)]
    await asyncio.gather(*(seer.follow(TaskId(task.id)) for seer in seers for task in tasks))
    async with run_worker():
        for task in tasks:
            await _until(backend, task, "delivered")
        await asyncio.gather(*(seer.catch_up() for seer in seers))
    assert len(receiver.messages) == len(set(receiver.ids)) == 5
    assert await _deliverers(backend) == 5


async def test_who_notes_late_does_not_undo_what_came_of_it(
    backend: Backend, receiver: Receiver, run_worker: RunWorker
) -> None:
    """It handed over what another had handed over before, and was slow to note it: the callback stays delivered."""
    task = await _submit(backend, receiver, delay=60)
    await backend.tasks.cancel_waiting(TaskId(task.id), now=utc_now(), expire_at=None)

    async def another_is_faster() -> None:
        faults.disarm_all()
        async with run_worker():
            await Callbacks(backend.mongo, backend.queue, backend.types).catch_up()
            await _until(backend, task, "delivered")

    faults.arm(FaultPoint.AFTER_CALLBACK, another_is_faster)
    await backend.callbacks.follow(TaskId(task.id))
    done = await get_task(backend, TaskId(task.id))
    assert done.callback is not None
    assert done.callback.state == "delivered"
    assert len(receiver.messages) == 1


async def test_a_task_without_a_callback_costs_nothing(backend: Backend) -> None:
    task = await submit_one(backend, "echo")
    document = await backend.tasks.get(TaskId(task.id))
    assert document is not None
    assert "callback" not in document
    claim, _ = await backend.queue.claim("default", limit=1, lease=timedelta(seconds=5))
    store = AttemptStore(
        backend.mongo, worker=WorkerId("w"), lease=timedelta(seconds=5), max_losses=1, retention=None, types=["echo"]
    )
    [attempt] = (await store.begin(claim, now=utc_now())).attempts
    assert not attempt.followed_ends, "so nobody looks for a callback when it settles"
    indexes = await backend.mongo.collection("tasks").index_information()
    assert indexes["callback_owed"]["partialFilterExpression"] == {"callback.owed": True}
