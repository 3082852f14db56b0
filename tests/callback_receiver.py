"""A server that takes callbacks in and verifies their signatures."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
NEXT_SECRET = "whsec_" + base64.b64encode(b"another-secret-of-32-bytes-or-so").decode()


@dataclass
class Receiver:
    """What was received.

    Attributes:
        answers: The status of each answer to come; 204 when there is none left.
        messages: The bodies, each verified.
        headers: The headers of each.
        bodies: As they came.
    """

    secret: str = SECRET
    answers: list[int] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    url: str = ""

    async def receive(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.bodies.append(await request.read())
        self.messages.append(Webhook(self.secret).verify(self.bodies[-1], headers))
        self.headers.append(headers)
        # Retry-After, so that a test does not wait for the backoff.
        return web.Response(status=self.answers.pop(0) if self.answers else 204, headers={"Retry-After": "0"})

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers in self.headers]


@asynccontextmanager
async def receiving(**fields: Any) -> AsyncIterator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver(**fields)
    app = web.Application(client_max_size=10**7)
    app.router.add_post("/hook", receiver.receive)
    async with TestServer(app, host="127.0.0.1") as server:
        receiver.url = str(server.make_url("/hook"))
        yield receiver
