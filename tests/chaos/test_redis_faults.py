"""Redis refuses, hangs, is slow, is wiped, restarted or replaced by its past: no task is lost, none runs twice."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest
import redis as redis_py
from bson import ObjectId

from app.core.clock import utc_now
from app.core.ids import TaskId
from app.embedded.servers import free_port
from app.models import Submission, Task
from app.queue import keys
from app.queue.connect import ANSWER_TIMEOUT_S
from app.services.backend import Backend
from app.services.read import get_task
from app.services.submit import new_document
from settings import Settings, load_settings
from tests.integration.conftest import ended, submit_one
from tests.processes import started
from tests.servers import OwnServer, Proxy, measured, own_redis, proxy_to, running_web
from tests.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]

ANSWERED_IN_S = 1.5
MODULES = "tests.sample_tasks,tests.faults"


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[OwnServer]:
    """The Redis that is hurt."""
    async with own_redis(tmp_path / "servers") as server:
        yield server


@pytest.fixture
def settings(own: OwnServer, mongo_url: str, mongo_database: str) -> Settings:
    """The settings of every process here."""
    return load_settings(
        mongo_url=mongo_url,
        redis_url=own.server.url,
        mongo_database=mongo_database,
        health_port=0,
        task_modules=MODULES,
        lease_seconds=3,
        shutdown_grace_seconds=5,
    )


@pytest.fixture
def redis_client(own: OwnServer) -> Iterator[redis_py.Redis]:
    """To look behind the curtain with."""
    with redis_py.Redis.from_url(own.server.url) as client:
        yield client


async def _break(how: str, own: OwnServer, proxy: Proxy) -> None:
    match how:
        case "refuses":
            await proxy.refuse()
        case "hangs":
            own.freeze()
        case "hangs for new connections too":
            proxy.passing.clear()
        case "is slow":
            proxy.delay_s = 1.5
        case "is a little slow":
            proxy.delay_s = 0.4


async def _mend(how: str, own: OwnServer, proxy: Proxy) -> None:
    own.thaw()
    proxy.passing.set()
    proxy.delay_s = 0
    if how == "refuses":
        await proxy.listen()


@pytest.mark.parametrize("how", ["refuses", "hangs", "hangs for new connections too", "is slow", "is a little slow"])
async def test_accepting_does_not_need_redis(
    own: OwnServer, settings: Settings, redis_client: redis_py.Redis, tmp_path: Path, how: str
) -> None:
    """Every POST is answered soon, /health names Redis, and all runs once Redis is back."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxy_to(own.server.port))
        url = f"redis://127.0.0.1:{proxy.port}/0"
        stack.enter_context(started("worker", settings, tmp_path, redis_url=url))
        web = await stack.enter_async_context(running_web(settings, tmp_path, redis_url=url))
        tasks = [await web.accepted()]
        await web.until_ended(tasks[0], 20)
        await _break(how, own, proxy)
        answers = [await web.post() for _ in range(10)]
        answers += await asyncio.gather(*(web.post() for _ in range(10)))
        assert {answer.status for answer in answers} == {201}
        assert max(answer.seconds for answer in answers) < ANSWERED_IN_S
        if how != "is a little slow":
            assert sum(answer.seconds for answer in answers[1:10]) < 3, "not each of them waits for Redis"
            health = await web.get("/health")
            assert (health.status, health.body["status"]) == (200, "degraded")
            assert health.body["checks"]["redis"] != "ok"
        deferred = (await web.post(delay=60)).body["id"]
        cancelled = await web.call("POST", f"/tasks/{deferred}/cancel")
        assert (cancelled.status, cancelled.body["status"]) == (200, "cancelled")
        assert cancelled.seconds < ANSWERED_IN_S
        await _mend(how, own, proxy)
        mended = time.monotonic()
        for answer in answers:
            done = await web.until_ended(answer.body["id"], 30)
            assert [entry["outcome"] for entry in done["history"]] == ["completed"]
        measured(
            f"Redis {how}: slowest answer {max(a.seconds for a in answers):.2f} s, all ran "
            f"{time.monotonic() - mended:.1f} s after"
        )
        health = await web.get("/health")
        assert health.body["status"] == "ok"
        await wait_until(lambda: not redis_client.keys("arq:in-progress:*"), 10, "Redis was not told of the ends")


