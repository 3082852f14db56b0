"""The safety lines, each with a test that fails when it is removed; quick enough to run with every change."""

import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import bson
import pymongo
import pytest
from pymongo.errors import BulkWriteError

from app.core import faults
from app.core.clock import utc_now
from app.core.errors import StoreUnavailable
from app.core.faults import FaultPoint
from app.core.ids import LeaseToken, TaskId
from app.models import Submission, Task
from app.queue import keys
from app.queue.connect import open_redis
from app.queue.task_queue import TaskQueue
from app.services.backend import Backend
from app.services.callbacks import Callbacks
from app.services.change import cancel_task
from app.services.execute import Interruption
from app.services.read import get_task
from app.services.reconcile import DUTY, Reconciler
from app.services.submit import new_document
from app.services.supervise import repeat_in_thread
from app.store.duties import DutyStore
from app.store.mongo import open_mongo, store_errors
from settings import Settings
from tests.integration.conftest import RunWorker, ended, submit_one
from tests.processes import START_S, started
from tests.servers import measured, proxy_to, running_web
from tests.waiting import wait_until


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With the task types of tests/faults.py as well."""
    return settings.model_copy(update={"task_modules": ("tests.sample_tasks", "tests.faults")})


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    faults.disarm_all()


def _reconciler(backend: Backend, holder: str = "one") -> Reconciler:
    return Reconciler(backend.mongo, backend.queue, backend.callbacks, holder=holder, retention=None)


async def test_a_zombie_cannot_end_the_attempt_of_another(backend: Backend, settings: Settings, tmp_path: Path) -> None:
    """It thaws with an outcome while another worker makes the next attempt. Fails without the token in `fence`."""
    with started("worker", settings, tmp_path, lease_seconds=2) as zombie:
        go_on = tmp_path / "go on"
        task = await submit_one(backend, "fault.slower", {"seconds": 2, "until": str(go_on)}, max_attempts=1)

        async def begun_by(attempt: int) -> bool:
            seen = await get_task(backend, TaskId(task.id))
            return (seen.status, seen.attempt) == ("running", attempt) and seen.progress is not None

        await wait_until(lambda: begun_by(1), START_S)
        zombie.send(signal.SIGSTOP)
        with started("worker", settings, tmp_path, lease_seconds=2) as other:
            await wait_until(lambda: begun_by(2), START_S)
            zombie.send(signal.SIGCONT)
            await wait_until(lambda: zombie.logged("came too late") or zombie.logged("Lost the lease"))
            assert await begun_by(2), "the other worker still has it"
            go_on.touch()
            done = await ended(backend, task)
            assert done.result == other.pid
    assert [entry.outcome for entry in done.history] == ["lost", "completed"]


async def test_an_outcome_is_recorded_before_redis_forgets(backend: Backend, run_worker: RunWorker) -> None:
    """Fails when a settle tells Redis first (app/services/settle.py)."""
    seen: list[tuple[str, int]] = []
    async with run_worker(lease_seconds=30):
        task = await submit_one(backend, "echo")

        async def look() -> None:
            recorded = await get_task(backend, TaskId(task.id))
            seen.append((recorded.status, await backend.queue.redis.exists(keys.in_progress(TaskId(task.id)))))

        faults.arm(FaultPoint.BEFORE_SETTLE, look)
        faults.arm(FaultPoint.AFTER_SETTLE, look)
        await ended(backend, task)
        await wait_until(lambda: len(seen) == 2)
    assert seen == [("running", 1), ("completed", 1)]


async def test_a_lease_lives_as_long_as_its_handler(backend: Backend, run_worker: RunWorker) -> None:
    """In MongoDB, whose word counts, and in Redis, so that nobody else is offered the task.

    Fails without either renewal (app/services/keep_leases.py).
    """
    lapsed: list[str] = []
    async with run_worker(lease_seconds=2):
        task = await submit_one(backend, "sleep", {"seconds": 4})
        tasks = backend.mongo.collection("tasks")

        async def is_over() -> bool:
            held = await backend.queue.redis.exists(keys.in_progress(TaskId(task.id)))
            now, document = utc_now(), await tasks.find_one() or {}
            if document["status"] == "running":
                leases = {"MongoDB": document["lease"]["until"] > now, "Redis": held}
                lapsed.extend(where for where, lives in leases.items() if not lives)
            return bool(document["status"] == "completed")

        await wait_until(lambda: _runs(backend, task))
        await wait_until(is_over)
    assert lapsed == []


async def _runs(backend: Backend, task: Task) -> bool:
    return (await get_task(backend, TaskId(task.id))).status == "running"


async def test_every_write_is_acknowledged_by_a_journaled_majority(
    settings: Settings, tmp_path: Path, mongo_client: "pymongo.MongoClient[Any]"
) -> None:
    """As it goes over the wire, from web, worker and the thread that renews.

    Fails without the write concern in either of the two clients of app/store/mongo.py.
    """
    host, port = mongo_client.address or ("", 0)
    assert host in {"127.0.0.1", "localhost"}
    commands: list[dict[str, Any]] = []

    def note(piece: bytes, to_server: bool) -> bool:
        if to_server:
            commands.extend(_commands(piece))
        return True

    async with proxy_to(port) as proxy:
        proxy.judge = note
        url = f"mongodb://127.0.0.1:{proxy.port}"
        with started("worker", settings, tmp_path, mongo_url=url, lease_seconds=1):
            async with running_web(settings, tmp_path, mongo_url=url) as web:
                slow = await web.accepted(type="sleep", payload={"seconds": 1})
                deferred = await web.accepted(delay=60)
                for verb in ("cancel", "retry"):  # after which it runs at once
                    assert (await web.call("POST", f"/tasks/{deferred}/{verb}")).status == 200
                await web.until_ended(slow, START_S)
                async with web.session.delete(f"{web.url}/tasks/{slow}") as response:
                    assert response.status == 204
    writes = [command for command in commands if next(iter(command)) in {"insert", "update", "delete", "findAndModify"}]
    assert {next(iter(command)) for command in writes} >= {"insert", "update", "delete"}
    assert any(b"lease.until" in _bytes_of(command) for command in writes), "a renewal is among them"
    for command in writes:
        assert command["writeConcern"] == {"w": "majority", "j": True}, command


def _commands(piece: bytes) -> Iterator[dict[str, Any]]:
    """The commands in a piece of MongoDB's wire protocol: OP_MSG, 21 bytes and then the command as BSON."""
    while len(piece) > 26:
        length, kind = int.from_bytes(piece[:4], "little"), int.from_bytes(piece[12:16], "little")
        if kind == 2013 and piece[20] == 0 and length <= len(piece):
            size = int.from_bytes(piece[21:25], "little")
            command = bson.decode(piece[21 : 21 + size])
            yield {**command, "rest": piece[21 + size : length]}
        piece = piece[length:]


