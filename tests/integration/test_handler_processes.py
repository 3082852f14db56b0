"""Handlers in processes: they survive nothing that they should not, and nothing survives them."""

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.core.attempt import Attempt
from app.core.backoff import Backoff
from app.core.clock import utc_now
from app.core.errors import TaskTypeError
from app.core.ids import LeaseToken, TaskId, WorkerId
from app.models import Submission, Task
from app.services import handler_child
from app.services.backend import Backend
from app.services.change import cancel_task
from app.services.context import Context
from app.services.execute import Execution, Executions
from app.services.handler_child import ProcessSettings
from app.services.handler_pools import HandlerPools, ProcessPool
from app.services.keep_leases import LeaseKeeper
from app.services.read import get_task
from app.services.submit import submit
from app.tasks.registry import Registry, load_task_modules
from app.telemetry.catalogue import Role
from app.telemetry.metrics import Metrics
from app.worker import WorkerParts
from settings import Settings, load_settings
from tests.integration.conftest import RunWorker, ended, submit_one
from tests.processes import started
from tests.waiting import wait_until


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return load_settings(**{**settings.model_dump(), "task_modules": ("tests.process_tasks",), "process_pool_size": 1})


def _children() -> set[int]:
    """The handler processes of this process."""
    return {each.pid for each in psutil.Process().children() if "app.handler_process" in " ".join(each.cmdline())}


def _gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def _logged(backend: Backend, task: Task) -> int:
    """The process id that the handler of a task has logged."""
    lines: list[str] = []

    async def there() -> bool:
        lines[:] = [line.message for line in (await get_task(backend, TaskId(task.id))).log]
        return bool(lines)

    await wait_until(there)
    return int(lines[0])


async def test_it_runs_elsewhere_and_is_heard_here(backend: Backend, worker: WorkerParts) -> None:
    assert _children() == set(), "nothing is started before it is needed"
    task = await submit_one(backend, "process.age", {"on": "1815-12-10"})
    done = await ended(backend, task)
    [child] = _children()
    assert done.result == {"pid": child, "year": 1815, "task_id": task.id, "attempt": 1}
    assert done.progress is not None
    assert (done.progress.value, done.progress.message) == (1, "done")
    assert [line.message for line in done.log] == [f"line {number}" for number in range(200, 300)]
    assert {line.attempt for line in done.log} == {1}
    again = await ended(backend, await submit_one(backend, "process.pid"))
    assert again.result == child, "it is used again"


BAD_ENDS = {
    "raise": ("handler_error", "Odd: odd"),
    "retry": ("retry_requested", "again"),
    "exit": ("handler_error", "RuntimeError: the handler raised SystemExit(3)"),
    "session": ("handler_error", "has no HTTP session"),
    "object": ("result_not_json", "not JSON"),
    "large": ("result_too_large", "2,000,002 bytes"),
    "leave": ("crashed", "exited with code 0 before the handler returned"),
    "abort": ("crashed", "was ended by SIGABRT"),
    "segfault": ("crashed", "was ended by SIGSEGV"),
}


async def test_each_way_to_end_badly_is_told_and_tried_again(backend: Backend, run_worker: RunWorker) -> None:
    async with run_worker(process_pool_size=3):
        tasks = {way: await submit_one(backend, "process.end", {"way": way}) for way in BAD_ENDS}
        for way, (code, message) in BAD_ENDS.items():
            done = await ended(backend, tasks[way])
            error = done.history[0].error
            assert error is not None
            assert (error.code, done.status, done.attempt, done.losses) == (code, "completed", 2, 0)
            assert message in error.message
            if way == "raise":
                assert error.traceback is not None
                assert 'raise Odd("odd"' in error.traceback
            if code == "crashed":
                assert f"pid {done.result}" != done.log[0].message, "it runs in another process"
        done = await ended(backend, await submit_one(backend, "process.end", {"way": "fail"}))
        assert done.error is not None
        assert (done.status, done.attempt, done.error.code, done.error.message) == ("failed", 1, "permanent", "never")


