"""A process is killed, hangs or fails at each fault point: every task ends once, and Redis keeps nothing."""

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from app.callback_models import CallbackRequest
from app.core.faults import FaultPoint
from app.core.ids import TaskId
from app.models import BackoffModel, Submission, Task
from app.queue import keys
from app.services.backend import Backend
from app.services.read import get_task
from app.services.submit import submit
from settings import Settings
from tests.callback_receiver import SECRET, receiving
from tests.faults import VARIABLE
from tests.integration.conftest import ended, submit_one
from tests.processes import started
from tests.servers import measured, running_web
from tests.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]

LEASE_S = 2.0
MODULES = "tests.sample_tasks,tests.faults"
AGAIN = BackoffModel(base=0.05, jitter=False)

IN_WORKER = [
    FaultPoint.AFTER_CLAIM,
    FaultPoint.AFTER_BEGIN,
    FaultPoint.BEFORE_SETTLE,
    FaultPoint.AFTER_SETTLE,
    FaultPoint.AFTER_FINISH,
]
IN_CALLBACK = [FaultPoint.BEFORE_CALLBACK, FaultPoint.AFTER_CALLBACK, FaultPoint.AFTER_HAND_OVER]
IN_SCHEDULER = [FaultPoint.AFTER_TAKE, FaultPoint.AFTER_SLOTS]  # in test_schedules.py
IN_WEB = [FaultPoint.AFTER_INSERT, FaultPoint.AFTER_DISPATCH]


def test_every_point_is_here() -> None:
    points = {*IN_WORKER, *IN_CALLBACK, *IN_SCHEDULER, *IN_WEB, FaultPoint.DURING_REBUILD}
    assert points == set(FaultPoint)


async def _redis_is_empty(backend: Backend) -> bool:
    return {key.decode() for key in await backend.queue.redis.keys("*")} <= {keys.EPOCH}


async def _mixed(backend: Backend) -> list[Task]:
    accepted = await submit(
        backend,
        [
            *(Submission(type="echo", max_attempts=1) for _ in range(5)),
            *(Submission(type="test.flaky", payload={"succeed_on": 2}, backoff=AGAIN) for _ in range(5)),
            *(Submission(type="test.fail") for _ in range(5)),
        ],
    )
    return [task for task in accepted if isinstance(task, Task)]


@pytest.mark.parametrize("action", ["crash", "hang", "raise"])
@pytest.mark.parametrize("point", IN_WORKER)
async def test_a_worker_at(
    backend: Backend,
    settings: Settings,
    tmp_path: Path,
    point: FaultPoint,
    action: str,
) -> None:
    """What it had is done by another; a lost attempt is told as lost, and what was recorded is not run again."""
    with started("worker", settings, tmp_path, lease_seconds=LEASE_S, task_modules=MODULES, **{VARIABLE: ""}) as other:
        await wait_until(lambda: other.logged("serves"), 20)
        fault = f"{point}={action}"
        changes = {"lease_seconds": LEASE_S, "task_modules": MODULES, VARIABLE: fault}
        with started("worker", settings, tmp_path, **changes) as victim:
            await wait_until(lambda: victim.logged("serves"), 20)
            other.send(signal.SIGSTOP)  # so that the victim gets something
            tasks = await _mixed(backend)
            await wait_until(lambda: victim.logged("fault at"), 20, "the fault was not reached")
            struck = time.monotonic()
            other.send(signal.SIGCONT)
            if action == "crash":
                assert await asyncio.to_thread(victim.wait) == -signal.SIGKILL
            for task in tasks:
                _assert_told(await ended(backend, task, timeout_s=40), point)
            measured(f"{fault}: all had ended {time.monotonic() - struck:.1f} s after")
            if action != "crash":
                assert victim.popen.poll() is None, "a fault does not end the process"
            await wait_until(lambda: _redis_is_empty(backend), 20, "something is left in Redis")


def _assert_told(done: Task, point: FaultPoint) -> None:
    outcomes = [entry.outcome.value for entry in done.history]
    lost = outcomes.count("lost")
    expected = {"echo": ["completed"], "test.flaky": ["failed", "completed"], "test.fail": ["failed"]}[done.type]
    if done.type == "test.flaky" and outcomes[0] == "lost":
        expected = ["completed"]  # its first attempt, the one that fails, was lost
    assert [outcome for outcome in outcomes if outcome != "lost"] == expected
    assert done.status == expected[-1]
    assert lost == done.losses <= 2
    if point not in {FaultPoint.AFTER_BEGIN, FaultPoint.BEFORE_SETTLE}:
        assert lost == 0, "nothing was under way, or all was recorded"


