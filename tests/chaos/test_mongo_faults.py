"""MongoDB hangs, dies, comes back, or breaks a connection in the middle: nothing is promised, invented or doubled."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pymongo
import pytest

from app.core.errors import StoreUnavailable
from app.models import Submission, Task
from app.services.backend import Backend
from app.services.submit import submit
from settings import Settings, load_settings
from tests.integration.conftest import ended, submit_one
from tests.processes import Process, started
from tests.servers import Answer, OwnServer, Proxy, Web, measured, own_mongo, proxy_to, running_web
from tests.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]

NOTICED_IN_S = 10.0  # 3 s until a server that hangs is noticed, then up to 4 s of looking for another; and some air
KNOWN_IN_S = 0.5


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[OwnServer]:
    """The MongoDB that is hurt."""
    async with own_mongo(tmp_path / "servers") as server:
        yield server


@pytest.fixture
def settings(own: OwnServer, empty_redis: str) -> Settings:
    """The settings of every process here."""
    return load_settings(
        mongo_url=own.server.url,
        redis_url=empty_redis,
        mongo_database="arqive_chaos",
        health_port=0,
        task_modules="tests.sample_tasks,tests.faults",
        lease_seconds=10,
        shutdown_grace_seconds=5,
    )


@pytest.fixture
def mongo_client(own: OwnServer) -> Iterator["pymongo.MongoClient[dict[str, Any]]"]:
    """To look behind the curtain with."""
    with pymongo.MongoClient[dict[str, Any]](own.server.url, tz_aware=True) as client:
        yield client


async def _break(how: str, own: OwnServer) -> None:
    if how == "hangs":
        own.freeze()
    else:
        await own.kill()


async def _mend(how: str, own: OwnServer) -> None:
    if how == "hangs":
        own.thaw()
    else:
        await own.start()


async def _requests(web: Web, task_id: str) -> list[Answer]:
    """Fifty at once, reads and writes."""
    reads = [f"/tasks/{task_id}", "/tasks", "/stats", f"/tasks/{task_id}?wait=30"]
    return await asyncio.gather(
        *(web.post() for _ in range(25)), *(web.get(reads[number % len(reads)]) for number in range(25))
    )


@pytest.mark.parametrize("how", ["hangs", "dies"])
async def test_every_answer_is_503_and_soon(own: OwnServer, settings: Settings, tmp_path: Path, how: str) -> None:
    """Also when fifty ask at once: they do not queue behind each other.

    Fails when `Mongo.answering` lets everybody wait for a server.
    """
    async with running_web(settings, tmp_path) as web:
        task_id = await web.accepted()
        await _break(how, own)
        first = await _requests(web, task_id)
        later = [answer for _ in range(3) for answer in await _requests(web, task_id)]
        health = await web.get("/health")
        assert {answer.status for answer in [*first, *later, health]} == {503}
        assert {answer.headers.get("Retry-After") for answer in [*first, *later]} == {"2"}
        slowest = max(answer.seconds for answer in first), max(answer.seconds for answer in later)
        assert slowest[0] < NOTICED_IN_S
        assert slowest[1] < KNOWN_IN_S
        await _mend(how, own)
        mended = time.monotonic()

        async def accepts() -> bool:
            return (await web.post()).status == 201

        await wait_until(accepts, 15, "a task is accepted again")
        assert (await web.get(f"/tasks/{task_id}")).status == 200
        measured(
            f"MongoDB {how}: first 503s within {slowest[0]:.2f} s, then {slowest[1]:.2f} s; "
            f"accepts {time.monotonic() - mended:.2f} s after it is back"
        )
        web.process.send(signal.SIGTERM)
        assert await asyncio.to_thread(web.process.wait) == 0


async def _running(backend: Backend, *, count: int, seconds: float) -> list[Task]:
    accepted = await submit(
        backend, [Submission(type="fault.slower", payload={"seconds": seconds}, max_attempts=1) for _ in range(count)]
    )
    tasks = [task for task in accepted if isinstance(task, Task)]

    async def running() -> bool:
        return await backend.mongo.collection("tasks").count_documents({"progress": {"$ne": None}}) == len(tasks)

    await wait_until(running, 20, "not all are running")
    return tasks


async def _sees_mongo(backend: Backend) -> bool:
    try:
        await backend.mongo.ping()
    except StoreUnavailable:
        return False
    return True


@pytest.mark.parametrize("how", ["hangs", "dies"])
async def test_outcomes_are_held_until_mongodb_is_back(
    own: OwnServer, backend: Backend, settings: Settings, tmp_path: Path, how: str
) -> None:
    """Within the lease: what ran meanwhile is recorded, and not run again although it has one attempt only."""
    with started("worker", settings, tmp_path) as worker:
        tasks = await _running(backend, count=10, seconds=2)
        await _break(how, own)
        broken = time.monotonic()
        await wait_until(lambda: worker.logged("Cannot record"), 15, "the worker cannot record")
        await _mend(how, own)
        await wait_until(lambda: _sees_mongo(backend), 10)
        for task in tasks:
            done = await ended(backend, task, timeout_s=20)
            assert [entry.outcome for entry in done.history] == ["completed"]
            assert done.result == worker.pid
        measured(f"MongoDB {how}: held for {time.monotonic() - broken:.1f} s and recorded")
        await _still_works(backend, worker)


async def test_an_outage_longer_than_the_lease_costs_the_attempt(
    own: OwnServer, backend: Backend, settings: Settings, tmp_path: Path
) -> None:
    """The worker gives the outcome up and goes on; the task runs again, which is recorded."""
    with started("worker", settings, tmp_path, lease_seconds=2) as worker:
        [task] = await _running(backend, count=1, seconds=2)
        await own.kill()
        await wait_until(lambda: worker.logged("their attempts are lost"), 25, "the worker gives up")
        await own.start()
        mended = time.monotonic()
        await wait_until(lambda: _sees_mongo(backend), 10)
        done = await ended(backend, task, timeout_s=30)
        assert [entry.outcome for entry in done.history] == ["lost", "completed"]
        measured(
            f"an outage longer than the lease: run again, for 6 s, {time.monotonic() - mended:.1f} s after its end"
        )
        await _still_works(backend, worker)


async def _still_works(backend: Backend, worker: Process) -> None:
    done = await ended(backend, await submit_one(backend, "test.who", {"seconds": 0}), timeout_s=20)
    assert done.result == worker.pid
    assert not worker.logged("Traceback")
    worker.send(signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait) == 0


WRITES: dict[str, Callable[[bytes], bool]] = {
    "insert": lambda piece: b"\x02insert\x00\x06\x00\x00\x00tasks\x00" in piece,
    "begin": lambda piece: b"$inc\x00" in piece and b"started_at\x00" in piece,
    "settle": lambda piece: (b"$push\x00" in piece or b"$concatArrays\x00" in piece) and b"history\x00" in piece,
}


class _Cut:
    """Cuts the connection of the first write of a kind: before the server gets it, or before its answer is back."""

    def __init__(self, write: str, when: str) -> None:
        self.done = False
        self._is_it = WRITES[write]
        self._when = when
        self._awaited: bytes | None = None

    def __call__(self, piece: bytes, to_server: bool) -> bool:
        """As `Proxy.judge`; a message's id is in bytes 4 to 8, in its answer in bytes 8 to 12."""
        if to_server and not self.done and self._awaited is None and self._is_it(piece):
            self._awaited = piece[4:8]
            self.done = self._when == "on the way there"
            return not self.done
        if not to_server and self._awaited == piece[8:12] and not self.done:
            self.done = True
            return False
        return True


