"""The probes of a worker: a small server of its own, since a worker answers no other requests."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from app.telemetry.exposition import MEDIA_TYPE

Readiness = Callable[[], Awaitable[list[str]]]
"""What keeps the worker from working, a line each; empty when nothing does."""

Scrape = Callable[[], Awaitable[bytes]]
"""The metrics in Prometheus' text format."""


@asynccontextmanager
async def serve_probes(
    host: str, port: int, readiness: Readiness, scrape: Scrape, *, share_port: bool = False
) -> AsyncIterator[None]:
    """Answer `/health/live`, `/health/ready` and `/metrics` while the context is open.

    Args:
        host: The address to listen on.
        port: The port; 0 is off.
        readiness: Asked for each `/health/ready`.
        scrape: Asked for each `/metrics`.
        share_port: Whether other workers on this machine listen on the same port; then any of them answers.

    Raises:
        OSError: the port is taken.
    """
    if port == 0:
        yield
        return

    async def live(_request: web.Request) -> web.Response:
        return _answer(200, {"status": "ok"})

    async def ready(_request: web.Request) -> web.Response:
        problems = await readiness()
        if problems:
            return _answer(503, {"status": "down", "problems": problems})
        return _answer(200, {"status": "ok"})

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=await scrape(), content_type=MEDIA_TYPE, charset="utf-8")

    application = web.Application()
    application.add_routes(
        [web.get("/health/live", live), web.get("/health/ready", ready), web.get("/metrics", metrics)]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, reuse_port=share_port or None).start()
        yield
    finally:
        await runner.cleanup()


def _answer(status: int, body: dict[str, object]) -> web.Response:
    return web.Response(status=status, body=json.dumps(body).encode(), content_type="application/json")