@pytest.mark.parametrize("action", ["crash", "raise"])
@pytest.mark.parametrize("point", IN_CALLBACK)
async def test_a_worker_that_owes_a_callback_at(
    backend: Backend, settings: Settings, tmp_path: Path, point: FaultPoint, action: str
) -> None:
    """The task has ended and its worker is gone: another sends the callback, and sends it once."""
    changes = {
        "lease_seconds": LEASE_S,
        "task_modules": MODULES,
        "callback_secrets": SECRET,
        "http_allow_private": True,
    }
    async with receiving() as receiver:
        callback = CallbackRequest(url=receiver.url)
        with started("worker", settings, tmp_path, **changes, **{VARIABLE: f"{point}={action}"}) as victim:
            await wait_until(lambda: victim.logged("serves"), 20)
            task = await submit_one(replace(backend, signs_callbacks=True), "echo", callback=callback)
            await wait_until(lambda: victim.logged("fault at"), 20, "the fault was not reached")
            struck = time.monotonic()
            if action == "crash":
                assert await asyncio.to_thread(victim.wait) == -signal.SIGKILL
            assert (await ended(backend, task)).status == "completed"
            with started("worker", settings, tmp_path, **changes, **{VARIABLE: ""}):
                await wait_until(lambda: receiver.messages, 40, "the callback did not come")
                measured(f"{point}={action}: the callback came {time.monotonic() - struck:.1f} s after")

                async def told() -> bool:
                    current = await get_task(backend, TaskId(task.id))
                    return current.callback is not None and current.callback.state == "delivered"

                await wait_until(told, 20)
                await wait_until(lambda: _redis_is_empty(backend), 20, "something is left in Redis")
        assert len(receiver.messages) == 1


@pytest.mark.parametrize("point", IN_WEB)
async def test_a_web_that_is_killed_at(backend: Backend, settings: Settings, tmp_path: Path, point: FaultPoint) -> None:
    """It had the duty to reconcile, too. The task runs within half a minute; the client may ask again meanwhile."""
    async with AsyncExitStack() as stack:
        changes = {"task_modules": MODULES, VARIABLE: f"{point}=crash"}
        victim = await stack.enter_async_context(running_web(settings, tmp_path, **changes))
        await wait_until(lambda: backend.queue.redis.exists(keys.EPOCH), 20, "it has not reconciled")
        worker = stack.enter_context(started("worker", settings, tmp_path))
        web = await stack.enter_async_context(running_web(settings, tmp_path))
        await wait_until(lambda: worker.logged("serves"), 20)
        with pytest.raises(aiohttp.ClientError):
            await victim.post()
        killed = time.monotonic()
        assert await asyncio.to_thread(victim.process.wait) == -signal.SIGKILL
        again = await web.accepted()
        tasks = backend.mongo.collection("tasks")

        async def all_ended() -> bool:
            return await tasks.count_documents({"status": "completed"}) == 2

        await wait_until(all_ended, 30, "the task did not run")
        measured(f"{point}=crash: the task had run {time.monotonic() - killed:.1f} s after")
        assert (await web.get(f"/tasks/{again}")).body["attempt"] == 1
        async for task in tasks.find():
            assert [entry["outcome"] for entry in task["history"]] == ["completed"]
        await wait_until(lambda: _redis_is_empty(backend), 20, "something is left in Redis")


async def test_a_reconciler_that_is_killed_in_a_rebuild(backend: Backend, settings: Settings, tmp_path: Path) -> None:
    """The next one makes the rebuild again, from the beginning."""
    tasks = [await submit_one(backend, "echo") for _ in range(20)]
    await backend.queue.redis.flushall()
    changes = {"task_modules": MODULES, VARIABLE: f"{FaultPoint.DURING_REBUILD}=crash", "queues": "elsewhere"}
    with started("worker", settings, tmp_path, **changes) as victim:
        assert await asyncio.to_thread(victim.wait) == -signal.SIGKILL
    assert not await backend.queue.redis.exists(keys.EPOCH), "the rebuild was not finished"
    killed = time.monotonic()
    await backend.queue.redis.delete(keys.queue("default"))
    with started("worker", settings, tmp_path):
        for task in tasks:
            assert (await ended(backend, task, timeout_s=30)).status == "completed"
        measured(f"during_rebuild=crash: all had ended {time.monotonic() - killed:.1f} s after")
        await wait_until(lambda: _redis_is_empty(backend), 20, "something is left in Redis")
