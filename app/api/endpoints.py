"""Every endpoint, as data: the router, the OpenAPI document and the tests read this table."""

from http import HTTPStatus

from app.api import (
    docs,
    events,
    health,
    metrics,
    queues,
    schedules,
    selections,
    stats,
    submissions,
    tasks,
    types,
    workers,
)
from app.api.endpoint import Answer, Endpoint, Opening, Permission
from app.api.event_stream import MEDIA_TYPE
from app.core.errors import (
    IdempotencyKeyReused,
    QueueNotFound,
    ScheduleNotFound,
    StoreUnavailable,
    TaskNotFound,
    TooManyStreams,
    UniqueKeyTaken,
    WrongState,
)
from app.event_models import StreamedEvent
from app.models import Task
from app.schedule_models import Schedule
from app.services.observe import Stats
from app.services.queues import Queue

_OK, _CREATED, _UNAVAILABLE = HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.SERVICE_UNAVAILABLE
_NONE, _READ, _WRITE = Permission.NONE, Permission.READ, Permission.WRITE

_LOCATION = {"Location": "Path of the task."}
_BULK = submissions.BulkResult

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "POST", "/tasks", submissions.submit_task, "Submit a task", "tasks", _WRITE,
        {
            _CREATED: Answer("The task is kept and will run.", Task, _LOCATION),
            _OK: Answer("The task there is for the key, as it is now.", Task, _LOCATION, sometimes=submissions.INSTEAD),
        },
        (IdempotencyKeyReused, StoreUnavailable),
        examples=submissions.ONE_EXAMPLE,
    ),
    Endpoint(
        "POST", "/tasks/bulk", submissions.submit_tasks, "Submit up to 1,000 tasks", "tasks", _WRITE,
        {
            _OK: Answer("All are accepted, and for each there is a task with its key.", _BULK),
            _CREATED: Answer("All are accepted.", _BULK),
            HTTPStatus.MULTI_STATUS: Answer("Some are accepted.", _BULK),
            HTTPStatus.UNPROCESSABLE_ENTITY: Answer("None is accepted.", _BULK),
        },
        (StoreUnavailable,),
        examples=submissions.BULK_EXAMPLE,
    ),
    Endpoint(
        "GET", "/tasks", tasks.list_tasks, "List tasks, newest first", "tasks", _READ,
        {_OK: Answer("One page.", tasks.TaskPage)},
        (StoreUnavailable,),
    ),
    Endpoint(
        "POST", "/tasks/cancel", selections.cancel_tasks, "Cancel all tasks that match", "tasks", _WRITE,
        {_OK: Answer("How many; with a cursor where there may be more.", selections.CancelResult)},
        (StoreUnavailable,),
        examples=selections.CANCEL_EXAMPLE,
    ),
    Endpoint(
        "POST", "/tasks/retry", selections.retry_tasks, "Run all failed or cancelled tasks again that match", "tasks",
        _WRITE,
        {_OK: Answer("How many; with a cursor where there may be more.", selections.RetryResult)},
        (StoreUnavailable,),
        examples=selections.RETRY_EXAMPLE,
    ),
    Endpoint(
        "GET", "/tasks/{task_id}", tasks.get_task, "Read a task, or wait for its end", "tasks", _READ,
        {_OK: Answer("The task as it is.", Task)},
        (TaskNotFound, StoreUnavailable),
    ),
    Endpoint(
        "DELETE", "/tasks/{task_id}", tasks.delete_task, "Delete a task that has ended", "tasks", _WRITE,
        {HTTPStatus.NO_CONTENT: Answer("It is gone.")},
        (TaskNotFound, WrongState, StoreUnavailable),
    ),
    Endpoint(
        "POST", "/tasks/{task_id}/retry", tasks.retry_task, "Run a failed or cancelled task again", "tasks", _WRITE,
        {_OK: Answer("The task, pending again; its history stays.", Task)},
        (TaskNotFound, WrongState, UniqueKeyTaken, StoreUnavailable),
    ),
    Endpoint(
        "POST", "/tasks/{task_id}/cancel", tasks.cancel_task, "Cancel a task", "tasks", _WRITE,
        {_OK: Answer("The task: cancelled, or running with the cancel asked for.", Task)},
        (TaskNotFound, WrongState, StoreUnavailable),
    ),
    Endpoint(
        "GET", "/tasks/{task_id}/events", events.stream_task_events, "Follow a task to its end", "events", _READ,
        {
            _OK: Answer("Its state, then its changes; the schema is that of one event.", StreamedEvent,
                        media_type=MEDIA_TYPE),
            HTTPStatus.NO_CONTENT: Answer("It has ended, and the event given is the last one: do not come back."),
        },
        (TaskNotFound, TooManyStreams, StoreUnavailable),
    ),
    Endpoint(
        "GET", "/events", events.stream_events, "Follow every task", "events", _READ,
        {_OK: Answer("Changes; the schema is that of one event.", StreamedEvent, media_type=MEDIA_TYPE)},
        (TooManyStreams,),
    ),
    Endpoint(
        "GET", "/schedules", schedules.list_schedules, "List schedules by name", "schedules", _READ,
        {_OK: Answer("One page.", schedules.SchedulePage)},
        (StoreUnavailable,),
    ),
    Endpoint(
        "GET", "/schedules/{name}", schedules.get_schedule, "Read a schedule", "schedules", _READ,
        {_OK: Answer("The schedule as it is.", Schedule)},
        (ScheduleNotFound, StoreUnavailable),
    ),
    Endpoint(
        "PUT", "/schedules/{name}", schedules.put_schedule, "Create or replace a schedule", "schedules", _WRITE,
        {_CREATED: Answer("It is new.", Schedule), _OK: Answer("It was there and is replaced.", Schedule)},
        (StoreUnavailable,),
        examples=schedules.EXAMPLES,
    ),
    Endpoint(
        "DELETE", "/schedules/{name}", schedules.delete_schedule, "Delete a schedule", "schedules", _WRITE,
        {HTTPStatus.NO_CONTENT: Answer("It is gone; the tasks that it submitted stay.")},
        (ScheduleNotFound, StoreUnavailable),
    ),
    Endpoint(
        "POST", "/schedules/{name}/pause", schedules.pause_schedule, "Pause a schedule", "schedules", _WRITE,
        {_OK: Answer("The schedule, paused.", Schedule)},
        (ScheduleNotFound, StoreUnavailable),
    ),
    Endpoint(
        "POST", "/schedules/{name}/resume", schedules.resume_schedule, "Resume a schedule", "schedules", _WRITE,
        {_OK: Answer("The schedule, with its next slot.", Schedule)},
        (ScheduleNotFound, StoreUnavailable),
    ),
    Endpoint(
        "POST", "/schedules/{name}/run", schedules.run_schedule, "Submit its task now", "schedules", _WRITE,
        {
            _CREATED: Answer("The task is kept and will run.", Task, _LOCATION),
            _OK: Answer("The unfinished task that has its unique key.", Task, {**_LOCATION, **schedules.EXISTING}),
        },
        (ScheduleNotFound, StoreUnavailable),
    ),
    Endpoint(
        "GET", "/types", types.list_types, "List the task types", "service", _READ,
        {_OK: Answer("Every type, with the schema of its payload.", types.TypeList)},
    ),
    Endpoint(
        "GET", "/queues", queues.list_queues, "List the queues", "queues", _READ,
        {_OK: Answer("Every queue, with its figures and settings.", queues.QueueList)},
        (StoreUnavailable,),
    ),
    Endpoint(
        "GET", "/queues/{name}", queues.get_queue, "Read a queue", "queues", _READ,
        {_OK: Answer("The queue as it is.", Queue)},
        (QueueNotFound, StoreUnavailable),
    ),
    Endpoint(
        "PATCH", "/queues/{name}", queues.change_queue, "Pause, resume or limit a queue", "queues", Permission.ADMIN,
        {_OK: Answer("The queue with its settings, which hold from now on.", Queue)},
        (QueueNotFound, StoreUnavailable),
        examples=queues.EXAMPLES,
    ),
    Endpoint(
        "GET", "/workers", workers.list_workers, "List the workers that are alive", "service", _READ,
        {_OK: Answer("Who serves what.", workers.WorkerList)},
        (StoreUnavailable,),
    ),
    Endpoint(
        "GET", "/stats", stats.get_stats, "Count tasks, queues and workers", "service", _READ,
        {_OK: Answer("The counts.", Stats)},
        (StoreUnavailable,),
    ),
    Endpoint(
        "GET", "/metrics", metrics.get_metrics, "Metrics for Prometheus", "service", _READ,
        {_OK: Answer("Prometheus' text format.", str, media_type="text/plain")},
        opening=Opening.METRICS,
    ),
    Endpoint(
        "GET", "/health", health.get_health, "How well the service works", "service", _READ,
        {
            _OK: Answer("Tasks are accepted.", health.HealthReport),
            _UNAVAILABLE: Answer("Tasks are not accepted.", health.HealthReport),
        },
        opening=Opening.HEALTH,
    ),
    Endpoint(
        "GET", "/health/live", health.get_liveness, "Whether the process answers", "service", _NONE,
        {_OK: Answer("It does.", health.Live)},
    ),
    Endpoint(
        "GET", "/health/ready", health.get_readiness, "Whether tasks can be accepted", "service", _NONE,
        {
            _OK: Answer("They can.", health.Ready),
            _UNAVAILABLE: Answer("MongoDB does not answer.", health.Ready),
        },
    ),
    Endpoint(
        "GET", "/openapi.json", docs.get_openapi, "The OpenAPI document", "documentation", _NONE,
        {_OK: Answer("OpenAPI 3.1.")}, documented=False,
    ),
    Endpoint(
        "GET", "/docs", docs.get_docs, "The documentation as a page", "documentation", _NONE,
        {_OK: Answer("A page.")}, documented=False,
    ),
    Endpoint(
        "GET", "/docs/page.js", docs.get_docs_script, "Its script", "documentation", _NONE,
        {_OK: Answer("A script.")}, documented=False,
    ),
    Endpoint(
        "GET", "/docs/page.css", docs.get_docs_style, "Its style", "documentation", _NONE,
        {_OK: Answer("A style sheet.")}, documented=False,
    ),
)  # fmt: skip
