"""Errors as problem documents: what the wire, the path or the code itself does wrong."""

import asyncio
import json
import logging
from typing import Any, NoReturn

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from app.api.problems import STATUSES, Problem, answer_problems, problem_of
from app.core.errors import QueueUnavailable
from tests.api.conftest import MAX_BODY_BYTES, Api, RunApi
from tests.waiting import PATIENCE_S

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("path", ["/", "/task", "/tasks/", "/tasks//", "/tasks/a/b", "/docs/", "/docs/../etc"])
async def test_an_unknown_path(api: Api, path: str) -> None:
    answer = await api.get(path)
    assert (answer.status, answer.code) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/tasks", "GET,HEAD,POST"),
        ("DELETE", "/tasks", "GET,HEAD,POST"),
        ("GET", "/tasks/bulk", "POST"),
        ("DELETE", "/tasks/bulk", "POST"),
        ("PATCH", "/tasks/" + "0" * 24, "DELETE,GET,HEAD"),
        ("GET", "/tasks/" + "0" * 24 + "/retry", "POST"),
        ("POST", "/health", "GET,HEAD"),
        ("OPTIONS", "/tasks", "GET,HEAD,POST"),
        ("TRACE", "/types", "GET,HEAD"),
    ],
)
async def test_a_wrong_method(api: Api, method: str, path: str, allowed: str) -> None:
    async with api.client.request(method, path) as response:
        assert (response.status, response.headers["Allow"]) == (405, allowed)
        assert (await response.json(content_type="application/problem+json"))["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "media_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "json", "text/json",
     "application/json; charset=latin-1", "application/json; charset=utf-16", "application/json; charset=none"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/tasks", "/tasks/bulk"])
async def test_a_body_must_say_that_it_is_json(api: Api, path: str, media_type: str) -> None:
    options: dict[str, Any] = {"headers": {"Content-Type": media_type}} if media_type else {}
    answer = await api.call("POST", path, data=b'{"type": "echo"}', skip_auto_headers={"Content-Type"}, **options)
    assert (answer.status, answer.code) == (415, "unsupported_media_type")


def _body_of(size: int) -> bytes:
    start, end = b'{"type": "echo", "payload": {"a": "', b'"}}'
    return start + b"x" * (size - len(start) - len(end)) + end


async def test_a_body_of_just_the_limit_is_accepted(api: Api) -> None:
    assert (await api.call("POST", "/tasks", data=_body_of(MAX_BODY_BYTES), headers=JSON)).status == 201


@pytest.mark.parametrize("path", ["/tasks", "/tasks/bulk", "/tasks/" + "0" * 24 + "/retry"])
async def test_a_body_over_the_limit(api: Api, path: str) -> None:
    answer = await api.call("POST", path, data=_body_of(MAX_BODY_BYTES + 1), headers=JSON)
    assert (answer.status, answer.code) == (413, "body_too_large")


async def test_a_body_over_the_limit_that_does_not_say_its_length(api: Api) -> None:
    async def chunks() -> Any:
        for _ in range(MAX_BODY_BYTES // 10_000 + 1):
            yield b" " * 10_000

    answer = await api.call("POST", "/tasks", data=chunks(), headers=JSON)
    assert (answer.status, answer.code) == (413, "body_too_large")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "nonsense"])
async def test_a_body_must_not_be_compressed(api: Api, encoding: str) -> None:
    answer = await api.call("POST", "/tasks", data=_body_of(99), headers={**JSON, "Content-Encoding": encoding})
    assert (answer.status, answer.code) == (415, "unsupported_media_type")


async def test_a_body_may_say_that_it_is_not_compressed(api: Api) -> None:
    answer = await api.call("POST", "/tasks", data=_body_of(99), headers={**JSON, "Content-Encoding": "identity"})
    assert answer.status == 201


HEAD = b"POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


async def _answer_to(api: Api, *parts: bytes) -> tuple[int, bytes]:
    """The status and the body that come back for bytes as they are."""
    reader, writer = await asyncio.open_connection(api.client.host, api.client.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(PATIENCE_S):
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))
    finally:
        writer.close()
        await writer.wait_closed()
    return int(head.split()[1]), body


