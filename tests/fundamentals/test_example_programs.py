"""The programs of examples/, each started as its page says, beside a service with a worker."""

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from standardwebhooks import Webhook

from examples.callbacks import receiver
from examples.live_events.plain_aiohttp import Stream
from settings import Settings, load_settings
from tests.callback_receiver import NEXT_SECRET, SECRET
from tests.fundamentals.conftest import Client, submit, wait_for
from tests.processes import START_S
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.glob("examples/**/*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)
FEATURES = ("callbacks", "events", "schedules")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With the types of the examples, and with callbacks."""
    modules = (*settings.task_modules, "examples.live_events.tasks")
    return load_settings(**{**settings.model_dump(), "task_modules": modules, "callback_secrets": SECRET})


@dataclass
class Program:
    """A program of the examples that runs."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip())

    def said(self, pattern: str) -> bool:
        return any(re.search(pattern, line) for line in self.lines)


@asynccontextmanager
async def running(path: str, *arguments: str, **environment: str) -> AsyncIterator[Program]:
    """A program, until it or the test has ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", path, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    program = Program(process)
    reading = asyncio.create_task(program.read())
    try:
        yield program
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading
        sys.stdout.write("\n".join(program.lines))


async def run(http: Client, path: str, *arguments: str, code: int = 0) -> list[str]:
    """The lines of a program that ends by itself."""
    async with running(path, *arguments, ARQIVE_URL=str(http.make_url("/"))) as program, asyncio.timeout(START_S):
        assert await program.process.wait() == code, program.lines
    return program.lines


def test_each_program_is_started_by_a_command_of_its_page() -> None:
    page = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    started = set(re.findall(r"^(?:\.venv/bin/)?python (examples/\S+\.py)", page, re.MULTILINE))
    assert started == set(PROGRAMS)


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("docs/guides/*.md")), *(ROOT / f"docs/{n}.md" for n in FEATURES)])
def test_each_guide_leads_to_an_example(page: Path) -> None:
    named = re.findall(r"examples/[\w/]+\.py|examples/shop|docker-compose\.yml", page.read_text(encoding="utf-8"))
    assert [name for name in named if (ROOT / name).exists()] != []


async def test_tasks_are_followed_with_the_client(http: Client) -> None:
    lines = await run(http, "examples/live_events/follow_tasks.py")
    assert lines[-1] == "results: {'scanned': 8} {'scanned': 16} {'scanned': 24}"
    assert len({line.split()[0] for line in lines if line.endswith("  completed")}) == 3
    shares = [found for line in lines for found in re.findall(r" (\d+%)  picture (\d+) of (\d+)$", line)]
    assert shares
    assert [share for share, _, _ in shares] == [f"{int(seen) / int(of):.0%}" for _, seen, of in shares]


async def test_a_program_says_in_a_line_what_the_service_refuses(http: Client) -> None:
    async with running("examples/schedules/sync.py", ARQIVE_URL=str(http.make_url("/nowhere"))) as program:
        assert await program.process.wait() == 1
    assert program.lines == ["There is nothing at this path."]


async def test_one_task_is_followed_with_aiohttp_alone(http: Client) -> None:
    task = await submit(http, type="album.scan", payload={"pictures": 1000, "seconds_each": 0.1})
    path, url = "examples/live_events/plain_aiohttp.py", str(http.make_url("/"))
    async with running(path, task["id"], ARQIVE_URL=url) as program:
        await wait_until(lambda: program.said(f"{task['id']} progress "), START_S)
        async with http.post(f"/tasks/{task['id']}/cancel") as response:
            assert response.status == 200
        async with asyncio.timeout(START_S):
            assert await program.process.wait() == 0
    assert program.lines[-1] == f"{task['id']} status cancelled"
    assert await run(http, path, task["id"]) == program.lines[-1:]
    [said] = await run(http, "examples/live_events/plain_aiohttp.py", "6b050b29b1d6243056deba6e", code=1)
    assert said.endswith("answered 404")


async def test_all_tasks_are_followed_with_aiohttp_alone(http: Client) -> None:
    async with running("examples/live_events/plain_aiohttp.py", ARQIVE_URL=str(http.make_url("/"))) as program:

        async def told() -> bool:
            task = await wait_for(http, await submit(http, type="echo"))  # what came before it listened is not told
            return program.said(f"{task['id']} status completed")

        await wait_until(told, START_S)


async def test_a_result_of_a_megabyte_comes_as_one_line(http: Client) -> None:
    text = "x" * 900_000
    task = await wait_for(http, await submit(http, type="echo", payload={"text": text}))
    lines = await run(http, "examples/live_events/plain_aiohttp.py", task["id"])
    assert lines == [f"{task['id']} status completed"]


async def test_the_stream_goes_on_after_a_break() -> None:
    asked: list[str | None] = []
    whole = 'retry: 10\n\nid: {id}\nevent: status\ndata: {{"n": {id}}}\n\n: ping\n\n'

    async def serve(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Last-Event-ID"))
        if len(asked) == 2:
            return web.Response(status=503)
        if len(asked) == 4:
            return web.Response(status=204)
        return web.Response(text=whole.format(id=len(asked)) + "id: 9\nevent: status\ndata: {", status=200)

    application = web.Application()
    application.router.add_get("/events", serve)
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        stream = Stream(session, str(server.make_url("/events")))
        async with aclosing(stream.events()) as events:
            told = [json.loads(data)["n"] async for _, data in events]
    assert told == [1, 3]
    assert asked == [None, "1", "1", "3"]


async def test_a_schedule_from_its_first_slot_to_its_end(http: Client) -> None:
    lines = await run(http, "examples/schedules/sync.py")
    assert [line.split(";")[0].split(":")[0] for line in lines if not line.startswith(" ")] == [
        "put", "replaced", "paused", "run by hand while it is paused", "deleted",
    ]  # fmt: skip
    async with http.get("/schedules") as response:
        assert (await response.json())["items"] == []


async def _callback_state(http: Client, task: dict[str, Any]) -> str:
    async with http.get(f"/tasks/{task['id']}") as response:
        state: str = (await response.json())["callback"]["state"]
    return state


async def test_the_receiver_is_told(http: Client, tmp_path: Path) -> None:
    port = unused_port()
    environment = {"PORT": str(port), "CALLBACK_SECRETS": SECRET, "DATABASE": str(tmp_path / "inbox.sqlite")}
    hook = f"http://127.0.0.1:{port}/hook"
    async with running("examples/callbacks/receiver.py", **environment) as program:
        await wait_until(lambda: program.said("Running on"))
        task = await submit(http, type="echo", payload={"order": 17}, callback={"url": hook})
        await wait_until(lambda: program.said(rf"task\.completed {task['id']} \{{'order': 17\}}"))

        async def delivered() -> bool:
            return await _callback_state(http, task) == "delivered"

        await wait_until(delivered)


async def test_the_receiver_without_a_secret_says_so() -> None:
    async with running("examples/callbacks/receiver.py", CALLBACK_SECRETS="") as program:
        assert await program.process.wait() == 1
    assert program.lines == ["CALLBACK_SECRETS is not set: give it what Arqive has"]


def _signed(secret: str, message_id: str, body: bytes, at: float) -> dict[str, str]:
    moment = datetime.fromtimestamp(int(at), UTC)
    signature = Webhook(secret).sign(message_id, moment, body.decode())
    return {"webhook-id": message_id, "webhook-timestamp": str(int(at)), "webhook-signature": signature}


async def test_the_receiver_tells_duplicates_forgeries_and_late_ones(tmp_path: Path) -> None:
    body = json.dumps({"type": "task.failed", "data": {"id": "a", "status": "failed", "result": None}}).encode()
    now = time.time()
    application = receiver.build(f"{SECRET}, {NEXT_SECRET}", str(tmp_path / "inbox.sqlite"))
    async with TestServer(application) as server, aiohttp.ClientSession() as session:

        async def post(headers: dict[str, str], sent: bytes = body) -> int:
            async with session.post(server.make_url("/hook"), data=sent, headers=headers) as response:
                return response.status

        same = [post(_signed(SECRET, "m1", body, now)) for _ in range(10)]
        assert set(await asyncio.gather(*same)) == {204}
        assert await post(_signed(NEXT_SECRET, "m2", body, now)) == 204
        assert await post(_signed("whsec_" + "b" * 32, "m3", body, now)) == 401
        assert await post(_signed(SECRET, "m4", body, now), body + b" ") == 401
        assert await post(_signed(SECRET, "m5", body, now - 3_600)) == 401
        kept = application[receiver.INBOX]._connection.execute("SELECT task, status FROM ends").fetchall()
    assert kept == [("a", "failed")] * 2
