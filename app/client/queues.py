"""Queues: list, read, pause, limit."""

from collections.abc import Mapping
from typing import TypedDict, Unpack
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, TypeAdapter

from app.client.connection import Connection, encode
from app.core.queue_settings import Rate


class Queue(BaseModel):
    """One queue.

    Attributes:
        name: What tasks call it.
        paused: Whether nothing starts; what runs goes on.
        max_running: The most tasks that run at the same time, over all workers; None for no limit.
        rate: How many tasks start in a time, over all workers; None for no limit.
        ready: Tasks that could start now, but for the settings and for free workers.
        deferred: Tasks that wait for their time, or for their next attempt.
        running: Tasks that a worker has.
        oldest_ready_seconds: How long the oldest ready task has been waiting; 0 when none is.
        workers: How many workers serve it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    paused: bool
    max_running: int | None
    rate: Rate | None
    ready: int
    deferred: int
    running: int
    oldest_ready_seconds: float
    workers: int


class QueueList(BaseModel):
    """Every queue, by name, and how old the figures are."""

    items: list[Queue]
    age_seconds: float | None


class QueueChange(TypedDict, total=False):
    """What to set; what is left out stays as it is, and None removes a limit. See `PATCH /queues/{name}`."""

    paused: bool
    max_running: int | None
    rate: Rate | Mapping[str, float] | None


_QUEUE, _QUEUES = TypeAdapter(Queue), TypeAdapter(QueueList)


class Queues:
    """The queues of a service, as `client.queues`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, name: str) -> Queue:
        """One queue.

        Raises:
            NotFound: there is none of this name.
        """
        return (await self._connection.request("GET", _path(name))).read(_QUEUE)

    async def set(self, name: str, **change: Unpack[QueueChange]) -> Queue:
        """Change settings of a queue, which need not have had a task yet; they hold within a second.

        Args:
            name: The queue.
            change: See `QueueChange`.
        """
        return (await self._connection.request("PATCH", _path(name), body=encode(change))).read(_QUEUE)

    async def pause(self, name: str) -> Queue:
        """Let nothing start; what runs goes on, and tasks are accepted as ever."""
        return await self.set(name, paused=True)

    async def resume(self, name: str) -> Queue:
        """End a pause."""
        return await self.set(name, paused=False)

    async def list(self) -> "list[Queue]":
        """Every queue, by name."""
        return (await self._connection.request("GET", "/queues")).read(_QUEUES).items


def _path(name: str) -> str:
    return f"/queues/{quote(name, safe='')}"
