"""`http.request` over real sockets: redirects, caps, timeouts, and the guard in every disguise of an address."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer, unused_port

from app import Context, Fail, Retry
from app.core import addresses
from app.core.ids import TaskId
from app.services.context import HttpAccess
from app.tasks import http_guard
from app.tasks.http_call import MAX_REDIRECTS
from app.tasks.http_guard import open_http_access
from app.tasks.http_reply import MAX_BODY_BYTES, MAX_SNIPPET, Reply
from app.tasks.http_request import HttpRequest, http_request
from tests.waiting import wait_until

TASK_ID = TaskId("0123456789abcdef01234567")


class Callee:
    """A server that keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.endless_ended = False
        app = web.Application(client_max_size=10**7)
        app.router.add_route("*", "/redirect/{status}", self.redirect)
        app.router.add_route("*", "/count/{left}", self.count)
        app.router.add_route("*", "/endless", self.endless)
        app.router.add_route("*", "/silent", self.silent)
        app.router.add_route("*", "/odd", self.odd)
        app.router.add_route("*", "/{tail:.*}", self.echo)
        self.server = TestServer(app, host="127.0.0.1")

    def url(self, path: str) -> str:
        return str(self.server.make_url(path))

    async def echo(self, request: web.Request) -> web.Response:
        seen = {"method": request.method, "body": await request.text(), "headers": dict(request.headers)}
        self.requests.append(seen)
        status = int(request.query.get("status", "200"))
        if request.query.get("big"):
            return web.Response(status=status, text="y" * (3 * MAX_BODY_BYTES))
        response = web.json_response({"method": seen["method"], "body": seen["body"]}, status=status)
        if request.query.get("close"):
            response.force_close()
        return response

    async def redirect(self, request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["status"]), headers={"Location": request.query["to"]})

    async def count(self, request: web.Request) -> web.Response:
        left = int(request.match_info["left"])
        if left == 0:
            return web.Response(text="arrived")
        return web.Response(status=302, headers={"Location": f"/count/{left - 1}"})

    async def endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"z" * 4096)
        finally:
            self.endless_ended = True

    async def silent(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if request.query.get("start"):
            await response.prepare(request)
            await response.write(b"one")
        await asyncio.Event().wait()
        return response

    async def odd(self, request: web.Request) -> web.Response:
        transport = request.transport
        assert transport is not None
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"HTTP/1.1 200 OK\r\nX-Odd: a\xffb\r\nX-Two: 1\r\nX-Two: 2\r\nContent-Length: 2\r\n\r\nok")
        transport.close()
        return web.Response()


