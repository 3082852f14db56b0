"""An Arqive in this process: the services on real servers, and workers on request."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pymongo
import pytest
import redis
from bson import ObjectId

from app.core.clock import utc_now
from app.core.errors import Invalid
from app.core.ids import TaskId
from app.core.states import TERMINAL
from app.models import Submission, Task
from app.queue.connect import open_redis
from app.queue.task_queue import TaskQueue
from app.services.accept import Acceptor
from app.services.backend import Backend
from app.services.callbacks import Callbacks
from app.services.listen import web_signals
from app.services.live import Live
from app.services.read import wait_for_task
from app.services.submit import submit
from app.services.wait import Endings
from app.store.changes import ChangeStore
from app.store.indexes import create_indexes
from app.store.mongo import open_mongo
from app.store.schedules import ScheduleStore
from app.store.tasks import TaskStore
from app.store.workers import WorkerStore
from app.tasks.registry import load_task_modules
from app.telemetry.catalogue import Role
from app.telemetry.exposition import Exposition
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import Tracing
from app.worker import WorkerParts, open_worker
from settings import Settings, load_settings
from tests.servers import proxy_to
from tests.waiting import PATIENCE_S, wait_until

RunWorker = Callable[..., AbstractAsyncContextManager[WorkerParts]]


@pytest.fixture
def settings(mongo_url: str, empty_redis: str, mongo_database: str) -> Settings:
    """Settings of a worker beside others: no probes, the sample types, short leases."""
    return load_settings(
        mongo_url=mongo_url,
        redis_url=empty_redis,
        mongo_database=mongo_database,
        health_port=0,
        task_modules="tests.sample_tasks",
        lease_seconds=3,
        shutdown_grace_seconds=5,
        http_allow_private=True,
    )


@pytest.fixture
async def backend(settings: Settings) -> AsyncIterator[Backend]:
    """What a web process works with."""
    async with (
        open_mongo(settings.mongo_url.get_secret_value(), settings.mongo_database) as mongo,
        open_redis(settings.redis_url.get_secret_value()) as client,
    ):
        await create_indexes(mongo)
        endings = Endings()
        tasks, queue, metrics = TaskStore(mongo), TaskQueue(client), Metrics(Role.WEB)
        live = Live(ChangeStore(mongo), queue, max_streams=10)
        listening = asyncio.create_task(web_signals(queue, endings, live).run())
        types = load_task_modules(settings.task_modules)
        yield Backend(
            mongo=mongo,
            tasks=tasks,
            schedules=ScheduleStore(mongo),
            workers=WorkerStore(mongo),
            queue=queue,
            acceptor=Acceptor(tasks, queue, metrics),
            endings=endings,
            live=live,
            types=types,
            retention=timedelta(days=settings.retention_days),
            callbacks=Callbacks(mongo, queue, types),
            signs_callbacks=bool(settings.callback_secrets),
            metrics=metrics,
            exposition=Exposition(metrics),
            tracing=Tracing(),
        )
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


@asynccontextmanager
async def a_redis_that_hangs(backend: Backend) -> AsyncIterator[Backend]:
    """The same backend with a Redis that takes connections and does not answer."""
    port = backend.queue.redis.connection_pool.connection_kwargs["port"]
    async with proxy_to(port) as proxy, open_redis(f"redis://127.0.0.1:{proxy.port}/0") as client:
        proxy.passing.clear()
        queue = TaskQueue(client)
        yield replace(backend, queue=queue, acceptor=Acceptor(backend.tasks, queue, backend.metrics))


@pytest.fixture
def run_worker(settings: Settings) -> RunWorker:
    """A context in which a worker runs; settings by name change those of the test."""

    @asynccontextmanager
    async def running(**changes: Any) -> AsyncIterator[WorkerParts]:
        changed = load_settings(**{**settings.model_dump(), **changes}) if changes else settings
        async with open_worker(changed, load_task_modules(changed.task_modules)) as parts:
            claiming = asyncio.create_task(parts.loop.main())
            try:
                yield parts
            finally:
                parts.loop.stop_claiming()
                await claiming
                parts.runner.release_all()
                await parts.loop.drain(10)

    return running


@pytest.fixture
async def worker(run_worker: RunWorker) -> AsyncIterator[WorkerParts]:
    """One worker."""
    async with run_worker() as parts:
        yield parts


async def submit_one(backend: Backend, type: str, payload: dict[str, Any] | None = None, **fields: Any) -> Task:  # noqa: A002
    """Submit a task that is accepted."""
    [task] = await submit(backend, [Submission(type=type, payload=payload or {}, **fields)])
    assert not isinstance(task, Invalid), task
    return task


async def too_late(backend: Backend, *tasks: Task) -> None:
    """Let the moment before which they had to start have passed."""
    await backend.mongo.collection("tasks").update_many(
        {"_id": {"$in": [ObjectId(task.id) for task in tasks]}}, {"$set": {"start_before": utc_now()}}
    )


async def ended(backend: Backend, task: Task, timeout_s: float = PATIENCE_S) -> Task:
    """The task once it is terminal."""
    current = await wait_for_task(backend, TaskId(task.id), seconds=timeout_s)
    assert current.status in TERMINAL, f"still {current.status} after {timeout_s} s"
    return current


KNOWN_KEYS = re.compile(
    r"arq:job:[0-9a-f]{24}|arq:in-progress:[0-9a-f]{24}|arq:queue:.+|arqive:leases:.+"
    r"|arqive:settings:.+|arqive:rate:.+|arqive:(?:epoch|rebuild)"
)


def _leased(redis_client: redis.Redis, task_ids: list[ObjectId]) -> bool:
    """A renewal that had begun before the end may lease a task anew, until that lease lapses."""
    return any(redis_client.exists(f"arq:in-progress:{task_id}") for task_id in task_ids)


@pytest.fixture(autouse=True)
def _invariants(
    settings: Settings,
    mongo_client: pymongo.MongoClient[dict[str, Any]],
    redis_client: redis.Redis,
) -> Any:
    """What must hold after every test, whatever it did."""
    yield
    ended_ids = []
    for document in mongo_client[settings.mongo_database].tasks.find():
        where = f"{document['type']} {document['_id']}"
        if document["status"] == "running":
            assert document["lease"]["until"] > utc_now(), f"{where} runs without a live lease"
        else:
            assert document["lease"] is None, f"{where} is {document['status']} and has a lease"
        # The unique index over unfinished tasks rests on this.
        ended_at = document["finished_at"]
        assert (ended_at is not None) is (document["status"] in TERMINAL), f"{where} ended at {ended_at}"
        assert document["attempt"] - document["losses"] <= document["max_attempts"], f"{where} had too many attempts"
        if document["status"] in TERMINAL:
            ended_ids.append(document["_id"])
    asyncio.run(wait_until(lambda: not _leased(redis_client, ended_ids), what="nothing that has ended is leased"))
    for key in redis_client.scan_iter(count=1000):
        assert KNOWN_KEYS.fullmatch(key.decode()), f"unknown key {key!r}"
        if key.startswith((b"arq:job:", b"arq:in-progress:", b"arqive:rate:")):
            assert redis_client.pttl(key) != -1, f"{key!r} has no TTL"
