"""Reads of all tasks for a server that has no other way than to read everything in the range of an index it is given.

MongoDB walks an index in its order and stops when it has enough. SecantusDB (0.7, and its Rust daemon 0.5) first takes
all that is in the range, 25 (3) microseconds a task, and holds its lock meanwhile: a first page of a million tasks took
54 (3.4) seconds. There, what is newest is read in spans of ids, each about as wide as is wanted. A span is a range of
`_id` under one value of a field before it in an index, the one shape that it serves well.
"""

import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from bson import ObjectId

from app.core.clock import utc_now
from app.core.states import Status
from app.store.documents import TaskDocument
from app.store.mongo import Mongo, SyncCollection

FEW = 1_000
"""So many tasks may be read at once."""

FEW_IN_S = 0.1
"""So long that may take."""

FEW_FOR_S = 60.0
"""How long that is relied upon."""

MOST_KNOWN = 100
"""Statuses, queues, types and tags of which it is remembered where there are some."""

NOTE_EVERY_S = 10
NEWEST = "newest_task"

LONG_S = 3600
"""Having found nothing for that long, steps grow faster: not much is hit at once there."""

_LAST = ObjectId("f" * 24)
_FIRST = ObjectId("0" * 24)

_LIVES = (
    Status.RUNNING,
    Status.PENDING,
    Status.RETRYING,
    Status.RUNNING,
    Status.COMPLETED,
    Status.FAILED,
    Status.CANCELLED,
)


