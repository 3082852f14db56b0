"""Cancels and retries of everything, from two web processes at once, while workers run the same tasks."""

import asyncio
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pymongo
import pytest

from app.services import change_many
from settings import Settings
from tests.processes import started
from tests.servers import Web, measured, running_web
from tests.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

TASKS = 300
MANY = 1_500

MongoClient = pymongo.MongoClient[dict[str, Any]]


async def _submit(web: Web, count: int, **fields: Any) -> None:
    answer = await web.call("POST", "/tasks/bulk", [{"type": "echo", **fields} for _ in range(count)])
    assert answer.status == 201, answer


async def test_each_task_is_changed_by_one_of_two_calls(
    settings: Settings, tmp_path: Path, mongo_client: MongoClient
) -> None:
    tasks = mongo_client[settings.mongo_database].tasks
    async with running_web(settings, tmp_path) as one, running_web(settings, tmp_path) as two:
        await _submit(one, TASKS, delay=3600)
        for verb, status, turn in (("cancel", "pending", 0), ("retry", "cancelled", 1), ("cancel", "pending", 1)):
            answers = await asyncio.gather(
                *(web.call("POST", f"/tasks/{verb}", {"status": [status]}) for web in (one, two) for _ in range(3))
            )
            assert {answer.status for answer in answers} == {200}
            changed = [answer.body["changed"] for answer in answers]
            assert sum(changed) == TASKS, changed
            assert Counter(task["round"] for task in tasks.find()) == {1 + turn: TASKS}
            measured(f"{verb}: {changed} of {TASKS}")
    assert tasks.count_documents({"status": "cancelled"}) == TASKS


async def test_a_storm_of_changes_loses_no_task(settings: Settings, tmp_path: Path, mongo_client: MongoClient) -> None:
    """Everything is cancelled and retried over and over while it runs; in the end all of it completes."""
    tasks = mongo_client[settings.mongo_database].tasks
    async with running_web(settings, tmp_path) as one, running_web(settings, tmp_path) as two:
        with (
            started("worker", settings, tmp_path, concurrency=50),
            started("worker", settings, tmp_path, concurrency=50),
        ):
            for number in range(3):
                await _submit(one, TASKS // 3, type="sleep", payload={"seconds": 1.5}, tags=[f"t{number}"])
                await wait_until(lambda: tasks.count_documents({"status": "running"}) > 0, 30)
                await asyncio.gather(
                    one.call("POST", "/tasks/cancel", {"all": True}),
                    two.call("POST", "/tasks/cancel", {"tags": [f"t{number}"]}),
                    one.call("POST", "/tasks/retry", {"status": ["cancelled"]}),
                    two.call("POST", "/tasks/retry", {"all": True}),
                )

            async def all_completed() -> bool:
                answer = await two.call("POST", "/tasks/retry", {"status": ["cancelled", "failed"]})
                assert answer.status == 200, answer
                return tasks.count_documents({"status": "completed"}) == TASKS

            await wait_until(all_completed, 60, "not all have completed")
    seen = Counter(entry["outcome"] for task in tasks.find() for entry in task["history"])
    for task in tasks.find():
        assert [entry["outcome"] for entry in task["history"]].count("completed") == 1, task
    assert sum(seen.values()) > TASKS, "nothing was interrupted"
    measured(f"{TASKS} tasks completed after {sum(seen.values())} attempts: {dict(seen)}")


async def test_a_process_killed_in_the_middle_of_a_change(
    settings: Settings, tmp_path: Path, mongo_client: MongoClient
) -> None:
    """What it had not come to, the next call does; what it had cancelled is not run."""
    tasks = mongo_client[settings.mongo_database].tasks
    async with running_web(settings, tmp_path) as one, running_web(settings, tmp_path) as two:
        for _ in range(MANY // 500):
            await _submit(two, 500, delay=3600)
        cutting = asyncio.create_task(one.call("POST", "/tasks/cancel", {"all": True}))
        await wait_until(lambda: tasks.count_documents({"status": "cancelled"}) > 0, 30)
        one.process.send(signal.SIGKILL)
        with pytest.raises(aiohttp.ClientError):
            await cutting
        before = tasks.count_documents({"status": "cancelled"})
        changed, body = 0, {"all": True}
        while body["all"]:
            answer = await two.call("POST", "/tasks/cancel", body)
            changed += answer.body["changed"]
            body = {"all": answer.body["next_cursor"] is not None, "cursor": answer.body["next_cursor"]}
    assert tasks.count_documents({"status": "cancelled"}) == MANY
    # The server may have been busy with a page of the one that was killed.
    assert MANY - before - change_many.PAGE <= changed <= MANY - before < MANY
    measured(f"killed after {before} of {MANY}; the other one cancelled {changed}")
