"""Listing and counting in spans, as on the server for development, find what a whole read finds."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock

import pytest
from bson import ObjectId

from app.core.ids import TaskId
from app.core.states import Status
from app.services.backend import Backend
from app.store import spans
from app.store.counts import CountStore
from app.store.mongo import Mongo
from app.store.tasks import TaskFilter, TaskStore
from tests.integration.conftest import submit_one

PER_PAGE = 7

STATUSES = (Status.PENDING, Status.RETRYING, Status.FAILED, Status.CANCELLED, Status.COMPLETED)

FILTERS = [
    TaskFilter(),
    TaskFilter(statuses=(Status.FAILED,)),
    TaskFilter(statuses=(Status.FAILED, Status.PENDING)),
    TaskFilter(statuses=(Status.RUNNING,)),
    TaskFilter(queue="mail"),
    TaskFilter(queue="mail", statuses=(Status.COMPLETED,)),
    TaskFilter(type="echo", tags=("t1",)),
    TaskFilter(created_after=datetime.now(UTC) - timedelta(days=2)),
    TaskFilter(created_before=datetime.now(UTC) - timedelta(days=2)),
]


@pytest.fixture
async def stored(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A hundred tasks of ten days, most of them of a few seconds, some of them with the ids of other processes."""
    monkeypatch.setattr(spans, "FEW", 0)
    template = await submit_one(backend, "echo")
    collection = backend.mongo.collection("tasks")
    document = await collection.find_one_and_delete({"_id": ObjectId(template.id)})
    await backend.queue.withdraw("default", [TaskId(template.id)])
    chance, now = random.Random(7), datetime.now(UTC)
    documents = []
    for number in range(100):
        created = now - timedelta(seconds=chance.choice([0, 1, 5, 5, 5, 90_000, 800_000]))
        fixed = ObjectId.from_datetime(created).binary[:4] + bytes([number % 3]) * 5 + number.to_bytes(3, "big")
        status = STATUSES[number % len(STATUSES)]
        ended = {"finished_at": created} if status in STATUSES[2:] else {}
        names = {"queue": ("default", "mail")[number % 2], "tags": [f"t{number % 4}"], "status": status}
        documents.append({**document, **names, **ended, "_id": ObjectId(fixed), "created_at": created})
    await collection.insert_many(documents)
    return documents


async def _pages(store: TaskStore, which: TaskFilter) -> list[ObjectId]:
    found: list[ObjectId] = []
    after: TaskId | None = None
    while True:
        page = await store.page(which, limit=PER_PAGE, after=after)
        found += [document["_id"] for document in page]
        if len(page) < PER_PAGE:  # as clients see it: the last one
            return found
        after = TaskId(str(page[-1]["_id"]))


@pytest.mark.parametrize("which", FILTERS)
async def test_pages_have_every_task_once(
    backend: Backend, stored: list[dict[str, Any]], which: TaskFilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {}
    for in_spans in (True, False):

        async def whether(_mongo: Mongo, answer: bool = in_spans) -> bool:
            return answer

        monkeypatch.setattr(Mongo, "takes_whole_ranges", whether)
        answers[in_spans] = await _pages(TaskStore(backend.mongo), which)
    assert answers[True] == answers[False]
    if which == TaskFilter():
        assert answers[True] == sorted((document["_id"] for document in stored), reverse=True)


async def test_a_range_of_which_little_is_wanted_loses_none_of_it(
    backend: Backend, stored: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three hundred tasks of one second, by another process: more than are read at once."""
    monkeypatch.setattr(Mongo, "takes_whole_ranges", AsyncMock(return_value=True))
    pattern = next(document for document in stored if document["status"] == Status.COMPLETED)
    second = ObjectId.from_datetime(datetime.now(UTC) - timedelta(hours=1)).binary[:4]
    dense = [
        {
            **pattern,
            "_id": ObjectId(second + bytes([9]) * 5 + number.to_bytes(3, "big")),
            "queue": "dense",
            "status": Status.FAILED if number % 9 == 0 else Status.COMPLETED,
        }
        for number in range(300)
    ]
    await backend.mongo.collection("tasks").insert_many(dense)
    found = await _pages(TaskStore(backend.mongo), TaskFilter(queue="dense", statuses=(Status.FAILED,)))
    assert found == [document["_id"] for document in reversed(dense) if document["status"] == Status.FAILED]


async def test_a_process_that_starts_later_knows_where_the_newest_is(backend: Backend) -> None:
    task = await submit_one(backend, "echo")
    noted = await spans.noted_newest(backend.mongo)
    if await backend.mongo.takes_whole_ranges():
        assert noted == ObjectId(task.id)


@pytest.mark.parametrize("in_spans", [True, False])
async def test_statuses_are_counted(
    backend: Backend, stored: list[dict[str, Any]], in_spans: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def whether(_mongo: Mongo) -> bool:
        return in_spans

    monkeypatch.setattr(Mongo, "takes_whole_ranges", whether)
    counts = await CountStore(backend.mongo).by_status()
    assert counts == {status: 20 * (status in STATUSES) for status in Status}
    assert sum(counts.values()) == len(stored)
