"""One connection that sends a request and waits for its answer, again and again."""

import asyncio
from typing import cast
from urllib.parse import urlsplit

_END = b"\r\n\r\n"


class Connection(asyncio.Protocol):
    """An HTTP/1.1 client of one request at a time; it knows answers with a Content-Length and no others."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._data = b""
        self._end = -1
        """Where the answer ends in the data; -1 until its head has come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._end < 0 and not self._read_head():
            return
        if len(self._data) >= self._end and self._answer is not None and not self._answer.done():
            head_end = self._data.index(_END) + len(_END)
            self._answer.set_result((int(self._data[9:12]), self._data[head_end : self._end]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the server has closed the connection"))

    def _read_head(self) -> bool:
        head_end = self._data.find(_END)
        if head_end < 0:
            return False
        for line in self._data[:head_end].split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                self._end = head_end + len(_END) + int(value)
                return True
        self.connection_lost(ConnectionError("an answer without a Content-Length"))
        self.close()
        return False

    async def request(self, raw: bytes) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            ConnectionError: the server has closed the connection.
        """
        assert self._transport is not None  # noqa: S101 - `connect` returns it connected
        if self._transport.is_closing():
            raise ConnectionResetError("the server has closed the connection")
        self._data, self._end = b"", -1
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


async def connect(url: str) -> Connection:
    """A connection to the server of a URL."""
    parts = urlsplit(url)
    assert parts.hostname is not None and parts.port is not None  # noqa: S101, PT018 - the URLs are our own
    _, connection = await asyncio.get_running_loop().create_connection(Connection, parts.hostname, parts.port)
    return connection


def post(url: str, body: bytes) -> bytes:
    """A request with a JSON body."""
    head = f"{_first_lines('POST', url)}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def get(url: str) -> bytes:
    """A request without a body."""
    return f"{_first_lines('GET', url)}\r\n".encode()


def _first_lines(method: str, url: str) -> str:
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    return f"{method} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
