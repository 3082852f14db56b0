"""The web: builds its parts, serves the REST API until it is told to stop, and finishes what it has begun."""

import asyncio
import errno
import importlib.metadata
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import uvloop
from aiohttp import web

from app.api.app import SERVER_OPTIONS, build_app
from app.api.endpoint import Opening
from app.api.guard import Access
from app.core.api_keys import ApiKey, KeyRing, Scope
from app.core.ids import new_worker_id
from app.core.task_type import TaskTypes
from app.queue.audience import BEAT_S
from app.queue.connect import open_redis
from app.queue.signals import Signals
from app.queue.task_queue import TaskQueue
from app.services import live as live_changes
from app.services import reconcile
from app.services.accept import Acceptor
from app.services.backend import Backend
from app.services.callbacks import Callbacks
from app.services.collect_garbage import collect_garbage_rarely
from app.services.figures import Figures
from app.services.listen import web_signals
from app.services.live import Live
from app.services.measure_lag import measure_lag
from app.services.reconcile import Reconciler
from app.services.submit_slots import RESTART_PAUSE_S, Scheduler
from app.services.supervise import repeat, until_done
from app.services.wait import Endings
from app.store.changes import ChangeStore
from app.store.indexes import create_indexes
from app.store.mongo import Mongo, open_mongo
from app.store.schedules import ScheduleStore
from app.store.tasks import TaskStore
from app.store.workers import WorkerStore
from app.tasks.registry import load_task_modules
from app.telemetry.catalogue import Role
from app.telemetry.exposition import Exposition, Seat
from app.telemetry.logging import configure_logging
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import Tracing, open_tracing
from settings import Settings

logger = logging.getLogger(__name__)

INDEX_PAUSE_S = 2.0
"""Between tries to create the indexes while MongoDB is away."""

SIGNALS_PAUSE_S = 1.0
"""Before listening again after something that nobody foresaw."""


