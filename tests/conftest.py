"""What every test gets: a clean environment, an event loop that must not block, and real servers on request.

`MONGO_URL` and `REDIS_URL` point the tests at servers of your own; without them they start and stop their own.
"""

import asyncio
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pymongo
import pytest
import redis
from blockbuster import blockbuster_ctx

from app.api import openapi
from app.api.endpoint import Endpoint
from app.embedded.servers import start_mongo, start_redis
from app.tasks.registry import load_task_modules
from settings import Settings
from tests.waiting import PATIENCE_S

load_task_modules(())  # as a process does before its loop runs: importing reads files, which must not happen inside it

_OWN_MONGO = "MONGO_URL" not in os.environ
_OWN_REDIS = "REDIS_URL" not in os.environ
_GIVEN_URLS = {name: os.environ.get(name, "") for name in ("MONGO_URL", "REDIS_URL")}
_SETTINGS = frozenset(name.upper() for name in Settings.model_fields)

MOST_WORKERS = 6
"""Each has servers of its own."""


@pytest.hookimpl(optionalhook=True)  # the tests also run without pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors, since a test waits half of its time; one for a Redis that all would share."""
    affinity: set[int] | range = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    return min(len(affinity) + 1, MOST_WORKERS) if _OWN_REDIS else 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: at the end nothing would run beside them."""
    items.sort(key=_patience_of, reverse=True)


def _patience_of(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    return 0.0 if marker is None else float(marker.args[0])


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that the developer has set for their own Arqive reaches a test."""
    for name in list(os.environ):
        if name.upper() in _SETTINGS:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_blocking() -> Iterator[None]:
    """A call of Arqive's that blocks the event loop raises BlockingError; a test itself may block."""
    with blockbuster_ctx(["app", "settings"], excluded_modules=["app.embedded"]) as blockbuster:
        # app.embedded starts and stops processes while nothing else runs on its loop.
        for function in blockbuster.functions.values():
            function.can_block_in("motor/core.py", {"__init__"})  # reads files, once a process, before it serves
            function.can_block_in("logging/__init__.py", {"emit"})  # to the standard output, as containers want it
        yield


PATIENT = (
    "app.queue.connect.CONNECT_TIMEOUT_S",
    "app.queue.connect.ANSWER_TIMEOUT_S",
    "app.services.accept.DISPATCH_PATIENCE_S",
    "app.services.accept.PREPARING_PATIENCE_S",
    "app.services.change.SIGNAL_PATIENCE_S",
    "app.services.change_many.PATIENCE_S",
    "app.services.expose.PATIENCE_S",
    "app.services.figures.PATIENCE_S",
    "app.services.learn_settings.START_PATIENCE_S",
    "app.services.observe.PATIENCE_S",
    "app.services.queues.TELL_PATIENCE_S",
    "app.services.recount.FIRST_PATIENCE_S",
    "app.services.recount.PATIENCE_S",
    "app.services.submit_slots.PATIENCE_S",
)
"""How long Arqive gives a server to answer before it goes on without: so long that no load makes it give up."""

FRESH = ("app.services.recount.CHEAP_S", "app.services.recount.WORTH")
"""For how long figures are kept, which is in proportion to how long a count took."""


@pytest.fixture(autouse=True)
def _whatever_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that Arqive does in this process depends on how fast it is; a test of a limit sets it."""
    for name in PATIENT:
        monkeypatch.setattr(name, PATIENCE_S)
    for name in FRESH:
        monkeypatch.setattr(name, 0.0)


@pytest.fixture(scope="session", autouse=True)
def _schemas_once() -> Iterator[None]:
    """The schemas of the document are those of the endpoints, whatever the settings; making them takes 40 ms."""
    make, made = openapi._schemas, {}

    def schemas(shown: Sequence[tuple[Endpoint, Any]]) -> Any:
        endpoints = tuple(id(endpoint) for endpoint, _ in shown)
        if endpoints not in made:
            made[endpoints] = (make(shown), shown)  # kept, or another could get its id
        return made[endpoints][0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openapi, "_schemas", schemas)
        yield


@pytest.fixture(scope="session")
def server_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers of this run keep their data."""
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def mongo_url(server_directory: Path) -> Iterator[str]:
    """A MongoDB-wire server for the whole run."""
    if not _OWN_MONGO:
        yield _GIVEN_URLS["MONGO_URL"]
        return
    server = asyncio.run(start_mongo(server_directory))
    yield server.url
    asyncio.run(server.stop(grace_s=0))


@pytest.fixture(scope="session")
def redis_url(server_directory: Path) -> Iterator[str]:
    """A Redis for the whole run, with whatever earlier tests left in it; most tests want `empty_redis`."""
    if not _OWN_REDIS:
        yield _GIVEN_URLS["REDIS_URL"]
        return
    server = asyncio.run(start_redis(server_directory, persistent=False))
    yield server.url
    asyncio.run(server.stop(grace_s=0))


@pytest.fixture(scope="session")
def mongo_client(mongo_url: str) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    """A plain synchronous client, to look behind the curtain with."""
    with pymongo.MongoClient[dict[str, Any]](mongo_url, tz_aware=True) as client:
        yield client


@pytest.fixture
def mongo_database(mongo_client: pymongo.MongoClient[dict[str, Any]]) -> Iterator[str]:
    """The name of a database that nobody has used, dropped afterwards."""
    name = f"arqive_test_{secrets.token_hex(8)}"
    yield name
    mongo_client.drop_database(name)


@pytest.fixture(scope="session")
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A plain synchronous client, to look behind the curtain with."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def empty_redis(redis_url: str, redis_client: redis.Redis) -> str:
    """The URL of a Redis without a key of Arqive's; one that the tests did not start keeps everybody else's."""
    if _OWN_REDIS:
        redis_client.flushall()
    else:
        for pattern in ("arq:*", "arqive:*"):
            for key in redis_client.scan_iter(match=pattern, count=1000):
                redis_client.delete(key)
    return redis_url