async def test_a_length_that_promises_too_much_is_refused_before_the_body_comes(api: Api) -> None:
    status, body = await _answer_to(api, HEAD + b"Content-Length: 999999999\r\n\r\n{")
    assert (status, json.loads(body)["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 9\r\n\r\n" + _body_of(200),  # more than promised
        b"Content-Length: -1\r\n\r\n{}",
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
        b"\0: 1\r\n\r\n",
        b"X: " + b"x" * 20_000 + b"\r\n\r\n",
    ],
    ids=lambda rest: str(rest[:40]),
)
async def test_what_is_not_http_gets_400(api: Api, rest: bytes) -> None:
    status, body = await _answer_to(api, HEAD + rest)
    assert status == 400
    assert b"Traceback" not in body


async def test_chunks_that_end_in_the_middle(api: Api) -> None:
    status, body = await _answer_to(api, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"2\r\n{}\r\n", b"zz\r\n")
    assert status == 400
    assert b"Traceback" not in body


async def test_a_client_that_hangs_up_in_the_middle_breaks_nothing(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    _, writer = await asyncio.open_connection(api.client.host, api.client.port)
    writer.write(b"POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await api.get("/health/live")).status == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("given", ["abc-123", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a" * 128])
async def test_a_sane_request_id_is_kept(api: Api, given: str) -> None:
    assert (await api.get("/tasks", headers={"X-Request-ID": given})).headers["X-Request-ID"] == given
    assert (await api.get("/nowhere", headers={"X-Request-ID": given})).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "a b", "<script>", "a" * 129, "ä", '"'])
async def test_another_request_id_is_replaced(api: Api, given: str) -> None:
    made = {(await api.get("/tasks", headers={"X-Request-ID": given})).headers["X-Request-ID"] for _ in range(2)}
    assert len(made) == 2
    assert given not in made


async def test_the_unexpected_is_logged_and_not_told(
    run_api: RunApi, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("the password is hunter2")

    async with run_api() as api:
        monkeypatch.setattr("app.store.tasks.TaskStore.get", broken)
        answer = await api.get("/tasks/" + "0" * 24, headers={"X-Request-ID": "find-me"})
    assert (answer.status, answer.code) == (500, "internal_error")
    assert "find-me" in answer.json["detail"]
    assert "hunter2" not in answer.raw.decode()
    assert "Traceback" not in answer.raw.decode()
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "find-me" in record.getMessage()
    assert vars(record)["request_id"] == "find-me"
    assert record.exc_info is not None
    assert "hunter2" in str(record.exc_info[1])


async def test_an_error_of_ours_that_no_client_should_see_is_unexpected_too(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: web.Request) -> NoReturn:
        raise QueueUnavailable("redis://secret")

    application = web.Application(middlewares=[answer_problems])
    application.router.add_get("/", broken)
    async with TestClient(TestServer(application)) as client, client.get("/") as response:
        assert (response.status, response.content_type) == (500, "application/problem+json")
        assert "secret" not in await response.text()
    assert "redis://secret" in caplog.text


def test_codes_are_stable_and_each_has_one_status() -> None:
    assert {error.code: status.value for error, status in STATUSES.items()} == {
        "bad_json": 400,
        "unauthorized": 401,
        "forbidden": 403,
        "not_found": 404,
        "task_not_found": 404,
        "queue_not_found": 404,
        "schedule_not_found": 404,
        "method_not_allowed": 405,
        "wrong_state": 409,
        "unique_key_taken": 409,
        "body_too_large": 413,
        "unsupported_media_type": 415,
        "invalid": 422,
        "idempotency_key_reused": 422,
        "rate_limited": 429,
        "internal_error": 500,
        "too_many_streams": 503,
        "store_unavailable": 503,
    }


def test_the_documented_problem_has_every_member() -> None:
    documented = {name for name, field in Problem.model_fields.items() if field.is_required()}
    for error in STATUSES:
        more = {"invalid", "idempotency_key_reused", "wrong_state", "unique_key_taken"}
        problem = problem_of(error.__new__(error)) if error.code not in more else None
        assert problem is None or set(problem) == documented
