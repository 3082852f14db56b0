"""What workers tell, and what streams find when Redis was away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from app.core.clock import utc_now
from app.core.errors import StoreUnavailable
from app.core.ids import TaskId
from app.event_models import event_id_of, event_name_of
from app.models import BackoffModel
from app.queue.connect import open_redis
from app.queue.task_queue import TaskQueue
from app.services import live as live_room
from app.services.backend import Backend
from app.services.change import cancel_task
from app.services.listen import web_signals
from app.services.live import Live
from app.services.stream import Stream
from app.services.supervise import repeat
from app.services.wait import Endings
from app.store.changes import ChangeFilter, ChangeStore
from tests.integration.conftest import RunWorker, ended, submit_one
from tests.sample_tasks import TOLD
from tests.servers import OwnServer, own_redis
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture
async def following(backend: Backend) -> AsyncIterator[Live]:
    """The streams of the backend, followed as web does."""
    async with _followed(backend.live):
        yield backend.live


@asynccontextmanager
async def _followed(live: Live) -> AsyncIterator[None]:
    loops = [
        asyncio.create_task(repeat("following", live.run_once, every_s=live_room.GATHER_S)),
        asyncio.create_task(repeat("listeners", live.make_heard, every_s=0.2)),
    ]
    yield
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never look at the truth without being told to."""
    for name in ("FIRST_LOOK_S", "LOOK_S", "SWEEP_S"):
        monkeypatch.setattr(live_room, name, 3600)


async def told_until(stream: Stream, status: str) -> list[tuple[str, str]]:
    """The names and statuses of changes until one to a status, or the progress of one."""
    told: list[tuple[str, str]] = []
    while not told or status not in told[-1]:
        change = await stream.next(PATIENCE_S)
        assert change is not None, told
        assert change.document is not None
        told.append((event_name_of(change.document), change.document["status"]))
    return told


@pytest.mark.usefixtures("deaf")
async def test_a_worker_tells_each_step(backend: Backend, following: Live, run_worker: RunWorker) -> None:
    """By signals alone."""
    with following.stream_of_all(ChangeFilter(), since=utc_now()) as stream:
        stream.start()
        async with run_worker():
            await wait_until(lambda: backend.queue.audience.present)
            reporting = await submit_one(backend, "test.report")
            told = await told_until(stream, "progress")
            assert told[0][0] == "status"  # pending, unless it was running by the time that it was read
            assert told[-1] == ("progress", "running")
            await cancel_task(backend, TaskId(reporting.id))
            assert (await told_until(stream, "cancelled"))[-1] == ("status", "cancelled")
            backoff = BackoffModel(base=60, jitter=False)
            failing = await submit_one(backend, "test.fail_when_told", delay=0.7, backoff=backoff)
            assert (await told_until(stream, "running"))[-1] == ("status", "running")
            TOLD.add(failing.id)
            assert (await told_until(stream, "retrying"))[-1] == ("status", "retrying")
            await submit_one(backend, "echo")
            assert (await told_until(stream, "completed"))[-1] == ("status", "completed")


@pytest.mark.usefixtures("deaf")
async def test_a_worker_tells_nobody_of_what_nobody_listens_to(
    backend: Backend, run_worker: RunWorker, redis_client: redis.Redis
) -> None:
    with redis_client.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]
        async with run_worker() as parts:
            pubsub.subscribe("arqive:changed")
            for queue in (backend.queue, parts.queue):
                await wait_until(lambda queue=queue: queue.audience.present)
                queue.audience._until = 0.0  # as it is a few seconds after the start
            await ended(backend, await submit_one(backend, "test.flaky", {"succeed_on": 3}))
            said = [pubsub.get_message(timeout=0.05) for _ in range(5)]
    assert said == [None] * 5


