"""What becomes of the answer to an `http.request`: its result, or why the attempt failed."""

import codecs
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

import aiohttp

from app.core.outcomes import Fail, Retry
from app.core.retry_after import parse_retry_after
from app.core.text import storable

MAX_BODY_BYTES = 65_536  # of the response body that are read; what is beyond stays in the network
MAX_HEADER_CHARS = 16_384  # of all response headers that are kept, names and values
MAX_SNIPPET = 200  # characters of the response body in a reason

_RETRIED = frozenset({408, 429})  # and every 5xx
_TEXT_CODECS = re.compile(
    r"utf-(8|16|32)(-[bl]e)?|ascii|iso8859-\d+|cp125\d|koi8-[rtu]|shift_jis|euc_(jp|kr)|gb\w+|big5"
)


class Reply(TypedDict):
    """The result of an `http.request`, as it is kept with the task.

    `headers` have lower-case names, repeated ones joined by `, `. `body` is the first 64 KiB as text: bytes that are
    not text in the answer's charset become U+FFFD; `truncated` says whether there was more. `url` is where redirects
    led.
    """

    status: int
    headers: dict[str, str]
    body: str
    truncated: bool
    url: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A response with as much of its body as is kept.

    Attributes:
        reply: What a successful attempt returns.
        retry_after: The header of that name.
    """

    reply: Reply
    retry_after: str | None


async def read_answer(response: aiohttp.ClientResponse) -> Answer:
    """Read a response, at most 64 KiB of its body.

    Raises:
        aiohttp.ClientError: the body broke off.
        TimeoutError: it took longer than the request's timeout.
    """
    body, truncated = await _read_body(response.content)
    return Answer(
        reply=Reply(
            status=response.status,
            headers=_kept_headers(response),
            body=_decode(body, response.charset, final=not truncated),
            truncated=truncated,
            url=str(response.url),
        ),
        retry_after=response.headers.get("Retry-After"),
    )


def judge(answer: Answer, *, request: str, now: datetime) -> Reply:
    """The reply when its status is 2xx.

    Args:
        answer: The answer.
        request: The method and the URL, for the reason.
        now: What a date in Retry-After is counted from.

    Raises:
        Retry: 408, 429 or 5xx, after the time that the answer asks for.
        Fail: any other status.
    """
    reply = answer.reply
    status = reply["status"]
    if 200 <= status < 300:
        return reply
    snippet = " ".join(reply["body"].split())[:MAX_SNIPPET]
    reason = f"{request} answered {status}" + (f": {snippet}" if snippet else "")
    if status in _RETRIED or status >= 500:
        delay = parse_retry_after(answer.retry_after, now=now)
        raise Retry(None if delay is None else delay.total_seconds(), reason)
    raise Fail(reason)


async def _read_body(content: aiohttp.StreamReader) -> tuple[bytes, bool]:
    """The start of the body, and whether there is more; one byte over the limit is read to know."""
    body = bytearray()
    while len(body) <= MAX_BODY_BYTES:
        chunk = await content.read(MAX_BODY_BYTES + 1 - len(body))
        if not chunk:
            return bytes(body), False
        body += chunk
    return bytes(body[:MAX_BODY_BYTES]), True


def _decode(body: bytes, charset: str | None, *, final: bool) -> str:
    """Text in the charset that the answer names when it is a usual one, else in UTF-8.

    Only usual ones: Python's codecs include some that are no character sets, or quadratic in the length (punycode).
    """
    try:
        name = codecs.lookup(charset or "utf-8").name
    except (LookupError, ValueError):
        name = "utf-8"
    decoder = codecs.getincrementaldecoder(name if _TEXT_CODECS.fullmatch(name) else "utf-8")("replace")
    return decoder.decode(body, final)


def _kept_headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    kept: dict[str, str] = {}
    chars = 0
    for name, value in response.headers.items():
        chars += len(name) + len(value)
        if chars > MAX_HEADER_CHARS:
            break
        key = storable(name.lower(), len(name))
        text = storable(value, len(value))
        kept[key] = f"{kept[key]}, {text}" if key in kept else text
    return kept
