"""The `tasks` collection as workers use it: begin and report; leases.py renews and settlements.py settles.

Every write after `begin` names the lease token of its attempt, and changes nothing when the task has another by then.

Filters keep to plain field conditions at the top level: a top-level `$or` makes one of the servers that we develop
against read the whole collection.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo import UpdateOne

from app.core import limits
from app.core.attempt import Attempt, Claim
from app.core.backoff import Backoff
from app.core.ids import LeaseToken, TaskId, WorkerId
from app.core.outcomes import AttemptOutcome, ErrorCode
from app.core.states import CLAIM, EXPIRE, LOSE, RECOVER, STOP, TERMINAL, Status
from app.store.documents import LogDocument, ProgressDocument, TaskDocument
from app.store.mongo import Mongo, store_errors
from app.store.tasks import leaving

CLOCK_TOLERANCE = timedelta(seconds=5)
"""How far clocks may be apart. Redis has decided that a task is due; a task that comes much too early is one whose
requeueing was lost in a crash, and goes back."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A claimed task that may not run here now; `again_at` is when to offer it again."""

    task_id: TaskId
    priority: int
    again_at: datetime


@dataclass(frozen=True, slots=True)
class Begun:
    """What became of a claim: attempts to make, tasks to offer again, ids that nobody needs any more."""

    attempts: list[Attempt]
    waiting: list[Waiting]
    gone: list[TaskId]


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
        self._tasks = mongo.collection("tasks")
        self._worker = worker
        self._lease = lease
        self._max_losses = max_losses
        self._retention = retention
        self._types = list(types)

    async def begin(self, claim: Claim, *, now: datetime) -> Begun:
        """Make running what may run of a claim, and say what to do with the rest.

        Safe against every race: each step changes only what is still in the state that it starts from, and what was won
        is read back by the token, which no other claim has.
        """
        ids = [ObjectId(task_id) for task_id in claim.task_ids]
        lease = {"token": claim.token, "worker": self._worker, "until": now + self._lease}
        with store_errors():
            started = await self._tasks.update_many(
                {
                    "_id": {"$in": ids},
                    **leaving(CLAIM),
                    "run_at": {"$lte": now + CLOCK_TOLERANCE},
                    "type": {"$in": self._types},
                    "start_before": {"$not": {"$lte": now}},
                },
                {
                    "$set": {"status": CLAIM.target, "lease": lease, "started_at": now, "updated_at": now},
                    "$inc": {"attempt": 1},
                },
            )
            if started.modified_count < len(ids):
                await self._recover(ids, lease, now)
            won: list[TaskDocument] = await self._tasks.find({"_id": {"$in": ids}, "lease.token": claim.token}).to_list(
                None
            )
        attempts = [attempt_of(document) for document in won]
        if len(attempts) == len(ids):
            return Begun(attempts, [], [])
        begun = {attempt.task_id for attempt in attempts}
        waiting, gone = await self._sort_out([task_id for task_id in claim.task_ids if task_id not in begun], now)
        return Begun(attempts, waiting, gone)

    async def _recover(self, ids: list[ObjectId], lease: dict[str, Any], now: datetime) -> None:
        """Take over attempts whose worker was lost; end those that are not to be attempted again."""
        lapsed = {"_id": {"$in": ids}, **leaving(RECOVER), "lease.until": {"$lte": now}}
        ended = {
            "lease": None,
            "finished_at": now,
            "updated_at": now,
            "expire_at": None if self._retention is None else now + self._retention,
        }
        lost = {**_LOST_HISTORY, "losses": {"$add": ["$losses", 1]}}
        await self._tasks.update_many(
            {**lapsed, "cancel_requested_at": {"$ne": None}}, [{"$set": {**ended, **lost, "status": STOP.target}}]
        )
        message = f"{self._max_losses} workers were lost while they ran this task"
        await self._tasks.update_many(
            {**lapsed, "losses": {"$gte": self._max_losses - 1}},
            [{"$set": {**ended, **lost, "status": LOSE.target, "error": _error(ErrorCode.LOST, message)}}],
        )
        await self._tasks.update_many(
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
        await self._tasks.update_many(
            {"_id": {"$in": ids}, **leaving(EXPIRE), "start_before": {"$lte": now}},
            {
                "$set": {
                    **ended,
                    "status": EXPIRE.target,
                    "error": _error(ErrorCode.EXPIRED, "the task could not start before start_before"),
                }
            },
        )

    async def _sort_out(self, task_ids: list[TaskId], now: datetime) -> tuple[list[Waiting], list[TaskId]]:
        """Why the others were not won: still to come, running elsewhere, of a type unknown here, or over."""
        with store_errors():
            documents = await self._tasks.find(
                {"_id": {"$in": [ObjectId(task_id) for task_id in task_ids]}},
                {"status": 1, "run_at": 1, "lease.until": 1, "priority": 1},
            ).to_list(None)
        waiting = []
        for document in documents:
            if document["status"] in TERMINAL:
                continue
            due = document["lease"]["until"] if document["status"] == Status.RUNNING else document["run_at"]
            again_at = due if due > now else now + self.UNKNOWN_TYPE_PAUSE
            waiting.append(Waiting(TaskId(str(document["_id"])), document["priority"], again_at))
        known = {entry.task_id for entry in waiting}
        return waiting, [task_id for task_id in task_ids if task_id not in known]

    async def report(self, reports: Sequence[tuple[Attempt, ProgressDocument | None, list[LogDocument]]]) -> None:
        """Keep progress and log lines of attempts that are under way."""
        operations = [
            UpdateOne(fence(attempt), reported(progress, lines))
            for attempt, progress, lines in reports
            if progress is not None or lines
        ]
        if operations:
            with store_errors():
                await self._tasks.bulk_write(operations, ordered=False)


def fence(attempt: Attempt) -> dict[str, Any]:
    """The filter of every write of an attempt: nothing happens when the lease is another's by now."""
    return {"_id": ObjectId(attempt.task_id), "lease.token": attempt.token}


def reported(progress: ProgressDocument | None, lines: list[LogDocument]) -> dict[str, Any]:
    """The update that keeps what a handler reported; empty when it reported nothing."""
    update: dict[str, Any] = {}
    if progress is not None:
        update["$set"] = {"progress": progress}
    if lines:
        update["$push"] = {"log": {"$each": lines, "$slice": -limits.MAX_LOG_LINES}}
    return update


def attempt_of(document: TaskDocument) -> Attempt:
    """The attempt that a task's lease stands for; only of a task that has one."""
    lease, backoff = document["lease"], document["backoff"]
    assert lease is not None and document["started_at"] is not None  # noqa: S101, PT018 - `begin` filters by the token
    return Attempt(
        task_id=TaskId(str(document["_id"])),
        token=LeaseToken(lease["token"]),
        worker=WorkerId(lease["worker"]),
        type=document["type"],
        queue=document["queue"],
        priority=document["priority"],
        payload=document["payload"],
        round=document["round"],
        number=document["attempt"],
        losses=document["losses"],
        max_attempts=document["max_attempts"],
        timeout=timedelta(seconds=document["timeout_s"]),
        backoff=Backoff(
            base=timedelta(seconds=backoff["base_s"]),
            max=timedelta(seconds=backoff["max_s"]),
            factor=backoff["factor"],
            jitter=backoff["jitter"],
        ),
        started_at=document["started_at"],
        cancel_requested=document["cancel_requested_at"] is not None,
        followed_ends=_followed_ends(document),
    )


def _followed_ends(document: TaskDocument) -> frozenset[str]:
    callback = document.get("callback")
    return _NO_ENDS if callback is None else frozenset(callback.get("events", TERMINAL))


_NO_ENDS: frozenset[str] = frozenset()


def _error(code: ErrorCode, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "traceback": None}


_LOST_HISTORY: dict[str, Any] = {
    "history": {
        "$slice": [
            {
                "$concatArrays": [
                    "$history",
                    [
                        {
                            "round": "$round",
                            "attempt": "$attempt",
                            "worker": "$lease.worker",
                            "started_at": "$started_at",
                            "finished_at": "$lease.until",
                            "outcome": AttemptOutcome.LOST.value,
                            "error": None,
                        }
                    ],
                ]
            },
            -limits.MAX_HISTORY,
        ]
    }
}
