"""What a worker does beside its claims: signals, reports, heartbeat, reconcile."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.core.clock import utc_now
from app.core.errors import StoreUnavailable
from app.core.ids import TaskId, WorkerId
from app.queue import keys
from app.queue.signals import Signals
from app.queue.task_queue import TaskQueue
from app.queue.worker import LeasedWorker
from app.services import learn_settings, reconcile, report
from app.services.execute import Interruption
from app.services.learn_settings import SettingsLearner
from app.services.measure_lag import measure_lag
from app.services.reconcile import Reconciler
from app.services.report import Reporter
from app.services.run import TaskRunner
from app.services.submit_slots import RESTART_PAUSE_S, Scheduler
from app.services.supervise import repeat, until_done
from app.store.indexes import create_indexes
from app.store.mongo import Mongo
from app.store.workers import WorkerDocument, WorkerStore
from app.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

BEAT_S = 5.0
START_PAUSE_S = 1.0
DEAF_S = 10.0
"""A worker whose claims were not answered for this long is alive but deaf, and says so."""


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """A worker that is built and not yet running."""

    id: WorkerId
    loop: LeasedWorker
    runner: TaskRunner
    reporter: Reporter
    reconciler: Reconciler
    scheduler: Scheduler
    learner: SettingsLearner
    queue: TaskQueue
    metrics: Metrics
    workers: WorkerStore
    document: WorkerDocument


async def problems_of(parts: WorkerParts, mongo: Mongo) -> list[str]:
    """Why tasks do not run here at the moment."""
    problems = []
    try:
        await mongo.ping()
    except StoreUnavailable as error:
        problems.append(str(error))
    if not parts.loop.claimed_within(DEAF_S):
        problems.append(f"no claim was answered by Redis in the last {DEAF_S:g} s")
    return problems


@asynccontextmanager
async def attend(parts: WorkerParts, mongo: Mongo) -> AsyncIterator[None]:
    """The loops beside the claims: signals, leases, reports, heartbeat, reconcile."""

    def cancel(task_id: str) -> None:
        parts.runner.executions.interrupt(TaskId(task_id), Interruption.CANCEL)

    async def beat() -> None:
        await parts.workers.beat({**parts.document, "running": parts.loop.running, "seen_at": utc_now()})

    def connected() -> None:
        parts.loop.wake()
        parts.queue.audience.on_connect()

    callbacks = {keys.wake_channel(name): parts.loop.wake_at for name in parts.document["queues"]}
    others = {keys.CANCEL_CHANNEL: cancel, keys.AUDIENCE_CHANNEL: parts.queue.audience.on_signal}
    signals = Signals(parts.queue.redis, {**callbacks, **others}, on_connect=connected)

    async def prepare() -> None:
        await create_indexes(mongo)

    # SecantusDB 0.7 locks up when a write makes a collection while another process makes indexes on it, so what writes
    # by itself waits for the indexes.
    prepared = asyncio.create_task(until_done("creating indexes", prepare, every_s=START_PAUSE_S))
    loops = [
        prepared,
        asyncio.create_task(repeat("listening for signals", signals.run, every_s=START_PAUSE_S)),
        asyncio.create_task(repeat("keeping reports", parts.reporter.flush, every_s=report.INTERVAL_S)),
        asyncio.create_task(
            repeat("reading the settings of queues", parts.learner.learn, every_s=learn_settings.INTERVAL_S)
        ),
        asyncio.create_task(repeat("heartbeat", beat, every_s=BEAT_S, after=prepared)),
        asyncio.create_task(
            repeat("reconcile", parts.reconciler.run_once, every_s=reconcile.INTERVAL_S, after=prepared)
        ),
        asyncio.create_task(measure_lag(parts.metrics)),
        asyncio.create_task(repeat("schedules", parts.scheduler.run, every_s=RESTART_PAUSE_S, after=prepared)),
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        try:
            await parts.workers.leave(parts.id)
            await parts.reconciler.give_up()
            await parts.scheduler.give_up()
        except StoreUnavailable as error:
            logger.warning("Could not sign off: %s", error)
