"""The guides: what they show is in the examples, and the examples run."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from app.tasks.registry import load_task_modules
from examples.http_service.server import serve
from settings import Settings
from tests.fundamentals.conftest import Client, submit, wait_for

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs/guides").glob("*.md"))
CODE = [
    pytest.param(guide, code, id=f"{guide.stem}-{number}")
    for guide in GUIDES
    for number, code in enumerate(re.findall(r"^```python\n(.+?)^```", guide.read_text(), re.MULTILINE | re.DOTALL))
]
SHOWN = re.compile(r"# (examples/[\w/]+\.py)\n")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With the modules that the guides show."""
    names = [f"examples.coming_from.{name}_tasks" for name in ("arq", "celery", "bullmq")]
    return settings.model_copy(
        update={"task_modules": (*settings.task_modules, *names, "examples.primes", "tests.fundamentals.greet")}
    )


@pytest.fixture
async def pictures() -> AsyncIterator[str]:
    """The example service, on a free port."""
    server = serve(0)
    serving = asyncio.create_task(asyncio.to_thread(server.serve_forever))
    yield f"http://127.0.0.1:{server.server_port}"
    await asyncio.to_thread(server.shutdown)
    await serving
    server.server_close()


@pytest.mark.parametrize(("guide", "code"), CODE)
async def test_the_code_of_the_guides(guide: Path, code: str, http: Client) -> None:
    """It is a file of the examples as it stands, or a task module that loads, or it runs against a service."""
    if shown := SHOWN.match(code):
        source = (ROOT / shown[1]).read_text(encoding="utf-8")
        assert code.removeprefix(shown[0]) == source.split('"""\n', 1)[1].lstrip("\n")
    elif "@task" in code:
        assert code == (ROOT / "tests/fundamentals/greet.py").read_text(encoding="utf-8").split('"""\n', 1)[1].lstrip()
    else:
        names: dict[str, Any] = {}
        code = code.replace("http://localhost:4000", str(http.make_url("/")))
        exec(f"async def run():\n{indent(code, '    ')}", names)  # noqa: S102
        await names["run"]()


async def test_a_task_of_your_own(http: Client) -> None:
    for payload, status, attempts in (
        ({"name": "Ada", "times": 2}, "completed", 1),
        ({"name": "late"}, "completed", 2),
        ({"name": "nobody"}, "failed", 1),
    ):
        done = await wait_for(http, await submit(http, type="greeting.write", payload=payload))
        assert (done["status"], done["attempt"]) == (status, attempts)
        assert status == "failed" or done["result"]["text"].startswith("Hello")


async def test_a_task_that_computes(http: Client) -> None:
    done = await wait_for(http, await submit(http, type="primes.count", payload={"below": 1_000}))
    assert (done["result"], done["progress"]["value"] > 0.9) == (168, True)


async def test_any_service(http: Client, pictures: str) -> None:
    done = await wait_for(
        http,
        await submit(
            http,
            type="http.request",
            payload={"url": f"{pictures}/resize", "json": {"picture": "cat.png", "width": 200}},
        ),
    )
    assert (done["status"], done["attempt"]) == ("completed", 2)
    assert json.loads(done["result"]["body"]) == {"resized": "cat.png", "width": 200}
    refused = await wait_for(
        http,
        await submit(http, type="http.request", payload={"url": f"{pictures}/resize", "json": {"picture": "cat.gif"}}),
    )
    assert (refused["status"], refused["attempt"]) == ("failed", 1)


async def test_coming_from_arq(http: Client) -> None:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="Hello")

    pages = web.Application()
    pages.router.add_get("/page", hello)
    async with TestServer(pages) as server:
        found = await submit(http, type="page.measure", payload={"url": str(server.make_url("/page"))})
        missing = await submit(http, type="page.measure", payload={"url": str(server.make_url("/nothing"))})
        assert (await wait_for(http, found))["result"] == 5
        assert (await wait_for(http, missing))["error"]["message"] == "there is no such page"


async def test_coming_from_celery(http: Client) -> None:
    done = await wait_for(http, await submit(http, type="invoice.print", payload={"number": 7, "customer": "ada"}))
    assert (done["result"], done["attempt"]) == ({"sheet": "ada-7"}, 2)


async def test_coming_from_bullmq(http: Client) -> None:
    cut = await wait_for(http, await submit(http, type="video.cut", payload={"seconds": 130}))
    assert cut["result"] == ["0-60", "60-120", "120-130"]
    assert cut["progress"]["value"] == 1
    assert [line["message"] for line in cut["log"]] == [
        "cut from second 0",
        "cut from second 60",
        "cut from second 120",
    ]
    named = await wait_for(http, await submit(http, type="video.name", payload={"seconds": 130}))
    assert named["result"] == "2 minutes"


def test_the_settings_of_the_guides_are_settings() -> None:
    names = {name for guide in GUIDES for name in re.findall(r"`([A-Z][A-Z_]+[A-Z])`", guide.read_text())}
    assert names <= {*(name.upper() for name in Settings.model_fields), "FLUSHALL", "PROGRESS", "WEB"}
    assert "http.request" in load_task_modules(())
