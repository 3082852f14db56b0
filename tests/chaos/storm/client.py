"""The client: submits what was planned, cancels and retries, and notes what it was promised."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import aiohttp

from tests.chaos.storm.plan import Planned, Request

CONNECTIONS = 16
PATIENCE_S = 15.0
"""How long the client waits for an answer."""

PAUSE_S = 0.2
LAST_TRY_S = 120.0
"""After the storm a request must be answered within this time."""

RETRY_TRIES = 4
"""How often the client asks for the retry of a task that has not failed yet."""


@dataclass
class Account:
    """What the client knows of one task that was accepted.

    Attributes:
        planned: What it submitted.
        run_at: When the task may run, as it was told.
        cancels_sent: How often it asked for a cancel.
        cancelled: Whether it was told that the task is cancelled.
        retries_sent: How often it asked for a retry.
        retries_granted: How often it was told that the task will run again.
    """

    planned: Planned
    run_at: datetime | None = None
    cancels_sent: int = 0
    cancelled: bool = False
    retries_sent: int = 0
    retries_granted: int = 0


@dataclass
class Client:
    """Talks to webs that come and go.

    Attributes:
        urls: The webs.
        session: The HTTP client.
        rng: Chooses among the webs.
        accounts: By task id: everything that was accepted.
        answers: How often each status came; "none" is no answer.
        breaches: Answers that no web may give.
        slowest_s: The longest wait for a 201.
    """

    urls: list[str]
    session: aiohttp.ClientSession
    rng: random.Random
    ends_at: float
    accounts: dict[str, Account] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    breaches: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    async def submit_all(self, requests: Iterable[Request], *, began_at: float) -> None:
        """Submit each request at its time, then do to its tasks what was planned; returns when all is done."""
        rest = iter(requests)
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(self._submit_some(rest, began_at, group))

    async def _submit_some(self, rest: Iterator[Request], began_at: float, group: asyncio.TaskGroup) -> None:
        for request in rest:
            await asyncio.sleep(began_at + request.at_s - time.monotonic())
            for task in await self._submit(request):
                planned = request.tasks[task["position"]]
                account = Account(planned, datetime.fromisoformat(task["run_at"]))
                if self.accounts.setdefault(task["id"], account) is not account:
                    self.breaches.append(f"the id {task['id']} was given twice")
                if planned.cancel_after_s is not None or planned.retry_after_s is not None:
                    group.create_task(self._meddle(task["id"], account))

    async def _submit(self, request: Request) -> list[dict[str, Any]]:
        path = "/tasks" if len(request.tasks) == 1 else "/tasks/bulk"
        while time.monotonic() < self.ends_at + LAST_TRY_S:
            bodies = [_body(planned) for planned in request.tasks]
            asked_at = time.monotonic()
            status, answer = await self._post(path, bodies[0] if len(bodies) == 1 else bodies)
            if status == HTTPStatus.CREATED:
                self.slowest_s = max(self.slowest_s, time.monotonic() - asked_at)
                items = [answer] if len(bodies) == 1 else answer["items"]
                return [{**item, "position": position} for position, item in enumerate(items)]
            if status not in {None, HTTPStatus.SERVICE_UNAVAILABLE}:
                self.breaches.append(f"POST {path} was answered {status}: {answer}")
                return []
            await asyncio.sleep(PAUSE_S)
        self.breaches.append(f"POST {path} of {request.tasks[0]} was never accepted")
        return []

    async def _post(self, path: str, body: object) -> tuple[int | None, Any]:
        """The status and the body, or None without an answer."""
        try:
            async with self.session.post(self.rng.choice(self.urls) + path, json=body) as response:
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            self.answers["none"] += 1
            return None, None
        self.answers[str(response.status)] += 1
        if response.status == HTTPStatus.SERVICE_UNAVAILABLE and "Retry-After" not in response.headers:
            self.breaches.append(f"POST {path} was answered 503 without Retry-After")
        return response.status, answer

    async def _meddle(self, task_id: str, account: Account) -> None:
        if account.planned.cancel_after_s is not None:
            await asyncio.sleep(account.planned.cancel_after_s)
            await self._cancel(task_id, account)
        if account.planned.retry_after_s is not None:
            for _ in range(RETRY_TRIES):
                await asyncio.sleep(account.planned.retry_after_s)
                if await self._retry(task_id, account):
                    return

    async def _cancel(self, task_id: str, account: Account) -> None:
        def sending() -> None:
            account.cancels_sent += 1

        answer = await self._insist(f"/tasks/{task_id}/cancel", sending)
        account.cancelled = answer is not None and answer["status"] == "cancelled"

    async def _retry(self, task_id: str, account: Account) -> bool:
        def sending() -> None:
            account.retries_sent += 1

        granted = await self._insist(f"/tasks/{task_id}/retry", sending) is not None
        account.retries_granted += granted
        return granted

    async def _insist(self, path: str, sending: Any) -> Any:
        """Ask until there is an answer; the task, or None when it is in the wrong state."""
        while time.monotonic() < self.ends_at + LAST_TRY_S:
            sending()
            status, answer = await self._post(path, {})
            if status == HTTPStatus.OK:
                return answer
            if status == HTTPStatus.CONFLICT:
                return None
            if status not in {None, HTTPStatus.SERVICE_UNAVAILABLE}:
                self.breaches.append(f"POST {path} was answered {status}: {answer}")
                return None
            await asyncio.sleep(PAUSE_S)
        self.breaches.append(f"POST {path} was never answered")
        return None


def _body(planned: Planned) -> dict[str, Any]:
    body = {"type": planned.type, **planned.fields}
    if planned.start_within_s is not None:
        body["start_before"] = (datetime.now(UTC) + timedelta(seconds=planned.start_within_s)).isoformat()
    return body