async def test_a_timeout_kills(backend: Backend, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that sleeps, one that never gives up the interpreter's lock, one that has started a program."""
    monkeypatch.setattr(handler_child, "STOP_GRACE_S", 0.1)
    async with run_worker(process_pool_size=3):
        kinds = ("process.sleep", "process.spin", "process.parent")
        tasks = [await submit_one(backend, kind, timeout=3) for kind in kinds]
        pids = [await _logged(backend, task) for task in tasks]
        assert not any(_gone(pid) for pid in pids)
        for task in tasks:
            done = await ended(backend, task)
            assert (done.status, done.history[0].outcome) == ("failed", "timed_out")
        await wait_until(lambda: all(_gone(pid) for pid in pids), what="one still runs")


@pytest.mark.usefixtures("worker")
async def test_a_cancel_kills_unless_the_handler_looks(backend: Backend) -> None:
    polite = await submit_one(backend, "process.polite")
    pid = await _logged(backend, polite)
    await cancel_task(backend, TaskId(polite.id))
    assert (await ended(backend, polite)).status == "cancelled"
    deaf = await submit_one(backend, "process.sleep")
    assert await _logged(backend, deaf) == pid, "it was left alone"
    await cancel_task(backend, TaskId(deaf.id))
    assert (await ended(backend, deaf)).status == "cancelled"
    await wait_until(lambda: _gone(pid), what="it still runs")


async def test_a_shutdown_kills_and_gives_back(backend: Backend, run_worker: RunWorker) -> None:
    async with run_worker():
        task = await submit_one(backend, "process.sleep")
        pid = await _logged(backend, task)
    await wait_until(lambda: _gone(pid), what="it still runs")
    assert _children() == set()
    after = await get_task(backend, TaskId(task.id))
    assert (after.status, after.attempt) == ("pending", 0)


async def test_nothing_outlives_a_killed_worker(backend: Backend, settings: Settings, tmp_path: Path) -> None:
    with started("worker", settings, tmp_path, process_pool_size=2) as worker:
        tasks = [await submit_one(backend, kind) for kind in ("process.sleep", "process.spin")]
        pids = [await _logged(backend, task) for task in tasks]
        worker.send(signal.SIGTERM)  # as service managers do it, to the whole group
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        await wait_until(lambda: worker.logged("Stopping"))
        assert not any(_gone(pid) for pid in pids), "the grace is theirs too"
        worker.send(signal.SIGKILL)
        await wait_until(lambda: all(_gone(pid) for pid in pids), what="an orphan runs on")
        await asyncio.to_thread(worker.wait)
    await backend.mongo.collection("tasks").delete_many({})


@pytest.mark.usefixtures("worker")
async def test_waiting_for_a_process_is_not_running(backend: Backend) -> None:
    """Three that need most of their timeout, for one process: the last has its time, too."""
    payload = {"seconds": 1.5}
    tasks = await submit(backend, [Submission(type="process.sleep", payload=payload, timeout=4) for _ in range(3)])
    done = [await ended(backend, task) for task in tasks if isinstance(task, Task)]
    assert [(task.status, task.attempt) for task in done] == [("completed", 1)] * 3


@pytest.mark.usefixtures("worker")
async def test_a_cancel_reaches_who_waits_for_a_process(backend: Backend) -> None:
    busy = await submit_one(backend, "process.sleep")
    await _logged(backend, busy)
    waiting = await submit_one(backend, "process.sleep")

    async def runs() -> bool:
        return (await get_task(backend, TaskId(waiting.id))).status == "running"

    await wait_until(runs)
    await cancel_task(backend, TaskId(waiting.id))
    assert (await ended(backend, waiting)).log == []
    await cancel_task(backend, TaskId(busy.id))


@pytest.mark.usefixtures("worker")
async def test_a_process_that_cannot_start_fails_the_attempt(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_child, "_PROGRAM", "import sys; sys.exit(7)")
    done = await ended(backend, await submit_one(backend, "process.sleep"))
    assert done.error is not None
    assert (done.error.code, done.status) == ("crashed", "failed")
    assert "code 7" in done.error.message


async def test_a_process_that_hangs_at_its_start_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_child, "_PROGRAM", "import time; time.sleep(3600)")
    monkeypatch.setattr(handler_child, "START_PATIENCE_S", 0.2)
    pool = ProcessPool(1, ProcessSettings())
    with pytest.raises(handler_child.Crashed, match="did not start"):
        await pool.run({}, _context(), lambda: pytest.fail("it has no turn yet"))
    await pool.close()
    assert _children() == set()


