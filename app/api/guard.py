"""Lets in who may come in: a bearer key with the scope that an endpoint needs, not more often than it may be used."""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import hdrs, web

from app.api.endpoint import Endpoint, Opening, Permission
from app.api.problems import REALM, Forbidden, RateLimited, Unauthorized
from app.core.api_keys import Allowance, ApiKey, KeyRing, Scope

API_KEY_NAME = web.RequestKey("api_key_name", str)
"""On a request that came with a key: the key's name, for whoever logs it."""

_MAX_KEY = 512  # characters; more is no key, and need not be hashed

_WebHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Access:
    """Who may do what.

    Attributes:
        keys: The keys; without any, everybody may do everything.
        open: What needs no key although others do.
    """

    keys: KeyRing = field(default_factory=KeyRing)
    open: frozenset[Opening] = frozenset({Opening.HEALTH})

    @property
    def restricted(self) -> bool:
        """Whether keys are needed at all."""
        return len(self.keys) > 0

    def scope_for(self, endpoint: Endpoint) -> Scope | None:
        """The scope that an endpoint needs here, or None when it needs none."""
        return Scope(endpoint.permission.value) if self.restricted and self.may_refuse(endpoint) else None

    def may_refuse(self, endpoint: Endpoint) -> bool:
        """Whether there are callers that an endpoint refuses, once there are keys."""
        return endpoint.permission is not Permission.NONE and endpoint.opening not in self.open


class Guard:
    """Stands before the handlers of one process.

    How often a key may be used is counted in this process: it costs a microsecond, and it holds while Redis is down.

    Args:
        access: Who may do what.
        clock: Seconds that never go back.
    """

    def __init__(self, access: Access, clock: Callable[[], float] = time.monotonic) -> None:
        self._access = access
        self._clock = clock
        self._allowances: dict[str, Allowance] = {}

    def over(self, endpoint: Endpoint, handle: _WebHandler) -> _WebHandler:
        """The handler of an endpoint behind the guard; the handler itself where anybody may come in."""
        needed = self._access.scope_for(endpoint)
        if needed is None:
            return handle

        async def guarded(request: web.Request) -> web.StreamResponse:
            request[API_KEY_NAME] = self._admit(request, needed).name
            return await handle(request)

        return guarded

    def _admit(self, request: web.Request, needed: Scope) -> ApiKey:
        """Who comes in.

        Raises:
            Unauthorized: without a key, or with one that is not known here.
            Forbidden: its scope does not include what is needed.
            RateLimited: it came too often.
        """
        kind, _, credentials = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if kind.lower() != "bearer" or not credentials.strip():
            raise Unauthorized("This needs an API key: Authorization: Bearer KEY.", f'Bearer realm="{REALM}"')
        credentials = credentials.strip()
        key = self._access.keys.find(credentials) if len(credentials) <= _MAX_KEY else None
        if key is None:
            raise Unauthorized("This API key is not known here.", f'Bearer realm="{REALM}", error="invalid_token"')
        # Before the scope is looked at: a program that is refused all the time is one to slow down, too.
        self._count(key)
        if not key.scope.includes(needed):
            raise Forbidden(key.name, has=key.scope, needed=needed)
        return key

    def _count(self, key: ApiKey) -> None:
        if key.rate is None:
            return
        allowance = self._allowances.get(key.name)
        if allowance is None:
            allowance = self._allowances[key.name] = Allowance(key.rate, key.burst, self._clock)
        wait_s = allowance.take()
        if wait_s:
            raise RateLimited(key.name, retry_after_s=math.ceil(wait_s))
