"""A browser's own EventSource: it gets the events, comes back after a break, and stays away after the end."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from app.api import event_stream
from app.api.app import SERVER_OPTIONS, build_app
from app.api.keys import BACKEND
from app.core.clock import utc_now
from app.core.ids import TaskId
from app.tasks.registry import load_task_modules
from app.web import open_backend
from settings import load_settings
from tests.waiting import wait_until

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><title>test</title><script>
const say = (text) => fetch("/said", { method: "POST", body: text });
const source = new EventSource("/tasks/TASK/events");
source.addEventListener("status", (event) => say(JSON.parse(event.data).status));
source.onerror = () => say(source.readyState === EventSource.CLOSED ? "closed" : "broken");
</script>"""


class ServerAsServed(TestServer):
    """Without aiohttp's own cancelling of handlers, as app.web serves."""

    async def _make_runner(self, **_: object) -> web.AppRunner:
        return web.AppRunner(self.app, **SERVER_OPTIONS)


@asynccontextmanager
async def browser_at(url: str, directory: Path) -> AsyncIterator[None]:
    """A browser that has opened a page."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert browser is not None, "needs a Chromium on PATH"
    process = await asyncio.create_subprocess_exec(
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions",
        f"--user-data-dir={directory / 'profile'}", "--remote-debugging-port=0", url,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def test_an_event_source_follows_a_task_to_its_end(
    mongo_url: str, empty_redis: str, mongo_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "RETRY_MS", (100, 100))
    settings = load_settings(mongo_url=mongo_url, redis_url=empty_redis, mongo_database=mongo_database)
    application = build_app(
        partial(open_backend, settings, load_task_modules(())), max_body_bytes=10_000, version="9.8.7"
    )
    said: list[str] = []

    async def hear(request: web.Request) -> web.Response:
        said.append(await request.text())
        return web.Response()

    async def page(request: web.Request) -> web.Response:
        text = PAGE.replace("TASK", request.query["task"])
        return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": ""})

    application.router.add_post("/said", hear)
    application.router.add_get("/page", page)
    async with ServerAsServed(application) as server, aiohttp.ClientSession(server.make_url("/")) as client:
        async with client.post("/tasks", json={"type": "echo"}) as response:
            task_id = (await response.json())["id"]
        backend = application[BACKEND]
        async with browser_at(str(server.make_url(f"/page?task={task_id}")), tmp_path):
            await wait_until(lambda: said == ["pending"], 30, f"the first event, not {said}")
            for stream in backend.live._streams():
                stream.close()  # as a deploy would
            await wait_until(lambda: said == ["pending", "broken"], 10, f"the break, not {said}")
            await wait_until(lambda: len(backend.live) == 1, 10, "it has come back, and is not told what it knows")
            assert await backend.tasks.cancel_waiting(TaskId(task_id), now=utc_now(), expire_at=None)
            await wait_until(lambda: said[2:] == ["cancelled", "broken", "closed"], 10, f"the end, not {said}")
