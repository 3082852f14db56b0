"""The worker: builds its parts, runs tasks until it is told to stop, and leaves nothing behind."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta

import uvloop

from app.api.probes import serve_probes
from app.core.clock import utc_now
from app.core.ids import WorkerId, new_worker_id
from app.core.task_type import TaskTypes
from app.queue.connect import open_redis
from app.queue.queue_settings import SettingsMemory
from app.queue.task_queue import TaskQueue
from app.queue.worker import LeasedWorker
from app.services.accept import Acceptor
from app.services.attend import WorkerParts, attend, problems_of
from app.services.callbacks import Callbacks
from app.services.collect_garbage import collect_garbage_rarely
from app.services.context import HttpAccess
from app.services.handler_child import ProcessSettings
from app.services.handler_pools import HandlerPools, open_handler_pools, threads_left
from app.services.keep_leases import keep_leases
from app.services.learn_settings import SettingsLearner
from app.services.reconcile import Reconciler
from app.services.report import Reporter
from app.services.run import TaskRunner
from app.services.settle import Settler
from app.services.sign import WebhookSigner
from app.services.stop import StopSignals
from app.services.submit_slots import Scheduler
from app.store.attempts import AttemptStore
from app.store.mongo import Mongo, open_mongo
from app.store.settlements import SettlementStore
from app.store.tasks import TaskStore
from app.store.workers import WorkerDocument, WorkerStore
from app.tasks.http_guard import open_http_access
from app.tasks.registry import load_task_modules
from app.telemetry.catalogue import Role
from app.telemetry.exposition import Exposition, Seat
from app.telemetry.logging import configure_logging
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import Tracing, open_tracing
from settings import Settings

__all__ = ["WorkerParts", "open_worker", "run", "serve"]

logger = logging.getLogger(__name__)


def run(settings: Settings, seat: Seat | None = None) -> int:
    """Run a worker until SIGTERM or SIGINT; the exit code.

    Args:
        settings: What to serve, and everything else.
        seat: The place among workers that have the same HEALTH_PORT; None when this one is alone.

    Raises:
        TaskModuleError: a module of TASK_MODULES cannot be imported.
        TaskTypeError: one of them registers a type wrongly.
    """
    configure_logging(settings.log_level, settings.log_format, modules=settings.task_modules)
    types = load_task_modules(settings.task_modules)
    collect_garbage_rarely()
    with (
        open_tracing(Role.WORKER, exports=settings.exports_spans) as tracing,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(serve(settings, types, seat, tracing))
    if left := threads_left():
        # The interpreter would wait for them without end; their tasks have been released or timed out.
        logger.warning("Leaving %d handlers that did not stop in their threads", left)
        logging.shutdown()
        os._exit(0)
    return 0


async def serve(settings: Settings, types: TaskTypes, seat: Seat | None, tracing: Tracing) -> None:
    """Run a worker in this loop until SIGTERM or SIGINT."""
    stop = StopSignals()
    async with open_worker(settings, types, seat, tracing) as parts:
        logger.info(
            "Worker %s serves %s with %d slots",
            parts.id,
            ", ".join(settings.queues),
            settings.concurrency,
            extra={"event": "serving"},
        )
        claiming = asyncio.create_task(parts.loop.main())
        await asyncio.wait({claiming, asyncio.create_task(stop.first.wait())}, return_when=asyncio.FIRST_COMPLETED)
        parts.loop.stop_claiming()
        await claiming
        logger.info("Stopping: %d tasks are running", parts.loop.running, extra={"event": "stopping"})
        await _drain(parts, stop, settings.shutdown_grace_seconds)
        logger.info("Stopped", extra={"event": "stopped"})


async def _drain(parts: WorkerParts, stop: StopSignals, grace_s: float) -> None:
    """Let what runs finish within the grace, or until a second signal; then release the rest."""
    waiting = {
        asyncio.create_task(parts.loop.drain(grace_s)),
        asyncio.create_task(stop.second.wait()),
    }
    _, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    if parts.loop.running:
        logger.info("Releasing %d tasks", parts.loop.running, extra={"event": "releasing"})
        parts.runner.release_all()
        await parts.loop.drain(grace_s=30.0)


@asynccontextmanager
async def open_worker(
    settings: Settings, types: TaskTypes, seat: Seat | None = None, tracing: Tracing | None = None
) -> AsyncIterator[WorkerParts]:
    """Build a worker with its connections and background loops; all is closed again at the end."""
    tracing = tracing or Tracing()
    async with AsyncExitStack() as stack:
        mongo = await stack.enter_async_context(
            open_mongo(settings.mongo_url.get_secret_value(), settings.mongo_database)
        )
        redis = await stack.enter_async_context(open_redis(settings.redis_url.get_secret_value()))
        signer = WebhookSigner.of(settings.callback_secrets)
        http = await stack.enter_async_context(
            open_http_access(allow_private=settings.http_allow_private, signer=signer, tracing=tracing)
        )
        pools = await stack.enter_async_context(_open_pools(settings))
        metrics = Metrics(Role.WORKER)
        queue = TaskQueue(redis, SettingsMemory(complete=False))
        parts = _build(settings, types, mongo, queue, http, pools, metrics, tracing)
        metrics.watch_slots(settings.concurrency, lambda: parts.loop.running)
        exposition = Exposition(metrics, seat)
        await stack.enter_async_context(exposition.open())
        await stack.enter_async_context(
            keep_leases(
                settings.mongo_url.get_secret_value(),
                settings.mongo_database,
                settings.redis_url.get_secret_value(),
                executions=parts.runner.executions,
                lease=timedelta(seconds=settings.lease_seconds),
                metrics=metrics,
            )
        )
        await parts.learner.begin()
        await stack.enter_async_context(attend(parts, mongo))

        async def readiness() -> list[str]:
            return await problems_of(parts, mongo)

        await stack.enter_async_context(
            serve_probes(settings.host, settings.health_port, readiness, exposition.text, share_port=seat is not None)
        )
        yield parts


def _open_pools(settings: Settings) -> AbstractAsyncContextManager[HandlerPools]:
    known = ProcessSettings(settings.task_modules, settings.max_result_bytes, settings.log_level, settings.log_format)
    return open_handler_pools(
        threads=settings.concurrency,
        processes=settings.process_pool_size,
        max_calls=settings.process_max_tasks,
        settings=known,
    )


def _build(
    settings: Settings,
    types: TaskTypes,
    mongo: Mongo,
    queue: TaskQueue,
    http: HttpAccess,
    pools: HandlerPools,
    metrics: Metrics,
    tracing: Tracing,
) -> WorkerParts:
    worker_id = new_worker_id()
    lease = timedelta(seconds=settings.lease_seconds)
    retention = timedelta(days=settings.retention_days) if settings.retention_days else None
    attempts = AttemptStore(
        mongo, worker=worker_id, lease=lease, max_losses=settings.max_losses, retention=retention, types=list(types)
    )
    callbacks = Callbacks(mongo, queue, types)
    runner = TaskRunner(
        attempts=attempts,
        queue=queue,
        settler=Settler(SettlementStore(mongo, retention=retention), queue, callbacks, patience=lease, metrics=metrics),
        types=types,
        http=http,
        pools=pools,
        max_result_bytes=settings.max_result_bytes,
        patience=lease,
        metrics=metrics,
        tracing=tracing,
    )
    return WorkerParts(
        id=worker_id,
        loop=LeasedWorker(queue, runner, names=settings.queues, concurrency=settings.concurrency, lease=lease),
        runner=runner,
        reporter=Reporter(attempts, runner.executions, runner.announcer),
        reconciler=Reconciler(mongo, queue, callbacks, holder=worker_id, retention=retention, metrics=metrics),
        scheduler=Scheduler(
            mongo, Acceptor(TaskStore(mongo), queue, metrics), types, holder=worker_id, metrics=metrics
        ),
        learner=SettingsLearner(mongo, queue.memory, settings.queues),
        queue=queue,
        metrics=metrics,
        workers=WorkerStore(mongo),
        document=_document(settings, types, worker_id),
    )


def _document(settings: Settings, types: TaskTypes, worker_id: WorkerId) -> WorkerDocument:
    return {
        "_id": worker_id,
        "queues": list(settings.queues),
        "types": list(types),
        "concurrency": settings.concurrency,
        "running": 0,
        "started_at": utc_now(),
        "seen_at": utc_now(),
    }
