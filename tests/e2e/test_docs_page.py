"""The documentation page in a browser: it shows every operation and asks nobody but this server."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from app.api.app import build_app
from app.api.endpoints import ENDPOINTS
from app.tasks.registry import load_task_modules
from app.web import open_backend
from settings import load_settings

pytestmark = pytest.mark.browser

NOBODY = {"mongo_url": "mongodb://127.0.0.1:1", "redis_url": "redis://127.0.0.1:1"}  # the page needs neither


async def _browse(origin: str, path: str, directory: Path) -> tuple[str, list[str]]:
    """The page as the browser has built it, and the URLs that it had loaded."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert browser is not None, "needs a Chromium on PATH"
    network = directory / "network.json"
    process = await asyncio.create_subprocess_exec(
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions",
        f"--user-data-dir={directory / 'profile'}", f"--log-net-log={network}", "--virtual-time-budget=10000",
        "--dump-dom", origin + path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(50):
        page, _ = await process.communicate()
    return page.decode(), _requested_by(origin, json.loads(network.read_text()))


def _requested_by(origin: str, log: dict[str, Any]) -> list[str]:
    """The URLs that a page of this origin had loaded; the browser's own requests have no origin."""
    starts = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    requests = [event.get("params", {}) for event in log["events"] if event["type"] == starts]
    return [request["url"] for request in requests if request.get("initiator") == origin]


async def test_the_page_shows_every_operation_and_asks_nobody_else(tmp_path: Path) -> None:
    settings = load_settings(**NOBODY)
    types = load_task_modules(())
    application = build_app(lambda: open_backend(settings, types), max_body_bytes=10_000, version="9.8.7")
    async with TestServer(application) as server:
        origin = str(server.make_url("/").origin())
        page, asked = await _browse(origin, "/docs", tmp_path)
    for endpoint in ENDPOINTS:
        assert (f'id="{endpoint.name}"' in page) is endpoint.documented, endpoint.name
        assert (f">{endpoint.summary}<" in page) is endpoint.documented, endpoint.name
    for name, task_type in types.items():
        assert (f'id="type-{name}"' in page) is not task_type.internal, name
    assert 'id="schema-Problem"' in page
    assert "9.8.7" in page
    assert {url.removeprefix(origin) for url in asked} == {"/docs/page.js", "/docs/page.css", "/openapi.json", "/types"}
