"""The type `http.request`: calls a URL, so that a service in any language can be the worker.

The answer decides how the attempt ends. 2xx completes the task with `{status, headers, body, truncated, url}`. 408,
429, 5xx, network errors and timeouts are tried again, after `Retry-After` where the answer has it, else after the
task's backoff. Every other status fails the task at once, and so does an address that the guard refuses.

The callee sees `User-Agent: arqive/VERSION`, `Arqive-Task-Id`, which is the same in every attempt and so the key to be
idempotent with, and `Arqive-Attempt`, which counts from 1.

Redirects are followed up to 5 times as browsers do it: 303, and 301 and 302 after a POST, turn into a GET without a
body; others repeat the request. `Authorization` and `Cookie` are not sent on to another origin.
"""

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from app.core import limits
from app.core.http_url import SoundUrl
from app.services.context import Context
from app.tasks.http_call import MAX_REDIRECTS, call
from app.tasks.http_reply import Reply
from app.tasks.registry import task

MAX_HEADERS = 64
MAX_HEADER_VALUE = 8_000  # characters

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OWN_HEADERS = frozenset({"arqive-task-id", "arqive-attempt"})
# What belongs to the connection or follows from the URL and the body: a client that set them could split or smuggle
# requests, or reach a host that the URL does not name.
_CONNECTION_HEADERS = frozenset(
    {
        "connection", "content-length", "expect", "host", "http2-settings", "keep-alive", "proxy-authenticate",
        "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip


class HttpRequest(BaseModel):
    """The request to make."""

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = Field("POST", description="The method.")
    url: SoundUrl = Field(description="Where to; http or https, without credentials (those go into `headers`).")
    headers: dict[str, str] = Field(
        default_factory=dict, max_length=MAX_HEADERS, description="Request headers; not those of the connection."
    )
    json_body: JsonValue = Field(
        None, alias="json", description="A body to send as JSON; null sends none. Excludes `body`."
    )
    body: str | None = Field(
        None, description="A body to send as it is, UTF-8, text/plain unless `headers` say otherwise."
    )
    timeout: float | None = Field(
        None,
        gt=0,
        le=limits.MAX_TIMEOUT.total_seconds(),
        allow_inf_nan=False,
        description="Seconds for the whole exchange, redirects included. The attempt's own timeout ends it anyway.",
    )
    follow_redirects: bool = Field(
        default=True, description=f"Whether to follow up to {MAX_REDIRECTS} redirects; otherwise a 3xx fails."
    )

    @field_validator("headers")
    @classmethod
    def _sound_headers(cls, value: dict[str, str]) -> dict[str, str]:
        seen: set[str] = set()
        for name, text in value.items():
            lowered = name.lower()
            if not _TOKEN.fullmatch(name):
                raise ValueError(f"{name[:100]!r} is not a header name")
            if lowered in _CONNECTION_HEADERS or lowered in _OWN_HEADERS:
                raise ValueError(f"{name} is set by Arqive and cannot be chosen")
            if lowered in seen:
                raise ValueError(f"{name} is given twice")
            if _CONTROL.search(text) or len(text) > MAX_HEADER_VALUE:
                raise ValueError(
                    f"the value of {name} has control characters or more than {MAX_HEADER_VALUE} characters"
                )
            seen.add(lowered)
        return value

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if self.json_body is not None and self.body is not None:
            raise ValueError("json and body exclude each other")
        if self.method in {"GET", "HEAD"} and (self.json_body is not None or self.body is not None):
            raise ValueError(f"a {self.method} request has no body")
        return self


@task("http.request", max_attempts=5, timeout=60)
async def http_request(ctx: Context, payload: HttpRequest) -> Reply:
    """Call a URL; 2xx completes, 408, 429, 5xx and network errors are tried again, other answers fail."""
    headers = {**payload.headers, "Arqive-Task-Id": ctx.task_id, "Arqive-Attempt": str(ctx.attempt)}
    return await call(
        ctx.http.guarded,
        payload.method,
        payload.url,
        headers=headers,
        json=payload.json_body,
        data=payload.body,
        allow_redirects=payload.follow_redirects,
        timeout_s=payload.timeout,
    )
