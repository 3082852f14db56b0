"""The `tasks` collection as the end of an attempt writes it: many outcomes, one round trip.

Attempts of one claim that completed share one update: servers take several times as long for as many single ones.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo import UpdateMany, UpdateOne

from app.core import limits
from app.core.attempt import Settlement
from app.core.callbacks import CallbackState
from app.core.ids import LeaseToken
from app.core.outcomes import AttemptOutcome, Cancelled, Completed, ErrorCode, Failed, Failure, Released, Rescheduled
from app.core.states import COMPLETE, FAIL, RELEASE_FIRST, RELEASE_LATER, RESCHEDULE, STOP, Status
from app.store.attempts import fence, longer_history, reported
from app.store.callbacks import SETTLED
from app.store.documents import ErrorDocument, LogDocument, ProgressDocument
from app.store.mongo import Mongo, store_errors


@dataclass(frozen=True, slots=True)
class Record:
    """What to write of an attempt that has ended: the settlement and what its handler reported last."""

    settlement: Settlement
    progress: ProgressDocument | None
    lines: list[LogDocument]


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """Positions of outcomes that were not recorded.

    Attributes:
        late: Other leases hold their tasks, or none does any more.
        to_cancel: The tasks were to run again, and a client has asked to cancel them: `Cancelled` is what to record.
    """

    late: frozenset[int]
    to_cancel: frozenset[int]


class SettlementStore:
    """Records outcomes.

    Args:
        mongo: The connection.
        retention: How long a finished task is kept, or None for ever.
    """

    def __init__(self, mongo: Mongo, *, retention: timedelta | None) -> None:
        self._tasks = mongo.collection("tasks")
        self._retention = retention

    async def settle(self, records: Sequence[Record]) -> int:
        """Record outcomes, each only if its attempt still holds the lease.

        Returns:
            How many were recorded; of the others `find_unrecorded` tells why not.

        Raises:
            StoreUnavailable: MongoDB cannot serve. What was written before that stands, and writing it again is
                harmless, since a settled task has no lease.
            StoreRefused: something in one of them cannot be stored.
        """
        operations: list[UpdateOne | UpdateMany] = []
        for token, completed in _completed_by_claim(records).items():
            if len(completed) > 1:
                operations.append(self._completed_together(token, completed))
            else:
                operations.append(self._operation(completed[0]))
        operations += [self._operation(record) for record in records if not _only_completed(record)]
        with store_errors():
            written = await self._tasks.bulk_write(operations, ordered=False)
        return written.matched_count

    async def find_unrecorded(self, records: Sequence[Record]) -> Unrecorded:
        """Those whose outcome is not in the history of their task, to be asked when `settle` recorded fewer than given.

        The others were recorded by an earlier try whose answer was lost, and then they were in time.

        Raises:
            StoreUnavailable: MongoDB cannot serve.
        """
        ids = [ObjectId(record.settlement.attempt.task_id) for record in records]
        wanted = {"history": 1, "lease.token": 1, "cancel_requested_at": 1}
        with store_errors():
            found = await self._tasks.find({"_id": {"$in": ids}}, wanted).to_list(None)
        ended = {
            (document["_id"], entry["round"], entry["attempt"], entry["worker"], entry["started_at"])
            for document in found
            for entry in document["history"]
            if entry["outcome"] != AttemptOutcome.LOST  # what whoever took the task over wrote of it
        }
        to_cancel = {
            (document["_id"], (document.get("lease") or {}).get("token"))
            for document in found
            if document["cancel_requested_at"] is not None
        }
        attempts = [record.settlement.attempt for record in records]
        missing = [
            (position, (id_, attempt.token) in to_cancel)
            for position, (id_, attempt) in enumerate(zip(ids, attempts, strict=True))
            if (id_, attempt.round, attempt.number, attempt.worker, attempt.started_at) not in ended
        ]
        return Unrecorded(
            late=frozenset(position for position, cancel in missing if not cancel),
            to_cancel=frozenset(position for position, cancel in missing if cancel),
        )

    def _operation(self, record: Record) -> UpdateOne:
        settlement = record.settlement
        where = {**fence(settlement.attempt), "status": Status.RUNNING}
        match settlement.outcome:
            case Completed(result=result):
                return UpdateOne(where, self._ended(record, COMPLETE.target, AttemptOutcome.COMPLETED, result=result))
            case Failed(failure=failure):
                return UpdateOne(where, self._ended(record, FAIL.target, _outcome_of(failure), failure=failure))
            case Cancelled(instead_of=Rescheduled(failure=failure)):
                return UpdateOne(where, self._ended(record, STOP.target, _outcome_of(failure), failure=failure))
            case Cancelled(instead_of=Released()):
                return UpdateOne(where, self._ended(record, STOP.target, AttemptOutcome.RELEASED))
            case Cancelled():
                return UpdateOne(where, self._ended(record, STOP.target, AttemptOutcome.CANCELLED))
            case Rescheduled(failure=failure, run_at=run_at):
                again = _again(record, RESCHEDULE.target, _outcome_of(failure), run_at, failure=failure)
            case Released(run_at=run_at):
                first = settlement.attempt.number == 1
                target = RELEASE_FIRST.target if first else RELEASE_LATER.target
                again = _again(record, target, AttemptOutcome.RELEASED, run_at)
                again["$inc"] = {"attempt": -1}
        return UpdateOne({**where, "cancel_requested_at": None}, again)

    def _completed_together(self, token: LeaseToken, records: Sequence[Record]) -> UpdateMany:
        """What `_operation` does with each of them, in one update that finds the part of each by its place."""
        ids = [ObjectId(record.settlement.attempt.task_id) for record in records]
        parts = [self._part(record) for record in records]
        part = {"$arrayElemAt": [{"$literal": parts}, {"$indexOfArray": [{"$literal": ids}, "$_id"]}]}
        return UpdateMany(
            {"_id": {"$in": ids}, "lease.token": token, "status": Status.RUNNING},
            [{"$set": {"part": part}}, {"$set": _FROM_PART}, {"$unset": "part"}],
        )

    def _part(self, record: Record) -> dict[str, Any]:
        assert isinstance(record.settlement.outcome, Completed)  # noqa: S101 - what `_only_completed` says
        now = record.settlement.finished_at
        return {"finished_at": now, "expire_at": self._expire_at(now), "result": record.settlement.outcome.result}

    def _expire_at(self, finished_at: datetime) -> datetime | None:
        return None if self._retention is None else finished_at + self._retention

    def _ended(
        self,
        record: Record,
        status: Status,
        outcome: AttemptOutcome,
        *,
        result: Any = None,
        failure: Failure | None = None,
    ) -> dict[str, Any]:
        now = record.settlement.finished_at
        fields = {
            "finished_at": now,
            "expire_at": self._expire_at(now),
            "result": result,
        }
        followed = record.settlement.attempt.followed_ends
        if not followed or status in followed:
            return _update(record, status, outcome, failure, fields)
        # Here and now: nobody has to look at the end of this one again.
        skipped = {**fields, "callback.state": CallbackState.SKIPPED}
        return {**_update(record, status, outcome, failure, skipped), "$rename": SETTLED}


def _only_completed(record: Record) -> bool:
    """Whether all there is to write is that the task has completed, and its result."""
    settlement = record.settlement
    return (
        isinstance(settlement.outcome, Completed)
        and not settlement.attempt.followed_ends
        and settlement.traceparent is None
        and record.progress is None
        and not record.lines
    )


def _completed_by_claim(records: Sequence[Record]) -> dict[LeaseToken, list[Record]]:
    by_claim: dict[LeaseToken, list[Record]] = defaultdict(list)
    for record in records:
        if _only_completed(record):
            by_claim[record.settlement.attempt.token].append(record)
    return by_claim


_FROM_PART: dict[str, Any] = {
    "status": COMPLETE.target,
    "lease": None,
    "error": None,
    "result": "$part.result",
    "finished_at": "$part.finished_at",
    "updated_at": "$part.finished_at",
    "expire_at": "$part.expire_at",
    "history": longer_history(outcome=AttemptOutcome.COMPLETED, finished_at="$part.finished_at"),
}


def _again(
    record: Record, status: Status, outcome: AttemptOutcome, run_at: datetime, failure: Failure | None = None
) -> dict[str, Any]:
    return _update(record, status, outcome, failure, {"run_at": run_at})


def _update(
    record: Record, status: Status, outcome: AttemptOutcome, failure: Failure | None, fields: dict[str, Any]
) -> dict[str, Any]:
    settlement = record.settlement
    attempt = settlement.attempt
    error = _error_of(failure)
    entry: dict[str, Any] = {
        "round": attempt.round,
        "attempt": attempt.number,
        "worker": attempt.worker,
        "started_at": attempt.started_at,
        "finished_at": settlement.finished_at,
        "outcome": outcome,
        "error": error,
    }
    if settlement.traceparent is not None:
        entry["traceparent"] = settlement.traceparent
    update = reported(record.progress, record.lines, settlement.finished_at)
    update["$set"] = {
        **update.get("$set", {}),
        **fields,
        "status": status,
        "lease": None,
        "updated_at": settlement.finished_at,
    }
    if outcome is not AttemptOutcome.RELEASED:
        update["$set"]["error"] = error
    update["$push"] = {**update.get("$push", {}), "history": {"$each": [entry], "$slice": -limits.MAX_HISTORY}}
    return update


def _outcome_of(failure: Failure) -> AttemptOutcome:
    return AttemptOutcome.TIMED_OUT if failure.code is ErrorCode.TIMED_OUT else AttemptOutcome.FAILED


def _error_of(failure: Failure | None) -> ErrorDocument | None:
    if failure is None:
        return None
    return {"code": failure.code, "message": failure.message, "traceback": failure.traceback}
