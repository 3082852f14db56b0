"""What a worker counts of what really happened, and where it tells it."""

from datetime import timedelta

import aiohttp

from app.core.clock import utc_now
from app.core.ids import TaskId, WorkerId
from app.embedded.servers import free_port
from app.services.backend import Backend
from app.services.change import cancel_task
from app.services.read import get_task
from app.services.reconcile import Reconciler
from app.store.attempts import AttemptStore
from app.store.begun import Begun, Ended
from app.telemetry.catalogue import Role
from app.telemetry.exposition import Exposition
from app.telemetry.metrics import Metrics
from app.worker import WorkerParts
from tests.integration.conftest import RunWorker, ended, submit_one, too_late
from tests.scraping import Scrape
from tests.waiting import wait_until


async def scrape(worker: WorkerParts) -> Scrape:
    return Scrape(await Exposition(worker.metrics).text())


async def test_counters_move_by_what_happened(backend: Backend, worker: WorkerParts) -> None:
    tasks = [
        await submit_one(backend, "echo"),
        await submit_one(backend, "echo", queue="default"),
        await submit_one(backend, "test.flaky", {"succeed_on": 3}),
        await submit_one(backend, "test.raise"),
        await submit_one(backend, "test.fail"),
        await submit_one(backend, "sleep", {"seconds": 60}, timeout=0.2, max_attempts=1),
    ]
    for task in tasks:
        await ended(backend, task)
    stopped = await submit_one(backend, "sleep", {"seconds": 60})
    await wait_until(lambda: worker.loop.running == 1)
    busy = await scrape(worker)
    assert (busy.value("arqive_worker_slots_used"), busy.value("arqive_worker_slots")) == (1, 100)
    await cancel_task(backend, TaskId(stopped.id))
    await ended(backend, stopped)
    await wait_until(lambda: worker.loop.running == 0, what="the last is counted once it is recorded")

    told = await scrape(worker)
    attempts = {
        (sample.labels["type"], sample.labels["outcome"]): sample.value
        for sample in told.samples
        if sample.name == "arqive_attempts_total"
    }
    assert attempts == {
        ("echo", "completed"): 2,
        ("test.flaky", "failed"): 2,
        ("test.flaky", "completed"): 1,
        ("test.raise", "failed"): 2,
        ("test.fail", "failed"): 1,
        ("sleep", "timed_out"): 1,
        ("sleep", "cancelled"): 1,
    }
    finished = {
        (sample.labels["type"], sample.labels["outcome"]): sample.value
        for sample in told.samples
        if sample.name == "arqive_tasks_finished_total"
    }
    assert finished == {
        ("echo", "completed"): 2,
        ("test.flaky", "completed"): 1,
        ("test.raise", "failed"): 1,
        ("test.fail", "failed"): 1,
        ("sleep", "timed_out"): 1,
        ("sleep", "cancelled"): 1,
    }
    assert told.value("arqive_task_wait_seconds_count", queue="default") == 10
    assert told.value("arqive_task_run_seconds_count") == 10
    assert told.value("arqive_task_total_seconds_count") == 7
    assert 0.2 <= told.value("arqive_task_total_seconds_sum", type="sleep") < 300
    assert told.value("arqive_batch_size_sum", operation="claim") == 10
    assert told.value("arqive_batch_size_sum", operation="begin") == 10
    assert told.value("arqive_batch_size_sum", operation="settle") == 10
    assert told.value("arqive_outcomes_late_total") == 0


async def test_leases_are_counted_as_they_are_renewed(backend: Backend, run_worker: RunWorker) -> None:
    async with run_worker(lease_seconds=3) as worker:
        await submit_one(backend, "sleep", {"seconds": 60})

        async def renewed() -> bool:
            return (await scrape(worker)).value("arqive_leases_renewed_total") >= 2

        await wait_until(renewed)
        assert (await scrape(worker)).value("arqive_leases_lost_total") == 0


