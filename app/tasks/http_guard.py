"""The HTTP clients of a worker, one of which refuses to connect to addresses that clients must not reach.

The guard looks at addresses, not at names or URLs, and at two points. When a name is resolved, every address of the
answer is looked at, and one that is refused refuses the name: which of several addresses a connection takes is a
race that must not decide what is allowed. And right before each connect, the address of that very socket is looked at:
this sees IP literals, which are never resolved, and leaves no moment between check and use for a name to change its
address in. Redirects are new connections and take the same way.
"""

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata

import aiohttp
from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from app.core.addresses import AddressKind, classify_address
from app.services.context import HttpAccess
from app.services.sign import WebhookSigner
from app.telemetry.tracing import Tracing

CONNECT_TIMEOUT_S = 30.0  # one TCP connect and TLS handshake, so that a silent host is told from a slow answer
DNS_CACHE_S = 30


def _version() -> str:
    try:
        return metadata.version("arqive")
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "dev"


USER_AGENT = f"arqive/{_version()}"  # read at import: looking up the version reads files, which would block the loop


class AddressRefused(OSError):  # noqa: N818 - a fact about the address
    """The guard does not let connections go to this address.

    An OSError because aiohappyeyeballs 2.7 loses any other exception of a socket factory when a host has several
    addresses; aiohttp 3.14 raises a ClientConnectorError from it. Its `strerror` is the reason.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EACCES, reason)


class _GuardedResolver(AbstractResolver):
    """Resolves names and refuses those with an address that is refused."""

    def __init__(self, inner: AbstractResolver, *, allow_private: bool) -> None:
        self._inner = inner
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            results = await self._inner.resolve(host, port, family)
        except UnicodeError as error:  # raised by getaddrinfo for a label that DNS cannot express
            raise OSError(socket.EAI_NONAME, "this cannot be a host name") from error
        for result in results:
            check_address(result["host"], allow_private=self._allow_private)
        return results

    async def close(self) -> None:
        await self._inner.close()


def check_address(address: str, *, allow_private: bool) -> None:
    """Let a public address pass, and a private one if `allow_private`; a link-local one never.

    Raises:
        AddressRefused: it may not be connected to.
    """
    try:
        kind = classify_address(address)
    except ValueError as error:
        raise AddressRefused(f"{address!r} is not an IP address") from error
    if kind is AddressKind.LINK_LOCAL:
        raise AddressRefused(f"{address} is a link-local or metadata address, which is never allowed")
    if kind is AddressKind.PRIVATE and not allow_private:
        raise AddressRefused(f"{address} is a loopback, private or reserved address, and HTTP_ALLOW_PRIVATE is off")


def _guarded_connector(resolver: AbstractResolver, *, allow_private: bool) -> aiohttp.TCPConnector:
    def open_socket(info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, sockaddr = info
        check_address(str(sockaddr[0]), allow_private=allow_private)
        return socket.socket(family, kind, protocol)

    guarded = _GuardedResolver(resolver, allow_private=allow_private)
    return aiohttp.TCPConnector(
        limit=0, limit_per_host=0, ttl_dns_cache=DNS_CACHE_S, resolver=guarded, socket_factory=open_socket
    )


def _session(connector: aiohttp.TCPConnector, tracing: Tracing) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        headers={"User-Agent": USER_AGENT},
        trust_env=False,  # a proxy would connect where the guard cannot see, and netrc would hand out credentials
        trace_configs=[tracing.client_tracing()],
    )


@asynccontextmanager
async def open_http_access(
    *,
    allow_private: bool,
    resolver: AbstractResolver | None = None,
    signer: WebhookSigner | None = None,
    tracing: Tracing | None = None,
) -> AsyncIterator[HttpAccess]:
    """Open the sessions that the handlers of one worker share, and close them at the end.

    The number of connections has no limit of its own: the worker's concurrency is the limit. Requests have no total
    timeout unless they bring one: the attempt's timeout ends them.

    Args:
        allow_private: Whether the guarded session may connect to loopback and private addresses (HTTP_ALLOW_PRIVATE).
        resolver: What the guarded session looks names up with, closed at the end; aiohttp's default unless given.
        signer: Signs callbacks.
        tracing: Sends the trace of an attempt on; one that makes no spans unless given.
    """
    resolver, tracing = resolver or DefaultResolver(), tracing or Tracing()
    free = aiohttp.TCPConnector(limit=0, limit_per_host=0, ttl_dns_cache=DNS_CACHE_S)
    guarded = _guarded_connector(resolver, allow_private=allow_private)
    try:
        async with _session(free, tracing) as session, _session(guarded, tracing) as guarded_session:
            yield HttpAccess(session=session, guarded=guarded_session, signer=signer)
    finally:
        await resolver.close()  # a connector closes only a resolver that it made itself
