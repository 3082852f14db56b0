"""The primary steps down: for some seconds MongoDB refuses every write and still answers reads."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pymongo
import pytest

from settings import Settings, load_settings
from tests.processes import started
from tests.servers import Answer, OwnServer, measured, own_mongo, running_web
from tests.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[OwnServer]:
    """A replica set of one."""
    async with own_mongo(tmp_path / "servers", replica_set=True) as server:
        yield server


@pytest.fixture
def settings(own: OwnServer, empty_redis: str) -> Settings:
    """The settings of every process here."""
    return load_settings(
        mongo_url=own.server.url,
        redis_url=empty_redis,
        mongo_database="arqive_chaos",
        health_port=0,
        task_modules="tests.sample_tasks",
        shutdown_grace_seconds=5,
    )


async def test_a_primary_that_steps_down_costs_seconds(own: OwnServer, settings: Settings, tmp_path: Path) -> None:
    """For three seconds there is no primary: what a client was told is true, and nothing is made twice.

    The server refuses writes as a secondary does and still reads, also in the middle of a batch.
    """
    async with AsyncExitStack() as stack:
        worker = stack.enter_context(started("worker", settings, tmp_path))
        web = await stack.enter_async_context(running_web(settings, tmp_path))
        answers: list[Answer] = []

        async def load() -> None:
            while True:
                answers.append(await web.post(type="test.flaky", payload={"succeed_on": 2}))

        loading = [asyncio.create_task(load()) for _ in range(8)]
        await wait_until(lambda: len(answers) > 40, 30)
        before = len(answers)
        with pymongo.MongoClient[dict[str, Any]](own.server.url) as client:
            client.admin.command("replSetStepDown", 3, force=True)
        hurt_at = time.monotonic()
        await wait_until(lambda: any(answer.status == 503 for answer in answers[before:]), 10)
        await wait_until(lambda: time.monotonic() - hurt_at > 3 and answers[-1].status == 201, 40)
        back_s = time.monotonic() - hurt_at - 3
        more = len(answers) + 40
        await wait_until(lambda: len(answers) > more, 30)
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)
        assert {answer.status for answer in answers} <= {201, 503}
        accepted = [answer.body["id"] for answer in answers if answer.status == 201]
        for task_id in accepted:
            done = await web.until_ended(task_id, 40)
            assert [entry["outcome"] for entry in done["history"]] == ["failed", "completed"]
        measured(
            f"step-down for 3 s: {len(answers) - len(accepted)} of {len(answers)} were 503, "
            f"slowest answer {max(answer.seconds for answer in answers):.1f} s, accepts {back_s:.1f} s after its end"
        )
        for process in (worker, web.process):
            assert not process.logged("Traceback")
            process.send(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait) == 0
