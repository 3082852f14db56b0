"""Which tasks hold the keys that no two tasks may have: idempotency keys for good, unique keys until they end.

Two unique indexes decide every race, and only over documents that have such a key. The one over unique keys counts a
document while its `finished_at` is null. Every write that ends a task sets `finished_at` and a retry unsets it, so a
key is given up and taken again by the very write that moves the task, and no write has to know of keys.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bson import ObjectId

from app.store.documents import TaskDocument
from app.store.mongo import Collection

IDEMPOTENT: dict[str, Any] = {"idempotency.key": {"$gt": ""}}
UNIQUE: dict[str, Any] = {"unique_key": {"$gt": ""}}
UNFINISHED_ONLY: dict[str, Any] = {"finished_at": None}
"""What the indexes are limited to. `$gt: ""` is every string: of the ways to say so that MongoDB 5 takes, it is the one
that every server we know recognises in `key = "..."`. A search for a unique key has to say `UNFINISHED_ONLY` too."""

_FEW = 10
"""Up to as many keys are looked up one by one: SecantusDB 0.7 scans for `$in` over an index that is partial."""


class Hold(StrEnum):
    """Why a task was not inserted: another one has its key."""

    IDEMPOTENCY = "idempotency"
    UNIQUE = "unique"


@dataclass(frozen=True, slots=True)
class Holder:
    """The task that has the key that another one was to be inserted with."""

    hold: Hold
    document: TaskDocument


async def find_holders(tasks: Collection, refused: Sequence[TaskDocument]) -> dict[ObjectId, Holder | None]:
    """Why each of these could not be inserted, by its `_id`; None where it is there itself.

    One that is not in the answer has lost its reason: whoever had its key has ended or is gone.
    """
    reasons: dict[ObjectId, Holder | None] = {}
    keyed = {document["_id"]: document["idempotency"]["key"] for document in refused if "idempotency" in document}
    if keyed:
        holders = await by_idempotency_key(tasks, keyed.values())
        _note(reasons, Hold.IDEMPOTENCY, keyed, holders)
    rest = [document["_id"] for document in refused if document["_id"] not in reasons]
    if rest:
        # Before unique keys: one that is there itself may have ended, and its key may be another's by now.
        found = await tasks.find({"_id": {"$in": rest}}, {"_id": 1}).to_list(None)
        reasons.update({document["_id"]: None for document in found})
    unique = {
        document["_id"]: document["unique_key"]
        for document in refused
        if "unique_key" in document and document["_id"] not in reasons
    }
    if unique:
        holding = await _find(tasks, "unique_key", unique.values(), UNFINISHED_ONLY)
        _note(reasons, Hold.UNIQUE, unique, {document["unique_key"]: document for document in holding})
    return reasons


def _note(
    reasons: dict[ObjectId, Holder | None], hold: Hold, keys: dict[ObjectId, str], holders: dict[str, TaskDocument]
) -> None:
    for own_id, key in keys.items():
        if key in holders:
            reasons[own_id] = None if holders[key]["_id"] == own_id else Holder(hold, holders[key])


async def by_idempotency_key(tasks: Collection, keys: Iterable[str]) -> dict[str, TaskDocument]:
    """The tasks that have these keys."""
    return {each["idempotency"]["key"]: each for each in await _find(tasks, "idempotency.key", keys, {})}


async def unique_key_holder(tasks: Collection, key: str) -> TaskDocument | None:
    """The unfinished task that has this unique key."""
    return next(iter(await _find(tasks, "unique_key", [key], UNFINISHED_ONLY)), None)


async def _find(tasks: Collection, field: str, values: Iterable[str], where: dict[str, Any]) -> list[TaskDocument]:
    wanted = sorted(set(values))
    if len(wanted) > _FEW:
        several: list[TaskDocument] = await tasks.find({field: {"$in": wanted}, **where}).to_list(None)
        return several
    found = [await tasks.find_one({field: value, **where}) for value in wanted]
    return [document for document in found if document is not None]
