"""Thousands of requests that the OpenAPI document allows, and many that it does not, at a service that wants keys."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.api import schedules, selections, tasks
from app.core.api_keys import Scope, entry_of
from app.core.clock import utc_now
from app.core.ids import ScheduleName, TaskId
from settings import Settings, load_settings
from tests.fuzz import stream_checks
from tests.processes import started
from tests.servers import Web, measured, running_web

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(1800)]

KEYS = {scope: f"arqive_a_key_for_a_fuzzer_that_may_{scope}" for scope in Scope}

EVERYTHING_ON = {
    "api_keys": ",".join(entry_of(f"{scope}er", scope, key) for scope, key in KEYS.items()),
    "callback_secrets": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAAAAAAAAAAA=",
}

ANSWERS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    stream_checks.event_stream.__name__,
)

EVERYTHING = (
    *ANSWERS,
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
    "use_after_free",
    "ensure_resource_availability",
)
"""But not whether all that the document allows is accepted: it cannot say what a cursor is made of, that a schedule has
`cron` or `interval`, or that a payload is what its type wants."""

# Made up from the document alone, nearly every task would be of a type that nobody knows, and every cursor and cron
# expression wrong: then nothing is ever there to be read, retried, cancelled or followed. Most streams never end: one
# that opens is hung up on after its first event or half a second. One that has not begun by then is asked for again.
CONFIG = f"""
hooks = "{stream_checks.__file__}"
request-timeout = 90

[dictionaries]
types = {{ values = ["echo", "sleep", "http.request"] }}
crons = {{ values = ["* * * * *", "0 9 * * MON-FRI"] }}
zones = {{ values = ["Europe/Berlin", "UTC"] }}
tasks = {{ values = ["{tasks.write_cursor(TaskId("f" * 24))}"] }}
schedules = {{ values = ["{schedules.write_cursor(ScheduleName("0"))}"] }}
selections = {{ values = ["{selections.write_cursor(utc_now(), TaskId("f" * 24))}"] }}

[parameters]
"body.type" = {{ dictionary = "types", probability = 0.9 }}
"body.[*].type" = {{ dictionary = "types", probability = 0.9 }}
"body.task.type" = {{ dictionary = "types", probability = 0.9 }}
"body.cron" = {{ dictionary = "crons", probability = 0.9 }}
"body.time_zone" = {{ dictionary = "zones", probability = 0.9 }}
"body.cursor" = {{ dictionary = "selections", probability = 0.9 }}

[[operations]]
include-path = "/tasks"
parameters = {{ "query.cursor" = {{ dictionary = "tasks", probability = 0.9 }} }}

[[operations]]
include-path = "/schedules"
parameters = {{ "query.cursor" = {{ dictionary = "schedules", probability = 0.9 }} }}

[[operations]]
include-path-regex = "/events$"
request-timeout = 0.5
request-retries = 5
max-stream-events = 1
"""


@pytest.fixture
def settings(mongo_url: str, empty_redis: str, mongo_database: str) -> Settings:
    """Servers and no more: a process gets the rest from `EVERYTHING_ON`."""
    return load_settings(
        mongo_url=mongo_url,
        redis_url=empty_redis,
        mongo_database=mongo_database,
        health_port=0,
    )


@pytest.fixture
async def web(settings: Settings, tmp_path: Path) -> AsyncIterator[Web]:
    """A service with a worker; no request of a test may cost it a traceback."""
    with started("worker", settings, tmp_path, **EVERYTHING_ON):
        async with running_web(settings, tmp_path, **EVERYTHING_ON) as web:
            yield web
            assert not web.process.logged("Traceback")


@asynccontextmanager
async def traffic(web: Web) -> AsyncIterator[None]:
    """Tasks that come and are cancelled all the time: streams have something to tell, and no `?wait` lasts a minute."""
    headers = {"Authorization": f"Bearer {KEYS[Scope.WRITE]}"}

    async def post(path: str, body: object) -> None:
        async with web.session.post(web.url + path, json=body, headers=headers) as response:
            assert response.status < 300, await response.text()

    async def keep_going() -> None:
        while True:
            await post("/tasks", {"type": "echo"})
            await post("/tasks/cancel", {"all": True})
            await asyncio.sleep(0.2)

    going = asyncio.create_task(keep_going())
    try:
        yield
        assert not going.done()
    finally:
        going.cancel()
        await asyncio.wait([going])


async def fuzz(web: Web, scope: Scope, checks: tuple[str, ...], *options: str) -> None:
    """Run schemathesis with a key, and fail with what it says when it finds anything."""
    program = shutil.which("st", path=str(Path(sys.executable).parent))
    assert program is not None
    directory = web.process.log.parent
    config = directory / "schemathesis.toml"
    config.write_text(CONFIG)
    fuzzer = await asyncio.create_subprocess_exec(
        program, "--config-file", config, "run", f"{web.url}/openapi.json",
        "--header", f"Authorization: Bearer {KEYS[scope]}", "--checks", ",".join(checks),
        "--continue-on-failure", "--no-color", *options,
        cwd=directory, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await fuzzer.communicate()
    finally:
        if fuzzer.returncode is None:
            fuzzer.kill()
    text = output.decode()
    assert fuzzer.returncode == 0, text
    measured(text)


async def test_the_service_keeps_to_its_document(web: Web) -> None:
    """No 5xx, no status or field that is not documented, nothing bad accepted, nothing open without a key.

    ARQIVE_TEST_EXAMPLES is how many requests are made up for each operation.
    """
    async with traffic(web):
        await fuzz(web, Scope.ADMIN, EVERYTHING, "--max-examples", os.environ.get("ARQIVE_TEST_EXAMPLES", "50"))


@pytest.mark.parametrize("scope", [Scope.READ, Scope.WRITE])
async def test_what_a_key_may_not_do_is_documented_too(web: Web, scope: Scope) -> None:
    await fuzz(web, scope, ANSWERS, "--phases", "coverage", "--mode", "positive", "--exclude-method", "GET")