def run(settings: Settings, seat: Seat | None = None) -> int:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: Where to listen, and everything else.
        seat: The place among processes that listen on the same port; None when this one is alone.

    Returns:
        The exit code: 0 after a clean end, 1 when the address cannot be listened on.

    Raises:
        TaskModuleError: a module of TASK_MODULES cannot be imported.
        TaskTypeError: one of them registers a type wrongly.
    """
    configure_logging(
        settings.log_level, settings.log_format, modules=settings.task_modules, access_log=settings.access_log
    )
    types = load_task_modules(settings.task_modules)
    collect_garbage_rarely()
    with (
        open_tracing(Role.WEB, exports=settings.exports_spans) as tracing,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(serve(settings, types, seat, tracing))


async def serve(settings: Settings, types: TaskTypes, seat: Seat | None, tracing: Tracing) -> int:
    """Serve in this loop until SIGTERM or SIGINT; the exit code."""
    stop = _stop_on_signal()
    access = access_of(settings)
    application = build_app(
        partial(open_backend, settings, types, seat, tracing),
        max_body_bytes=settings.max_body_bytes,
        version=_version(),
        access=access,
    )
    runner = web.AppRunner(application, shutdown_timeout=settings.shutdown_grace_seconds, **SERVER_OPTIONS)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port, reuse_port=seat is not None or None).start()
    except OSError as error:
        print(f"arqive: {_refusal(error, settings)}", file=sys.stderr)  # noqa: T201 - for whoever starts it
        await runner.cleanup()
        return 1
    logger.info("listening on %s", _url(settings.host, runner.addresses[0][1]), extra={"event": "listening"})
    if not access.restricted:
        logger.warning("No API keys are set: everybody who can reach this port may do everything; see API_KEYS")
    await stop.wait()
    logger.info(
        "Stopping: no new connections, requests under way get up to %g s",
        settings.shutdown_grace_seconds,
        extra={"event": "stopping"},
    )
    await runner.cleanup()
    logger.info("Stopped", extra={"event": "stopped"})
    return 0


def access_of(settings: Settings) -> Access:
    """Who may do what."""
    keys = KeyRing(
        ApiKey(
            entry.name,
            Scope(entry.scope),
            entry.digest,
            rate=(settings.api_key_rate if entry.rate is None else entry.rate) or None,
            burst=settings.api_key_burst,
        )
        for entry in settings.api_key_entries
    )
    return Access(keys, frozenset(map(Opening, settings.open_endpoints)))


@asynccontextmanager
async def open_backend(
    settings: Settings, types: TaskTypes, seat: Seat | None = None, tracing: Tracing | None = None
) -> AsyncIterator[Backend]:
    """Connect to MongoDB and Redis, neither of which needs to be there yet, and keep the background tasks going."""
    metrics = Metrics(Role.WEB)
    exposition = Exposition(metrics, seat)
    async with (
        exposition.open(),
        open_mongo(settings.mongo_url.get_secret_value(), settings.mongo_database) as mongo,
        open_redis(settings.redis_url.get_secret_value()) as redis,
    ):
        tasks, queue, endings, figures = TaskStore(mongo), TaskQueue(redis), Endings(), Figures()
        callbacks = Callbacks(mongo, queue, types)
        indexed = asyncio.Event()
        acceptor, holder = Acceptor(tasks, queue, metrics, prepared=indexed), f"web-{new_worker_id()}"
        retention = timedelta(days=settings.retention_days) if settings.retention_days else None
        reconciler = Reconciler(mongo, queue, callbacks, holder=holder, retention=retention, metrics=metrics)
        scheduler = Scheduler(mongo, acceptor, types, holder=holder, metrics=metrics)
        live = Live(ChangeStore(mongo), queue, max_streams=settings.max_event_streams)
        signals = web_signals(queue, endings, live)
        background = _start_background(mongo, indexed, signals, live, reconciler, scheduler, metrics)
        try:
            async with _kept_going(background):
                yield Backend(
                    mongo=mongo,
                    tasks=tasks,
                    schedules=ScheduleStore(mongo),
                    workers=WorkerStore(mongo),
                    queue=queue,
                    acceptor=acceptor,
                    endings=endings,
                    live=live,
                    types=types,
                    retention=retention,
                    callbacks=callbacks,
                    signs_callbacks=bool(settings.callback_secrets),
                    metrics=metrics,
                    exposition=exposition,
                    tracing=tracing or Tracing(),
                    figures=figures,
                )
        finally:
            await figures.close()
            await reconciler.give_up()
            await scheduler.give_up()


def _start_background(
    mongo: Mongo,
    indexed: asyncio.Event,
    signals: Signals,
    live: Live,
    reconciler: Reconciler,
    scheduler: Scheduler,
    metrics: Metrics,
) -> "list[asyncio.Task[None]]":
    async def create() -> None:
        await create_indexes(mongo)
        indexed.set()

    # What writes by itself waits for this: SecantusDB 0.7 locks up when a write makes a collection while another
    # process makes indexes on it.
    prepared = asyncio.create_task(until_done("creating the indexes", create, every_s=INDEX_PAUSE_S))
    return [
        prepared,
        asyncio.create_task(repeat("listening for signals", signals.run, every_s=SIGNALS_PAUSE_S)),
        asyncio.create_task(repeat("following changes", live.run_once, every_s=live_changes.GATHER_S)),
        asyncio.create_task(repeat("telling of listeners", live.make_heard, every_s=BEAT_S)),
        asyncio.create_task(repeat("reconcile", reconciler.run_once, every_s=reconcile.INTERVAL_S, after=prepared)),
        asyncio.create_task(measure_lag(metrics)),
        asyncio.create_task(repeat("schedules", scheduler.run, every_s=RESTART_PAUSE_S, after=prepared)),
    ]


@asynccontextmanager
async def _kept_going(background: Sequence["asyncio.Task[None]"]) -> AsyncIterator[None]:
    """Let tasks run while the context is open."""
    for task in background:
        task.add_done_callback(_tell_failure)
    try:
        yield
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)


def _tell_failure(task: "asyncio.Task[None]") -> None:
    """What nobody foresaw, such as an index that somebody made differently, is seen at once and not at the end."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("A background task has ended: %s", error, exc_info=error)


def _stop_on_signal() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; a second one ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop


def _refusal(error: OSError, settings: Settings) -> str:
    where = f"cannot listen on {settings.host} port {settings.port}"
    if error.errno == errno.EADDRINUSE:
        return f"PORT: {where}: something else does already"
    about_host = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
    return f"{'HOST' if about_host else 'PORT'}: {where}: {error.strerror}"


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _version() -> str:
    try:
        return importlib.metadata.version("arqive")
    except importlib.metadata.PackageNotFoundError:
        return "0"
