"""The leases in `tasks`, renewed from a thread of its own: everything here blocks."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from bson import ObjectId

from app.core.ids import LeaseToken, TaskId
from app.store.mongo import SyncDatabase, store_errors


@dataclass(frozen=True, slots=True)
class Renewal:
    """Of the attempts asked about: those whose lease is another's by now, and those to be cancelled."""

    lost: frozenset[TaskId]
    cancel: frozenset[TaskId]


class LeaseStore:
    """The leases of one worker.

    Args:
        database: A connection for this thread.
        lease: How long a lease lasts from each renewal.
    """

    def __init__(self, database: SyncDatabase, *, lease: timedelta) -> None:
        self._tasks = database["tasks"]
        self._lease = lease

    def renew(self, held: Mapping[TaskId, LeaseToken], *, now: datetime) -> Renewal:
        """Extend the leases of attempts that are under way, and learn which are lost or to be cancelled.

        Raises:
            StoreUnavailable: MongoDB cannot serve.
        """
        ids = [ObjectId(task_id) for task_id in held]
        with store_errors():
            self._tasks.update_many(
                {"_id": {"$in": ids}, "lease.token": {"$in": sorted(set(held.values()))}},
                {"$set": {"lease.until": now + self._lease}},
            )
            documents = list(self._tasks.find({"_id": {"$in": ids}}, {"lease.token": 1, "cancel_requested_at": 1}))
        current = {TaskId(str(document["_id"])): document for document in documents}
        lost, cancel = set(), set()
        for task_id, token in held.items():
            document = current.get(task_id)
            if document is None or (document.get("lease") or {}).get("token") != token:
                lost.add(task_id)
            elif document.get("cancel_requested_at") is not None:
                cancel.add(task_id)
        return Renewal(frozenset(lost), frozenset(cancel))
