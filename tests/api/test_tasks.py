"""One task: read it, wait for it, retry, cancel and delete it."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
import redis

from app.core.clock import utc_now
from app.core.ids import TaskId
from app.core.states import TERMINAL, UNFINISHED, Status
from app.queue import keys
from tests.api.conftest import Api
from tests.waiting import PATIENCE_S, wait_until

ChangeTask = Callable[..., None]
NO_TASK = "0" * 24


async def test_an_id_may_be_in_upper_case(api: Api) -> None:
    task = await api.submit()
    assert (await api.get(f"/tasks/{task['id'].upper()}")).json == task


async def test_head_answers_as_get_without_the_body(api: Api) -> None:
    task = await api.submit()
    got, head = await api.get(f"/tasks/{task['id']}"), await api.call("HEAD", f"/tasks/{task['id']}")
    assert (head.status, head.raw) == (200, b"")
    assert head.headers["Content-Length"] == got.headers["Content-Length"] == str(len(got.raw))


@pytest.mark.parametrize(
    "task_id", [NO_TASK, "1", "x" * 24, "0" * 25, "%00", "%ff", "%7B%7D", "..%2Ftypes", "a" * 5_000]
)
@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("DELETE", ""), ("POST", "/retry"), ("POST", "/cancel")])
async def test_no_such_task(api: Api, method: str, rest: str, task_id: str) -> None:
    answer = await api.call(method, f"/tasks/{task_id}{rest}")
    assert (answer.status, answer.code) == (404, "task_not_found")


@pytest.fixture
def _never_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a signal ends a wait."""
    monkeypatch.setattr("app.services.read.LOOK_S", 3600)


@pytest.mark.usefixtures("_never_looks")
async def test_a_wait_ends_with_the_task(api: Api, change_task: ChangeTask, redis_client: redis.Redis) -> None:
    task = await api.submit()
    waiting = asyncio.create_task(api.get(f"/tasks/{task['id']}?wait=60"))
    await wait_until(lambda: api.backend.endings._waiters)
    await wait_until(lambda: redis_client.publish(keys.ENDED_CHANNEL, NO_TASK), what="web listens")
    change_task(task, status="completed", result={"n": 1})
    redis_client.publish(keys.ENDED_CHANNEL, f"{NO_TASK} {task['id']}")
    answer = await asyncio.wait_for(waiting, PATIENCE_S)
    assert (answer.status, answer.json["status"], answer.json["result"]) == (200, "completed", {"n": 1})
    assert not api.backend.endings._waiters


@pytest.mark.usefixtures("_never_looks")
async def test_a_wait_ends_with_a_cancel(api: Api) -> None:
    task = await api.submit(delay=600)
    waiting = asyncio.create_task(api.get(f"/tasks/{task['id']}?wait=60"))
    await wait_until(lambda: api.backend.endings._waiters)
    await api.post(f"/tasks/{task['id']}/cancel")
    assert (await asyncio.wait_for(waiting, PATIENCE_S)).json["status"] == "cancelled"


@pytest.mark.usefixtures("_never_looks")
async def test_a_wait_ends_at_its_deadline(api: Api) -> None:
    task = await api.submit()
    started = time.monotonic()
    answer = await asyncio.wait_for(api.get(f"/tasks/{task['id']}?wait=0.3"), PATIENCE_S)
    assert (answer.status, answer.json["status"]) == (200, "pending")
    assert time.monotonic() - started >= 0.3


@pytest.mark.usefixtures("_never_looks")
async def test_a_wait_for_an_ended_task_does_not_wait(
    api: Api, change_task: ChangeTask, redis_client: redis.Redis
) -> None:
    task = await api.submit()
    await wait_until(lambda: redis_client.publish(keys.ENDED_CHANNEL, NO_TASK), what="web listens")
    change_task(task, status="failed")
    redis_client.publish(keys.ENDED_CHANNEL, task["id"])
    await wait_until(lambda: not api.backend.endings.expects(TaskId(task["id"])))
    answer = await asyncio.wait_for(api.get(f"/tasks/{task['id']}?wait=60"), PATIENCE_S)
    assert answer.json["status"] == "failed"


async def test_a_wait_for_a_task_whose_end_was_not_told_of_looks_by_itself(api: Api, change_task: ChangeTask) -> None:
    task = await api.submit()
    change_task(task, status="failed")
    answer = await asyncio.wait_for(api.get(f"/tasks/{task['id']}?wait=60"), PATIENCE_S)
    assert answer.json["status"] == "failed"


@pytest.mark.usefixtures("_never_looks")
async def test_a_wait_for_a_task_that_was_accepted_here_reads_it_once(
    api: Api, monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis
) -> None:
    await wait_until(lambda: redis_client.publish(keys.ENDED_CHANNEL, NO_TASK), what="web listens")
    task = await api.submit(delay=600)
    read, get = [], api.backend.tasks.get

    async def counted(task_id: TaskId) -> Any:
        read.append(task_id)
        return await get(task_id)

    monkeypatch.setattr(api.backend.tasks, "get", counted)
    waiting = asyncio.create_task(api.get(f"/tasks/{task['id']}?wait=60"))
    await wait_until(lambda: api.backend.endings._waiters)
    await api.backend.tasks.cancel_waiting(TaskId(task["id"]), now=utc_now(), expire_at=None)
    await api.backend.queue.signal_ended([TaskId(task["id"])])
    assert (await asyncio.wait_for(waiting, PATIENCE_S)).json["status"] == "cancelled"
    assert read == [task["id"]]


