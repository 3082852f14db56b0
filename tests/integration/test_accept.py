"""New tasks that arrive together are kept together, with and without Redis."""

import asyncio

import pytest

from app.core.clock import utc_now
from app.core.errors import StoreRefused, StoreUnavailable
from app.core.ids import TaskId
from app.models import Submission
from app.queue.connect import open_redis
from app.queue.task_queue import TaskQueue
from app.services import accept
from app.services.accept import Acceptor
from app.services.backend import Backend
from app.services.submit import new_document
from app.store.documents import TaskDocument
from tests.integration.conftest import a_redis_that_hangs
from tests.waiting import PATIENCE_S, wait_until


def _document(backend: Backend) -> TaskDocument:
    return new_document(Submission(type="echo"), backend.types, utc_now())


async def test_inserts_that_come_together_share_a_round_trip(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    insert = backend.tasks.insert

    async def counted(documents: list[TaskDocument]) -> None:
        sizes.append(len(documents))
        await insert(documents)

    monkeypatch.setattr(backend.tasks, "insert", counted)
    await asyncio.gather(*(backend.acceptor.accept([_document(backend)]) for _ in range(50)))
    assert sizes == [50]
    assert await backend.mongo.collection("tasks").count_documents({}) == 50


async def test_a_document_that_cannot_be_stored_fails_alone(backend: Backend) -> None:
    good, bad = _document(backend), _document(backend)
    bad["payload"] = {"no": object()}
    outcomes = await asyncio.gather(
        backend.acceptor.accept([good]), backend.acceptor.accept([bad]), return_exceptions=True
    )
    assert outcomes[0] == {}
    assert isinstance(outcomes[1], StoreRefused)
    assert await backend.tasks.get(TaskId(str(good["_id"]))) is not None
    assert await backend.tasks.get(TaskId(str(bad["_id"]))) is None


async def test_inserting_again_is_harmless(backend: Backend) -> None:
    """As after an acknowledgement that got lost."""
    first, second = _document(backend), _document(backend)
    await backend.tasks.insert([first])
    await backend.tasks.insert([first, second])
    assert await backend.mongo.collection("tasks").count_documents({}) == 2


async def test_only_the_first_request_of_an_outage_waits_for_redis(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accept, "DISPATCH_PATIENCE_S", 0.1)
    monkeypatch.setattr(accept, "OUTAGE_PAUSE_S", 3600)
    async with a_redis_that_hangs(backend) as away:
        for _ in range(20):
            await away.acceptor.accept([_document(backend)])
    assert [record.getMessage() for record in caplog.records if "could not queue" in record.getMessage()] == [
        "Kept 1 tasks but could not queue them, reconcile will: no answer within 0.1 s"
    ]
    assert await backend.mongo.collection("tasks").count_documents({}) == 20


async def test_after_an_outage_redis_is_used_again(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept, "OUTAGE_PAUSE_S", 0.2)
    async with open_redis("redis://127.0.0.1:1") as away:
        queue = TaskQueue(away)
        acceptor = Acceptor(backend.tasks, queue)
        await acceptor.accept([_document(backend)])
        queue.redis, queue._scripts = backend.queue.redis, backend.queue._scripts  # Redis is back

        async def queued() -> bool:
            await acceptor.accept([_document(backend)])
            return bool(await backend.queue.redis.zcard("arq:queue:default"))

        await wait_until(queued)


async def test_a_task_with_a_key_waits_for_the_indexes(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which a new database has none for a moment; tasks without a key need not wait."""
    prepared = asyncio.Event()
    acceptor = Acceptor(backend.tasks, backend.queue, prepared=prepared)
    keyed = new_document(Submission(type="echo", unique_key="one"), backend.types, utc_now())
    monkeypatch.setattr(accept, "PREPARING_PATIENCE_S", 0.05)
    with pytest.raises(StoreUnavailable):
        await acceptor.accept([keyed])
    await acceptor.accept([_document(backend)])
    assert await backend.tasks.get(TaskId(str(keyed["_id"]))) is None
    monkeypatch.setattr(accept, "PREPARING_PATIENCE_S", PATIENCE_S)
    accepting = asyncio.create_task(acceptor.accept([keyed]))
    prepared.set()
    assert await accepting == {}
    assert await backend.tasks.get(TaskId(str(keyed["_id"]))) is not None
