"""The `meta` collection: which process has a duty that only one may have at a time."""

from datetime import datetime

from pymongo.errors import DuplicateKeyError

from app.store.mongo import Mongo, store_errors


class DutyStore:
    """Duties, each held by one process until a moment.

    Every method raises StoreUnavailable when MongoDB cannot serve.
    """

    def __init__(self, mongo: Mongo) -> None:
        self._meta = mongo.collection("meta")

    async def take(self, duty: str, holder: str, *, now: datetime, until: datetime) -> bool:
        """Take or keep a duty until a moment; False while another process has it."""
        taken = {"$set": {"holder": holder, "until": until}}
        with store_errors():
            kept = await self._meta.update_one({"_id": duty, "holder": holder}, taken)
            if kept.matched_count:
                return True
            try:
                # Where another holds it the filter matches nothing, and the insert that follows hits the same _id.
                await self._meta.update_one({"_id": duty, "until": {"$lte": now}}, taken, upsert=True)
            except DuplicateKeyError:
                return False
        return True

    async def give_up(self, duty: str, holder: str) -> None:
        """Let another process have the duty at once."""
        with store_errors():
            await self._meta.delete_one({"_id": duty, "holder": holder})