class Names(AbstractResolver):
    """A resolver with answers of its own; each question of a name takes the next of its answers."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = answers
        self.closed = False

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:  # noqa: ARG002
        rounds = self.answers[host.split(".", maxsplit=1)[0]]
        found = rounds.pop(0) if len(rounds) > 1 else rounds[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
async def callee() -> AsyncIterator[Callee]:
    callee = Callee()
    await callee.server.start_server(shutdown_timeout=0.1)
    yield callee
    await callee.server.close()


@asynccontextmanager
async def context(*, allow_private: bool, resolver: AbstractResolver | None = None) -> AsyncIterator[Context]:
    async with open_http_access(allow_private=allow_private, resolver=resolver) as http:
        yield context_with(http)


def context_with(http: HttpAccess) -> Context:
    return Context(task_id=TASK_ID, attempt=2, type="http.request", queue="default", http=http)


@pytest.fixture
async def ctx() -> AsyncIterator[Context]:
    """As with HTTP_ALLOW_PRIVATE."""
    async with context(allow_private=True) as ctx:
        yield ctx


async def call(ctx: Context, url: str, **fields: Any) -> Reply:
    return await http_request(ctx, HttpRequest.model_validate({"url": url, **fields}))


async def test_json_goes_out_and_the_answer_comes_back(ctx: Context, callee: Callee) -> None:
    reply = await call(ctx, callee.url("/a?b=c"), method="PUT", json={"n": [1, "é"]}, headers={"X-Key": "k"})
    [seen] = callee.requests
    assert json.loads(seen["body"]) == {"n": [1, "é"]}
    assert seen["headers"]["Content-Type"] == "application/json"
    assert seen["headers"]["X-Key"] == "k"
    assert seen["headers"]["Arqive-Task-Id"] == TASK_ID
    assert seen["headers"]["Arqive-Attempt"] == "2"
    assert seen["headers"]["User-Agent"].startswith("arqive/")
    assert (reply["status"], reply["url"], reply["truncated"]) == (200, callee.url("/a?b=c"), False)
    assert json.loads(reply["body"])["method"] == "PUT"
    assert reply["headers"]["content-type"].startswith("application/json")


async def test_text_goes_out_as_text_or_as_the_headers_say(ctx: Context, callee: Callee) -> None:
    await call(ctx, callee.url("/"), body="é")
    await call(ctx, callee.url("/"), body="<a/>", headers={"content-type": "text/xml"})
    assert [seen["headers"]["Content-Type"] for seen in callee.requests] == ["text/plain; charset=utf-8", "text/xml"]
    assert [seen["body"] for seen in callee.requests] == ["é", "<a/>"]


@pytest.mark.parametrize(
    ("status", "method", "then", "keeps_body"),
    [
        (301, "POST", "GET", False),
        (302, "POST", "GET", False),
        (303, "POST", "GET", False),
        (303, "PUT", "GET", False),
        (302, "PUT", "PUT", True),
        (307, "POST", "POST", True),
        (308, "PATCH", "PATCH", True),
        (303, "HEAD", "HEAD", False),
        (302, "GET", "GET", False),
    ],
)
async def test_a_redirect_keeps_or_changes_the_method(
    ctx: Context, callee: Callee, status: int, method: str, then: str, keeps_body: bool
) -> None:
    body = {} if method in {"GET", "HEAD"} else {"body": "data"}
    reply = await call(ctx, callee.url(f"/redirect/{status}?to=/end"), method=method, **body)
    [seen] = callee.requests
    assert (seen["method"], seen["body"]) == (then, "data" if keeps_body else "")
    assert reply["url"] == callee.url("/end")


async def test_only_so_many_redirects_are_followed(ctx: Context, callee: Callee) -> None:
    assert (await call(ctx, callee.url(f"/count/{MAX_REDIRECTS}")))["body"] == "arrived"
    with pytest.raises(Fail, match=f"redirected more than {MAX_REDIRECTS} times"):
        await call(ctx, callee.url(f"/count/{MAX_REDIRECTS + 1}"))


async def test_credentials_do_not_follow_to_another_origin(ctx: Context, callee: Callee) -> None:
    other = callee.url("/end").replace("127.0.0.1", "localhost")
    await call(ctx, callee.url(f"/redirect/302?to={other}"), headers={"authorization": "Bearer x", "Cookie": "a=b"})
    [seen] = callee.requests
    assert not {"authorization", "cookie"} & {name.lower() for name in seen["headers"]}


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://example.com/", "http://u:p@127.0.0.1:1/", "http://[x/"]
)
async def test_a_redirect_to_what_cannot_be_called_fails(ctx: Context, callee: Callee, target: str) -> None:
    target = target.replace("127.0.0.1:1", f"127.0.0.1:{callee.server.port}")
    with pytest.raises(Fail, match="led to a URL that cannot be called"):
        await call(ctx, callee.url(f"/redirect/302?to={target}"), headers={"Authorization": "Bearer x"})


@pytest.mark.parametrize("status", [404, 503])
async def test_a_reason_has_only_the_start_of_a_big_body(ctx: Context, callee: Callee, status: int) -> None:
    with pytest.raises((Fail, Retry), match=f"/a answered {status}: y{{{MAX_SNIPPET}}}$"):
        await call(ctx, callee.url(f"/a?big=1&status={status}"))


async def test_an_endless_body_is_cut_and_its_connection_closed(ctx: Context, callee: Callee) -> None:
    reply = await call(ctx, callee.url("/endless"))
    assert (len(reply["body"]), reply["truncated"]) == (MAX_BODY_BYTES, True)
    await wait_until(lambda: callee.endless_ended, what="the server notices that nobody reads on")


async def test_headers_that_are_not_utf8_can_be_stored(ctx: Context, callee: Callee) -> None:
    headers = (await call(ctx, callee.url("/odd")))["headers"]
    assert headers["x-odd"] == "a?b"
    assert headers["x-two"] == "1, 2"


@pytest.mark.parametrize("path", ["/silent", "/silent?start=1"])
async def test_an_answer_that_does_not_come_is_tried_again(ctx: Context, callee: Callee, path: str) -> None:
    with pytest.raises(Retry, match=r"POST http://127\.0\.0\.1:\d+/silent timed out") as caught:
        await call(ctx, callee.url(path), timeout=0.2)
    assert caught.value.delay is None


async def test_the_attempts_own_timeout_ends_a_request_without_one(ctx: Context, callee: Callee) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call(ctx, callee.url("/silent")), 0.2)


async def test_a_refused_connection_is_tried_again(ctx: Context) -> None:
    with pytest.raises(Retry, match=r"Connect call failed|refused"):
        await call(ctx, f"http://127.0.0.1:{unused_port()}/")


async def test_a_name_that_does_not_exist_is_tried_again(ctx: Context) -> None:
    with pytest.raises(Retry, match=r"POST http://no-such-host.invalid/ failed"):
        await call(ctx, "http://no-such-host.invalid/")


async def test_speaking_tls_to_a_plain_server_is_tried_again(ctx: Context, callee: Callee) -> None:
    with pytest.raises(Retry, match=r"failed: .*SSL"):
        await call(ctx, callee.url("/").replace("http:", "https:"))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.0.0.1.", "localhost",
     "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "0", "[::]", "\uff11\uff12\uff17.0.0.1"],
)  # fmt: skip
async def test_loopback_is_refused_in_every_disguise(callee: Callee, host: str) -> None:
    async with context(allow_private=False) as ctx:
        with pytest.raises(Fail, match=r"is not allowed: .*HTTP_ALLOW_PRIVATE|a URL that cannot be called"):
            await call(ctx, f"http://{host}:{callee.server.port}/")
    assert callee.requests == []


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[fe80::1]", "[fd00:ec2::254]",
     "100.100.100.200"],
)  # fmt: skip
@pytest.mark.parametrize("allow_private", [False, True])
async def test_metadata_is_refused_always(address: str, allow_private: bool) -> None:
    async with context(allow_private=allow_private) as ctx:
        with pytest.raises(Fail, match="link-local or metadata address, which is never allowed"):
            await call(ctx, f"http://{address}/latest/meta-data")


async def test_a_redirect_to_metadata_is_refused(ctx: Context, callee: Callee) -> None:
    with pytest.raises(Fail, match=r"169\.254\.169\.254 is a link-local"):
        await call(ctx, callee.url("/redirect/302?to=http://169.254.169.254/latest"))


def also_public(*public: str) -> Callable[[str], addresses.AddressKind]:
    """The classification of addresses, but for these: a stand-in for servers on the internet."""

    def classify(address: str) -> addresses.AddressKind:
        return addresses.AddressKind.PUBLIC if address in public else addresses.classify_address(address)

    return classify


async def test_a_public_server_cannot_redirect_into_the_private_network(
    callee: Callee, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_guard, "classify_address", also_public("127.0.0.1"))
    async with context(allow_private=False) as ctx:
        assert (await call(ctx, callee.url("/redirect/307?to=/end")))["status"] == 200
        with pytest.raises(Fail, match=r"127\.0\.0\.2 is a loopback"):
            await call(ctx, callee.url(f"/redirect/307?to=http://127.0.0.2:{callee.server.port}/end"))
    assert len(callee.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [["127.0.0.1"], ["10.0.0.1", "127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["::1", "8.8.8.8"],
     ["2606:4700::1111", "fd12::1"], ["not-an-address"]],
)  # fmt: skip
async def test_a_name_with_any_refused_address_is_refused(callee: Callee, answer: Iterable[str]) -> None:
    async with context(allow_private=False, resolver=Names(shop=[list(answer)])) as ctx:
        with pytest.raises(Fail, match="is not allowed: "):
            await call(ctx, f"http://shop.example:{callee.server.port}/")
    assert callee.requests == []


async def test_a_name_that_changes_its_address_is_looked_at_again(
    callee: Callee, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_guard, "classify_address", also_public("127.0.0.1"))
    monkeypatch.setattr(http_guard, "DNS_CACHE_S", 0)
    names = Names(shop=[["127.0.0.1"], ["127.0.0.2"]])
    async with context(allow_private=False, resolver=names) as ctx:
        url = f"http://shop.example:{callee.server.port}/"
        assert (await call(ctx, f"{url}?close=1"))["status"] == 200
        with pytest.raises(Fail, match=r"127\.0\.0\.2"):
            await call(ctx, url)
    assert names.closed


async def test_the_socket_is_guarded_even_where_the_resolver_is_not(
    callee: Callee, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the resolver lets through, by a fault or a version to come, the connect still refuses."""
    names = Names(shop=[["127.0.0.1", "127.0.0.2"]])
    monkeypatch.setattr(http_guard, "_GuardedResolver", lambda inner, **_: inner)
    async with context(allow_private=False, resolver=names) as ctx:
        with pytest.raises(Fail, match="is not allowed"):
            await call(ctx, f"http://shop.example:{callee.server.port}/")
    assert callee.requests == []


async def test_a_redirect_to_a_name_that_dns_cannot_express_does_not_break(ctx: Context, callee: Callee) -> None:
    with pytest.raises(Retry, match="cannot be a host name"):
        await call(ctx, callee.url(f"/redirect/302?to=http://{'a' * 64}.com/"))


async def test_the_free_session_reaches_loopback_and_keeps_no_cookies(callee: Callee) -> None:
    async with context(allow_private=False) as ctx, ctx.session.get(callee.url("/")) as response:
        assert response.status == 200
        assert len(ctx.session.cookie_jar) == 0
