"""The `meta` collection: which process has a duty that only one may have at a time."""

from datetime import UTC, datetime
from typing import Any

from pymongo.errors import DuplicateKeyError

from app.store.mongo import Mongo, store_errors

_LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


class DutyStore:
    """Duties, each held by one process until a moment.

    Every method raises StoreUnavailable when MongoDB cannot serve.
    """

    def __init__(self, mongo: Mongo) -> None:
        self._meta = mongo.collection("meta")

    async def take(
        self, duty: str, holder: str, *, now: datetime, until: datetime, done_until: datetime | None = None
    ) -> bool:
        """Take or keep a duty until a moment; False while another process has it.

        Args:
            duty: Its name.
            holder: Who wants it.
            now: The moment.
            until: When it lapses unless it is taken again.
            done_until: How far its holder has got; whoever has the duty next goes on from there.
        """
        taken: dict[str, Any] = {"holder": holder, "until": until}
        if done_until is not None:
            taken["done_until"] = done_until
        with store_errors():
            kept = await self._meta.update_one({"_id": duty, "holder": holder}, {"$set": taken})
            if kept.matched_count:
                return True
            try:
                # Where another holds it the filter matches nothing, and the insert that follows hits the same _id.
                await self._meta.update_one({"_id": duty, "until": {"$lte": now}}, {"$set": taken}, upsert=True)
            except DuplicateKeyError:
                return False
        return True

    async def done_until(self, duty: str) -> datetime | None:
        """How far the holders of a duty have got; None when nobody has ever said."""
        with store_errors():
            document = await self._meta.find_one({"_id": duty})
        return None if document is None else document.get("done_until")

    async def give_up(self, duty: str, holder: str) -> None:
        """Let another process have the duty at once."""
        with store_errors():
            await self._meta.update_one({"_id": duty, "holder": holder}, {"$set": {"holder": None, "until": _LONG_AGO}})
