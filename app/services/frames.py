"""What a worker and its handler processes say to each other: JSON objects, each behind its length in four bytes."""

import asyncio
import socket
import struct
from typing import Any

from pydantic_core import from_json, to_json

_LENGTH = struct.Struct(">I")

Frame = dict[str, Any]


def encode(frame: Frame) -> bytes:
    """The bytes of a frame."""
    body = to_json(frame)
    return _LENGTH.pack(len(body)) + body


async def read(reader: asyncio.StreamReader) -> Frame:
    """The next frame.

    Raises:
        EOFError: the other side is gone.
    """
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        frame: Frame = from_json(await reader.readexactly(length))
    except ConnectionError as error:
        raise EOFError from error
    return frame


def receive(connection: socket.socket) -> Frame:
    """The next frame, in a process without an event loop.

    Raises:
        EOFError: the other side is gone.
    """
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    frame: Frame = from_json(_exactly(connection, length))
    return frame


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        try:
            piece = connection.recv(size - len(data))
        except ConnectionError as error:
            raise EOFError from error
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
