"""The headers that every answer has, whatever it is about."""

from types import MappingProxyType

from aiohttp import hdrs, web

from app.api.problems import REQUEST_ID, REQUEST_ID_KEY

_HEADERS = MappingProxyType(
    {
        hdrs.CACHE_CONTROL: "no-store",  # answers are about somebody's tasks
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",  # nothing here is a page
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """What the answer does not say for itself."""
    headers = response.headers
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    if REQUEST_ID_KEY in request:
        headers[REQUEST_ID] = request[REQUEST_ID_KEY]
    headers[hdrs.SERVER] = "arqive"  # aiohttp has named itself, Python and both versions
