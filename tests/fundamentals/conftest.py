"""A whole Arqive in this process: the REST API and one worker, on real servers."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from app.api.app import build_app
from app.tasks.registry import load_task_modules
from app.web import open_backend
from app.worker import open_worker
from settings import Settings, load_settings

Client = TestClient[web.Request, web.Application]


@pytest.fixture
def settings(mongo_url: str, empty_redis: str, mongo_database: str) -> Settings:
    """Settings that both roles read, with the example package loaded."""
    return load_settings(
        mongo_url=mongo_url,
        redis_url=empty_redis,
        mongo_database=mongo_database,
        health_port=0,
        task_modules="examples.shop.tasks, tests.sample_tasks",
        http_allow_private=True,
    )


@pytest.fixture
async def http(settings: Settings) -> AsyncIterator[Client]:
    """A client of the REST API; a worker runs beside it."""
    types = load_task_modules(settings.task_modules)
    application = build_app(
        partial(open_backend, settings, types), max_body_bytes=settings.max_body_bytes, version="test"
    )
    async with TestClient(TestServer(application)) as client, open_worker(settings, types) as worker:
        claiming = asyncio.create_task(worker.loop.main())
        yield client
        worker.loop.stop_claiming()
        await claiming
        worker.runner.release_all()
        await worker.loop.drain(10)


async def submit(http: Client, **task: Any) -> dict[str, Any]:
    """POST a task that is accepted."""
    async with http.post("/tasks", json=task) as response:
        assert response.status == 201, await response.text()
        accepted: dict[str, Any] = await response.json()
    return accepted


async def wait_for(http: Client, task: dict[str, Any]) -> dict[str, Any]:
    """The task once it has ended."""
    async with http.get(f"/tasks/{task['id']}", params={"wait": 60}) as response:
        ended: dict[str, Any] = await response.json()
    assert ended["finished_at"] is not None, ended
    return ended
