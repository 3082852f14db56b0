"""aioresponses that works with aiohttp 3.14."""

from typing import Any

import aiohttp
from aioresponses import aioresponses


class _SentRequest:
    """All that a response asks of the writer of its request once that is sent."""

    output_size = 0


class _Response(aiohttp.ClientResponse):
    """aioresponses 0.7.9 does not pass `stream_writer`, which aiohttp 3.14 needs (aioresponses issue 289)."""

    def __init__(self, *args: Any, **arguments: Any) -> None:
        super().__init__(*args, **{"stream_writer": _SentRequest(), **arguments})


class HttpAnswers(aioresponses):
    """Answers requests that are made within its block, from memory."""

    def add(self, *args: Any, **arguments: Any) -> None:
        super().add(*args, **{"response_class": _Response, **arguments})