async def test_no_outcome_waits_until_redis_has_heard_of_another(
    own: OwnServer, backend: Backend, settings: Settings, redis_client: redis_py.Redis, tmp_path: Path
) -> None:
    """Its lease is not renewed any more, and would lapse. Fails with one batch for both writes (`Settler.settle`)."""
    with started("worker", settings, tmp_path):
        tasks = [await submit_one(backend, "sleep", {"seconds": seconds}) for seconds in (1, 2)]

        async def are(status: str) -> bool:
            return {(await get_task(backend, TaskId(task.id))).status for task in tasks} == {status}

        await wait_until(lambda: are("running"), 20)
        own.freeze()
        frozen = time.monotonic()
        await wait_until(lambda: are("completed"), 20)
        took = time.monotonic() - frozen
        own.thaw()
        await wait_until(lambda: not redis_client.keys("arq:in-progress:*"), 20, "Redis was not told of the ends")
        assert took < 1 + ANSWER_TIMEOUT_S, "the second was recorded before Redis was given up for the first"


async def _mixed(backend: Backend) -> dict[str, list[Task]]:
    """Tasks in every state; a worker is there."""
    done = [await ended(backend, await submit_one(backend, "echo")) for _ in range(3)]
    # Long due: a look at what became due lately does not find these.
    elsewhere = [await submit_one(backend, "echo", queue="elsewhere") for _ in range(5)]
    await _make_long_due(backend, elsewhere)
    accepted = {
        "running": [Submission(type="test.who", payload={"seconds": 6}, max_attempts=1) for _ in range(5)],
        "deferred": [Submission(type="echo", delay=6) for _ in range(5)],
        "retrying": [Submission(type="fault.retry_later", payload={"seconds": 6}) for _ in range(5)],
    }
    mixed = {"done": done, "elsewhere": elsewhere}
    for name, submissions in accepted.items():
        tasks = [await submit_one(backend, **submission.model_dump(exclude_unset=True)) for submission in submissions]
        mixed[name] = tasks

    async def settled() -> bool:
        running = [await get_task(backend, TaskId(task.id)) for task in mixed["running"]]
        retrying = [await get_task(backend, TaskId(task.id)) for task in mixed["retrying"]]
        return {task.status for task in running} == {"running"} and {task.status for task in retrying} == {"retrying"}

    await wait_until(settled, 20)
    return mixed


async def _make_long_due(backend: Backend, tasks: list[Task]) -> None:
    await backend.mongo.collection("tasks").update_many(
        {"_id": {"$in": [ObjectId(task.id) for task in tasks]}},
        {"$set": {"run_at": utc_now() - timedelta(days=1)}},
    )


async def _hurt(how: str, own: OwnServer, backend: Backend) -> list[Task]:
    """Make Redis forget; the tasks that were accepted after what it remembers."""
    match how:
        case "is wiped":
            await backend.queue.redis.flushall()
        case "restarts empty":
            await own.kill()
            await own.start()
        case "comes back older":
            await backend.queue.redis.save()
            late = [await submit_one(backend, "echo", queue="elsewhere") for _ in range(5)]
            await _make_long_due(backend, late)
            finished = await ended(backend, await submit_one(backend, "echo"))
            await own.kill()
            await own.start()
            return [*late, finished]
    return []


@pytest.mark.parametrize("how", ["is wiped", "restarts empty", "comes back older"])
async def test_redis_is_disposable(
    own: OwnServer, backend: Backend, settings: Settings, tmp_path: Path, how: str
) -> None:
    """What waits, is deferred or is to be retried runs; what runs goes on under its lease, once; what ended stays so.

    Fails when reconcile does not look whether Redis has its epoch, and in the last case when it does not look whose
    run id that is (`TaskQueue.identity`).
    """
    with ExitStack() as workers:
        for _ in range(2):
            workers.enter_context(started("worker", settings, tmp_path))
        mixed = await _mixed(backend)
        before = await get_task(backend, TaskId(mixed["done"][0].id))
        mixed["late"] = await _hurt(how, own, backend)
        hurt_at = time.monotonic()
        workers.enter_context(started("worker", settings, tmp_path, queues="elsewhere"))
        for name in ("elsewhere", "late", "running", "deferred", "retrying"):
            for task in mixed[name]:
                done = await ended(backend, task, timeout_s=30)
                expected = ["failed", "completed"] if name == "retrying" else ["completed"]
                assert [entry.outcome for entry in done.history] == expected, name
                assert done.losses == 0
        measured(f"Redis {how}: all had ended {time.monotonic() - hurt_at:.1f} s after")
        assert await get_task(backend, TaskId(before.id)) == before
        await wait_until(lambda: _is_empty(backend), 20, "something is left in Redis")


async def _is_empty(backend: Backend) -> bool:
    left = {key.decode() for key in await backend.queue.redis.keys("*")}
    return left <= {keys.EPOCH}