@pytest.mark.parametrize("when", ["on the way there", "on the way back"])
@pytest.mark.parametrize("write", WRITES)
async def test_a_connection_that_breaks_in_a_write_doubles_nothing(
    own: OwnServer, settings: Settings, tmp_path: Path, mongo_client: "pymongo.MongoClient[Any]", write: str, when: str
) -> None:
    """The write is made again, and finds what the first try did: no second attempt, no second entry of history."""
    cut = _Cut(write, when)
    async with AsyncExitStack() as stack:
        proxy: Proxy = await stack.enter_async_context(proxy_to(own.server.port))
        url = f"mongodb://127.0.0.1:{proxy.port}"
        proxy.judge = cut
        worker = stack.enter_context(started("worker", settings, tmp_path, mongo_url=url))
        web = await stack.enter_async_context(running_web(settings, tmp_path, mongo_url=url))
        batch = [{"type": "echo", "payload": {"number": number}} for number in range(30)]
        answer = await web.call("POST", "/tasks/bulk", batch)
        if write == "insert":
            assert answer.status == 503, "whether it was kept is not known, and nothing was promised"
            answer = await web.call("POST", "/tasks/bulk", batch)
        assert answer.status == 201
        for item in answer.body["items"]:
            await web.until_ended(item["id"], 30)
        assert cut.done
        tasks = mongo_client[settings.mongo_database].tasks
        await wait_until(lambda: not tasks.count_documents({"status": {"$ne": "completed"}}), 40, "some wait for ever")
        kept = list(tasks.find())
        assert len(kept) == (60 if (write, when) == ("insert", "on the way back") else 30)
        for task in kept:
            assert [(entry["attempt"], entry["outcome"]) for entry in task["history"]] == [(1, "completed")]
            assert (task["attempt"], task["losses"]) == (1, 0)
        assert not worker.logged("Traceback")
