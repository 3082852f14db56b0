"""Calls back: turns the end of a task into a task that delivers the news, and the end of that one into a state."""

import logging
from collections.abc import Sequence
from typing import Any

from bson import ObjectId
from pydantic_core import to_json, to_jsonable_python

from app.core import limits
from app.core.callbacks import DELIVER_TYPE, CallbackState, deliverer_of
from app.core.clock import utc_now
from app.core.errors import QueueUnavailable, StoreRefused, StoreUnavailable
from app.core.faults import FaultPoint, reach
from app.core.ids import TaskId
from app.core.states import Status
from app.core.task_type import TaskTypes
from app.models import Submission
from app.queue.task_queue import TaskQueue
from app.services.accept import entry_of
from app.services.batch import Batcher
from app.services.create import document_of
from app.store.callbacks import CallbackStore, Step
from app.store.documents import TaskDocument
from app.store.mongo import Mongo
from app.store.tasks import TaskStore

logger = logging.getLogger(__name__)

BATCH = 100

MAX_BATCHES = 50
"""What one pass draws at most: it shares its time with the rest of reconcile."""


class Callbacks:
    """Draws the consequences of ends.

    That a callback is owed is in the task's document before it ends, so nothing is lost between an end and what is
    done here: whoever looks next finds it. Each step may be made twice. The task that delivers has an id that follows
    from the end it is for, so that inserting it again changes nothing, and what is noted is noted once a round.

    Args:
        mongo: The connection.
        queue: Where workers look for tasks.
        types: The registered types.
    """

    def __init__(self, mongo: Mongo, queue: TaskQueue, types: TaskTypes) -> None:
        self._store = CallbackStore(mongo)
        self._tasks = TaskStore(mongo)
        self._queue = queue
        self._types = types
        self._ended: Batcher[TaskId] = Batcher(self._follow, limit=BATCH)

    async def follow(self, task_id: TaskId) -> None:
        """Draw the consequence of the end of a task now; without MongoDB it is left to `catch_up`."""
        try:
            await self._ended.add(task_id)
        except StoreUnavailable as error:
            logger.warning("The callback of task %s has to wait: %s", task_id, error)

    async def catch_up(self) -> int:
        """Draw the consequences that are owed, 5,000 at most; returns how many.

        Raises:
            StoreUnavailable: MongoDB cannot serve.
        """
        total = 0
        for _ in range(MAX_BATCHES):
            documents = await self._store.owed(BATCH)
            if documents:
                await self._draw(documents)
            total += len(documents)
            if len(documents) < BATCH:
                break
        return total

    async def _follow(self, task_ids: Sequence[TaskId]) -> None:
        await self._draw(await self._store.owed_by(task_ids))

    async def _draw(self, documents: Sequence[TaskDocument]) -> None:
        try:
            await self._draw_together(documents)
        except StoreRefused as error:
            if len(documents) > 1:
                # One of them spoils the batch: each by itself, and that one fails alone.
                for document in documents:
                    await self._draw([document])
            else:
                logger.error("The callback of task %s cannot be kept: %s", documents[0]["_id"], error)  # noqa: TRY400
                await self._store.note([_step(documents[0], CallbackState.FAILED)], [])

    async def _draw_together(self, documents: Sequence[TaskDocument]) -> None:
        deliverers, steps, reports = [], [], []
        for document in documents:
            if "of" in document["callback"]:
                reports.append(_report(document))
            elif document["status"] in document["callback"]["events"]:
                deliverer = self._deliverer(document)
                deliverers.append(deliverer)
                steps.append(_step(document, CallbackState.DELIVERING, TaskId(str(deliverer["_id"]))))
            else:
                steps.append(_step(document, CallbackState.SKIPPED))
        if deliverers:
            await reach(FaultPoint.BEFORE_CALLBACK)
            await self._tasks.insert(deliverers)
            await reach(FaultPoint.AFTER_CALLBACK)
        # Before anybody runs them: their own ends are noted after this, and this does not undo it.
        await self._store.note(steps, reports)
        if deliverers:
            await reach(FaultPoint.AFTER_HAND_OVER)
            await self._dispatch(deliverers)

    async def _dispatch(self, deliverers: Sequence[TaskDocument]) -> None:
        try:
            await self._queue.dispatch([entry_of(document) for document in deliverers])
        except QueueUnavailable as error:
            logger.warning("Kept %d callbacks but could not queue them, reconcile will: %s", len(deliverers), error)

    def _deliverer(self, document: TaskDocument) -> TaskDocument:
        """The task that delivers the end of another; created at the moment of that end, as its id says."""
        ended_at = document["finished_at"]
        assert ended_at is not None  # noqa: S101 - every write that ends a task sets it
        submission = Submission(
            type=DELIVER_TYPE, payload=_message(document), queue=document["queue"], priority=document["priority"]
        )
        deliverer = document_of(submission, self._types[DELIVER_TYPE], ended_at)
        task_id = deliverer_of(TaskId(str(document["_id"])), document["round"], ended_at)
        deliverer["_id"] = ObjectId(task_id)
        # Not the moment of the end: from now on reconcile looks for it, should it never be queued here.
        deliverer["run_at"] = utc_now()
        if "traceparent" in document:
            deliverer["traceparent"] = document["traceparent"]
        deliverer["callback"] = {"of": document["_id"], "round": document["round"], "owed": True}
        return deliverer


def _step(document: TaskDocument, state: CallbackState, deliverer: TaskId | None = None) -> Step:
    return Step(TaskId(str(document["_id"])), document["round"], state, deliverer)


def _report(document: TaskDocument) -> tuple[Step, Step]:
    own_id = TaskId(str(document["_id"]))
    state = CallbackState.DELIVERED if document["status"] == Status.COMPLETED else CallbackState.FAILED
    told = Step(TaskId(str(document["callback"]["of"])), document["callback"]["round"], state, own_id)
    return told, Step(own_id, document["round"], None)


def _message(document: TaskDocument) -> dict[str, Any]:
    """What the receiver gets: the outcome, without the payload and the traceback, which are nobody else's business."""
    result, error = document["result"], document["error"]
    too_large = len(to_json(result)) > limits.MAX_CALLBACK_RESULT
    moments: dict[str, str | None] = to_jsonable_python(
        {name: document.get(name) for name in ("created_at", "started_at", "finished_at")}
    )
    return {
        "url": document["callback"]["url"],
        "event": f"task.{document['status']}",
        "timestamp": moments["finished_at"],
        "data": {
            "id": str(document["_id"]),
            "type": document["type"],
            "queue": document["queue"],
            "tags": document["tags"],
            "status": document["status"],
            "round": document["round"],
            "attempt": document["attempt"],
            **moments,
            "result": None if too_large else result,
            "result_omitted": too_large,
            "error": None if error is None else {"code": error["code"], "message": error["message"]},
        },
    }