def _bytes_of(command: dict[str, Any]) -> bytes:
    return bytes(command["rest"]) + bson.encode({key: value for key, value in command.items() if key != "rest"})


async def test_redis_that_is_wiped_during_a_rebuild_is_told_again(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the first half would wait for ever. Fails when the end of a rebuild does not look for its mark."""
    monkeypatch.setattr("app.store.unfinished.BATCH", 5)
    tasks = [await submit_one(backend, "echo", delay=60) for _ in range(10)]
    await backend.queue.redis.flushall()
    left = [backend.queue.redis.flushall]

    async def wipe_once() -> None:
        if left:
            await left.pop()()

    faults.arm(FaultPoint.DURING_REBUILD, wipe_once)
    reconciler = _reconciler(backend)
    await reconciler.run_once()
    assert await backend.queue.redis.zcard(keys.queue("default")) == 5, "it was wiped after the first page"
    await reconciler.run_once()
    assert await backend.queue.redis.zcard(keys.queue("default")) == len(tasks)


async def test_who_takes_the_duty_over_goes_on_from_there(backend: Backend) -> None:
    """Nobody reconciled for ten minutes, and in that time a task was kept but not queued."""
    await _reconciler(backend).run_once()
    ago = utc_now() - timedelta(minutes=10)
    await DutyStore(backend.mongo).take(DUTY, "one", now=ago, until=ago + timedelta(seconds=1), done_until=ago)
    unqueued = new_document(Submission(type="echo"), backend.types, ago + timedelta(minutes=1))
    await backend.tasks.insert([unqueued])
    assert await backend.queue.redis.zcard(keys.queue("default")) == 0
    done = await _reconciler(backend, "two").run_once()
    assert done is not None
    assert (done.full, done.offered) == (False, 1)
    assert await backend.queue.redis.zscore(keys.queue("default"), str(unqueued["_id"])) is not None


async def test_a_late_renewal_does_not_stop_a_later_attempt(backend: Backend, run_worker: RunWorker) -> None:
    """The thread learned that one lease was lost while this worker had begun the next."""
    async with run_worker() as worker:
        task = await submit_one(backend, "sleep", {"seconds": 2})
        executions = worker.runner.executions
        await wait_until(lambda: len(executions) == 1)
        [execution] = executions.all()
        earlier = replace(execution.attempt, token=LeaseToken("another"))
        executions.interrupt_attempt(earlier, Interruption.LEASE_LOST)
        assert not execution.context.cancelled
        assert (await ended(backend, task)).status == "completed"


def test_the_thread_that_renews_survives_what_nobody_foresaw() -> None:
    stop, passes = threading.Event(), []

    def renew() -> None:
        passes.append(1)
        if len(passes) == 3:
            stop.set()
        raise RuntimeError("nobody foresaw this")

    repeat_in_thread("renewing", renew, stop, every_s=0.01)
    assert len(passes) == 3


def test_a_step_down_in_a_batch_is_not_a_refusal() -> None:
    """An outcome that meets a primary on its way out is tried again, and does not fail its task."""
    with pytest.raises(StoreUnavailable), store_errors():
        raise BulkWriteError({"writeErrors": [{"index": 0, "code": 11600, "errmsg": "interrupted"}]})


@pytest.mark.parametrize(("days", "kept"), [(7.0, timedelta(days=7)), (0.5, timedelta(hours=12)), (0, None)])
async def test_retention(backend: Backend, run_worker: RunWorker, days: float, kept: timedelta | None) -> None:
    """Whoever ends a task says when it expires; 0 keeps it for ever. Redis keeps nothing of it."""
    async with run_worker(retention_days=days):
        done = [await ended(backend, await submit_one(backend, name)) for name in ("echo", "test.fail")]
        stopped = await submit_one(backend, "test.thread_until_cancelled", timeout=30)
        await wait_until(lambda: _runs(backend, stopped))
        await cancel_task(backend, TaskId(stopped.id))
        done.append(await ended(backend, stopped))
        await wait_until(lambda: _knows_only_the_epoch(backend))
    assert [task.status for task in done] == ["completed", "failed", "cancelled"]
    for task in done:
        assert task.finished_at is not None
        assert task.expire_at == (None if kept is None else task.finished_at + kept)
    indexes = await backend.mongo.collection("tasks").index_information()
    assert (indexes["expired"]["key"], indexes["expired"]["expireAfterSeconds"]) == ([("expire_at", 1)], 0)


async def _knows_only_the_epoch(backend: Backend) -> bool:
    return {key.decode() for key in await backend.queue.redis.keys("*")} <= {keys.EPOCH}


async def test_watching_costs_next_to_nothing(settings: Settings, backend: Backend) -> None:
    """Messages to both servers for one pass that finds nothing, of which there are twelve a minute."""
    sent = {"mongo": 0, "redis": 0}
    mongo_port = int(settings.mongo_url.get_secret_value().rsplit(":", 1)[1].split("/")[0])
    redis_port = int(settings.redis_url.get_secret_value().rsplit(":", 1)[1].split("/")[0])

    def count_mongo(piece: bytes, to_server: bool) -> bool:
        sent["mongo"] += to_server and b"hello" not in piece and b"endSessions" not in piece
        return True

    def count_redis(piece: bytes, to_server: bool) -> bool:
        sent["redis"] += piece.count(b"\r\n*") + 1 if to_server else 0
        return True

    async with proxy_to(mongo_port) as mongo_proxy, proxy_to(redis_port) as redis_proxy:
        mongo_proxy.judge, redis_proxy.judge = count_mongo, count_redis
        async with (
            open_mongo(f"mongodb://127.0.0.1:{mongo_proxy.port}", settings.mongo_database) as mongo,
            open_redis(f"redis://127.0.0.1:{redis_proxy.port}/0") as redis,
        ):
            costs = {}
            watchers = [
                Reconciler(
                    mongo, TaskQueue(redis), Callbacks(mongo, TaskQueue(redis), {}), holder=holder, retention=None
                )
                for holder in ("works", "stands by")
            ]
            for holder, watcher in zip(("works", "stands by"), watchers, strict=True):
                await watcher.run_once()
                await watcher.run_once()
                sent.update(mongo=0, redis=0)
                await watcher.run_once()
                costs[holder] = dict(sent)
    measured(f"one pass of reconcile that finds nothing: {costs}")
    assert costs["works"]["mongo"] <= 8
    assert costs["works"]["redis"] <= 2
    assert costs["stands by"]["mongo"] <= 2
    assert costs["stands by"]["redis"] == 0
