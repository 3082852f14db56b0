"""The rules of `http.request`: what it accepts, what it sends, and what each answer makes of the attempt."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from yarl import URL

from app import Context, Fail, Retry
from app.core.ids import TaskId
from app.core.retry_after import MAX_RETRY_AFTER, parse_retry_after
from app.services.context import HttpAccess
from app.tasks.http_guard import open_http_access
from app.tasks.http_reply import MAX_BODY_BYTES, MAX_HEADER_CHARS
from app.tasks.http_request import HttpRequest, http_request
from app.tasks.registry import load_task_modules
from tests.http_answers import HttpAnswers

URL_TEXT = "https://api.example.com/hook?token=secret"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
async def http() -> AsyncIterator[HttpAccess]:
    async with open_http_access(allow_private=False) as access:
        yield access


@pytest.fixture
def ctx(http: HttpAccess) -> Context:
    return Context(task_id=TaskId("a" * 24), attempt=3, type="http.request", queue="default", http=http)


def request(**fields: Any) -> HttpRequest:
    return HttpRequest.model_validate({"url": URL_TEXT, **fields})


def test_it_is_built_in() -> None:
    kind = load_task_modules([])["http.request"]
    assert kind.handler is http_request
    assert set(kind.payload.json_schema()["properties"]) == {
        "method", "url", "headers", "json", "body", "timeout", "follow_redirects",
    }  # fmt: skip


def test_only_the_url_is_needed_and_the_method_is_post() -> None:
    assert request().method == "POST"


def test_the_payload_survives_being_stored() -> None:
    payload = request(json={"a": [1, None]}, headers={"X-A": "b"})
    assert HttpRequest.model_validate(payload.model_dump()) == payload


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": "ftp://example.com/"}, "absolute http or https"),
        ({"url": "/hook"}, "absolute http or https"),
        ({"url": "https:example.com"}, "absolute http or https"),
        ({"url": ""}, "at least 1 character"),
        ({"url": "https://user:pw@example.com/"}, "credentials"),
        ({"url": "https://user@example.com"}, "credentials"),
        ({"url": "https://@example.com?a"}, "credentials"),
        ({"url": "https://exa mple.com/"}, "spaces or control"),
        ({"url": "https://example.com/\r\nHost: evil"}, "spaces or control"),
        ({"url": "https://example.com:99999/"}, "Port out of range"),
        ({"url": "https://a..b/"}, "host name"),
        ({"url": f"https://{'a' * 64}.com/"}, "host name"),
        ({"url": "https://example.com/" + "a" * 2048}, "at most 2048"),
        ({"method": "TRACE"}, "Input should be"),
        ({"method": "GET", "json": {}}, "GET request has no body"),
        ({"method": "HEAD", "body": "x"}, "HEAD request has no body"),
        ({"json": 1, "body": "x"}, "exclude each other"),
        ({"timeout": 0}, "greater than 0"),
        ({"timeout": -1}, "greater than 0"),
        ({"timeout": float("inf")}, "finite|less than"),
        ({"timeout": 86_401}, "less than or equal"),
        ({"headers": {"Host": "evil"}}, "cannot be chosen"),
        ({"headers": {"content-length": "3"}}, "cannot be chosen"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "cannot be chosen"),
        ({"headers": {"connection": "close"}}, "cannot be chosen"),
        ({"headers": {"arqive-TASK-id": "b"}}, "cannot be chosen"),
        ({"headers": {"X A": "b"}}, "not a header name"),
        ({"headers": {"": "b"}}, "not a header name"),
        ({"headers": {"X-A": "b\r\nX-B: c"}}, "control characters"),
        ({"headers": {"X-A": "b\x00"}}, "control characters"),
        ({"headers": {"X-A": "b" * 8001}}, "more than 8000"),
        ({"headers": {"X-A": "b", "x-a": "c"}}, "given twice"),
        ({"headers": {f"X-{n}": "b" for n in range(65)}}, "at most 64"),
        ({"verify": False}, "Extra inputs"),
    ],
)
def test_bad_payloads_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        request(**fields)


@pytest.mark.parametrize(
    "url",
    ["http://localhost:8080", "https://bücher.example/", "http://[::1]:80/", "https://a.b./?email=x@y", "http://a#@"],
)
def test_good_urls_are_accepted(url: str) -> None:
    assert request(url=url).url == url


async def test_the_request_carries_the_task_and_what_the_payload_says(ctx: Context) -> None:
    with HttpAnswers() as answers:
        answers.post(URL_TEXT, payload={"ok": True}, headers={"X-A": "1"})
        reply = await http_request(ctx, request(json={"n": 1}, headers={"X-Key": "k"}, timeout=7))
        [call] = answers.requests["POST", URL(URL_TEXT)]
    sent = call.kwargs["headers"]
    assert sent["Arqive-Task-Id"] == "a" * 24
    assert sent["Arqive-Attempt"] == "3"
    assert sent["X-Key"] == "k"
    assert sent["User-Agent"].startswith("arqive/")
    assert call.kwargs["json"] == {"n": 1}
    assert call.kwargs["timeout"].total == 7
    assert reply == {
        "status": 200,
        "headers": {"content-type": "application/json", "x-a": "1"},
        "body": '{"ok": true}',
        "truncated": False,
        "url": URL_TEXT,
    }


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_2xx_completes(ctx: Context, status: int) -> None:
    with HttpAnswers() as answers:
        answers.post(URL_TEXT, status=status)
        assert (await http_request(ctx, request()))["status"] == status


@pytest.mark.parametrize("status", [408, 429, 500, 501, 502, 503, 504, 599])
async def test_what_may_pass_is_tried_again_after_the_backoff(ctx: Context, status: int) -> None:
    with HttpAnswers() as answers:
        answers.post(URL_TEXT, status=status, body="come\n back  later" + "x" * 500)
        with pytest.raises(Retry) as caught:
            await http_request(ctx, request())
    assert caught.value.delay is None
    assert caught.value.reason.startswith(f"POST https://api.example.com/hook answered {status}: come back laterxxx")
    assert "secret" not in caught.value.reason
    assert len(caught.value.reason) < 300


@pytest.mark.parametrize("status", [300, 301, 304, 400, 401, 403, 404, 409, 410, 422, 425])
async def test_what_will_not_pass_fails(ctx: Context, status: int) -> None:
    with HttpAnswers() as answers:
        answers.post(URL_TEXT, status=status, body="no such hook")
        with pytest.raises(Fail) as caught:
            await http_request(ctx, request())
    assert caught.value.reason == f"POST https://api.example.com/hook answered {status}: no such hook"


async def test_a_redirect_fails_when_it_is_not_to_be_followed(ctx: Context) -> None:
    with HttpAnswers() as answers:
        answers.post(URL_TEXT, status=307, headers={"Location": "https://other.example/"})
        with pytest.raises(Fail, match="answered 307"):
            await http_request(ctx, request(follow_redirects=False))


@pytest.mark.parametrize(
    ("header", "delay"),
    [("120", 120.0), ("0", 0.0), ("9" * 5000, 86_400.0), ("soon", None), ("-5", None), ("1.5", None)],
)
async def test_retry_after_sets_the_delay(ctx: Context, header: str, delay: float | None) -> None:
    with HttpAnswers() as answers:
        answers.post(URL_TEXT, status=429, headers={"Retry-After": header})
        with pytest.raises(Retry) as caught:
            await http_request(ctx, request())
    assert caught.value.delay == delay


@pytest.mark.parametrize(
    ("ahead", "delay"),
    [
        (timedelta(minutes=5), timedelta(minutes=5)),
        (timedelta(days=-3), timedelta(0)),
        (timedelta(days=9), MAX_RETRY_AFTER),
    ],
)
def test_retry_after_may_be_a_date(ahead: timedelta, delay: timedelta) -> None:
    assert parse_retry_after(format_datetime(NOW + ahead, usegmt=True), now=NOW) == delay


def test_a_date_without_a_zone_is_utc() -> None:
    assert parse_retry_after("Fri, 02 Jan 2026 03:05:05 -0000", now=NOW) == timedelta(minutes=1)


@given(st.text() | st.from_regex(r"\w{3}, \d{1,9} \w{3} \d{1,9} \d\d:\d\d:\d\d ([+-]\d{1,9}|GMT)", fullmatch=True))
def test_no_retry_after_breaks_the_bounds(value: str) -> None:
    delay = parse_retry_after(value, now=NOW)
    assert delay is None or timedelta(0) <= delay <= MAX_RETRY_AFTER


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (aiohttp.ServerDisconnectedError(), "failed: Server disconnected"),
        (aiohttp.ClientPayloadError("cut off"), "failed: cut off"),
        (aiohttp.ClientOSError(104, "Connection reset by peer"), "Connection reset by peer"),
        (TimeoutError(), "timed out"),
        (aiohttp.ConnectionTimeoutError(f"Connection timeout to host {URL_TEXT}"), "timed out while connecting"),
        (
            aiohttp.ClientResponseError(
                aiohttp.RequestInfo(URL(URL_TEXT), "POST", None, URL(URL_TEXT)),  # type: ignore[arg-type]
                (),
                status=400,
                message="bad HTTP",
            ),
            "failed: bad HTTP",
        ),
    ],
)
async def test_network_errors_are_tried_again(ctx: Context, error: Exception, reason: str) -> None:
    with HttpAnswers() as answers:
        answers.post(URL_TEXT, exception=error)
        with pytest.raises(Retry, match=reason) as caught:
            await http_request(ctx, request())
    assert caught.value.delay is None
    assert "secret" not in caught.value.reason


@pytest.mark.parametrize("size", [MAX_BODY_BYTES - 1, MAX_BODY_BYTES, MAX_BODY_BYTES + 1])
async def test_the_body_is_capped(ctx: Context, size: int) -> None:
    with HttpAnswers() as answers:
        answers.post(URL_TEXT, body=b"x" * size)
        reply = await http_request(ctx, request())
    assert len(reply["body"]) == min(size, MAX_BODY_BYTES)
    assert reply["truncated"] is (size > MAX_BODY_BYTES)


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("naïve ✓".encode(), "text/plain", "naïve ✓"),
        ("naïve".encode("latin-1"), "text/plain; charset=ISO-8859-1", "naïve"),
        ("日本".encode("shift_jis"), "text/html; charset=Shift_JIS", "日本"),
        (b"a\xff\x00b", "application/octet-stream", "a\ufffd\x00b"),
        (b"abc-", "text/plain; charset=punycode", "abc-"),
        (b"\\ud800", "text/plain; charset=unicode_escape", "\\ud800"),
        (b"x\x9c", "text/plain; charset=zlib", "x\ufffd"),
        (b"abc", "text/plain; charset=no-such", "abc"),
    ],
)
async def test_the_body_is_decoded_safely(ctx: Context, body: bytes, content_type: str, text: str) -> None:
    with HttpAnswers() as answers:
        answers.post(URL_TEXT, body=body, content_type=content_type)
        assert (await http_request(ctx, request()))["body"] == text


async def test_a_character_that_the_cap_cuts_is_left_out(ctx: Context) -> None:
    with HttpAnswers() as answers:
        answers.post(URL_TEXT, body=b"x" * (MAX_BODY_BYTES - 1) + "é".encode())
        assert (await http_request(ctx, request()))["body"] == "x" * (MAX_BODY_BYTES - 1)


async def test_headers_are_capped(ctx: Context) -> None:
    with HttpAnswers() as answers:
        answers.post(URL_TEXT, headers={f"X-{n:03}": "v" * 1000 for n in range(30)})
        kept = (await http_request(ctx, request()))["headers"]
    assert len(kept) > 10
    assert sum(len(name) + len(value) for name, value in kept.items()) <= MAX_HEADER_CHARS
