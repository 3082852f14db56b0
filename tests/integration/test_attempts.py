"""What a handler does, and what the task's record says afterwards."""

from datetime import timedelta

import pytest

from app.core.clock import utc_now
from app.core.ids import TaskId
from app.models import BackoffModel
from app.services.backend import Backend
from app.services.change import retry_task
from app.services.read import get_task
from app.worker import WorkerParts
from tests.integration.conftest import RunWorker, ended, submit_one, too_late
from tests.waiting import wait_until


async def test_a_task_is_completed(backend: Backend, worker: WorkerParts) -> None:
    task = await submit_one(backend, "echo", {"hello": "world"})
    assert task.status == "pending"

    done = await ended(backend, task)

    assert done.status == "completed"
    assert done.result == {"hello": "world"}
    assert done.attempt == 1
    assert done.error is None
    assert done.lease is None
    assert done.expire_at is not None
    [attempt] = done.history
    assert (attempt.attempt, attempt.round, attempt.outcome) == (1, 1, "completed")
    assert attempt.worker == worker.id
    assert done.created_at <= attempt.started_at <= attempt.finished_at


async def test_a_model_is_a_payload_and_a_result(backend: Backend, worker: WorkerParts) -> None:
    done = await ended(backend, await submit_one(backend, "test.numbers", {"low": 3}))
    assert done.result == {"low": 3, "high": 10}
    assert done.payload == {"low": 3}, "the payload stays as it was submitted"


async def test_an_exception_is_tried_again_until_the_attempts_are_used_up(
    backend: Backend, worker: WorkerParts
) -> None:
    done = await ended(backend, await submit_one(backend, "test.raise"))
    assert done.status == "failed"
    assert done.error is not None
    assert done.error.code == "handler_error"
    assert done.error.message == "ValueError: boom"
    assert "in raises" in (done.error.traceback or "")
    assert [(entry.attempt, entry.outcome) for entry in done.history] == [(1, "failed"), (2, "failed")]


async def test_success_after_failures_has_no_error(backend: Backend, worker: WorkerParts) -> None:
    done = await ended(backend, await submit_one(backend, "test.flaky", {"succeed_on": 3}))
    assert (done.status, done.result, done.attempt, done.error) == ("completed", 3, 3, None)
    assert [entry.outcome for entry in done.history] == ["failed", "failed", "completed"]


async def test_backoff_delays_the_next_attempt(backend: Backend, worker: WorkerParts) -> None:
    task = await submit_one(
        backend,
        "test.flaky",
        {"succeed_on": 3},
        backoff=BackoffModel(base=0.4, max=10, factor=2, jitter=False),
    )
    done = await ended(backend, task)
    first, second, third = done.history
    assert second.started_at - first.finished_at >= timedelta(seconds=0.39)
    assert third.started_at - second.finished_at >= timedelta(seconds=0.79)


async def test_a_task_that_waits_for_its_next_attempt_is_retrying(backend: Backend, worker: WorkerParts) -> None:
    task = await submit_one(backend, "test.raise", backoff=BackoffModel(base=60, jitter=False))

    async def retrying() -> bool:
        return (await get_task(backend, TaskId(task.id))).status == "retrying"

    await wait_until(retrying)
    now = await get_task(backend, TaskId(task.id))
    assert timedelta(seconds=20) < now.run_at - utc_now() <= timedelta(seconds=60)
    assert now.error is not None
    assert now.lease is None


@pytest.mark.parametrize(("delay", "at_least"), [(None, 0.0), (0.5, 0.49)])
async def test_a_handler_asks_for_a_retry(
    backend: Backend, worker: WorkerParts, delay: float | None, at_least: float
) -> None:
    done = await ended(backend, await submit_one(backend, "test.retry", {"delay": delay}))
    assert (done.status, done.result) == ("completed", "done")
    first, second = done.history
    assert first.error is not None
    assert (first.error.code, first.error.message) == ("retry_requested", "not yet")
    assert second.started_at - first.finished_at >= timedelta(seconds=at_least)


async def test_a_retry_that_is_asked_for_in_the_last_attempt_fails(backend: Backend, worker: WorkerParts) -> None:
    done = await ended(backend, await submit_one(backend, "test.retry", {"delay": 0}, max_attempts=1))
    assert done.status == "failed"
    assert done.error is not None
    assert done.error.code == "retry_requested"


async def test_fail_ends_the_task_with_attempts_left(backend: Backend, worker: WorkerParts) -> None:
    done = await ended(backend, await submit_one(backend, "test.fail"))
    assert (done.status, done.attempt, done.max_attempts) == ("failed", 1, 5)
    assert done.error is not None
    assert (done.error.code, done.error.message) == ("permanent", "never")


async def test_a_timeout_is_a_failed_attempt(backend: Backend, worker: WorkerParts) -> None:
    task = await submit_one(
        backend, "sleep", {"seconds": 60}, timeout=0.2, max_attempts=2, backoff=BackoffModel(base=0, jitter=False)
    )
    done = await ended(backend, task)
    assert done.status == "failed"
    assert done.error is not None
    assert (done.error.code, done.error.message) == ("timed_out", "the handler ran longer than 0.2 s")
    assert [entry.outcome for entry in done.history] == ["timed_out", "timed_out"]