async def _begin(backend: Backend, worker: str, task: str) -> Begun:
    """Begin the task once Redis offers it."""
    lease = timedelta(seconds=0.2)
    store = AttemptStore(
        backend.mongo, worker=WorkerId(worker), lease=lease, max_losses=2, retention=None, types=["echo"]
    )
    found: list[Begun] = []

    async def claimed() -> bool:
        claim, _ = await backend.queue.claim("default", limit=10, lease=lease)
        if claim.task_ids:
            assert claim.task_ids == (task,)
            found.append(await store.begin(claim, now=utc_now()))
        return bool(found) and not found[-1].waiting

    await wait_until(claimed)
    return found[-1]


async def test_a_begin_tells_what_it_has_taken_over_and_ended(backend: Backend) -> None:
    lost = await submit_one(backend, "echo")
    [attempt] = (await _begin(backend, "first", lost.id)).attempts
    assert not attempt.taken_over
    [attempt] = (await _begin(backend, "second", lost.id)).attempts
    assert attempt.taken_over
    assert (await _begin(backend, "third", lost.id)).ended == [Ended("echo", "lost", lost_attempt=True)]

    await backend.queue.redis.flushall()
    stopped = await submit_one(backend, "echo")
    await _begin(backend, "first", stopped.id)
    await cancel_task(backend, TaskId(stopped.id))
    assert (await _begin(backend, "second", stopped.id)).ended == [Ended("echo", "cancelled", lost_attempt=True)]

    await backend.queue.redis.flushall()
    late = await submit_one(backend, "echo", start_before=utc_now() + timedelta(minutes=1))
    await too_late(backend, late)
    assert (await _begin(backend, "first", late.id)).ended == [Ended("echo", "expired", lost_attempt=False)]
    assert (await _begin(backend, "first", await _queued_again(backend, late.id))).ended == [], "it was over before"
    await backend.queue.redis.flushall()


async def _queued_again(backend: Backend, task_id: str) -> str:
    document = await backend.tasks.get(TaskId(task_id))
    assert document is not None
    await backend.acceptor.dispatch([document])
    return task_id


async def test_a_lost_worker_is_seen_in_the_counters_of_the_next(backend: Backend, run_worker: RunWorker) -> None:
    task = await submit_one(backend, "echo")
    await _begin(backend, "first", task.id)
    async with run_worker(max_losses=1) as worker:
        await ended(backend, task)
    told = await scrape(worker)
    assert told.value("arqive_tasks_finished_total", type="echo", outcome="lost") == 1
    assert told.value("arqive_attempts_total", type="echo", outcome="lost") == 1
    assert told.value("arqive_leases_taken_over_total", queue="default") == 1


async def test_the_reconciler_counts_its_passes_and_what_it_fails(backend: Backend) -> None:
    metrics = Metrics(Role.WEB)
    reconciler = Reconciler(
        backend.mongo, backend.queue, backend.callbacks, holder="one", retention=None, metrics=metrics
    )
    soon = utc_now() + timedelta(hours=1)
    late = await submit_one(backend, "echo", start_before=soon, queue="mail")
    await submit_one(backend, "echo", start_before=soon, queue="mail")
    await reconciler.run_once()
    await too_late(backend, late)
    await reconciler.run_once()
    assert (await get_task(backend, TaskId(late.id))).status == "failed"
    told = Scrape(await Exposition(metrics).text())
    assert told.value("arqive_tasks_finished_total") == 1
    assert told.value("arqive_tasks_finished_total", type="echo", queue="mail", outcome="expired") == 1
    assert told.value("arqive_reconcile_passes_total", kind="rebuild") == 1
    assert told.value("arqive_reconcile_passes_total", kind="window") == 1
    assert told.value("arqive_reconcile_offered_total") >= 2


async def test_a_worker_answers_scrapes_beside_its_probes(backend: Backend, run_worker: RunWorker) -> None:
    port = free_port()
    async with run_worker(health_port=port, host="127.0.0.1") as worker:
        await ended(backend, await submit_one(backend, "echo"))
        await wait_until(lambda: worker.loop.jobs_complete == 1)
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/metrics") as response,
        ):
            assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            told = Scrape(await response.read())
    assert told.value("arqive_attempts_total", type="echo", outcome="completed") == 1
    assert told.labels("arqive_info", "role") == {"worker"}
