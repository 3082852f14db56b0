"""A worker process of a system: `python -m bench.engine.workers OPTIONS`, the options as JSON.

It says that it is ready on its standard output, starts at a line on its standard input and stops at the end of that
input. Then it says how many jobs it has run and, when asked to keep them, when each was started.
"""

import asyncio
import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, cast

import uvloop
from arq.connections import ArqRedis
from arq.typing import WorkerCoroutine
from arq.worker import Worker, func
from redis.asyncio import ConnectionPool

from app.queue import keys
from app.queue.connect import open_redis
from app.queue.signals import Signals
from app.queue.task_queue import TaskQueue
from app.queue.worker import LeasedWorker
from app.tasks.http_guard import open_http_access
from bench.engine.runners import EmptyRunner, Record, WrappedRunner
from bench.engine.systems import FUNCTION, QUEUE

LEASE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Options:
    """What a worker process is told.

    Attributes:
        redis_url: Where its queue is.
        is_arq: Stock arq, or Arqive's loop.
        slots: Jobs that it runs at the same time.
        poll_s: Seconds between stock arq's looks.
        use_uvloop: Or asyncio's own loop.
        wrap: Whether to call the job as a user's handler is called.
        keep_starts: Whether to say when each job was started.
    """

    redis_url: str
    is_arq: bool
    slots: int
    poll_s: float
    use_uvloop: bool = True
    wrap: bool = False
    keep_starts: bool = False

    def to_json(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


async def main(options: Options) -> None:
    """Be ready, wait, work until the end of the input, report."""
    record = Record(keep_starts=options.keep_starts)
    go, stop = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_reader(0, _on_input, go, stop)
    await (_work_as_arq if options.is_arq else _work_as_arqive)(options, record, go, stop)
    print(json.dumps({"count": record.count, "starts": record.starts}), flush=True)


def _on_input(go: asyncio.Event, stop: asyncio.Event) -> None:
    if os.read(0, 64):
        go.set()
    else:
        asyncio.get_running_loop().remove_reader(0)
        go.set()
        stop.set()


async def _ready(go: asyncio.Event) -> None:
    print("ready", flush=True)
    await go.wait()


async def _work_as_arqive(options: Options, record: Record, go: asyncio.Event, stop: asyncio.Event) -> None:
    """Wire the loop as app/worker.py does."""
    async with open_redis(options.redis_url) as redis, open_http_access(allow_private=False) as http:
        queue = TaskQueue(redis)
        runner = WrappedRunner(queue, record, http) if options.wrap else EmptyRunner(queue, record)
        loop = LeasedWorker(queue, runner, names=(QUEUE,), concurrency=options.slots, lease=LEASE)
        callbacks = {keys.wake_channel(QUEUE): loop.wake_at, keys.CANCEL_CHANNEL: lambda _: None}
        signals = Signals(redis, callbacks, on_connect=loop.wake)
        await queue.ping()
        await _ready(go)
        listening = asyncio.create_task(signals.run())
        claiming = asyncio.create_task(loop.main())
        await stop.wait()
        loop.stop_claiming()
        await claiming
        await loop.drain(grace_s=5)
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening


async def _work_as_arq(options: Options, record: Record, go: asyncio.Event, stop: asyncio.Event) -> None:
    async def noop(context: dict[Any, Any]) -> None:
        record.started(context["job_id"])

    pool: ConnectionPool = ConnectionPool.from_url(options.redis_url)
    redis = ArqRedis(pool)
    worker = Worker(
        [func(cast("WorkerCoroutine", noop), name=FUNCTION)],
        redis_pool=redis,
        max_jobs=options.slots,
        poll_delay=options.poll_s,
        keep_result=0,
        handle_signals=False,
    )
    await redis.ping()
    await _ready(go)
    working = asyncio.create_task(worker.main())
    await stop.wait()
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working
    await worker.close()


if __name__ == "__main__":
    _options = Options(**json.loads(sys.argv[1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if _options.use_uvloop else None) as _runner:
        _runner.run(main(_options))