async def test_a_handler_that_returns_after_its_timeout_has_timed_out(backend: Backend, worker: WorkerParts) -> None:
    done = await ended(backend, await submit_one(backend, "test.stubborn", timeout=0.1))
    assert done.error is not None
    assert done.error.code == "timed_out"


async def test_a_handler_in_a_thread_times_out_and_is_told(backend: Backend, worker: WorkerParts) -> None:
    done = await ended(backend, await submit_one(backend, "test.thread_until_cancelled", timeout=0.2))
    assert done.error is not None
    assert done.error.code == "timed_out"


async def test_a_handler_that_is_not_a_coroutine_runs_in_a_thread(backend: Backend, worker: WorkerParts) -> None:
    done = await ended(backend, await submit_one(backend, "test.thread", {"x": 1}))
    assert done.result == {"x": 1}
    assert [line.message for line in done.log] == ["from a thread"]
    assert done.progress is not None
    assert done.progress.value == 1


async def test_a_result_that_is_not_json_fails_the_attempt(backend: Backend, worker: WorkerParts) -> None:
    done = await ended(backend, await submit_one(backend, "test.not_json"))
    assert done.error is not None
    assert done.error.code == "result_not_json"
    assert done.result is None


async def test_a_result_that_is_too_large_fails_the_attempt(backend: Backend, run_worker: RunWorker) -> None:
    async with run_worker(max_result_bytes=2000):
        fits = await submit_one(backend, "test.large", {"size": 1998})
        over = await submit_one(backend, "test.large", {"size": 1999})
        assert (await ended(backend, fits)).status == "completed"
        done = await ended(backend, over)
    assert done.error is not None
    assert done.error.code == "result_too_large"
    assert "2,001 bytes" in done.error.message
    assert done.result is None


async def test_a_payload_that_the_model_refuses_by_now_fails_for_good(backend: Backend, run_worker: RunWorker) -> None:
    task = await submit_one(backend, "test.numbers", {"low": 3})
    await backend.mongo.collection("tasks").update_one({"type": "test.numbers"}, {"$set": {"payload": {"low": -3}}})
    async with run_worker():
        done = await ended(backend, task)
    assert (done.status, done.attempt) == ("failed", 1)
    assert done.error is not None
    assert done.error.code == "invalid_payload"


async def test_a_handler_that_exits_fails_its_task_only(backend: Backend, worker: WorkerParts) -> None:
    done = await ended(backend, await submit_one(backend, "test.exit"))
    assert done.error is not None
    assert "SystemExit(3)" in done.error.message
    assert (await ended(backend, await submit_one(backend, "echo"))).status == "completed"


async def test_progress_and_log_are_readable_while_the_handler_runs(backend: Backend, worker: WorkerParts) -> None:
    task = await submit_one(backend, "test.report")

    async def reported() -> bool:
        return (await get_task(backend, TaskId(task.id))).progress is not None

    await wait_until(reported)
    now = await get_task(backend, TaskId(task.id))
    assert now.status == "running"
    assert now.progress is not None
    assert (now.progress.value, now.progress.message) == (0.5, "half way")
    assert [line.message for line in now.log] == ["line 0", "line 1", "line 2"]


async def test_delay_holds_a_task_back(backend: Backend, worker: WorkerParts) -> None:
    task = await submit_one(backend, "echo", delay=0.5)
    done = await ended(backend, task)
    assert done.history[0].started_at >= task.run_at


async def test_a_task_that_cannot_start_in_time_expires(backend: Backend, run_worker: RunWorker) -> None:
    task = await submit_one(backend, "echo", start_before=utc_now() + timedelta(minutes=1))
    await too_late(backend, task)
    async with run_worker():
        done = await ended(backend, task)
    assert (done.status, done.attempt) == ("failed", 0)
    assert done.error is not None
    assert done.error.code == "expired"


async def test_a_retry_by_a_client_starts_a_new_round_and_keeps_the_history(
    backend: Backend, worker: WorkerParts
) -> None:
    failed = await ended(backend, await submit_one(backend, "test.fail"))
    again = await retry_task(backend, TaskId(failed.id))
    assert (again.status, again.round, again.attempt, again.error, again.expire_at) == ("pending", 2, 0, None, None)
    done = await ended(backend, again)
    assert [(entry.round, entry.attempt) for entry in done.history] == [(1, 1), (2, 1)]


async def test_history_and_log_keep_the_newest(backend: Backend, worker: WorkerParts) -> None:
    task = await submit_one(
        backend, "test.flaky", {"succeed_on": 25}, max_attempts=30, backoff=BackoffModel(base=0, jitter=False)
    )
    done = await ended(backend, task)
    assert [entry.attempt for entry in done.history] == list(range(6, 26))
