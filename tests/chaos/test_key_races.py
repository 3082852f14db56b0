"""Keys under fire: several web processes, fifty clients at once, and one killed in the middle."""

import asyncio
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pymongo
import pytest

from settings import Settings
from tests.servers import Answer, Web, measured, running_web
from tests.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]

AT_ONCE = 50
ROUNDS = 10

MongoClient = pymongo.MongoClient[dict[str, Any]]


async def _all_at_once(webs: list[Web], bodies: list[dict[str, Any]]) -> list[Answer]:
    """One request for each body, the processes taken in turns."""
    return await asyncio.gather(*(webs[n % len(webs)].post(**body) for n, body in enumerate(bodies)))


async def test_two_processes_make_one_task_for_each_key(
    settings: Settings, tmp_path: Path, mongo_client: MongoClient
) -> None:
    tasks = mongo_client[settings.mongo_database].tasks
    async with running_web(settings, tmp_path) as one, running_web(settings, tmp_path) as two:
        for number in range(ROUNDS):
            same = {"idempotency_key": f"key-{number}", "payload": {"n": number}}
            answers = await _all_at_once([one, two], [same] * AT_ONCE)
            assert Counter(answer.status for answer in answers) == {201: 1, 200: AT_ONCE - 1}
            assert len({answer.body["id"] for answer in answers}) == 1

            unique = [{"unique_key": f"key-{number}", "payload": {"n": n}} for n in range(AT_ONCE)]
            answers = await _all_at_once([one, two], unique)
            assert Counter(answer.status for answer in answers) == {201: 1, 200: AT_ONCE - 1}
            assert len({answer.body["id"] for answer in answers}) == 1

            bodies = [{"idempotency_key": f"body-{number}", "payload": {"n": n % 5}} for n in range(AT_ONCE)]
            answers = await _all_at_once([one, two], bodies)
            assert Counter(answer.status for answer in answers) == {201: 1, 200: 9, 422: 40}
            assert len({answer.body.get("id") for answer in answers} - {None}) == 1
    assert tasks.count_documents({}) == 3 * ROUNDS
    measured(f"{3 * ROUNDS} keys, {AT_ONCE} requests for each over two processes: one task a key")


async def test_bulk_meets_single_requests_in_the_same_batch(
    settings: Settings, tmp_path: Path, mongo_client: MongoClient
) -> None:
    tasks = mongo_client[settings.mongo_database].tasks
    many = [{"type": "echo", "idempotency_key": f"k{n}", "payload": {"n": n}} for n in range(40)]
    async with running_web(settings, tmp_path) as one, running_web(settings, tmp_path) as two:
        answers = await asyncio.gather(
            *(web.call("POST", "/tasks/bulk", many) for web in (one, two) for _ in range(5)),
            *_singles([one, two], many),
        )
    assert {answer.status for answer in answers} <= {200, 201}
    found: dict[int, set[str]] = {n: set() for n in range(40)}
    for answer in answers:
        for task in answer.body.get("items", [answer.body]):
            found[task["payload"]["n"]].add(task["id"])
    assert {len(ids) for ids in found.values()} == {1}
    assert tasks.count_documents({}) == 40


def _singles(webs: list[Web], bodies: list[dict[str, Any]]) -> list[Any]:
    return [web.call("POST", "/tasks", body) for web in webs for body in bodies]


async def test_a_process_killed_in_the_middle_leaves_no_second_task(
    settings: Settings, tmp_path: Path, mongo_client: MongoClient
) -> None:
    """Whoever got no answer asks the other process the same again."""
    tasks = mongo_client[settings.mongo_database].tasks
    bodies = [{"type": "echo", "idempotency_key": f"k{n}", "payload": {"n": n}} for n in range(400)]
    async with running_web(settings, tmp_path) as one, running_web(settings, tmp_path) as two:
        lost: list[dict[str, Any]] = []
        ids: dict[str, str] = {}

        async def post(web: Web, body: dict[str, Any]) -> None:
            try:
                answer = await web.call("POST", "/tasks", body)
            except aiohttp.ClientError:
                lost.append(body)
                return
            assert answer.status in {200, 201}, answer
            assert ids.setdefault(body["idempotency_key"], answer.body["id"]) == answer.body["id"]

        under_way = asyncio.gather(*(post(one, body) for body in bodies))
        await wait_until(lambda: tasks.count_documents({}) >= 20)
        one.process.send(signal.SIGKILL)
        await under_way
        assert lost, "it was killed too late to see anything"
        kept = tasks.count_documents({})
        for start in range(0, len(bodies), AT_ONCE):
            await asyncio.gather(*(post(two, body) for body in bodies[start : start + AT_ONCE]))
    assert tasks.count_documents({}) == len(ids) == len(bodies)
    measured(f"{len(lost)} of {len(bodies)} got no answer, {kept - len(bodies) + len(lost)} of their tasks were kept")


async def test_a_unique_key_that_is_passed_on_under_fire(settings: Settings, tmp_path: Path, mongo_client: Any) -> None:
    """Submits and cancels of one key from two processes: there is never a second unfinished task."""
    tasks = mongo_client[settings.mongo_database].tasks
    made: set[str] = set()
    async with running_web(settings, tmp_path) as one, running_web(settings, tmp_path) as two:

        async def turn(web: Web, other: Web) -> None:
            for _ in range(10):
                answer = await web.post(unique_key="hot", delay=3600)
                assert answer.status in {200, 201, 503}, answer
                if answer.status == 503:
                    continue
                made.add(answer.body["id"])
                assert tasks.count_documents({"unique_key": "hot", "finished_at": None}) <= 1
                assert (await other.call("POST", f"/tasks/{answer.body['id']}/cancel")).status in {200, 409}
                retried = await other.call("POST", f"/tasks/{answer.body['id']}/retry")
                assert retried.status in {200, 409}, retried

        await asyncio.gather(*(turn(*pair) for pair in [(one, two), (two, one)] * 8))
    assert tasks.count_documents({"unique_key": "hot", "finished_at": None}) <= 1
    assert tasks.count_documents({}) == len(made) > 1
    measured(f"{len(made)} tasks had the key, one after the other")
