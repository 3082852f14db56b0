"""The `tasks` collection as callbacks use it: tasks whose end has a consequence that is still owed.

`callback.owed` is in the document from the submission on, so the one write that ends a task, whichever it is, makes
the callback due. Once the consequence is drawn the field is called `callback.done`; a retry calls it `owed` again.
The index `callback_owed` has only what is owed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bson import ObjectId
from pymongo import UpdateOne

from app.core.callbacks import CallbackState
from app.core.ids import TaskId
from app.core.states import TERMINAL
from app.store.documents import TaskDocument
from app.store.mongo import Mongo, store_errors

_ENDED = {"callback.owed": True, "status": {"$in": sorted(TERMINAL)}}

_NOT_READ = {"payload": 0, "log": 0, "history": 0, "progress": 0}

SETTLED = {"callback.owed": "callback.done"}
"""The `$rename` of the write that draws the consequence."""

OWED_AGAIN = {"callback.done": "callback.owed"}
"""The `$rename` of a retry; it changes nothing on a task without a callback."""


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of the callback of one task.

    Attributes:
        task_id: The task.
        round: The round that ended; nothing changes when another has begun since.
        state: The callback's state from now on, or None for a task that delivers one and has none itself.
        deliverer: The task that delivers it, or None.
    """

    task_id: TaskId
    round: int
    state: CallbackState | None
    deliverer: TaskId | None = None

    def to_update(self, *, even_if_done: bool = False) -> UpdateOne:
        """The write; without `even_if_done` it happens only once a round."""
        where: dict[str, Any] = {"_id": ObjectId(self.task_id), "round": self.round}
        if not even_if_done:
            where["callback.owed"] = True
        update: dict[str, Any] = {"$rename": SETTLED}
        if self.state is not None:
            update["$set"] = {"callback.state": self.state}
        if self.deliverer is not None:
            update.setdefault("$set", {})["callback.task_id"] = ObjectId(self.deliverer)
        return UpdateOne(where, update)


class CallbackStore:
    """Callbacks that are owed. Every method raises StoreUnavailable when MongoDB cannot serve."""

    def __init__(self, mongo: Mongo) -> None:
        self._tasks = mongo.collection("tasks")

    async def owed_by(self, task_ids: Sequence[TaskId]) -> list[TaskDocument]:
        """Those of these tasks that have ended and owe something, without their payloads."""
        ids = [ObjectId(task_id) for task_id in task_ids]
        with store_errors():
            found: list[TaskDocument] = await self._tasks.find({"_id": {"$in": ids}, **_ENDED}, _NOT_READ).to_list(None)
        return found

    async def owed(self, limit: int) -> list[TaskDocument]:
        """Up to `limit` tasks that have ended and owe something, without their payloads."""
        with store_errors():
            found: list[TaskDocument] = await self._tasks.find(_ENDED, _NOT_READ).limit(limit).to_list(limit)
        return found

    async def note(self, steps: Sequence[Step], reports: Sequence[tuple[Step, Step]]) -> None:
        """Note what was done.

        Args:
            steps: Of tasks with a callback.
            reports: Of tasks that delivered one or failed to: the step of the task that it was for, then its own.
                In this order, so that a crash between the two has both written again.
        """
        operations = [step.to_update() for step in steps]
        for outcome, own in reports:
            operations += [outcome.to_update(even_if_done=True), own.to_update()]
        if operations:
            with store_errors():
                await self._tasks.bulk_write(operations, ordered=True)