async def test_a_wait_for_no_task_is_404_at_once(api: Api) -> None:
    answer = await asyncio.wait_for(api.get(f"/tasks/{NO_TASK}?wait=60"), PATIENCE_S)
    assert answer.code == "task_not_found"


@pytest.mark.parametrize("wait", ["-1", "60.1", "nan", "inf", "soon", "", "1&wait=2"])
async def test_a_bad_wait_is_refused(api: Api, wait: str) -> None:
    answer = await api.get(f"/tasks/{NO_TASK}?wait={wait}")
    assert (answer.status, answer.fields) == (422, {"wait"})


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
async def test_retry_starts_another_round(
    api: Api, change_task: ChangeTask, redis_client: redis.Redis, status: Status
) -> None:
    task = await api.submit()
    change_task(task, status=status, attempt=1, error={"code": "permanent", "message": "no", "traceback": None})
    await api.backend.queue.withdraw("default", [TaskId(task["id"])])
    answer = await api.post(f"/tasks/{task['id']}/retry")
    assert answer.status == 200
    assert (answer.json["status"], answer.json["round"], answer.json["attempt"]) == ("pending", 2, 0)
    assert answer.json["error"] is None
    assert redis_client.zrange(keys.queue("default"), 0, -1) == [task["id"].encode()]


@pytest.mark.parametrize("status", [Status.PENDING, Status.RETRYING])
async def test_a_waiting_task_is_cancelled_at_once(
    api: Api, change_task: ChangeTask, redis_client: redis.Redis, status: Status
) -> None:
    task = await api.submit()
    change_task(task, status=status)
    answer = await api.post(f"/tasks/{task['id']}/cancel", {})
    assert (answer.status, answer.json["status"]) == (200, "cancelled")
    assert datetime.fromisoformat(answer.json["expire_at"]) > datetime.fromisoformat(answer.json["finished_at"])
    assert redis_client.zcard(keys.queue("default")) == 0


async def test_a_running_task_is_asked_to_stop(api: Api, change_task: ChangeTask, redis_client: redis.Redis) -> None:
    task = await api.submit()
    change_task(task, status="running")
    with redis_client.pubsub() as pubsub:  # type: ignore[no-untyped-call]
        pubsub.subscribe(keys.CANCEL_CHANNEL)
        assert pubsub.get_message(timeout=PATIENCE_S) is not None  # the subscription itself
        answer = await api.post(f"/tasks/{task['id']}/cancel")
        message = pubsub.get_message(timeout=PATIENCE_S)
    assert (answer.status, answer.json["status"]) == (200, "running")
    assert answer.json["cancel_requested_at"] is not None
    assert message is not None
    assert message["data"] == task["id"].encode()


@pytest.mark.parametrize("status", sorted(TERMINAL))
async def test_an_ended_task_is_deleted(api: Api, change_task: ChangeTask, status: Status) -> None:
    task = await api.submit()
    change_task(task, status=status)
    answer = await api.call("DELETE", f"/tasks/{task['id']}")
    assert (answer.status, answer.raw) == (204, b"")
    assert (await api.get(f"/tasks/{task['id']}")).code == "task_not_found"
    assert (await api.call("DELETE", f"/tasks/{task['id']}")).code == "task_not_found"


REFUSED = [
    *(("POST", "/retry", status) for status in sorted({*UNFINISHED, Status.COMPLETED})),
    *(("POST", "/cancel", status) for status in sorted(TERMINAL)),
    *(("DELETE", "", status) for status in sorted(UNFINISHED)),
]


@pytest.mark.parametrize(("method", "rest", "status"), REFUSED)
async def test_the_wrong_state_is_refused_and_named(
    api: Api, change_task: ChangeTask, method: str, rest: str, status: Status
) -> None:
    task = await api.submit()
    change_task(task, status=status)
    answer = await api.call(method, f"/tasks/{task['id']}{rest}")
    assert (answer.status, answer.code, answer.json["task_status"]) == (409, "wrong_state", status)
    assert status in answer.json["detail"]
    assert (await api.get(f"/tasks/{task['id']}")).json["status"] == status


@pytest.mark.parametrize("verb", ["retry", "cancel"])
@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"", "text/plain", 404),
        (b"{}", "application/json", 404),
        (b"{}", "text/plain", 415),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 422),
        (b'{"why": 1}', "application/json", 422),
    ],
)
async def test_verbs_want_no_body_or_an_empty_object(
    api: Api, verb: str, body: bytes, media_type: str, status: int
) -> None:
    answer = await api.call("POST", f"/tasks/{NO_TASK}/{verb}", data=body, headers={"Content-Type": media_type})
    assert answer.status == status
    if b"why" in body:
        assert answer.fields == {"why"}


async def test_a_body_where_none_is_wanted_is_ignored(api: Api) -> None:
    options: dict[str, Any] = {"data": b"{", "headers": {"Content-Type": "application/json"}}
    assert (await api.call("GET", "/tasks", **options)).status == 200
