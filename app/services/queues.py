"""Queues as clients see them: their figures and settings, and how the settings are changed."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from app.core.clock import utc_now
from app.core.errors import QueueNotFound, QueueUnavailable
from app.core.ids import QueueName
from app.core.queue_settings import QueueSettings, Rate
from app.services.backend import Backend
from app.services.figures import QueueFigures, count_queues
from app.services.recount import Counted
from app.store.counts import CountStore
from app.store.workers import WorkerDocument

logger = logging.getLogger(__name__)

TELL_PATIENCE_S = 1.0
"""How long the answer to a change waits for Redis."""


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue.

    Attributes:
        name: What tasks and `QUEUES` call it.
        paused: Whether nothing starts; what runs goes on.
        max_running: The most tasks that run at the same time, over all workers; null for no limit.
        rate: How many tasks start in a time, over all workers; null for no limit.
        ready: Tasks that could start now, but for the settings and for free workers.
        deferred: Tasks that wait for their time, or for their next attempt.
        running: Tasks that a worker has.
        oldest_ready_seconds: How long the oldest ready task has been waiting; 0 when none is.
        workers: How many workers serve it.
    """

    name: str
    paused: bool
    max_running: int | None
    rate: Rate | None
    ready: int
    deferred: int
    running: int
    oldest_ready_seconds: float
    workers: int


@dataclass(frozen=True, slots=True)
class Overview:
    """Every queue, who is alive, and what was counted when; None while the first count goes on."""

    settings: dict[str, QueueSettings]
    workers: list[WorkerDocument]
    figures: Counted[dict[str, QueueFigures]] | None

    @property
    def age_s(self) -> float | None:
        """How many seconds old the figures are."""
        return None if self.figures is None else self.figures.age.total_seconds()

    def queues(self) -> list[Queue]:
        """The queues, by name."""
        return [self.queue(name) for name in sorted(self.settings)]

    def queue(self, name: str) -> Queue:
        """One of them."""
        settings = self.settings[name]
        figures = QueueFigures() if self.figures is None else self.figures.figures.get(name, QueueFigures())
        oldest_at = figures.oldest_ready_at
        return Queue(
            name=name,
            paused=settings.paused,
            max_running=settings.max_running,
            rate=settings.rate,
            ready=figures.ready,
            deferred=figures.deferred,
            running=figures.running,
            oldest_ready_seconds=0.0 if oldest_at is None else max(0.0, (utc_now() - oldest_at).total_seconds()),
            workers=sum(name in worker["queues"] for worker in self.workers),
        )


async def look(backend: Backend) -> Overview:
    """Every queue that a task was ever put in, that something is set on, or that a worker serves.

    Raises:
        StoreUnavailable: MongoDB cannot serve.
    """
    known, workers = await asyncio.gather(
        backend.queues.all(), backend.workers.alive(now=utc_now(), within=backend.worker_silence)
    )
    settings = {each.name: each for each in known}
    for worker in workers:
        for name in worker["queues"]:
            settings.setdefault(name, QueueSettings(name))
    store, names = CountStore(backend.mongo), sorted(settings)
    figures = await backend.figures.queues.get(lambda: count_queues(store, backend.queue, names))
    return Overview(settings, workers, figures)


async def get_queue(backend: Backend, name: QueueName) -> Queue:
    """One queue.

    Raises:
        QueueNotFound: there is none of this name.
        StoreUnavailable: MongoDB cannot serve.
    """
    overview = await look(backend)
    if name not in overview.settings:
        raise QueueNotFound(name)
    return overview.queue(name)


async def change_queue(backend: Backend, name: QueueName, change: Callable[[QueueSettings], QueueSettings]) -> Queue:
    """Change settings of a queue, which need not have had a task yet: MongoDB first, Redis second.

    Without Redis the change is kept, and reconcile tells Redis when it is back.

    Args:
        backend: What to work on.
        name: The queue.
        change: Makes the new settings of the old; may be called again when somebody else was faster.

    Raises:
        StoreUnavailable: MongoDB cannot serve.
    """
    kept = await _keep(backend, name, change)
    if kept.version:
        try:
            async with asyncio.timeout(TELL_PATIENCE_S):
                await backend.queue.settings.tell(kept)
        except (QueueUnavailable, TimeoutError) as error:
            reason = str(error) or f"no answer within {TELL_PATIENCE_S:g} s"
            logger.warning("The settings of queue %s are kept, Redis will hear of them later: %s", name, reason)
    return await get_queue(backend, name)


async def _keep(backend: Backend, name: QueueName, change: Callable[[QueueSettings], QueueSettings]) -> QueueSettings:
    while True:
        found = await backend.queues.get(name)
        if found is None:
            await backend.queues.note({name})
        old = found or QueueSettings(name)
        new = change(old)
        if new == old:
            return old
        kept = await backend.queues.change(old, new, now=utc_now())
        if kept is not None:
            logger.info("Queue %s: paused %s, max_running %s, rate %s", name, new.paused, new.max_running, new.rate)
            return kept
