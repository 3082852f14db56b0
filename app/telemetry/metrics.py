"""Counts what one process does, for a microsecond or two a task.

Each metric is written by one thread: those of leases by the thread that renews them, all others by the event loop.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from app.core.attempt import Attempt, Settlement
from app.core.outcomes import AttemptOutcome, Cancelled, Completed, ErrorCode, Failed, Outcome, Released, Rescheduled
from app.telemetry import catalogue
from app.telemetry.catalogue import Operation, Role, SlotOutcome, Spec
from app.telemetry.instruments import Count, Counter, Distribution, Histogram
from app.telemetry.version import VERSION

MAX_QUEUES = 100
"""Queues that a process tells apart: clients make queues, and Prometheus keeps a series for each."""

OTHER = "(other)"
"""The label of all further ones; no queue can have this name."""


class Metrics:
    """The metrics of one process.

    Args:
        role: What kind of process; it has the metrics of its role only.
    """

    def __init__(self, role: Role) -> None:
        self.role = role
        self.registry = CollectorRegistry()
        self._queues: set[str] = set()
        self._attempts_of: dict[tuple[str, str, str], tuple[Count, Distribution]] = {}
        self._finished_of: dict[tuple[str, str, str], tuple[Count, Distribution]] = {}
        self._waits_of: dict[str, Distribution] = {}
        self._accepted_of: dict[tuple[str, str], Count] = {}
        self._requests_of: dict[tuple[str, str, int], tuple[Count, Distribution]] = {}
        self._accepted = self._counter(catalogue.ACCEPTED)
        self._finished = self._counter(catalogue.FINISHED)
        self._attempts = self._counter(catalogue.ATTEMPTS)
        self._wait = self._histogram(catalogue.WAIT)
        self._run = self._histogram(catalogue.RUN)
        self._total = self._histogram(catalogue.TOTAL)
        batches = self._histogram(catalogue.BATCHES)
        self._batches = {operation: batches.labels(operation) for operation in _OPERATIONS[role]}
        self._late = self._counter(catalogue.LATE).labels()
        self._slots = self._gauge(catalogue.SLOTS)
        self._slots_used = self._gauge(catalogue.SLOTS_USED)
        self._renewed = self._counter(catalogue.LEASES_RENEWED).labels()
        self._lost = self._counter(catalogue.LEASES_LOST).labels()
        self._taken_over = self._counter(catalogue.LEASES_TAKEN_OVER)
        self._passes = self._counter(catalogue.RECONCILE_PASSES)
        self._offered = self._counter(catalogue.RECONCILE_OFFERED).labels()
        slots = self._counter(catalogue.SCHEDULE_SLOTS)
        self._scheduled = {outcome: slots.labels(outcome) for outcome in SlotOutcome}
        self._lateness = self._histogram(catalogue.SCHEDULE_LATENESS).labels()
        self._requests = self._counter(catalogue.REQUESTS)
        self._request_time = self._histogram(catalogue.REQUEST_TIME)
        self._lag = self._histogram(catalogue.LOOP_LAG).labels()
        self._gauge(catalogue.INFO).labels(role, VERSION).set(1)
        for kind in ("window", "rebuild"):
            self._passes.labels(kind)  # from 0 on: Prometheus sees no increase in a series that begins with 1
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)

    # What another role counts is made as well, so that every method works in every role, but not registered.

    def _counter(self, spec: Spec) -> Counter:
        counter = Counter(spec)
        if self.role in spec.roles:
            self.registry.register(counter)
        return counter

    def _histogram(self, spec: Spec) -> Histogram:
        histogram = Histogram(spec)
        if self.role in spec.roles:
            self.registry.register(histogram)
        return histogram

    def _gauge(self, spec: Spec) -> Gauge:
        registry = self.registry if self.role in spec.roles else None
        return Gauge(spec.name, spec.meaning, spec.labels, registry=registry)

    def _queue(self, name: str) -> str:
        if name not in self._queues:
            if len(self._queues) >= MAX_QUEUES:
                return OTHER
            self._queues.add(name)
        return name

    def accepted(self, type: str, queue: str) -> None:  # noqa: A002
        """A new task was kept."""
        key = (type, self._queue(queue))
        counter = self._accepted_of.get(key)
        if counter is None:
            counter = self._accepted_of[key] = self._accepted.labels(*key)
        counter.inc()

    def begun(self, attempt: Attempt) -> None:
        """An attempt was begun here."""
        queue = self._queue(attempt.queue)
        if attempt.taken_over:
            self._taken_over.labels(queue).inc()
            self._attempts.labels(attempt.type, queue, AttemptOutcome.LOST).inc()
            return
        wait = self._waits_of.get(queue)
        if wait is None:
            wait = self._waits_of[queue] = self._wait.labels(queue)
        wait.observe(_seconds(attempt.run_at, attempt.started_at))

    def settled(self, settlement: Settlement) -> None:
        """An attempt has ended here, and its outcome was recorded."""
        attempt, outcome = settlement.attempt, settlement.outcome
        key = (attempt.type, self._queue(attempt.queue), label_of(outcome))
        found = self._attempts_of.get(key)
        if found is None:
            found = self._attempts_of[key] = (self._attempts.labels(*key), self._run.labels(attempt.type))
        found[0].inc()
        found[1].observe(_seconds(attempt.started_at, settlement.finished_at))
        if isinstance(outcome, Rescheduled | Released):
            return
        if isinstance(outcome, Cancelled):
            key = (*key[:2], AttemptOutcome.CANCELLED)
        found = self._finished_of.get(key)
        if found is None:
            found = self._finished_of[key] = (self._finished.labels(*key), self._total.labels(attempt.type))
        found[0].inc()
        found[1].observe(_seconds(attempt.created_at, settlement.finished_at))

    def ended_unrun(self, type: str, queue: str, outcome: str, *, lost_attempt: bool = False) -> None:  # noqa: A002
        """A task has ended without a handler's end: cancelled, expired, or lost with its workers.

        Args:
            type: Of the task.
            queue: Of the task.
            outcome: See `catalogue.FINISHED`.
            lost_attempt: Whether it was running under a lease that had lapsed.
        """
        queue = self._queue(queue)
        if lost_attempt:
            self._taken_over.labels(queue).inc()
            self._attempts.labels(type, queue, AttemptOutcome.LOST).inc()
        self._finished.labels(type, queue, outcome).inc()

    def late(self, count: int) -> None:
        """Outcomes were not recorded: other leases held their tasks."""
        self._late.inc(count)

    def batch(self, operation: Operation, size: int) -> None:
        """So many shared a round trip."""
        if size:
            self._batches[operation].observe(size)

    def leases(self, *, renewed: int, lost: int) -> None:
        """Leases were renewed, and others found to be lost."""
        self._renewed.inc(renewed)
        self._lost.inc(lost)

    def reconciled(self, *, full: bool, offered: int) -> None:
        """A pass of the reconciler has gone through."""
        self._passes.labels("rebuild" if full else "window").inc()
        self._offered.inc(offered)

    def slot_submitted(self, slot: datetime, kept_at: datetime) -> None:
        """The task of a schedule's slot was kept."""
        self._scheduled[SlotOutcome.SUBMITTED].inc()
        self._lateness.observe(_seconds(slot, kept_at))

    def slots_left_out(self, outcome: SlotOutcome, count: int = 1) -> None:
        """Slots of a schedule came to no task of their own."""
        self._scheduled[outcome].inc(count)

    def requested(self, method: str, endpoint: str, status: int, seconds: float) -> None:
        """A request was answered."""
        found = self._requests_of.get((method, endpoint, status))
        if found is None:
            found = (self._requests.labels(method, endpoint, str(status)), self._request_time.labels(method, endpoint))
            self._requests_of[method, endpoint, status] = found
        counter, histogram = found
        counter.inc()
        histogram.observe(seconds)

    def lagged(self, seconds: float) -> None:
        """The event loop was late by so much."""
        self._lag.observe(seconds)

    def watch_slots(self, slots: int, used: Callable[[], int]) -> None:
        """Show how many slots there are, and at each scrape how many of them are taken."""
        self._slots.set(slots)
        self._slots_used.set_function(used)


def label_of(outcome: Outcome) -> AttemptOutcome:
    """How an attempt ended, in the words of a task's history."""
    match outcome:
        case Completed():
            return AttemptOutcome.COMPLETED
        case Cancelled(instead_of=ended):
            return AttemptOutcome.CANCELLED if ended is None else label_of(ended)
        case Released():
            return AttemptOutcome.RELEASED
        case Failed(failure=failure) | Rescheduled(failure=failure):
            return AttemptOutcome.TIMED_OUT if failure.code is ErrorCode.TIMED_OUT else AttemptOutcome.FAILED


def _seconds(start: datetime, end: datetime) -> float:
    """Clocks of machines differ: nothing takes less than no time."""
    return max(0.0, (end - start).total_seconds())


_OPERATIONS: Mapping[Role, tuple[Operation, ...]] = {
    Role.WEB: (Operation.INSERT, Operation.DISPATCH),
    Role.WORKER: (Operation.INSERT, Operation.DISPATCH, Operation.CLAIM, Operation.BEGIN, Operation.SETTLE),
}
