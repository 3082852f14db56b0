"""The client of a service: one method for each thing that it does."""

from collections.abc import AsyncGenerator
from http import HTTPStatus
from types import TracebackType
from typing import Self, Unpack

import aiohttp
from pydantic import TypeAdapter

from app.client.answers import Health, Stats, TypeInfo, TypeList, Worker, WorkerList
from app.client.changes import Changes
from app.client.connection import Connection
from app.client.events import Event, follow
from app.client.queues import Queues
from app.client.schedules import Schedules
from app.client.selection import EventFilter, query_of
from app.client.tasks import Tasks, task_path

_TYPES = TypeAdapter(TypeList)
_WORKERS = TypeAdapter(WorkerList)
_STATS = TypeAdapter(Stats)
_HEALTH = TypeAdapter(Health)


class Client(Tasks, Changes):
    """Talks to a service; use it as `async with Client(url) as client:`.

    While the service is away (no connection, no answer, 429, 502, 503, 504) a request is sent again, after the pause
    that the service asks for or one that grows. What is sent twice is done once: a submission carries an idempotency
    key, and the second answer to a cancel, a retry or a delete is understood. Methods raise `RequestFailed` or one of
    its classes.

    Args:
        url: Of the service, such as `http://localhost:4000`; it may have a path.
        key: The secret of an API key, where the service wants one.
        timeout: Seconds that the service may take for one answer.
        retry_for: Seconds after its first try in which a request that fails is tried again; 0 never does.
        session: An aiohttp session to use, which the client then does not close.

    Attributes:
        queues: The queues of the service.
        schedules: Its schedules.
    """

    def __init__(
        self,
        url: str = "http://localhost:4000",
        *,
        key: str | None = None,
        timeout: float = 30.0,
        retry_for: float = 30.0,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        super().__init__(Connection(url, key, timeout_s=timeout, retry_for_s=retry_for, session=session))
        self.queues = Queues(self._connection)
        self.schedules = Schedules(self._connection)

    async def __aenter__(self) -> Self:
        await self._connection.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._connection.__aexit__(kind, error, traceback)

    async def types(self) -> "list[TypeInfo]":
        """Every task type that can be submitted."""
        return (await self._connection.request("GET", "/types")).read(_TYPES).items

    async def workers(self) -> "list[Worker]":
        """Every worker that is alive, the one that has been there longest first."""
        return (await self._connection.request("GET", "/workers")).read(_WORKERS).items

    async def stats(self) -> Stats:
        """Counts of tasks, queues and workers."""
        return (await self._connection.request("GET", "/stats")).read(_STATS)

    async def health(self) -> Health:
        """How well the service works; `down` is an answer, too, and not raised."""
        also = frozenset({HTTPStatus.SERVICE_UNAVAILABLE.value})
        return (await self._connection.request("GET", "/health", also=also)).read(_HEALTH)

    def follow(self, task_id: str, *, last_event_id: str = "") -> AsyncGenerator[Event, None]:
        """What happens to a task: the state that it is in, then its changes, until it has ended or is deleted.

        A break of the connection is not noticed. States in between may be left out.

        Args:
            task_id: Which one.
            last_event_id: The event to go on after.

        Raises:
            NotFound: there is none.
        """
        return follow(self._connection, f"{task_path(task_id)}/events", last_id=last_event_id, to_its_end=True)

    def events(self, *, last_event_id: str = "", **which: Unpack[EventFilter]) -> AsyncGenerator[Event, None]:
        """What happens to every task that matches, from now on or from an event on; it does not end.

        A break of the connection is not noticed, but that the events of the last seconds may come again.

        Args:
            last_event_id: The event to go on after.
            which: See `EventFilter`.
        """
        return follow(self._connection, "/events", query=query_of(which), last_id=last_event_id, to_its_end=False)
