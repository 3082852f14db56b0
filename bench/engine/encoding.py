"""Whether a faster JSON library pays where jobs are put into Redis."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

import orjson
from arq.connections import ArqRedis

from app.core.clock import utc_now
from app.core.ids import TaskId
from app.queue.task_queue import Entry, TaskQueue
from bench.engine.systems import new_job_id

IDS = 1000


@dataclass(frozen=True, slots=True)
class EncodingCost:
    """Milliseconds for 1,000 ids (medians): to encode their job bodies with either library, and to dispatch them."""

    json_ms: float
    orjson_ms: float
    dispatch_ms: float


async def measure_encoding(redis: ArqRedis, *, rounds: int) -> EncodingCost:
    """Encode and dispatch a thousand ids again and again."""
    ids = [new_job_id() for _ in range(IDS)]
    run_at = utc_now() + timedelta(hours=1)
    queue = TaskQueue(redis)
    dispatches = []
    for _ in range(rounds):
        started = time.perf_counter()
        await queue.dispatch(Entry(job_id, "encoding", run_at, 0) for job_id in ids)
        dispatches.append(time.perf_counter() - started)
    return EncodingCost(
        json_ms=_encode_ms(_with_json, ids, rounds),
        orjson_ms=_encode_ms(orjson.dumps, ids, rounds),
        dispatch_ms=median(dispatches) * 1000,
    )


def _with_json(body: dict[str, object]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _encode_ms(encode: Callable[[dict[str, object]], bytes], ids: list[TaskId], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        for job_id in ids:
            encode({"t": None, "f": "task", "a": [job_id], "k": {}, "et": 1_700_000_000_000})
        times.append(time.perf_counter() - started)
    return median(times) * 1000
