"""Schedules: put, read, pause, run, delete."""

from collections.abc import AsyncGenerator, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, TypedDict, Unpack
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, TypeAdapter

from app.client.accepted import AcceptedAs, AcceptedTask, accepted
from app.client.connection import Connection, encode
from app.client.errors import NotFound
from app.core.slots import CatchUp
from app.models import Submission, Task
from app.schedule_models import Schedule, ScheduledTask

PAGE = 200  # schedules in one page of a listing


class SchedulePage(BaseModel):
    """Schedules, by name."""

    model_config = ConfigDict(extra="ignore")

    items: list[Schedule]
    next_cursor: str | None


class Times(TypedDict, total=False):
    """When a schedule has its slots, and what becomes of missed ones. See `PUT /schedules/{name}`."""

    cron: str
    time_zone: str
    interval: float | timedelta
    start_at: datetime
    end_at: datetime
    catch_up: CatchUp | str
    paused: bool


_SCHEDULE, _PAGE, _TASK = TypeAdapter(Schedule), TypeAdapter(SchedulePage), TypeAdapter(Task)


class Schedules:
    """The schedules of a service, as `client.schedules`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, name: str) -> Schedule:
        """One schedule.

        Raises:
            NotFound: there is none of this name.
        """
        return (await self._connection.request("GET", _path(name))).read(_SCHEDULE)

    async def put(
        self, name: str, task: ScheduledTask | Submission | Mapping[str, Any], **times: Unpack[Times]
    ) -> Schedule:
        """Create a schedule, or replace it; where the times are the same, nothing is counted anew.

        Args:
            name: Of the schedule.
            task: What each slot submits: the fields of a submission, without those that say when.
            times: See `Times`; `cron` or `interval` is needed.

        Raises:
            Invalid: something of it cannot be accepted; `fields` says what.
        """
        fields = task.model_dump(exclude_unset=True) if isinstance(task, BaseModel) else task
        body = encode({**times, "task": fields})
        return (await self._connection.request("PUT", _path(name), body=body)).read(_SCHEDULE)

    async def delete(self, name: str) -> None:
        """Remove a schedule; the tasks that it submitted stay.

        Raises:
            NotFound: there is none of this name.
        """
        try:
            await self._connection.request("DELETE", _path(name))
        except NotFound as error:
            if not error.doubtful:
                raise

    async def pause(self, name: str) -> Schedule:
        """Submit nothing until it is resumed."""
        return (await self._connection.request("POST", f"{_path(name)}/pause")).read(_SCHEDULE)

    async def resume(self, name: str) -> Schedule:
        """Go on with the slots."""
        return (await self._connection.request("POST", f"{_path(name)}/resume")).read(_SCHEDULE)

    async def run(self, name: str) -> AcceptedTask:
        """Submit its task now, beside the slots; the task, or the unfinished one that has its unique key.

        A request that may have reached the service is not sent again, as that would be a second run.
        """
        answer = await self._connection.request("POST", f"{_path(name)}/run", repeat=False)
        how = AcceptedAs.NEW if answer.status == HTTPStatus.CREATED else AcceptedAs.EXISTING
        return accepted(answer.read(_TASK), how)

    async def list(self) -> AsyncGenerator[Schedule, None]:
        """Every schedule, by name, got page by page as they are asked for."""
        query = [("limit", str(PAGE))]
        while True:
            page = (await self._connection.request("GET", "/schedules", query=query)).read(_PAGE)
            for schedule in page.items:
                yield schedule
            if page.next_cursor is None:
                return
            query = [("limit", str(PAGE)), ("cursor", page.next_cursor)]


def _path(name: str) -> str:
    return f"/schedules/{quote(name, safe='')}"
