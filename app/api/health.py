"""GET /health and its two probes."""

from http import HTTPStatus
from typing import Literal

from aiohttp import web
from pydantic import BaseModel, Field

from app.api.endpoint import Reply
from app.api.keys import RESTRICTED
from app.services.backend import Backend
from app.services.observe import HealthStatus, check_health, check_mongo


class HealthChecks(BaseModel):
    """A line for each part: `ok`, or what is wrong."""

    mongo: str
    redis: str
    workers: str


class HealthReport(BaseModel):
    """How well the service works."""

    status: HealthStatus = Field(description="degraded: tasks are accepted, but run late. down: they are not accepted.")
    checks: HealthChecks
    access: Literal["keys", "open"] = Field(
        description="keys: API keys are needed. open: everybody who can reach the service may do everything."
    )


class Live(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Ready(BaseModel):
    """Whether requests should be sent here."""

    status: Literal["ok", "down"]
    detail: str = Field(description="`ok`, or what is wrong.")


async def get_health(backend: Backend, request: web.Request) -> Reply:
    """The whole and its parts; 503 only when tasks cannot be accepted."""
    health = await check_health(backend)
    checks = HealthChecks(mongo=health.mongo, redis=health.redis, workers=health.workers)
    down = health.status is HealthStatus.DOWN
    return Reply(
        HealthReport(status=health.status, checks=checks, access="keys" if request.app[RESTRICTED] else "open"),
        HTTPStatus.SERVICE_UNAVAILABLE if down else HTTPStatus.OK,
    )


async def get_liveness() -> Reply:
    """For a probe that restarts the process when nothing answers."""
    return Reply(Live(status="ok"))


async def get_readiness(backend: Backend) -> Reply:
    """For a probe that decides whether requests are sent here."""
    detail = await check_mongo(backend)
    if detail != "ok":
        return Reply(Ready(status="down", detail=detail), HTTPStatus.SERVICE_UNAVAILABLE)
    return Reply(Ready(status="ok", detail=detail))
