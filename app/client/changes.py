"""The same change to all tasks that match, a page at a time."""

from collections.abc import Callable
from typing import Any, TypeVar, Unpack

from pydantic import BaseModel, ConfigDict, TypeAdapter

from app.client.connection import Connection, encode
from app.client.selection import TaskFilter, body_of

PAGE = 1_000
"""Tasks that one request goes through: a few seconds, and as many as a progress bar moves by."""


class _Changed(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    matched: int = 0
    changed: int = 0


class Cancelled(_Changed):
    """What was cancelled.

    Attributes:
        matched: Tasks that were gone through; when nothing is changed, all that match.
        changed: Those of them that were cancelled or asked to stop.
        requested: Those of the changed that run: they are cancelled once they have stopped.
    """

    requested: int = 0


class Retried(_Changed):
    """What was given another round of attempts.

    Attributes:
        matched: Tasks that were gone through; when nothing is changed, all that match.
        changed: Those of them that are pending again.
        conflicts: Those that were left alone, since an unfinished task has their unique key.
    """

    conflicts: int = 0


class _Place(BaseModel):
    next_cursor: str | None


C = TypeVar("C", bound=_Changed)

_PLACE = TypeAdapter(_Place)


class Changes:
    """Changes to all tasks that match. Each may be repeated: no task is changed twice.

    Args:
        connection: To the service.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def cancel_all(
        self,
        *,
        everything: bool = False,
        dry_run: bool = False,
        so_far: Callable[[Cancelled], object] | None = None,
        **which: Unpack[TaskFilter],
    ) -> Cancelled:
        """Cancel all tasks that match and have not ended; what is submitted meanwhile is left alone.

        Args:
            everything: Instead of a filter: all there are.
            dry_run: Count what matches, and change nothing.
            so_far: Called with what was done up to then, every thousand tasks.
            which: See `TaskFilter`; at least one of them is needed.

        Raises:
            Invalid: there is no filter.
        """
        body = {**body_of(which), "all": everything, "dry_run": dry_run}
        return await self._go_through("/tasks/cancel", body, Cancelled(), so_far)

    async def retry_all(
        self,
        *,
        everything: bool = False,
        dry_run: bool = False,
        so_far: Callable[[Retried], object] | None = None,
        **which: Unpack[TaskFilter],
    ) -> Retried:
        """Give all failed tasks that match another round of attempts; cancelled ones where `status` says so.

        Args:
            everything: Instead of a filter: all there are.
            dry_run: Count what matches, and change nothing.
            so_far: Called with what was done up to then, every thousand tasks.
            which: See `TaskFilter`; at least one of them is needed.

        Raises:
            Invalid: there is no filter.
        """
        body = {**body_of(which), "all": everything, "dry_run": dry_run}
        return await self._go_through("/tasks/retry", body, Retried(), so_far)

    async def _go_through(self, path: str, body: dict[str, Any], total: C, so_far: Callable[[C], object] | None) -> C:
        cursor: dict[str, str] = {}
        while True:
            request = encode({**body, "limit": PAGE, **cursor})
            answer = await self._connection.request("POST", path, body=request)
            total = _sum(total, answer.read(TypeAdapter(type(total))))
            if so_far is not None:
                so_far(total)
            next_cursor = answer.read(_PLACE).next_cursor
            if next_cursor is None:
                return total
            cursor = {"cursor": next_cursor}


def _sum(one: C, other: C) -> C:
    return one.model_copy(update={name: getattr(one, name) + getattr(other, name) for name in type(one).model_fields})
