"""What an application carries, each under a typed key."""

from aiohttp import web

from app.services.backend import Backend

BACKEND = web.AppKey("backend", Backend)
"""What the handlers work on; open while the application runs."""

RESTRICTED = web.AppKey("restricted", bool)
"""Whether API keys are needed."""

OPENAPI = web.AppKey("openapi", bytes)
"""The OpenAPI document as it is served."""
