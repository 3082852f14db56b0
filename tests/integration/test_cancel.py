"""Cancels, at every moment of a task's life."""

from collections.abc import AsyncIterator

import pytest

from app.core.errors import TaskNotFound, WrongState
from app.core.ids import TaskId
from app.models import BackoffModel, Task
from app.queue import keys
from app.services.backend import Backend
from app.services.change import cancel_task, retry_task
from app.services.read import get_task
from app.telemetry.exposition import Exposition
from app.worker import WorkerParts
from tests.integration.conftest import RunWorker, ended, submit_one
from tests.sample_tasks import TOLD
from tests.scraping import Scrape
from tests.waiting import wait_until


async def _status(backend: Backend, task: Task, status: str) -> None:
    async def has_it() -> bool:
        return (await get_task(backend, TaskId(task.id))).status == status

    await wait_until(has_it, what=f"{task.type} is not {status}")


async def test_a_waiting_task_is_cancelled_at_once(backend: Backend) -> None:
    task = await submit_one(backend, "echo", delay=60)
    cancelled = await cancel_task(backend, TaskId(task.id))
    assert cancelled.status == "cancelled"
    assert cancelled.finished_at is not None
    assert cancelled.expire_at is not None
    assert await backend.queue.redis.zcard(keys.queue("default")) == 0


@pytest.fixture
async def deaf_worker(run_worker: RunWorker) -> AsyncIterator[WorkerParts]:
    """A worker that renews its leases, and so sees for itself what it was not told, four times an hour."""
    async with run_worker(lease_seconds=3600) as parts:
        yield parts


async def test_a_running_task_is_stopped_by_a_signal(backend: Backend, deaf_worker: WorkerParts) -> None:
    task = await submit_one(backend, "sleep", {"seconds": 60})
    await _status(backend, task, "running")
    asked = await cancel_task(backend, TaskId(task.id))
    assert asked.cancel_requested_at is not None
    done = await ended(backend, task)
    assert done.status == "cancelled"
    assert [entry.outcome for entry in done.history] == ["cancelled"]


async def test_a_handler_in_a_thread_is_told(backend: Backend, deaf_worker: WorkerParts) -> None:
    task = await submit_one(backend, "test.thread_until_cancelled", timeout=60)
    await _status(backend, task, "running")
    await cancel_task(backend, TaskId(task.id))
    assert (await ended(backend, task)).status == "cancelled"


async def test_a_lost_signal_only_delays_the_cancel(backend: Backend, worker: WorkerParts) -> None:
    task = await submit_one(backend, "sleep", {"seconds": 60})
    await _status(backend, task, "running")
    assert await backend.tasks.request_cancel(TaskId(task.id), now=task.created_at), "as if the signal never came"
    assert (await ended(backend, task)).status == "cancelled"


async def test_a_handler_that_finishes_although_cancelled_is_completed(backend: Backend, worker: WorkerParts) -> None:
    task = await submit_one(backend, "test.stubborn")
    await _status(backend, task, "running")
    await cancel_task(backend, TaskId(task.id))
    done = await ended(backend, task)
    assert (done.status, done.result) == ("completed", "finished anyway")


async def test_a_cancel_that_meets_a_failing_attempt_ends_the_task(backend: Backend, deaf_worker: WorkerParts) -> None:
    """The intent is seen when the attempt is settled, even if nobody told the worker."""
    task = await submit_one(backend, "test.fail_when_told", backoff=BackoffModel(base=60, jitter=False))
    await _status(backend, task, "running")
    assert await backend.tasks.request_cancel(TaskId(task.id), now=task.created_at)
    TOLD.add(task.id)
    done = await ended(backend, task)
    assert done.status == "cancelled"
    assert [entry.outcome for entry in done.history] == ["failed"]
    assert await backend.queue.redis.exists(keys.job(TaskId(done.id))) == 0, "nobody claims it again to find that out"
    scrape = Scrape(await Exposition(deaf_worker.metrics).text())
    assert scrape.value("arqive_attempts_total", outcome="failed") == 1
    assert scrape.value("arqive_tasks_finished_total", outcome="cancelled") == 1
    assert scrape.value("arqive_tasks_finished_total") == 1


async def test_a_retrying_task_is_cancelled_at_once(backend: Backend, worker: WorkerParts) -> None:
    task = await submit_one(backend, "test.raise", backoff=BackoffModel(base=60, jitter=False))
    await _status(backend, task, "retrying")
    assert (await cancel_task(backend, TaskId(task.id))).status == "cancelled"


async def test_a_task_that_has_ended_cannot_be_cancelled(backend: Backend, worker: WorkerParts) -> None:
    done = await ended(backend, await submit_one(backend, "echo"))
    with pytest.raises(WrongState, match="Cannot cancel a task that is completed"):
        await cancel_task(backend, TaskId(done.id))


async def test_a_cancelled_task_can_be_retried(backend: Backend, run_worker: RunWorker) -> None:
    task = await submit_one(backend, "echo", {"a": 1}, delay=60)
    await cancel_task(backend, TaskId(task.id))
    again = await retry_task(backend, TaskId(task.id))
    assert again.cancel_requested_at is None
    async with run_worker():
        assert (await ended(backend, again)).status == "completed"


async def test_what_is_not_there_cannot_be_cancelled(backend: Backend) -> None:
    with pytest.raises(TaskNotFound):
        await cancel_task(backend, TaskId("0" * 24))
