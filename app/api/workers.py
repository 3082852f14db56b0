"""GET /workers."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel

from app.api.endpoint import Reply
from app.core.clock import utc_now
from app.services.backend import Backend


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process that is alive.

    Attributes:
        id: Host, process id and a random part.
        queues: What it serves, in order of preference.
        types: The task types that it knows and clients can submit.
        concurrency: The most tasks that it runs at the same time.
        running: Tasks that it ran when it was last seen.
        started_at: Since when it serves.
        seen_at: When it last said that it is alive, which it does every five seconds.
    """

    id: str
    queues: list[str]
    types: list[str]
    concurrency: int
    running: int
    started_at: datetime
    seen_at: datetime


class WorkerList(BaseModel):
    """Every worker that was seen lately, the one that has been there longest first."""

    items: list[Worker]


async def list_workers(backend: Backend) -> Reply:
    """Who serves what."""
    internal = {each.name for each in backend.types.values() if each.internal}
    alive = await backend.workers.alive(now=utc_now(), within=backend.worker_silence)
    workers = [
        Worker(
            id=each["_id"],
            queues=each["queues"],
            types=[name for name in each["types"] if name not in internal],
            concurrency=each["concurrency"],
            running=each["running"],
            started_at=each["started_at"],
            seen_at=each["seen_at"],
        )
        for each in sorted(alive, key=lambda worker: (worker["started_at"], worker["_id"]))
    ]
    return Reply(WorkerList(items=workers))
