"""Every metric, as data: the registry of a process and docs/metrics.md are made from this table."""

from dataclasses import dataclass
from enum import StrEnum

QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds, for what a person or a client waits for."""

LONG = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    900.0,
    3600.0,
    14_400.0,
    86_400.0,
)
"""Seconds, for tasks: a handler may run for a day."""

SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
"""Items in a batch."""


class Role(StrEnum):
    """What kind of process it is."""

    WEB = "web"
    WORKER = "worker"


class Kind(StrEnum):
    """How Prometheus treats the values."""

    COUNTER = "counter"  # only grows while the process lives
    GAUGE = "gauge"  # is what it is at the moment of the scrape
    HISTOGRAM = "histogram"  # counts by upper bound, with a sum and a count


class Operation(StrEnum):
    """What is done in batches."""

    INSERT = "insert"  # new tasks that share an insert into MongoDB
    DISPATCH = "dispatch"  # new tasks that share a pipeline to Redis
    CLAIM = "claim"  # ids that a worker took with one script; empty claims are not counted
    BEGIN = "begin"  # of a claim, those that were marked running together
    SETTLE = "settle"  # outcomes that share a write to MongoDB


class SlotOutcome(StrEnum):
    """What became of a slot of a schedule."""

    SUBMITTED = "submitted"  # its task was kept
    EXISTING = "existing"  # an unfinished task has the unique key, and stands for it
    MISSED = "missed"  # it was found too late, and is left out


WEB, WORKER, BOTH = (Role.WEB,), (Role.WORKER,), (Role.WEB, Role.WORKER)


@dataclass(frozen=True, slots=True)
class Spec:
    """One metric.

    Attributes:
        name: As it is scraped; histograms have `_bucket`, `_sum` and `_count` after it.
        kind: See `Kind`.
        roles: Which processes have it.
        labels: Their names.
        meaning: One line, shown as its HELP.
        buckets: Upper bounds of a histogram.
    """

    name: str
    kind: Kind
    roles: tuple[Role, ...]
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()


ACCEPTED = Spec(
    "arqive_tasks_accepted_total",
    Kind.COUNTER,
    BOTH,
    ("type", "queue"),
    "New tasks that were kept; in workers those of schedules.",
)
FINISHED = Spec(
    "arqive_tasks_finished_total",
    Kind.COUNTER,
    BOTH,
    ("type", "queue", "outcome"),
    "Tasks that ended: completed, failed, timed_out, expired, lost or cancelled. Who ended one counts it.",
)
ATTEMPTS = Spec(
    "arqive_attempts_total",
    Kind.COUNTER,
    WORKER,
    ("type", "queue", "outcome"),
    "Attempts that ended: completed, failed, timed_out, cancelled, released, or lost with another worker.",
)
WAIT = Spec(
    "arqive_task_wait_seconds",
    Kind.HISTOGRAM,
    WORKER,
    ("queue",),
    "From the moment an attempt was due until it began; attempts taken over from a lost worker are left out.",
    LONG,
)
RUN = Spec(
    "arqive_task_run_seconds",
    Kind.HISTOGRAM,
    WORKER,
    ("type",),
    "From an attempt's begin until its handler's end.",
    LONG,
)
TOTAL = Spec(
    "arqive_task_total_seconds",
    Kind.HISTOGRAM,
    WORKER,
    ("type",),
    "From a task's acceptance until its end, delays and retries included.",
    LONG,
)
BATCHES = Spec(
    "arqive_batch_size",
    Kind.HISTOGRAM,
    BOTH,
    ("operation",),
    "How many share a round trip: insert and dispatch of new tasks; claim, begin and settle in workers.",
    SIZES,
)
LATE = Spec(
    "arqive_outcomes_late_total",
    Kind.COUNTER,
    WORKER,
    (),
    "Outcomes that were not recorded because another lease held the task by then; no other metric counts them.",
)
SLOTS = Spec("arqive_worker_slots", Kind.GAUGE, WORKER, (), "Tasks that the worker may run at the same time.")
SLOTS_USED = Spec("arqive_worker_slots_used", Kind.GAUGE, WORKER, (), "Slots that are taken.")
LEASES_RENEWED = Spec("arqive_leases_renewed_total", Kind.COUNTER, WORKER, (), "Renewals of leases.")
LEASES_LOST = Spec(
    "arqive_leases_lost_total",
    Kind.COUNTER,
    WORKER,
    (),
    "Running attempts that were stopped because another worker had taken their task.",
)
LEASES_TAKEN_OVER = Spec(
    "arqive_leases_taken_over_total",
    Kind.COUNTER,
    WORKER,
    ("queue",),
    "Lapsed leases of lost workers that were taken over, one a task.",
)
RECONCILE_PASSES = Spec(
    "arqive_reconcile_passes_total",
    Kind.COUNTER,
    BOTH,
    ("kind",),
    "Finished passes of the reconciler: window (short) or rebuild (Redis is told of everything).",
)
RECONCILE_OFFERED = Spec(
    "arqive_reconcile_offered_total", Kind.COUNTER, BOTH, (), "Tasks that the reconciler offered to Redis."
)
SCHEDULE_SLOTS = Spec(
    "arqive_schedule_slots_total",
    Kind.COUNTER,
    BOTH,
    ("outcome",),
    "Slots of schedules: submitted; existing, where an unfinished task had the unique key; or missed, found too late "
    "and left out. Those of a pause are not counted.",
)
SCHEDULE_LATENESS = Spec(
    "arqive_schedule_lateness_seconds",
    Kind.HISTOGRAM,
    BOTH,
    (),
    "From a slot's time until its task was kept; slots that are made up for are in it.",
    LONG,
)
REQUESTS = Spec(
    "arqive_http_requests_total",
    Kind.COUNTER,
    WEB,
    ("method", "endpoint", "status"),
    "Answered requests; endpoint is the path with its parameters as names.",
)
REQUEST_TIME = Spec(
    "arqive_http_request_seconds",
    Kind.HISTOGRAM,
    WEB,
    ("method", "endpoint"),
    "From a request's headers until its answer; a GET with ?wait counts as an endpoint of its own.",
    QUICK,
)
LOOP_LAG = Spec(
    "arqive_event_loop_lag_seconds",
    Kind.HISTOGRAM,
    BOTH,
    (),
    "How late the event loop woke from a short sleep, measured once a second: what blocks it shows here.",
    QUICK,
)
INFO = Spec("arqive_info", Kind.GAUGE, BOTH, ("role", "version"), "Always 1.")

_SAME = "The same in every web: take the max over instances, not the sum."
QUEUE_READY = Spec("arqive_queue_ready", Kind.GAUGE, WEB, ("queue",), f"Tasks that could run now. {_SAME}")
QUEUE_DEFERRED = Spec("arqive_queue_deferred", Kind.GAUGE, WEB, ("queue",), f"Tasks that wait for their time. {_SAME}")
QUEUE_RUNNING = Spec("arqive_queue_running", Kind.GAUGE, WEB, ("queue",), f"Tasks that run. {_SAME}")
QUEUE_OLDEST = Spec(
    "arqive_queue_oldest_ready_seconds",
    Kind.GAUGE,
    WEB,
    ("queue",),
    f"How long the oldest ready task has been waiting; 0 when none is. {_SAME}",
)
QUEUE_PAUSED = Spec("arqive_queue_paused", Kind.GAUGE, WEB, ("queue",), f"1 while the queue is paused. {_SAME}")
TASKS = Spec("arqive_tasks", Kind.GAUGE, WEB, ("status",), f"Stored tasks by status. {_SAME}")
WORKERS = Spec("arqive_workers", Kind.GAUGE, WEB, (), f"Workers that are alive. {_SAME}")
SCHEDULE_OLDEST_DUE = Spec(
    "arqive_schedule_oldest_due_seconds",
    Kind.GAUGE,
    WEB,
    (),
    f"How long the slot that has been due longest waits to be submitted; 0 when none does. {_SAME}",
)
COUNTS_AGE = Spec(
    "arqive_counts_age_seconds",
    Kind.GAUGE,
    WEB,
    ("of",),
    "How old the counts of queues and of tasks are: a count that takes long is made less often.",
)
PROCESS_UP = Spec(
    "arqive_process_up", Kind.GAUGE, BOTH, ("process",),
    "With --processes: whether the process told its metrics for this answer.",
)  # fmt: skip

COUNTED = (
    ACCEPTED, FINISHED, ATTEMPTS, WAIT, RUN, TOTAL, BATCHES, LATE, SLOTS, SLOTS_USED, LEASES_RENEWED, LEASES_LOST,
    LEASES_TAKEN_OVER, RECONCILE_PASSES, RECONCILE_OFFERED, SCHEDULE_SLOTS, SCHEDULE_LATENESS, REQUESTS, REQUEST_TIME,
    LOOP_LAG, INFO,
)  # fmt: skip
"""What each process counts for itself."""

SHARED = (
    QUEUE_READY, QUEUE_DEFERRED, QUEUE_RUNNING, QUEUE_OLDEST, QUEUE_PAUSED, TASKS, WORKERS, SCHEDULE_OLDEST_DUE,
    COUNTS_AGE,
)  # fmt: skip
"""What is read from MongoDB, and the same whoever answers."""

CATALOGUE = (*COUNTED, PROCESS_UP, *SHARED)
"""Every metric of Arqive's own, in the order of the documentation."""
