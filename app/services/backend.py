"""What the verbs of the API work on."""

from dataclasses import dataclass, field
from datetime import timedelta

from app.core.task_type import TaskTypes
from app.queue.task_queue import TaskQueue
from app.services.accept import Acceptor
from app.services.callbacks import Callbacks
from app.services.figures import Figures
from app.services.live import Live
from app.services.wait import Endings
from app.store.mongo import Mongo
from app.store.queues import QueueStore
from app.store.schedules import ScheduleStore
from app.store.tasks import TaskStore
from app.store.workers import WorkerStore
from app.telemetry.exposition import Exposition
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Backend:
    """One process' access to the service.

    Attributes:
        mongo: The connection.
        tasks: The tasks.
        schedules: The schedules.
        workers: Who is alive.
        queue: Redis.
        acceptor: Takes tasks in.
        endings: Tells when tasks become terminal.
        live: Tells every change.
        types: The registered types.
        retention: How long a finished task is kept, or None for ever.
        callbacks: What follows from ends.
        signs_callbacks: Whether there is a secret to sign callbacks with.
        metrics: Counts what this process does.
        exposition: Tells it.
        tracing: Knows which trace a request belongs to.
        worker_silence: A worker that was not seen for this long counts as gone.
        figures: What was counted last.
    """

    mongo: Mongo
    tasks: TaskStore
    schedules: ScheduleStore
    workers: WorkerStore
    queue: TaskQueue
    acceptor: Acceptor
    endings: Endings
    live: Live
    types: TaskTypes
    retention: timedelta | None
    callbacks: Callbacks
    metrics: Metrics
    exposition: Exposition
    tracing: Tracing
    signs_callbacks: bool = False
    worker_silence: timedelta = timedelta(seconds=15)
    figures: Figures = field(default_factory=Figures)

    @property
    def queues(self) -> QueueStore:
        """The names and settings of queues."""
        return QueueStore(self.mongo)
