"""Where the handlers run that are not coroutines: a pool of threads, and one of processes."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from app.core.errors import UnusableResult
from app.core.outcomes import Fail, Retry
from app.services.context import Context
from app.services.frames import Frame
from app.services.handler_child import Child, ProcessSettings, start_child

_THREADS = "handler"

IDLE_THREAD_S = 0.1


class HandlerRaised(Exception):  # noqa: N818 - a fact about the handler
    """The handler raised an exception, which stays in its process; `message` and `trace` tell of it."""

    def __init__(self, message: str, trace: str) -> None:
        self.message = message
        self.trace = trace
        super().__init__(message)


class ProcessPool:
    """Runs handlers in processes.

    A process is started when a handler needs one and none is free, up to `size`; further handlers wait for their turn.

    Args:
        size: How many processes there may be at once.
        settings: What they need to know.
        max_calls: How many handlers one process runs before another takes its place; 0 is any number.
    """

    def __init__(self, size: int, settings: ProcessSettings, *, max_calls: int = 0) -> None:
        self._settings = settings
        self._max_calls = max_calls
        self._turns = asyncio.Semaphore(size)
        self._idle: list[Child] = []
        self._all: set[Child] = set()

    async def run(self, payload: Any, context: Context, on_start: Callable[[], None]) -> Any:
        """Run the handler of the context's type in a process and return its result, plain JSON values.

        Cancelled, it kills the process unless the handler returns within a second; then the process is free.

        Args:
            payload: As it was submitted.
            context: Gets what the handler reports.
            on_start: Called when it is this handler's turn.

        Raises:
            Retry: the handler raised it.
            Fail: the handler raised it.
            UnusableResult: the result cannot be kept.
            HandlerRaised: the handler raised something else.
            Crashed: the process ended before the handler did, or could not start.
        """
        async with self._turns:
            child = await self._child()
            on_start()
            usable = False
            try:
                call = {"type": context.type, "payload": payload, "context": context.to_frame()}
                reply = await child.call(call, context)
                usable = True
            except asyncio.CancelledError:
                usable = await child.stop_politely()
                raise
            finally:
                if usable and not 0 < self._max_calls <= child.calls:
                    self._idle.append(child)
                else:
                    child.kill()
        return _result_of(reply)

    async def _child(self) -> Child:
        while self._idle:
            child = self._idle.pop()  # the one that was used last: its memory is warm
            if child.process.returncode is None:
                return child
        child = await start_child()
        self._all.add(child)
        child.ended.add_done_callback(lambda _: self._all.discard(child))
        ready = False
        try:
            await child.greet(self._settings)
            ready = True
        finally:
            if not ready:
                child.kill()
        return child

    async def close(self) -> None:
        """Kill every process and wait until they have ended."""
        ends = [child.ended for child in self._all]
        for child in list(self._all):
            child.kill()
        if ends:
            await asyncio.wait(ends)


@dataclass(frozen=True, slots=True)
class HandlerPools:
    """Where the handlers run that are not coroutines.

    Attributes:
        threads: Ordinary functions.
        processes: Those with `process=True`.
    """

    threads: Executor
    processes: ProcessPool


@asynccontextmanager
async def open_handler_pools(
    *, threads: int, processes: int, max_calls: int, settings: ProcessSettings
) -> AsyncIterator[HandlerPools]:
    """Pools for one worker; neither starts anything before it is needed.

    Args:
        threads: How many threads there may be.
        processes: How many processes there may be; 0 is one for each core that this process may use.
        max_calls: How many handlers one process runs before another takes its place; 0 is any number.
        settings: What the processes need to know.
    """
    executor = ThreadPoolExecutor(threads, thread_name_prefix=_THREADS)
    pool = ProcessPool(processes or _cores(), settings, max_calls=max_calls)
    try:
        yield HandlerPools(executor, pool)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        await pool.close()


def threads_left() -> int:
    """How many handlers still run in threads once their pool is closed."""
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(_THREADS)]
    for thread in threads:
        thread.join(IDLE_THREAD_S)  # one that runs nothing ends at once
    return sum(thread.is_alive() for thread in threads)


def _cores() -> int:
    """How many this process may use; a container's share of time is not counted, where it is less."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _result_of(reply: Frame) -> Any:
    match reply:
        case {"result": result}:
            return result
        case {"fail": reason}:
            raise Fail(reason)
        case {"retry": {"delay": delay, "reason": reason}}:
            raise Retry(delay, reason)
        case {"unusable": {"code": code, "message": message}}:
            raise UnusableResult(code, message)
        case _:
            raise HandlerRaised(reply["message"], reply["traceback"])
