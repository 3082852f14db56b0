"""Makes one HTTP call and lets the answer decide how the attempt ends."""

from collections.abc import Mapping

import aiohttp
from pydantic import JsonValue
from yarl import URL

from app.core.clock import utc_now
from app.core.outcomes import Fail, Retry
from app.core.text import storable
from app.tasks.http_guard import CONNECT_TIMEOUT_S, AddressRefused
from app.tasks.http_reply import Reply, judge, read_answer

MAX_REDIRECTS = 5
MAX_SHOWN_URL = 300  # characters of the URL in a reason
MAX_SHOWN_ERROR = 200  # characters of a network error in a reason


async def call(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    json: JsonValue = None,
    data: str | bytes | None = None,
    allow_redirects: bool,
    timeout_s: float | None = None,
) -> Reply:
    """Call a URL and return the answer when its status is 2xx.

    Args:
        session: The guarded one where a client chose the URL.
        method: The method.
        url: Where to.
        headers: Request headers.
        json: The body, unless it is None or there is `data`.
        data: The body as it is.
        allow_redirects: Whether to follow up to 5 redirects; otherwise a 3xx is an answer like any other.
        timeout_s: Seconds for the whole exchange, or None for as long as the attempt may take.

    Raises:
        Retry: 408, 429, 5xx, a network error or a timeout.
        Fail: any other answer, an address that the guard refuses, or a redirect that leads nowhere.
    """
    request = f"{method} {_shown(url)}"
    try:
        async with session.request(
            method,
            URL(url),
            headers=headers,
            json=json,
            data=data,
            allow_redirects=allow_redirects,
            max_redirects=MAX_REDIRECTS + 1,  # aiohttp 3.14 gives up on the redirect of this number, unfollowed
            timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S),
        ) as response:
            answer = await read_answer(response)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _what_to_do(error, request) from error
    return judge(answer, request=request, now=utc_now())


def _what_to_do(error: Exception, request: str) -> Retry | Fail:
    match error:
        case TimeoutError():
            while_connecting = " while connecting" if isinstance(error, aiohttp.ConnectionTimeoutError) else ""
            return Retry(None, f"{request} timed out{while_connecting}")
        case aiohttp.TooManyRedirects():
            return Fail(f"{request} was redirected more than {MAX_REDIRECTS} times")
        case aiohttp.ClientConnectorError(__cause__=AddressRefused() as refused):
            return Fail(f"{request} is not allowed: {refused.strerror}")
        case aiohttp.ClientConnectorError():
            return Retry(None, f"{request} failed: {_describe(error)}")
        case ValueError() | aiohttp.NonHttpUrlClientError():
            # A ValueError as aiohttp's InvalidURL or its refusal to add a redirect's credentials to a header of the
            # request; a bad certificate is one as well, but a ClientConnectorError first.
            return Fail(f"{request} led to a URL that cannot be called: {type(error).__name__}")
        case _:
            return Retry(None, f"{request} failed: {_describe(error)}")


def _shown(url: str) -> str:
    """The URL for a reason: without the query, which may hold secrets."""
    return storable(str(URL(url).with_query(None).with_fragment(None)), MAX_SHOWN_URL)


def _describe(error: Exception) -> str:
    """What went wrong, without the URL: aiohttp's own text of a ClientResponseError has it with the query."""
    if isinstance(error, aiohttp.ClientResponseError):
        text = error.message
    elif isinstance(error, aiohttp.ClientConnectorError):
        text = str(error.__cause__ or error)
    else:
        text = str(error)
    return storable(" ".join(text.split()) or type(error).__name__, MAX_SHOWN_ERROR)
