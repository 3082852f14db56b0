"""Every index, by name, with the query that it carries."""

from dataclasses import dataclass
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel

from app.store.expiry import FIRST_MOMENT
from app.store.key_holders import IDEMPOTENT, UNFINISHED_ONLY, UNIQUE
from app.store.mongo import Mongo, store_errors


@dataclass(frozen=True, slots=True)
class Index:
    """One index.

    Attributes:
        collection: Where it is.
        name: Its name in MongoDB; a changed definition needs a new name.
        keys: The fields and their directions.
        serves: The query that it carries.
        options: What MongoDB's createIndexes takes besides.
    """

    collection: str
    name: str
    keys: tuple[tuple[str, int], ...]
    serves: str
    options: dict[str, Any]


def _newest(field: str) -> tuple[tuple[str, int], ...]:
    return ((field, ASCENDING), ("_id", DESCENDING))


INDEXES: tuple[Index, ...] = (
    Index("tasks", "status_newest", _newest("status"), "GET /tasks?status=, counts by status", {}),
    Index("tasks", "type_newest", _newest("type"), "GET /tasks?type=", {}),
    Index("tasks", "queue_newest", _newest("queue"), "GET /tasks?queue=", {}),
    Index(
        "tasks",
        "tag_newest",
        _newest("tags"),
        "GET /tasks?tag=; tasks without tags cost nothing here",
        {"partialFilterExpression": {"tags": {"$gt": ""}}},
    ),
    Index(
        "tasks",
        "error_newest",
        _newest("error.code"),
        "GET /tasks?error_code=",
        {"partialFilterExpression": {"error.code": {"$gt": ""}}},
    ),
    Index(
        "tasks",
        "queue_status_run_at",
        (("queue", ASCENDING), ("status", ASCENDING), ("run_at", ASCENDING), ("_id", ASCENDING)),
        "what is ready, deferred and running in a queue",
        {},
    ),
    Index(
        "tasks",
        "status_run_at",
        (("status", ASCENDING), ("run_at", ASCENDING)),
        "what became due since reconcile looked last, whatever the queue",
        {},
    ),
    Index(
        "tasks",
        "callback_owed",
        (("callback.owed", ASCENDING), ("status", ASCENDING)),
        "tasks that have ended and whose callback is still to be sent",
        {"partialFilterExpression": {"callback.owed": True}},
    ),
    Index(
        "tasks",
        "idempotency_key",
        (("idempotency.key", ASCENDING),),
        "one task for each idempotency key",
        {"unique": True, "partialFilterExpression": IDEMPOTENT},
    ),
    Index(
        "tasks",
        "unique_key_unfinished",
        (("unique_key", ASCENDING),),
        "one unfinished task for each unique key",
        {"unique": True, "partialFilterExpression": {**UNIQUE, **UNFINISHED_ONLY}},
    ),
    Index(
        "tasks",
        "changed",
        (("updated_at", ASCENDING), ("_id", ASCENDING)),
        "GET /events: what has changed since an event, and lately",
        {},
    ),
    Index(
        "tasks",
        "status_start_before",
        (("status", ASCENDING), ("start_before", ASCENDING)),
        "what waits although its start_before has passed; tasks without one cost nothing here",
        {"partialFilterExpression": {"start_before": {"$gt": FIRST_MOMENT}}},
    ),
    Index(
        "tasks",
        "expired",
        (("expire_at", ASCENDING),),
        "removal of finished tasks; unfinished ones cost nothing here",
        {"expireAfterSeconds": 0, "partialFilterExpression": {"expire_at": {"$gt": FIRST_MOMENT}}},
    ),
    Index(
        "tasks",
        "schedule_newest",
        _newest("schedule.name"),
        "GET /tasks?schedule=",
        # Not `$exists`: SecantusDB 0.7 does not see that an index with it carries the query.
        {"partialFilterExpression": {"schedule.name": {"$gt": ""}}},
    ),
    Index("schedules", "due", (("due_at", ASCENDING),), "which schedules somebody should look at", {}),
    Index(
        "workers", "silence", (("seen_at", ASCENDING),), "removal of workers that went away", {"expireAfterSeconds": 60}
    ),
)


async def create_indexes(mongo: Mongo) -> None:
    """Create what is missing; creating an index that exists changes nothing, so every process may call this.

    Raises:
        StoreUnavailable: MongoDB does not answer.
    """
    with store_errors():
        for collection in dict.fromkeys(index.collection for index in INDEXES):  # tasks first: clients wait for them
            models = [
                IndexModel(list(index.keys), name=index.name, **index.options)
                for index in INDEXES
                if index.collection == collection
            ]
            await mongo.collection(collection).create_indexes(models)
