"""The type `callback.deliver`: tells a client's URL how a task ended, signed as Standard Webhooks say.

The worker makes these tasks itself; clients cannot submit them. The receiver sees `webhook-id`, the id of this task
and so the same in every attempt, `webhook-timestamp`, the second of this attempt, and `webhook-signature`, one
signature for each secret. Redirects are not followed.
"""

from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json

from app.core.backoff import Backoff
from app.core.callbacks import DELIVER_TYPE
from app.core.clock import utc_now
from app.core.outcomes import Retry
from app.services.context import Context
from app.tasks.http_call import call
from app.tasks.registry import task

BACKOFF = Backoff(base=timedelta(seconds=10), factor=3.0, max=timedelta(hours=4))
"""With 10 attempts up to 11 hours, about half of that with the jitter."""


class Delivery(BaseModel):
    """What to send, and where to.

    Attributes:
        url: Where to.
        event: `task.` and the status.
        timestamp: When the task ended, RFC 3339.
        data: The task.
    """

    url: str
    event: str
    timestamp: str
    data: dict[str, Any]


@task(DELIVER_TYPE, max_attempts=10, timeout=30, backoff=BACKOFF, internal=True)
async def deliver(ctx: Context, payload: Delivery) -> dict[str, int]:
    """POST the end of a task to the URL that its client gave."""
    if ctx.http.signer is None:
        raise Retry(None, "CALLBACK_SECRETS is not set for this worker")
    body = to_json({"type": payload.event, "timestamp": payload.timestamp, "data": payload.data})
    headers = {
        **ctx.http.signer.headers(ctx.task_id, body, now=utc_now()),
        "Content-Type": "application/json",
        "Arqive-Attempt": str(ctx.attempt),
    }
    reply = await call(ctx.http.guarded, "POST", payload.url, headers=headers, data=body, allow_redirects=False)
    return {"status": reply["status"]}
