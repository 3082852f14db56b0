"""The client against answers from memory: what it sends, what it sends again, and what it raises."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from yarl import URL

from app.client import (
    AcceptedAs,
    AcceptedTask,
    Client,
    Conflict,
    Forbidden,
    IdempotencyKeyReused,
    Invalid,
    NewTask,
    NotEnded,
    NotFound,
    RateLimited,
    RequestFailed,
    Submission,
    Task,
    TaskOptions,
    Unauthorized,
    Unavailable,
    UniqueKeyTaken,
    Unreachable,
    WrongState,
    connection,
)
from app.client.submission import CHUNK_BYTES, chunks
from app.core import limits
from app.core.backoff import Backoff
from tests.http_answers import HttpAnswers

BASE = "http://arqive.test:4000"
ID = "6b050b29b1d6243056deba6e"
NOW = "2026-01-02T03:04:05Z"

TASK: dict[str, Any] = {
    "id": ID, "type": "echo", "queue": "default", "priority": 0, "payload": {}, "tags": [], "status": "pending",
    "run_at": NOW, "created_at": NOW, "updated_at": NOW, "started_at": None, "finished_at": None, "max_attempts": 3,
    "timeout": 60.0, "backoff": {"base": 2, "max": 600, "factor": 2, "jitter": True}, "attempt": 0, "losses": 0,
    "round": 1, "lease": None, "result": None, "error": None, "progress": None, "log": [], "history": [],
    "cancel_requested_at": None, "start_before": None, "expire_at": None,
}  # fmt: skip


def problem(status: int, code: str, **more: Any) -> dict[str, Any]:
    body = {"type": "about:blank", "title": "T", "status": status, "code": code, "detail": "What is wrong.", **more}
    return {"status": status, "payload": body}


@pytest.fixture
def answers() -> Any:
    with HttpAnswers() as answering:
        yield answering


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    monkeypatch.setattr(connection, "PAUSES", Backoff(base=timedelta(milliseconds=1), jitter=False))
    async with Client(BASE, key="sesame", retry_for=5) as opened:
        yield opened


def sent(answers: HttpAnswers, method: str, path: str) -> list[Any]:
    return [call.kwargs for call in answers.requests[(method, URL(BASE + path))]]


async def test_a_submission_says_only_what_is_given(answers: HttpAnswers, client: Client) -> None:
    answers.post(f"{BASE}/tasks", status=201, payload=TASK)
    task = await client.submit(
        "echo",
        {"n": 1},
        delay=timedelta(minutes=2),
        start_before=datetime(2030, 1, 1, tzinfo=UTC),
        backoff=Backoff(base=timedelta(seconds=5)),
        tags=(tag for tag in ["a"]),
    )
    assert (task.id, task.status, task.timeout) == (ID, "pending", 60.0)
    [request] = sent(answers, "POST", "/tasks")
    assert orjson.loads(request["data"]) == {
        "type": "echo",
        "payload": {"n": 1},
        "delay": 120.0,
        "start_before": "2030-01-01T00:00:00Z",
        "backoff": {"base": 5.0, "max": 600.0, "factor": 2.0, "jitter": True},
        "tags": ["a"],
    }
    assert request["headers"]["Authorization"] == "Bearer sesame"
    assert request["headers"]["Content-Type"] == "application/json"
    assert request["allow_redirects"] is False


def test_the_options_are_those_of_a_submission() -> None:
    assert set(TaskOptions.__annotations__) == set(Submission.model_fields) - {"type", "payload", "idempotency_key"}


async def test_a_submission_that_is_sent_again_has_the_same_key(answers: HttpAnswers, client: Client) -> None:
    answers.post(f"{BASE}/tasks", exception=aiohttp.ServerDisconnectedError())
    answers.post(f"{BASE}/tasks", **problem(503, "store_unavailable"), headers={"Retry-After": "0"})
    answers.post(f"{BASE}/tasks", status=201, payload=TASK)
    answers.post(f"{BASE}/tasks", status=201, payload=TASK)
    await client.submit("echo")
    await client.submit("echo", idempotency_key="mine")
    keys = [request["headers"]["Idempotency-Key"] for request in sent(answers, "POST", "/tasks")]
    assert len(keys) == 4
    assert len(set(keys[:3])) == 1
    assert len(keys[0]) >= 32
    assert keys[3] == "mine"


async def test_what_is_never_sent_again_needs_no_key(answers: HttpAnswers) -> None:
    answers.post(f"{BASE}/tasks", status=201, payload=TASK)
    async with Client(BASE, retry_for=0) as client:
        await client.submit("echo")
    assert "Idempotency-Key" not in sent(answers, "POST", "/tasks")[0]["headers"]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "bad_json", Invalid),
        (401, "unauthorized", Unauthorized),
        (403, "forbidden", Forbidden),
        (404, "task_not_found", NotFound),
        (409, "wrong_state", WrongState),
        (409, "unique_key_taken", UniqueKeyTaken),
        (409, "something_new", Conflict),
        (422, "idempotency_key_reused", IdempotencyKeyReused),
        (413, "body_too_large", Invalid),
        (422, "invalid", Invalid),
        (429, "rate_limited", RateLimited),
        (500, "internal_error", RequestFailed),
        (503, "store_unavailable", Unavailable),
    ],
)
async def test_each_problem_has_its_error(
    answers: HttpAnswers, status: int, code: str, kind: type[RequestFailed]
) -> None:
    more = {"errors": [{"field": "delay", "message": "no"}], "task_status": "running", "holder": ID}
    answers.get(f"{BASE}/tasks/{ID}", **problem(status, code, **more), headers={"X-Request-ID": "r1"}, repeat=True)
    async with Client(BASE, retry_for=0) as client:
        with pytest.raises(RequestFailed) as caught:
            await client.get(ID)
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, str(error)) == (status, code, "What is wrong.")
    assert error.refusal.request_id == "r1"
    if isinstance(error, Invalid):
        assert [(bad.field, bad.message) for bad in error.fields] == [("delay", "no")]
    if isinstance(error, WrongState):
        assert error.task_status == "running"
    if isinstance(error, UniqueKeyTaken):
        assert error.holder == ID


async def test_an_answer_that_is_no_problem_is_shown_in_one_line(answers: HttpAnswers, client: Client) -> None:
    answers.get(f"{BASE}/stats", status=418, body="<html>\n I am  a teapot </html>")
    answers.get(f"{BASE}/types", status=302, headers={"Location": "https://elsewhere.test/"})
    answers.get(f"{BASE}/tasks/{ID}", status=200, body="<html>hello</html>")
    with pytest.raises(RequestFailed, match=r"^The service answered 418: <html> I am a teapot </html>$"):
        await client.stats()
    with pytest.raises(RequestFailed, match=r"302 and names https://elsewhere\.test/"):
        await client.types()
    with pytest.raises(RequestFailed, match="cannot read"):
        await client.get(ID)


async def test_the_pause_is_the_one_that_the_service_asks_for(
    answers: HttpAnswers, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    answers.get(f"{BASE}/tasks/{ID}", **problem(429, "rate_limited"), headers={"Retry-After": "3"})
    answers.get(f"{BASE}/tasks/{ID}", status=502, body="bad gateway")
    answers.get(f"{BASE}/tasks/{ID}", payload=TASK)
    assert (await client.get(ID)).id == ID
    assert pauses == [3.0, 0.002]
    answers.get(f"{BASE}/tasks/{ID}", **problem(429, "rate_limited"), headers={"Retry-After": "6"})
    with pytest.raises(RateLimited):  # longer than what is left of retry_for
        await client.get(ID)
    assert pauses == [3.0, 0.002]


async def test_nobody_there_is_unreachable(client: Client) -> None:
    async with Client("http://127.0.0.1:1", retry_for=0.05) as lonely:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1 does not answer: Connection refused\.$") as caught:
            await lonely.stats()
    assert not caught.value.doubtful
    assert isinstance(caught.value.__cause__, aiohttp.ClientConnectorError)


async def test_a_name_that_does_not_exist_is_unreachable() -> None:
    async with Client("http://nobody.invalid", retry_for=0) as client:
        with pytest.raises(Unreachable, match="no such host is known"):
            await client.stats()


async def test_a_service_that_is_silent_is_unreachable() -> None:
    gone = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        gone.set()

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}", timeout=0.05, retry_for=0) as client:
            with pytest.raises(Unreachable, match="nothing came in time") as caught:
                await client.stats()
        await gone.wait()
    assert caught.value.doubtful


@pytest.mark.parametrize(("verb", "status"), [("cancel", "cancelled"), ("retry", "pending")])
async def test_a_change_whose_answer_was_lost_is_not_an_error(
    answers: HttpAnswers, client: Client, verb: str, status: str
) -> None:
    answers.post(f"{BASE}/tasks/{ID}/{verb}", exception=aiohttp.ServerDisconnectedError())
    answers.post(f"{BASE}/tasks/{ID}/{verb}", **problem(409, "wrong_state", task_status=status))
    answers.get(f"{BASE}/tasks/{ID}", payload={**TASK, "status": status})
    task = await getattr(client, verb)(ID)
    assert task.status == status
    answers.post(f"{BASE}/tasks/{ID}/{verb}", **problem(409, "wrong_state", task_status=status))
    with pytest.raises(WrongState):  # the first answer, so it is about somebody else's change
        await getattr(client, verb)(ID)


async def test_a_cancel_that_came_too_late_is_an_error_though_an_answer_was_lost(
    answers: HttpAnswers, client: Client
) -> None:
    answers.post(f"{BASE}/tasks/{ID}/cancel", exception=aiohttp.ServerDisconnectedError())
    answers.post(f"{BASE}/tasks/{ID}/cancel", **problem(409, "wrong_state", task_status="completed"))
    with pytest.raises(WrongState):
        await client.cancel(ID)


async def test_a_delete_whose_answer_was_lost_is_not_an_error(answers: HttpAnswers, client: Client) -> None:
    answers.delete(f"{BASE}/tasks/{ID}", exception=aiohttp.ServerDisconnectedError())
    answers.delete(f"{BASE}/tasks/{ID}", **problem(404, "task_not_found"))
    await client.delete(ID)
    answers.delete(f"{BASE}/tasks/{ID}", **problem(404, "task_not_found"))
    with pytest.raises(NotFound):
        await client.delete(ID)


async def test_what_is_down_is_told_and_not_raised(answers: HttpAnswers, client: Client) -> None:
    checks = {"mongo": "MongoDB does not answer", "redis": "ok", "workers": "unknown"}
    answers.get(f"{BASE}/health", status=503, payload={"status": "down", "checks": checks, "new_field": 1})
    health = await client.health()
    assert (health.status, health.checks.mongo) == ("down", "MongoDB does not answer")


async def test_a_wait_ends_with_its_time(answers: HttpAnswers, client: Client) -> None:
    answers.get(f"{BASE}/tasks/{ID}?wait=0.000", payload=TASK)
    with pytest.raises(NotEnded, match=f"Task {ID} is pending after 0 s") as caught:
        await client.wait(ID, timeout=0)
    assert caught.value.task.id == ID
    assert isinstance(caught.value, TimeoutError)


def test_bulk_is_cut_by_number_and_by_size() -> None:
    assert [len(chunk.tasks) for chunk in chunks({"type": "echo"} for _ in range(2_500))] == [1000, 1000, 500]
    large = {"type": "echo", "payload": {"text": "x" * (CHUNK_BYTES // 2 - 100)}}
    assert [len(chunk.tasks) for chunk in chunks([large] * 5)] == [2, 2, 1]
    assert [len(chunk.tasks) for chunk in chunks([large, {**large, "payload": {"text": "x" * CHUNK_BYTES}}])] == [1, 1]
    [chunk] = chunks([Submission(type="echo", priority=3), large])
    assert orjson.loads(chunk.body) == [{"type": "echo", "priority": 3}, large]


async def test_bulk_gives_one_outcome_for_each_in_order(answers: HttpAnswers, client: Client) -> None:
    bad = problem(422, "invalid", errors=[{"field": "[1].delay", "message": "no"}, {"field": "[1]", "message": "no"}])
    answers.post(f"{BASE}/tasks/bulk", status=207, payload={"items": [TASK, bad["payload"]]})
    first, second = await client.submit_many([{"type": "echo"}, {"type": "echo", "delay": -1}])
    assert isinstance(first, Task)
    assert isinstance(second, Invalid)
    assert [bad.field for bad in second.fields] == ["delay", "body"]


async def test_a_bulk_that_is_too_large_for_the_service_is_sent_in_halves(answers: HttpAnswers, client: Client) -> None:
    answers.post(f"{BASE}/tasks/bulk", **problem(413, "body_too_large"))
    answers.post(f"{BASE}/tasks/bulk", status=201, payload={"items": [TASK]})
    answers.post(f"{BASE}/tasks/bulk", **problem(413, "body_too_large"))
    accepted, refused = await client.submit_many([{"type": "echo"}] * 2)
    assert isinstance(accepted, Task)
    assert isinstance(refused, Invalid)
    assert refused.code == "body_too_large"
    keys = {request["headers"]["Idempotency-Key"] for request in sent(answers, "POST", "/tasks/bulk")}
    assert len(keys) == 3


async def test_bulk_stops_at_a_request_that_fails(
    answers: HttpAnswers, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_BULK", 10)
    answers.post(f"{BASE}/tasks/bulk", status=201, payload={"items": [TASK] * 10})
    answers.post(f"{BASE}/tasks/bulk", **problem(401, "unauthorized"))
    outcomes = await client.submit_many({"type": "echo"} for _ in range(31))
    assert all(isinstance(outcome, Task) for outcome in outcomes[:10])
    assert all(isinstance(outcome, Unauthorized) for outcome in outcomes[10:])
    assert len(outcomes) == 31
    assert len(sent(answers, "POST", "/tasks/bulk")) == 2


async def test_a_bulk_that_is_refused_as_a_whole_is_told_for_each(answers: HttpAnswers, client: Client) -> None:
    answers.post(f"{BASE}/tasks/bulk", **problem(422, "invalid", errors=[{"field": "body", "message": "no"}]))
    [outcome] = await client.submit_many([{"type": "echo"}])
    assert isinstance(outcome, Invalid)
    assert outcome.fields[0].field == "body"


@pytest.mark.parametrize(
    "url", ["localhost:4000", "ftp://host", "http://", "http://me@host", "http://host/?a=1", "http://host:port"]
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        Client(url)


async def test_a_url_may_have_a_path_and_an_id_may_have_anything(answers: HttpAnswers) -> None:
    answers.get("http://host/queue/tasks/a%2Fb%3Fc", payload=TASK)
    async with Client("http://host/queue/") as client:
        assert (await client.get("a/b?c")).id == ID


async def test_it_is_used_inside_its_block() -> None:
    client = Client(BASE)
    with pytest.raises(RuntimeError, match="async with"):
        await client.stats()


async def test_a_session_of_ones_own_stays_open() -> None:
    async with aiohttp.ClientSession() as session:
        async with Client(BASE, session=session):
            pass
        assert not session.closed


def test_importing_it_loads_no_server_and_no_driver() -> None:
    code = "import app.client, sys; print(*{name.split('.')[0] for name in sys.modules}, *sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    rooms = "api commands embedded queue services store tasks telemetry web worker"
    unwanted = {"bson", "pymongo", "motor", "arq", "redis", "settings", *(f"app.{room}" for room in rooms.split())}
    assert unwanted & set(done.stdout.split()) == set()


LOST = aiohttp.ServerDisconnectedError()
REPLAYED = {"status": 200, "payload": TASK, "headers": {"Idempotent-Replayed": "true"}}
EXISTING = {"status": 200, "payload": TASK, "headers": {"Existing-Task": "true"}}


@pytest.mark.parametrize(
    ("key", "given", "how"),
    [
        (None, [{"status": 201, "payload": TASK}], AcceptedAs.NEW),
        ("mine", [{"status": 201, "payload": TASK}], AcceptedAs.NEW),
        (None, [EXISTING], AcceptedAs.EXISTING),
        ("mine", [EXISTING], AcceptedAs.EXISTING),
        ("mine", [REPLAYED], AcceptedAs.REPLAYED),
        ("mine", [{"exception": LOST}, REPLAYED], AcceptedAs.REPLAYED),
        (None, [{"exception": LOST}, REPLAYED], AcceptedAs.NEW),  # its own first try has made it
        (None, [{"exception": LOST}, EXISTING], AcceptedAs.EXISTING),
    ],
)
async def test_a_submission_tells_whether_the_task_is_new(
    answers: HttpAnswers, client: Client, key: str | None, given: list[dict[str, Any]], how: AcceptedAs
) -> None:
    for each in given:
        answers.post(f"{BASE}/tasks", **each)
    task = await client.submit("echo", idempotency_key=key)
    assert (task.accepted_as, task.is_new) == (how, how == "new")


async def test_an_accepted_task_is_a_task_like_others(answers: HttpAnswers, client: Client) -> None:
    answers.post(f"{BASE}/tasks", **EXISTING)
    answers.get(f"{BASE}/tasks/{ID}", payload=TASK)
    accepted, got = await client.submit("echo"), await client.get(ID)
    assert isinstance(accepted, Task)
    assert accepted == got
    assert got == accepted
    assert accepted != got.model_copy(update={"priority": 1})
    assert accepted != "echo"
    assert {**got.model_dump(), "accepted_as": "existing"} == accepted.model_dump()
    assert AcceptedTask.model_validate_json(accepted.model_dump_json()) == accepted


async def test_each_of_many_tells_whether_it_is_new(answers: HttpAnswers, client: Client) -> None:
    items = [TASK] * 4 + [problem(422, "invalid")["payload"]]
    given: list[NewTask] = [{"type": "echo"}, Submission(type="echo", idempotency_key="k")]
    more: list[NewTask] = [{"type": "echo", "unique_key": "u"}, {"type": "echo"}, {"type": "nope"}]
    answers.post(f"{BASE}/tasks/bulk", status=207, payload={"items": items, "replayed": [0, 1], "existing": [2]})
    outcomes = await client.submit_many(given + more)
    told = [outcome.accepted_as if isinstance(outcome, AcceptedTask) else type(outcome) for outcome in outcomes]
    assert told == ["new", "replayed", "existing", "new", Invalid]


async def test_a_run_of_a_schedule_tells_whether_its_task_is_new(answers: HttpAnswers, client: Client) -> None:
    answers.post(f"{BASE}/schedules/a/run", status=201, payload=TASK)
    answers.post(f"{BASE}/schedules/a/run", **EXISTING)
    assert [(await client.schedules.run("a")).accepted_as for _ in range(2)] == ["new", "existing"]
