"""Answers a scrape: what the processes count, and what MongoDB holds."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from app.core.clock import utc_now
from app.core.errors import StoreUnavailable
from app.services.backend import Backend
from app.services.observe import QueueStats, Stats, collect_stats
from app.telemetry import catalogue
from app.telemetry.catalogue import Spec
from app.telemetry.metrics import MAX_QUEUES, OTHER

logger = logging.getLogger(__name__)

PATIENCE_S = 3.0
"""How long a scrape waits for the counts; it has ten seconds by default, and everything else is worth having too."""


async def expose(backend: Backend) -> bytes:
    """The metrics of web in Prometheus' text format; without MongoDB, what is counted here alone."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            stats, due_longest = await asyncio.gather(
                collect_stats(backend), backend.schedules.due_longest(now=utc_now())
            )
    except (StoreUnavailable, TimeoutError) as error:
        logger.debug("Counts are missing from a scrape: %r", error)
        return await backend.exposition.text()
    return await backend.exposition.text([*families_of(stats), _oldest_due(due_longest)])


def families_of(stats: Stats) -> list[Metric]:
    """The counts as metrics; of more than MAX_QUEUES queues, those with the least in them are one."""
    queues = _bounded(stats.queues)
    columns: list[tuple[Spec, Callable[[QueueStats], float]]] = [
        (catalogue.QUEUE_READY, lambda queue: queue.ready),
        (catalogue.QUEUE_DEFERRED, lambda queue: queue.deferred),
        (catalogue.QUEUE_RUNNING, lambda queue: queue.running),
        (catalogue.QUEUE_OLDEST, lambda queue: queue.oldest_ready_seconds),
        (catalogue.QUEUE_PAUSED, lambda queue: queue.paused),
    ]
    families: list[Metric] = []
    for spec, value in columns:
        family = _family(spec)
        for name, queue in queues.items():
            family.add_metric([name], value(queue))
        families.append(family)
    tasks, workers = _family(catalogue.TASKS), _family(catalogue.WORKERS)
    for status, count in stats.tasks.items():
        tasks.add_metric([status], count)
    workers.add_metric([], stats.workers)
    age = _family(catalogue.COUNTS_AGE)
    for what, seconds in (("queues", stats.queues_age_seconds), ("tasks", stats.tasks_age_seconds)):
        if seconds is not None:
            age.add_metric([what], seconds)
    return [*families, tasks, workers, age]


def _oldest_due(since: datetime | None) -> Metric:
    family = _family(catalogue.SCHEDULE_OLDEST_DUE)
    family.add_metric([], 0.0 if since is None else max(0.0, (utc_now() - since).total_seconds()))
    return family


def _family(spec: Spec) -> GaugeMetricFamily:
    return GaugeMetricFamily(spec.name, spec.meaning, labels=spec.labels)


def _bounded(queues: dict[str, QueueStats]) -> dict[str, QueueStats]:
    if len(queues) <= MAX_QUEUES:
        return queues
    busiest = sorted(queues, key=lambda name: queues[name].ready + queues[name].deferred + queues[name].running)
    rest, kept = busiest[:-MAX_QUEUES], sorted(busiest[-MAX_QUEUES:])
    others = [queues[name] for name in rest]
    return {
        **{name: queues[name] for name in kept},
        OTHER: QueueStats(
            ready=sum(queue.ready for queue in others),
            deferred=sum(queue.deferred for queue in others),
            running=sum(queue.running for queue in others),
            oldest_ready_seconds=max(queue.oldest_ready_seconds for queue in others),
            paused=any(queue.paused for queue in others),
        ),
    }
