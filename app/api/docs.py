"""GET /openapi.json, and a page to read it with that needs nothing from anywhere else."""

from importlib.resources import files

from aiohttp import web

from app.api.endpoint import Reply
from app.api.keys import OPENAPI

_STATIC = files("app.api") / "static"
_PAGE = (_STATIC / "docs.html").read_bytes()
_SCRIPT = (_STATIC / "docs.js").read_bytes()
_STYLE = (_STATIC / "docs.css").read_bytes()

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}


async def get_openapi(request: web.Request) -> Reply:
    """The OpenAPI document."""
    return Reply(request.app[OPENAPI])


async def get_docs() -> Reply:
    """The page."""
    return Reply(_PAGE, headers=_HEADERS, media_type="text/html")


async def get_docs_script() -> Reply:
    """Its script."""
    return Reply(_SCRIPT, headers=_HEADERS, media_type="text/javascript")


async def get_docs_style() -> Reply:
    """Its style."""
    return Reply(_STYLE, headers=_HEADERS, media_type="text/css")