async def test_a_process_that_died_while_idle_is_replaced() -> None:
    pool = ProcessPool(1, ProcessSettings(modules=("tests.process_tasks",)))
    first = await pool.run({}, _context(), lambda: None)
    os.kill(first, signal.SIGKILL)
    await wait_until(lambda: pool._idle[0].process.returncode is not None)
    second = await pool.run({}, _context(), lambda: None)
    assert second != first
    await pool.close()


async def test_a_process_makes_room_after_its_last_task(backend: Backend, run_worker: RunWorker) -> None:
    async with run_worker(process_max_tasks=2):
        done = [await ended(backend, await submit_one(backend, "process.pid")) for _ in range(5)]
        pids = [task.result for task in done]
        assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]
        assert {task.attempt for task in done} == {1}
        await wait_until(lambda: _children() == {pids[4]}, 5, "one that was replaced is still there")


async def test_a_type_that_is_unknown_there_fails() -> None:
    pool = ProcessPool(1, ProcessSettings())
    with pytest.raises(Exception, match="not registered by importing TASK_MODULES"):
        await pool.run({}, _context(), lambda: None)
    await pool.close()


def test_the_lease_of_what_waits_is_kept_however_long() -> None:
    """Past the timeout of what runs a lease is let go, since it hangs; what waits has not begun."""
    load_task_modules(["tests.process_tasks"])
    registry = load_task_modules([])
    attempt = _attempt(started=utc_now() - timedelta(hours=1))
    renewed: list[Any] = []

    class Store:
        def renew(self, tokens: dict[TaskId, LeaseToken], **_: Any) -> Any:
            renewed.extend(tokens)
            return type("Renewal", (), {"lost": set(), "cancel": set()})()

    class Queue:
        def renew(self, *_: Any, **__: Any) -> None:
            return None

    executions = Executions()
    pools = HandlerPools(ThreadPoolExecutor(1), ProcessPool(1, ProcessSettings()))
    keeper = LeaseKeeper(
        Store(),  # type: ignore[arg-type]
        Queue(),  # type: ignore[arg-type]
        executions,
        lambda *_: None,
        lease=timedelta(seconds=1),
        metrics=Metrics(Role.WORKER),
    )
    for name, expected in (("echo", []), ("process.sleep", [attempt.task_id])):
        execution = Execution(attempt, registry[name], _context(), pools=pools)
        executions.add(execution)
        keeper.renew()
        executions.remove(execution)
        assert renewed == expected


def test_a_coroutine_cannot_run_in_a_process() -> None:
    async def handler(_ctx: Context, _payload: dict[str, Any]) -> None: ...

    with pytest.raises(TaskTypeError, match="process=True"):
        Registry().task("x", process=True)(handler)


def _context() -> Context:
    return Context(task_id=TaskId("a" * 24), attempt=1, type="process.pid", queue="default", http=None)  # type: ignore[arg-type]


def _attempt(started: Any) -> Attempt:
    return Attempt(
        task_id=TaskId("a" * 24), token=LeaseToken("t"), worker=WorkerId("w"), type="process.sleep", queue="default",
        priority=0, payload={}, round=1, number=1, losses=0, max_attempts=1, timeout=timedelta(seconds=1),
        backoff=Backoff(), started_at=started, run_at=started, created_at=started, cancel_requested=False,
    )  # fmt: skip
