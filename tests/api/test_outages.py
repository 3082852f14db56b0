"""Without Redis tasks are accepted all the same; without MongoDB nothing is promised, and soon said so."""

import time

import pytest

from tests.api.conftest import Api, RunApi

NOBODY = "127.0.0.1:1"  # nothing listens there
AWAY = f"mongodb://{NOBODY}/?serverSelectionTimeoutMS=100"
SOON_S = 20.0  # the drivers' own patience is 30 seconds
NO_TASK = "0" * 24


async def test_accepting_does_not_need_redis(run_api: RunApi) -> None:
    async with run_api(redis_url=f"redis://{NOBODY}") as api:
        started = time.monotonic()
        task = await api.submit(delay=60)
        bulk = await api.post("/tasks/bulk", [{"type": "echo"}] * 3)
        assert bulk.status == 201
        assert (await api.post(f"/tasks/{task['id']}/cancel")).json["status"] == "cancelled"
        assert (await api.post(f"/tasks/{task['id']}/retry")).json["status"] == "pending"
        assert len((await api.get("/tasks")).json["items"]) == 4
        assert time.monotonic() - started < SOON_S


REQUESTS = [
    ("POST", "/tasks", {"type": "echo"}),
    ("POST", "/tasks/bulk", [{"type": "echo"}]),
    ("GET", "/tasks", None),
    ("GET", f"/tasks/{NO_TASK}", None),
    ("GET", f"/tasks/{NO_TASK}?wait=60", None),
    ("DELETE", f"/tasks/{NO_TASK}", None),
    ("POST", f"/tasks/{NO_TASK}/retry", None),
    ("POST", f"/tasks/{NO_TASK}/cancel", None),
    ("GET", "/stats", None),
]


async def test_without_mongodb_every_answer_is_503_and_soon(run_api: RunApi) -> None:
    async with run_api(mongo_url=AWAY) as api:
        for method, path, body in REQUESTS:
            started = time.monotonic()
            answer = await api.call(method, path, json=body)
            assert (answer.status, answer.code) == (503, "store_unavailable"), path
            assert int(answer.headers["Retry-After"]) > 0
            assert NOBODY not in answer.raw.decode()
            assert time.monotonic() - started < SOON_S


async def test_a_503_is_soon_without_options_in_the_url(run_api: RunApi) -> None:
    async with run_api(mongo_url=f"mongodb://{NOBODY}") as api:
        started = time.monotonic()
        assert (await api.post("/tasks", {"type": "echo"})).status == 503
        assert time.monotonic() - started < SOON_S


@pytest.mark.parametrize("path", ["/types", "/openapi.json", "/docs", "/health/live"])
async def test_what_needs_no_server_works_without_any(run_api: RunApi, path: str) -> None:
    async with run_api(mongo_url=AWAY, redis_url=f"redis://{NOBODY}") as api:
        assert (await api.get(path)).status == 200


async def test_a_refusal_needs_no_server_either(run_api: RunApi) -> None:
    async with run_api(mongo_url=AWAY, redis_url=f"redis://{NOBODY}") as api:
        assert (await api.post("/tasks", {"type": "nope"})).status == 422


async def test_the_task_that_is_waited_for_may_vanish(api: Api) -> None:
    assert (await api.get(f"/tasks/{NO_TASK}?wait=1")).status == 404
