"""The `tasks` collection as workers use it: begin and report; leases.py renews and settlements.py settles.

Every write after `begin` names the lease token of its attempt, and changes nothing when the task has another by then.

Filters keep to plain field conditions at the top level: a top-level `$or` makes one of the servers that we develop
against read the whole collection.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from bson import ObjectId
from pymongo import UpdateOne

from app.core import limits
from app.core.attempt import Attempt, Claim
from app.core.ids import TaskId, WorkerId
from app.core.outcomes import AttemptOutcome, ErrorCode
from app.core.states import CLAIM, EXPIRE, LOSE, RECOVER, STOP, TERMINAL, Status
from app.store.begun import Begun, Ended, Waiting, attempt_of, ended_of
from app.store.documents import LeaseDocument, LogDocument, ProgressDocument, TaskDocument
from app.store.expiry import expired
from app.store.mongo import Mongo, SyncCollection, store_errors
from app.store.tasks import leaving

CLOCK_TOLERANCE = timedelta(seconds=5)
"""How far clocks may be apart. Redis has decided that a task is due; a task that comes much too early is one whose
requeueing was lost in a crash, and goes back."""


class AttemptStore:
    """The attempts of one worker. Every method raises StoreUnavailable when MongoDB cannot serve.

    Args:
        mongo: The connection.
        worker: Whose attempts.
        lease: How long a lease lasts from each renewal.
        max_losses: As many lost attempts make a task `failed`.
        retention: How long a finished task is kept, or None for ever.
        types: The types that this worker knows; it begins no others.
    """

    UNKNOWN_TYPE_PAUSE = timedelta(seconds=2)

    def __init__(
        self,
        mongo: Mongo,
        *,
        worker: WorkerId,
        lease: timedelta,
        max_losses: int,
        retention: timedelta | None,
        types: Sequence[str],
    ) -> None:
        self._mongo = mongo
        self._tasks = mongo.collection("tasks")
        self._worker = worker
        self._lease = lease
        self._max_losses = max_losses
        self._retention = retention
        self._types = list(types)

    async def begin(self, claim: Claim, *, now: datetime) -> Begun:
        """Make running what may run of a claim, and say what to do with the rest.

        Safe against every race: each step changes only what is still in the state that it starts from. What was won is
        known when that is all, and otherwise read back by the token, which no other claim has.
        """
        ids = [ObjectId(task_id) for task_id in claim.task_ids]
        lease: LeaseDocument = {"token": claim.token, "worker": self._worker, "until": now + self._lease}
        with store_errors():
            won = await self._win(ids, lease, now)
        attempts = [attempt_of(document) for document in won]
        if len(attempts) == len(ids):
            return Begun(attempts, [], [], [])
        begun = {attempt.task_id for attempt in attempts}
        waiting, gone, ended = await self._sort_out([each for each in claim.task_ids if each not in begun], now)
        return Begun(attempts, waiting, gone, ended)

    async def _win(self, ids: list[ObjectId], lease: LeaseDocument, now: datetime) -> list[TaskDocument]:
        """Mostly all are at their first attempt: then the read need not wait for the write.

        Whether it saw a task before the write or after, what the write has changed is known: that it begins a first
        attempt is a condition of the write, and so no other change can hide between the two.
        """
        started, found = await asyncio.gather(
            self._mongo.at_one_go("tasks", partial(self._start, ids=ids, lease=lease, now=now, which=_FIRST_ATTEMPT)),
            self._mongo.at_one_go("tasks", partial(_read, ids=ids)),
        )
        if started == len(found) == len(ids):
            return [_started(document, lease, now) for document in found]
        others = partial(self._win_others, ids=ids, lease=lease, now=now, missing=len(ids) - started)
        return await self._mongo.at_one_go("tasks", others)

    def _start(
        self,
        tasks: SyncCollection,
        *,
        ids: list[ObjectId],
        lease: LeaseDocument,
        now: datetime,
        which: Mapping[str, Any],
    ) -> int:
        written = tasks.update_many(
            {
                "_id": {"$in": ids},
                **leaving(CLAIM),
                "run_at": {"$lte": now + CLOCK_TOLERANCE},
                "type": {"$in": self._types},
                "start_before": {"$not": {"$lte": now}},
                **which,
            },
            {
                "$set": {"status": CLAIM.target, "lease": lease, "started_at": now, "updated_at": now},
                "$inc": {"attempt": 1},
            },
        )
        return written.modified_count

    def _win_others(
        self, tasks: SyncCollection, *, ids: list[ObjectId], lease: LeaseDocument, now: datetime, missing: int
    ) -> list[TaskDocument]:
        if missing and self._start(tasks, ids=ids, lease=lease, now=now, which={}) < missing:
            self._recover(tasks, ids, lease, now)
        return list(tasks.find({"_id": {"$in": ids}, "lease.token": lease["token"]}))

    def _recover(self, tasks: SyncCollection, ids: list[ObjectId], lease: LeaseDocument, now: datetime) -> None:
        """Take over attempts whose worker was lost; end those that are not to be attempted again."""
        lapsed = {"_id": {"$in": ids}, **leaving(RECOVER), "lease.until": {"$lte": now}}
        ended = {
            "lease": None,
            "finished_at": now,
            "updated_at": now,
            "expire_at": None if self._retention is None else now + self._retention,
        }
        lost = {**_LOST_HISTORY, "losses": {"$add": ["$losses", 1]}}
        tasks.update_many(
            {**lapsed, "cancel_requested_at": {"$ne": None}}, [{"$set": {**ended, **lost, "status": STOP.target}}]
        )
        message = f"{self._max_losses} workers were lost while they ran this task"
        tasks.update_many(
            {**lapsed, "losses": {"$gte": self._max_losses - 1}},
            [{"$set": {**ended, **lost, "status": LOSE.target, "error": _error(ErrorCode.LOST, message)}}],
        )
        tasks.update_many(
            {**lapsed, "type": {"$in": self._types}},
            [
                {
                    "$set": {
                        **lost,
                        "lease": lease,
                        "started_at": now,
                        "updated_at": now,
                        "attempt": {"$add": ["$attempt", 1]},
                    }
                }
            ],
        )
        tasks.update_many(
            {"_id": {"$in": ids}, **leaving(EXPIRE), "start_before": {"$lte": now}},
            {"$set": expired(now, self._retention)},
        )

    async def _sort_out(self, task_ids: list[TaskId], now: datetime) -> tuple[list[Waiting], list[TaskId], list[Ended]]:
        """Why the others were not won: still to come, running elsewhere, of a type unknown here, or over."""
        with store_errors():
            documents = await self._tasks.find(
                {"_id": {"$in": [ObjectId(task_id) for task_id in task_ids]}},
                {
                    "status": 1, "run_at": 1, "lease.until": 1, "priority": 1, "type": 1, "finished_at": 1, "round": 1,
                    "error.code": 1, "history.outcome": 1, "history.round": 1,
                },
            ).to_list(None)  # fmt: skip
        waiting, ended = [], []
        for document in documents:
            if document["status"] in TERMINAL:
                ended.append(ended_of(document, now))
                continue
            due = document["lease"]["until"] if document["status"] == Status.RUNNING else document["run_at"]
            again_at = due if due > now else now + self.UNKNOWN_TYPE_PAUSE
            waiting.append(Waiting(TaskId(str(document["_id"])), document["priority"], again_at))
        known = {entry.task_id for entry in waiting}
        return waiting, [task_id for task_id in task_ids if task_id not in known], [*filter(None, ended)]

    async def report(
        self, reports: Sequence[tuple[Attempt, ProgressDocument | None, list[LogDocument]]], *, now: datetime
    ) -> None:
        """Keep progress and log lines of attempts that are under way."""
        operations = [
            UpdateOne(fence(attempt), reported(progress, lines, now))
            for attempt, progress, lines in reports
            if progress is not None or lines
        ]
        if operations:
            with store_errors():
                await self._tasks.bulk_write(operations, ordered=False)


_FIRST_ATTEMPT: Mapping[str, Any] = {"round": 1, "attempt": 0}


def _read(tasks: SyncCollection, *, ids: list[ObjectId]) -> list[TaskDocument]:
    return list(tasks.find({"_id": {"$in": ids}}))


def _started(document: TaskDocument, lease: LeaseDocument, now: datetime) -> TaskDocument:
    """The task at its first attempt, as it was read while that began."""
    return {**document, "status": CLAIM.target, "lease": lease, "attempt": 1, "started_at": now, "updated_at": now}


def fence(attempt: Attempt) -> dict[str, Any]:
    """The filter of every write of an attempt: nothing happens when the lease is another's by now."""
    return {"_id": ObjectId(attempt.task_id), "lease.token": attempt.token}


def reported(progress: ProgressDocument | None, lines: list[LogDocument], now: datetime) -> dict[str, Any]:
    """The update that keeps what a handler reported; empty when it reported nothing."""
    update: dict[str, Any] = {}
    if progress is not None:
        update["$set"] = {"progress": progress, "updated_at": now}
    if lines:
        update["$push"] = {"log": {"$each": lines, "$slice": -limits.MAX_LOG_LINES}}
    return update


def _error(code: ErrorCode, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "traceback": None}


def longer_history(*, outcome: AttemptOutcome, finished_at: str) -> dict[str, Any]:
    """For updates that are pipelines: the history with an entry for the attempt under way, which has no error.

    Args:
        outcome: How the attempt ended.
        finished_at: Where the update finds the moment of its end, such as `$lease.until`.
    """
    entry = {
        "round": "$round",
        "attempt": "$attempt",
        "worker": "$lease.worker",
        "started_at": "$started_at",
        "finished_at": finished_at,
        "outcome": outcome.value,
        "error": None,
    }
    return {"$slice": [{"$concatArrays": ["$history", [entry]]}, -limits.MAX_HISTORY]}


_LOST_HISTORY = {"history": longer_history(outcome=AttemptOutcome.LOST, finished_at="$lease.until")}
