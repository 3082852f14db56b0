"""Sends requests, and sends them again while the service is away."""

import asyncio
import itertools
import os
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from http import HTTPStatus
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from yarl import URL

from app.client.errors import Refusal, RequestFailed, Unreachable, read_error
from app.core.backoff import Backoff

CONNECT_S = 10.0
PAUSES = Backoff(base=timedelta(seconds=0.2), max=timedelta(seconds=5))
"""Between tries where the service names no pause of its own."""

Query = Iterable[tuple[str, str]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: The HTTP status.
        headers: Of the answer.
        body: As it came.
        doubtful: Whether an earlier try of the same request may have reached the service without an answer.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    doubtful: bool = False

    def read(self, adapter: TypeAdapter[T]) -> T:
        """The body.

        Raises:
            RequestFailed: it is not what this client knows.
        """
        try:
            return adapter.validate_json(self.body)
        except ValidationError as error:
            detail = f"The service answered what this client cannot read: {str(error).splitlines()[0]}."
            raise RequestFailed(Refusal(self.status, detail=detail)) from error


def encode(value: object) -> bytes:
    """JSON as the service reads it: durations are seconds, moments RFC 3339; pydantic models and dataclasses pass."""
    return to_json(value, timedelta_mode="float")


def _base_url(url: str) -> str:
    try:
        base = URL(url)
    except ValueError as error:
        raise ValueError(f"{url!r} is not a URL: {error}") from error
    if base.scheme not in {"http", "https"} or not base.host:
        raise ValueError(f"the URL of a service starts with http:// or https:// and names a host, not {url!r}")
    if base.user or base.query_string or base.fragment:
        raise ValueError("the URL of a service has no user, query or fragment; a key goes into `key`")
    return str(base).rstrip("/")


class Connection:
    """One service and how patient to be with it; see `Client` for the arguments."""

    def __init__(
        self, url: str, key: str | None, *, timeout_s: float, retry_for_s: float, session: aiohttp.ClientSession | None
    ) -> None:
        self._base = _base_url(url)
        self._headers = {"User-Agent": "arqive-client", **({"Authorization": f"Bearer {key}"} if key else {})}
        self._timeout_s = timeout_s
        self._retry_for_s = retry_for_s
        self._session = session
        self._own_session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        if self._session is None:
            self._session = self._own_session = aiohttp.ClientSession()
            # aiohttp 3.14 would itself send a DELETE again, and nobody would know that the first try may have done it.
            self._session._retry_connection = not self._retry_for_s  # noqa: SLF001 - there is no other way
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._own_session is not None:
            await self._own_session.close()
            self._session = self._own_session = None

    @property
    def retry_for_s(self) -> float:
        """Seconds in which what fails is tried again."""
        return self._retry_for_s

    def submission_headers(self, idempotency_key: str | None = None) -> dict[str, str]:
        """What makes a submission safe to send again; without a key of the caller's, and without retries, nothing."""
        key = idempotency_key or (secrets.token_hex(16) if self._retry_for_s else None)
        return {} if key is None else {"Idempotency-Key": key}

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
        also: frozenset[int] = frozenset(),
        repeat: bool = True,
    ) -> Answer:
        """Send a request until it is answered, pausing in between as the service asks or ever longer.

        Args:
            method: In upper case.
            path: Below the service's URL, percent-encoded.
            query: Parameters.
            body: JSON.
            headers: Besides those of every request.
            wait_s: How much longer than usual the answer may take.
            also: Statuses that are answers here, beside 2xx.
            repeat: Whether it may be sent again after a try that may have reached the service.

        Raises:
            RequestFailed: what the service said, or that it said nothing until no time was left.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._retry_for_s
        request = _Request(method, path, tuple(query), body, headers or {}, wait_s)
        doubtful = False
        for attempt in itertools.count(1):
            outcome = await self._try(request, also)
            if isinstance(outcome, Answer):
                return replace(outcome, doubtful=doubtful)
            doubtful = outcome.doubtful = doubtful or outcome.doubtful
            pause = outcome.refusal.retry_after or PAUSES.delay(attempt)
            may_repeat = outcome.passing and (repeat or not doubtful)
            if not may_repeat or clock() + pause.total_seconds() >= deadline:
                raise outcome
            await asyncio.sleep(pause.total_seconds())
        raise AssertionError("counting has no end")

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Query = (), headers: Mapping[str, str] | None = None, silence_s: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open an answer, 200 or 204, that goes on for as long as the service likes; it is tried once.

        Args:
            path: Below the service's URL, percent-encoded.
            query: Parameters.
            headers: Besides those of every request.
            silence_s: Seconds without a byte after which the connection counts as lost.

        Raises:
            RequestFailed: the service refused, or the connection was lost; the latter inside the block, too.
        """
        request = _Request("GET", path, tuple(query), None, headers or {}, 0.0)
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=silence_s)
        try:
            async with self._open(request, timeout) as response:
                if response.status not in {HTTPStatus.OK, HTTPStatus.NO_CONTENT}:
                    raise read_error(response.status, response.headers, await response.read())
                yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def _try(self, request: "_Request", also: frozenset[int]) -> Answer | RequestFailed:
        timeout = aiohttp.ClientTimeout(total=self._timeout_s + request.wait_s, sock_connect=CONNECT_S)
        try:
            async with self._open(request, timeout) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            failure = self._unreachable(error)
            failure.__cause__ = error
            return failure
        if HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES or response.status in also:
            return Answer(response.status, response.headers, body)
        return read_error(response.status, response.headers, body)

    def _open(self, request: "_Request", timeout: aiohttp.ClientTimeout) -> "_OpenResponse":
        if self._session is None:
            raise RuntimeError("use the client inside `async with Client(...) as client:`")
        headers = {**self._headers, **request.headers}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        # The key would go along to wherever a redirect leads; and a redirected POST becomes a GET.
        return self._session.request(
            request.method,
            URL(f"{self._base}{request.path}", encoded=True),
            params=request.query,
            data=request.body,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
        )

    def _unreachable(self, error: Exception) -> Unreachable:
        failure = Unreachable(Refusal(detail=f"{self._base} does not answer: {_reason(error)}."))
        failure.doubtful = not isinstance(error, aiohttp.ClientConnectorError)
        failure.passing = not isinstance(error, aiohttp.ClientSSLError)  # a bad certificate stays bad
        return failure


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "no such host is known"
    if isinstance(error, aiohttp.ClientConnectorError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    body: bytes | None
    headers: Mapping[str, str]
    wait_s: float


_OpenResponse = AbstractAsyncContextManager[aiohttp.ClientResponse]