class Spans:
    """Ranges of ids from the newest to the oldest, without a gap.

    Ids begin with their second and end with a counter of the process that made them, so just below a known id the next
    older ones are as many counts away; the rest is found by time, in steps that grow while there is nothing.

    Args:
        newest: An id beyond which there are not many.
        before: Only older ones.
        want: How many a span should have.
        oldest: No older ones.
        known: Where some were a while ago. Having crossed a time without any, a range ends there and not beyond.
    """

    def __init__(
        self,
        newest: ObjectId,
        *,
        before: ObjectId | None = None,
        want: int,
        oldest: ObjectId | None = None,
        known: ObjectId | None = None,
    ) -> None:
        self._want = want
        self._oldest = oldest or _FIRST
        self._known = known or _FIRST
        self._high = before or _LAST
        self._next = _before(min(newest, self._high), want)
        self._seconds = 1

    def next(self) -> dict[str, ObjectId] | None:
        """The next older range, or None when there is none."""
        if self._high <= self._oldest:
            return None
        low = max(self._next, self._oldest)
        span, self._high = {"$gte": low, "$lt": self._high}, low
        return span

    def saw(self, count: int, *, down_to: ObjectId | None = None) -> None:
        """Choose the width of the next range by what the last one had.

        Args:
            count: How many that was.
            down_to: The range was read down to this id only; the next one goes on there.
        """
        self._high = down_to or self._high
        near = _before(self._high, self._want)
        if count and near < self._high:
            self._next = near
            return
        self._next = _at(_second(self._high) - self._seconds)
        if self._high > self._known:
            self._next = max(self._next, self._known)
        if count > self._want:
            self._seconds = max(1, self._seconds // 2)
        elif 4 * count < self._want:
            self._seconds *= 2 if count or self._seconds < LONG_S else 4


async def noted_newest(mongo: Mongo) -> ObjectId:
    """An id that few tasks are newer than, if any process has noted one; else the present moment's."""
    noted = await mongo.collection("meta").find_one({"_id": NEWEST})
    return noted["task_id"] if noted else ObjectId.from_datetime(utc_now())


class SpanPages:
    """Pages of the newest tasks, read in spans where the server wants that and there are many.

    Args:
        mongo: The connection.
    """

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._meta = mongo.collection("meta")
        self._newest: ObjectId | None = None
        self._noted_second = 0
        self._few_until = 0.0
        self._known: dict[str, ObjectId] = {}

    async def wanted(self) -> bool:
        """Whether pages are to be read here."""
        return await self._mongo.takes_whole_ranges() and time.monotonic() >= self._few_until

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Reads a page of all tasks at once; where that takes long there are too many for it by now."""
        begun = time.monotonic()
        yield
        if time.monotonic() - begun > FEW_IN_S:
            self._few_until = 0.0

    async def saw(self, newest: ObjectId) -> None:
        """Remember the newest task, every now and then also for processes that start later."""
        self._newest = max(newest, self._newest or newest)
        if _second(newest) - self._noted_second >= NOTE_EVERY_S and await self._mongo.takes_whole_ranges():
            self._noted_second = _second(newest)
            await self._meta.update_one({"_id": NEWEST}, {"$max": {"task_id": newest}}, upsert=True)

    async def page(self, query: dict[str, Any], *, limit: int) -> list[TaskDocument]:
        """The newest tasks that match a query of `TaskFilter`."""
        bounds = query.pop("_id", {})
        equalities = _equalities(query)
        # What is noted may be only a moment: a task that was seen is closer.
        newest = self._newest or await noted_newest(self._mongo)
        [place] = map(str, equalities) if len(equalities) == 1 else [""]
        spans = Spans(
            newest,
            before=bounds.get("$lt"),
            oldest=bounds.get("$gte"),
            want=4 * limit,
            known=self._known.get(place),
        )
        # Where more is asked for than the equality, not all that is read is wanted.
        most = limit if len(query) <= 1 else 4 * limit
        found: list[TaskDocument] = []
        while len(found) < limit:
            span = spans.next()
            if span is None:
                if not query and not bounds and len(found) < FEW:
                    self._few_until = time.monotonic() + FEW_FOR_S
                break
            seen, down_to = await self._mongo.at_one_go("tasks", partial(_read, equalities, span, most))
            spans.saw(len(seen), down_to=down_to)
            found += [seen[each] for each in sorted(seen, reverse=True) if matches(seen[each], query)]
        if found and "$lt" not in bounds:
            await self.saw(found[0]["_id"])
            self._known[place] = found[0]["_id"]
            while len(self._known) > MOST_KNOWN:
                del self._known[next(iter(self._known))]
        return found[:limit]


def _read(
    equalities: Sequence[Mapping[str, Any]], span: Mapping[str, ObjectId], most: int, tasks: SyncCollection
) -> tuple[dict[ObjectId, TaskDocument], ObjectId | None]:
    """What there is in a span, and where it was cut short since there is more than `most` of something."""
    seen: dict[ObjectId, TaskDocument] = {}
    down_to = span["$gte"]
    for equality in equalities:
        newest = list(tasks.find({**equality, "_id": span}).sort("_id", -1).limit(most))
        if len(newest) == most:
            down_to = max(down_to, newest[-1]["_id"])
        # A task that moves on meanwhile is seen in its later state.
        seen.update((document["_id"], document) for document in newest)
    if down_to == span["$gte"]:
        return seen, None
    return {each: document for each, document in seen.items() if each >= down_to}, down_to


def _equalities(query: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an index that goes on with `_id` begins with: one value for all, or each status in turn.

    A task must not slip through from one status to another while they are read: so those that run are read before and
    after those that wait, and those that have ended last.
    """
    for field in ("tags", "queue", "type"):
        value = query.get(field)
        if value is not None:
            return [{field: value["$all"][0] if isinstance(value, dict) else value}]
    wanted = query.get("status", {"$in": _LIVES})
    return [
        {"status": status} for status in _LIVES if status in (wanted["$in"] if isinstance(wanted, dict) else [wanted])
    ]


def matches(document: Mapping[str, Any], query: Mapping[str, Any]) -> bool:
    """Whether a document is what a query of `TaskFilter` asks for."""
    return all(_satisfies(_value(document, field), wanted) for field, wanted in query.items())


def _value(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, Mapping) else None
    return document


def _satisfies(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return all(_OPERATORS[name](value, operand) for name, operand in wanted.items())
    return wanted in value if isinstance(value, list) else bool(value == wanted)


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$in": lambda value, operand: value in operand,
    "$all": lambda value, operand: set(operand) <= set(value),
    "$gte": operator.ge,
    "$gt": operator.gt,
    "$lte": operator.le,
    "$lt": operator.lt,
}


def _second(of: ObjectId) -> int:
    return int.from_bytes(of.binary[:4], "big")


def _at(second: int) -> ObjectId:
    return _FIRST if second <= 0 else ObjectId(second.to_bytes(4, "big") + bytes(8))


def _before(of: ObjectId, count: int) -> ObjectId:
    """The id of the same second and process that was made `count` ids earlier, or the first of that second."""
    counter = int.from_bytes(of.binary[9:], "big") - count
    return ObjectId(of.binary[:9] + counter.to_bytes(3, "big")) if counter >= 0 else _at(_second(of))
