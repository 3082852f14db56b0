"""The types that every Arqive has: `http.request`, `echo`, `sleep`."""

import asyncio

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.core import limits
from app.services.context import Context
from app.tasks import callback_deliver as _callback_deliver  # noqa: F401 - registers `callback.deliver`
from app.tasks import http_request as _http_request  # noqa: F401 - registers `http.request`
from app.tasks.registry import task


@task("echo", max_attempts=1, timeout=10)
async def echo(_ctx: Context, payload: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the payload."""
    return payload


class Sleep(BaseModel):
    """How long to do nothing."""

    model_config = ConfigDict(extra="forbid")

    seconds: float = Field(1.0, ge=0, le=limits.MAX_TIMEOUT.total_seconds())


@task("sleep", max_attempts=3, timeout=3600)
async def sleep(_ctx: Context, payload: Sleep) -> dict[str, float]:
    """Wait for `seconds`; useful for trying out cancels, timeouts and deploys."""
    await asyncio.sleep(payload.seconds)
    return {"slept": payload.seconds}