@asynccontextmanager
async def followed_over(server: OwnServer, backend: Backend) -> AsyncIterator[Live]:
    """Streams of the same tasks that hear of them from a Redis of their own."""
    async with open_redis(server.server.url) as client:
        queue = TaskQueue(client)
        live = Live(ChangeStore(backend.mongo), queue, max_streams=10)
        signals = web_signals(queue, Endings(), live)
        listening = asyncio.create_task(repeat("signals", signals.run, every_s=0.05))
        async with _followed(live):
            yield live
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


@pytest.mark.usefixtures("deaf")
async def test_what_changed_while_redis_was_away_is_told_when_it_is_back(backend: Backend, tmp_path: Path) -> None:
    """Every signal is lost, and Redis comes back empty."""
    task = await submit_one(backend, "echo")
    async with own_redis(tmp_path) as server, followed_over(server, backend) as live:
        with (
            live.stream_of_task(TaskId(task.id)) as one,
            live.stream_of_all(ChangeFilter(), since=utc_now()) as every,
        ):
            [now] = await live.changes.of([TaskId(task.id)])
            one.start(last=event_id_of(now))
            every.start()
            await wait_until(lambda: live._queue.audience.present)
            assert await one.next(0.3) is None  # past the looks that follow the opening
            await server.kill()
            await backend.tasks.cancel_waiting(TaskId(task.id), now=utc_now(), expire_at=None)
            assert await one.next(0.3) is None
            await server.start()
            for stream in (one, every):
                assert await told_until(stream, "cancelled") == [("status", "cancelled")]


async def test_a_redis_that_hangs_holds_no_change_back(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_LOOK_S", "LOOK_S", "SWEEP_S"):
        monkeypatch.setattr(live_room, name, 0.3)
    monkeypatch.setattr("app.queue.connect.ANSWER_TIMEOUT_S", 3600)
    task = await submit_one(backend, "echo", delay=60)
    async with own_redis(tmp_path) as server, followed_over(server, backend) as live:
        with live.stream_of_task(TaskId(task.id)) as one:
            one.start()
            await told_until(one, "pending")
            server.freeze()
            assert await one.next(0.5) is None  # by now something waits for Redis
            await backend.tasks.cancel_waiting(TaskId(task.id), now=utc_now(), expire_at=None)
            change = await one.next(PATIENCE_S)
            server.thaw()
    assert change is not None
    assert change.id.status == "cancelled"


async def test_what_is_told_when_the_last_stream_has_gone_is_forgotten(backend: Backend, following: Live) -> None:
    """And not looked at again and again."""
    with following.stream_of_all(ChangeFilter(), since=utc_now()):
        following.on_signal("0" * 24)
        following.look_at(TaskId("1" * 24))
    await wait_until(lambda: not following._told and not following._suspected)


async def test_a_flood_is_read_in_order_of_nothing_and_told_whole(
    backend: Backend, following: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More ids than are kept are found by a sweep."""
    monkeypatch.setattr(live_room, "MAX_TOLD", 20)
    with following.stream_of_all(ChangeFilter(), since=utc_now()) as stream:
        stream.start()
        tasks = [await submit_one(backend, "echo", delay=60) for _ in range(50)]
        following.on_signal(" ".join(task.id for task in tasks))
        told: set[str] = set()
        while len(told) < len(tasks):
            change = await stream.next(PATIENCE_S)
            assert change is not None
            told.add(change.id.task_id)
    assert told == {task.id for task in tasks}


async def test_streams_survive_mongodb_being_away(
    backend: Backend, following: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_room, "OUTAGE_PAUSE_S", 0.05)
    task = await submit_one(backend, "echo", delay=60)
    with following.stream_of_task(TaskId(task.id)) as stream:
        stream.start()
        of, failures = following.changes.of, 3

        async def failing(task_ids: object) -> object:
            nonlocal failures
            if failures:
                failures -= 1
                raise StoreUnavailable("away")
            return await of(task_ids)  # type: ignore[arg-type]

        monkeypatch.setattr(following.changes, "of", failing)
        await backend.tasks.cancel_waiting(TaskId(task.id), now=utc_now(), expire_at=None)
        following.look_now()
        assert await told_until(stream, "cancelled")
    assert failures == 0