@pytest.mark.timeout(900)
async def test_a_rebuild_is_flat_and_in_nobodys_way(
    own: OwnServer, backend: Backend, settings: Settings, tmp_path: Path, mongo_client: "pymongo.MongoClient[Any]"
) -> None:
    """Ten thousand deferred tasks are back in Redis within seconds of a wipe; meanwhile tasks are accepted as ever.

    ARQIVE_TEST_TASKS takes another number.
    """
    count = int(os.environ.get("ARQIVE_TEST_TASKS", "10000"))
    async with running_web(settings, tmp_path) as web:
        await web.accepted(delay=3600)
        documents = [new_document(Submission(type="echo", delay=3600), backend.types, utc_now()) for _ in range(count)]
        mongo_client[settings.mongo_database].tasks.insert_many(documents)
        await wait_until(lambda: backend.queue.redis.exists(keys.EPOCH), 20)
        process = psutil.Process(web.process.pid)
        rss_before = process.memory_info().rss
        await backend.queue.redis.flushall()
        begun, slowest, most = time.monotonic(), 0.0, rss_before
        back = 0
        while back < count:
            assert time.monotonic() - begun < 60, f"{back} are back"
            slowest = max(slowest, (await web.post(delay=3600)).seconds)
            most = max(most, process.memory_info().rss)
            back = await backend.queue.redis.zcard(keys.queue("default"))
        seconds = time.monotonic() - begun
        measured(
            f"{count} back after {seconds:.1f} s, RSS {rss_before >> 20} to {most >> 20} MiB, POST <= {slowest:.2f} s"
        )
        assert most - rss_before < 15 << 20
        # SecantusDB looks through all that a find matches before it answers, and lets others wait; MongoDB does not.
        assert slowest < max(ANSWERED_IN_S, seconds / 2)


@pytest.mark.timeout(900)
async def test_alive_but_deaf_does_not_happen(
    own: OwnServer, backend: Backend, settings: Settings, tmp_path: Path
) -> None:
    """A worker whose Redis hangs is not ready; when Redis is back, the same process works again.

    ARQIVE_TEST_OUTAGE_S makes Redis hang for longer than it takes to notice.
    """
    port, outage_s = free_port(), float(os.environ.get("ARQIVE_TEST_OUTAGE_S", "0"))
    with started("worker", settings, tmp_path, health_port=port) as worker:
        client = _Probe(port)
        await wait_until(client.ready, 20, "the worker is ready")
        own.freeze()
        frozen = time.monotonic()
        await wait_until(client.unready, 20, "the worker says that it hears nothing")
        measured(f"not ready {time.monotonic() - frozen:.1f} s after Redis froze")
        await wait_until(lambda: time.monotonic() - frozen > outage_s, outage_s + 5)
        own.thaw()
        thawed = time.monotonic()
        await wait_until(client.ready, 15, "the worker is ready again")
        done = await ended(backend, await submit_one(backend, "test.who", {"seconds": 0}), timeout_s=20)
        measured(f"ready and working {time.monotonic() - thawed:.1f} s after it thawed")
        assert done.result == worker.pid


class _Probe:
    def __init__(self, port: int) -> None:
        self._port = port

    async def _status(self) -> int:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return 0
        writer.write(b"GET /health/ready HTTP/1.0\r\n\r\n")
        status = int((await reader.readline()).split()[1])
        writer.close()
        return status

    async def ready(self) -> bool:
        return await self._status() == 200

    async def unready(self) -> bool:
        return await self._status() == 503


async def test_nobody_exits_when_redis_comes_and_goes(
    own: OwnServer, backend: Backend, settings: Settings, tmp_path: Path
) -> None:
    """Under load, killed and started five times."""
    async with AsyncExitStack() as stack:
        worker = stack.enter_context(started("worker", settings, tmp_path))
        web = await stack.enter_async_context(running_web(settings, tmp_path))
        tasks: list[str] = []

        async def load() -> None:
            while True:
                tasks.append(await web.accepted(type="test.flaky", payload={"succeed_on": 2}))

        loading = [asyncio.create_task(load()) for _ in range(4)]
        for _ in range(5):
            target = len(tasks) + 30
            await wait_until(lambda target=target: len(tasks) > target, 30)
            await own.kill()
            await wait_until(lambda target=target: len(tasks) > target + 10, 30)
            await own.start()
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)
        for task_id in tasks:
            done = await web.until_ended(task_id, 40)
            assert [entry["outcome"] for entry in done["history"]] == ["failed", "completed"]
        for process in (worker, web.process):
            assert process.popen.poll() is None
            assert not process.logged("Traceback")
            process.send(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait) == 0
