"""Reads server-sent events as a browser does."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp.test_utils import TestClient

from tests.waiting import PATIENCE_S


@dataclass(frozen=True)
class Event:
    """One event."""

    id: str
    name: str
    data: dict[str, Any]

    @property
    def status(self) -> str:
        status: str = self.data["status"]
        return status


@dataclass
class EventSource:
    """A stream that is open.

    Attributes:
        last_event_id: What a browser would come back with.
        retry_ms: After which time it would.
        comments: How many lines for nobody it has read.
    """

    response: aiohttp.ClientResponse
    last_event_id: str = ""
    retry_ms: int = 0
    comments: int = 0
    _fields: dict[str, str] = field(default_factory=dict)

    async def next(self, timeout_s: float = PATIENCE_S) -> Event | None:
        """The next event, or None at the end of the stream; the test fails when neither comes in time."""
        async with asyncio.timeout(timeout_s):
            while line := await self.response.content.readline():
                event = self._take(line.decode().rstrip("\r\n"))
                if event is not None:
                    return event
        return None

    async def events(self, count: int) -> list[Event]:
        """As many events."""
        found: list[Event] = []
        for _ in range(count):
            event = await self.next()
            assert event is not None, f"the stream ended after {found}"
            found.append(event)
        return found

    async def rest(self) -> list[Event]:
        """Every event until the end of the stream."""
        found = []
        while (event := await self.next()) is not None:
            found.append(event)
        return found

    async def silent(self, seconds: float) -> bool:
        """Whether no event comes for so long."""
        try:
            await self.next(seconds)
        except TimeoutError:
            return True
        return False

    def _take(self, line: str) -> Event | None:
        if line:
            name, _, value = line.partition(":")
            self.comments += not name
            self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        self.retry_ms = int(fields.get("retry", self.retry_ms))
        self.last_event_id = fields.get("id", self.last_event_id)
        if "data" not in fields:
            return None
        return Event(self.last_event_id, fields["event"], json.loads(fields["data"]))


@asynccontextmanager
async def listening(
    client: "TestClient[Any, Any] | aiohttp.ClientSession", url: str, last: str = "", **options: Any
) -> AsyncIterator[EventSource]:
    """A stream; with `last`, from the event with that id on."""
    headers = {**options.pop("headers", {}), **({"Last-Event-ID": last} if last else {})}
    async with client.get(url, headers=headers, timeout=aiohttp.ClientTimeout(60), **options) as response:
        assert response.status == 200, await response.text()
        yield EventSource(response)
