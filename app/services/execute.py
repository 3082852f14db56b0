"""Runs the handler of one attempt and says how it ended. The only place that calls a user's code."""

import asyncio
import logging
import traceback
from contextvars import copy_context
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Any

from pydantic import ValidationError

from app.core import limits
from app.core.attempt import Attempt
from app.core.clock import utc_now
from app.core.errors import UnusableResult
from app.core.ids import TaskId
from app.core.outcomes import Cancelled, Completed, ErrorCode, Fail, Failed, Failure, Outcome, Released, Retry
from app.core.task_type import TaskType
from app.core.text import storable
from app.services.context import Context
from app.services.handler_child import Crashed
from app.services.handler_pools import HandlerPools, HandlerRaised
from app.services.result import keepable

logger = logging.getLogger(__name__)

STOP_PATIENCE_S = 5.0
"""How long a handler may take to end after it was interrupted, before it is left behind."""


class Interruption(StrEnum):
    """Why a handler was stopped from outside."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"  # a client asked for it
    SHUTDOWN = "shutdown"  # the grace is over
    LEASE_LOST = "lease lost"  # another worker has the task; nothing more may be recorded


class Execution:
    """One handler at work.

    Attributes:
        attempt: What it works on.
        context: What the handler was given.
    """

    def __init__(self, attempt: Attempt, task_type: TaskType, context: Context, *, pools: HandlerPools) -> None:
        self.attempt = attempt
        self.context = context
        self._type = task_type
        self._pools = pools
        self._turn = asyncio.Event() if task_type.in_process else None
        self._handler: asyncio.Future[Any] | None = None
        self._interruption: Interruption | None = None

    def interrupt(self, why: Interruption) -> None:
        """Stop the handler; the first reason counts."""
        if self._interruption is None:
            self._interruption = why
            self.context.stop()
            if self._handler is not None:
                self._handler.cancel()

    async def outcome(self, *, max_result_bytes: int) -> Outcome | None:
        """Run the handler to its end; None when the lease was lost and there is nothing to record."""
        try:
            payload = self._type.payload.validate_python(self.attempt.payload)
        except ValidationError as error:
            return Failed(_failure(ErrorCode.INVALID_PAYLOAD, f"{self.attempt.type} refuses the payload: {error}"))
        if self._interruption is None:
            self._handler = asyncio.ensure_future(self._call(payload))
            if self._turn is not None:
                await _either(self._handler, self._turn)
            await asyncio.wait({self._handler}, timeout=self.attempt.timeout.total_seconds())
            if not self._handler.done():
                self.interrupt(Interruption.TIMEOUT)
                await asyncio.wait({self._handler}, timeout=STOP_PATIENCE_S)
        return self._judge(max_result_bytes)

    @property
    def waits(self) -> bool:
        """Whether it waits for a process; its timeout counts from when it has one."""
        return self._turn is not None and not self._turn.is_set()

    async def _call(self, payload: Any) -> Any:
        try:
            if self._turn is not None:
                return await self._pools.processes.run(self.attempt.payload, self.context, self._turn.set)
            if self._type.is_async:
                return await self._type.handler(self.context, payload)
            loop = asyncio.get_running_loop()
            run = partial(copy_context().run, self._type.handler, self.context, payload)
            return await loop.run_in_executor(self._pools.threads, run)
        except (SystemExit, KeyboardInterrupt) as error:
            # In a task of the loop these would end the worker and with it every other task.
            raise RuntimeError(f"the handler raised {error!r}") from error

    def _judge(self, max_result_bytes: int) -> Outcome | None:
        if self._interruption is Interruption.LEASE_LOST:
            return None
        if self._handler is None or not self._handler.done() or self._handler.cancelled():
            return self._interrupted()
        if self._interruption is Interruption.TIMEOUT:
            return self._timed_out()
        return self._ended(self._handler, max_result_bytes)

    def _ended(self, handler: asyncio.Future[Any], max_result_bytes: int) -> Outcome:
        delay = None
        try:
            return Completed(keepable(handler.result(), max_bytes=max_result_bytes))
        except Fail as fail:
            return Failed(_failure(ErrorCode.PERMANENT, fail.reason))
        except Retry as retry:
            delay = None if retry.delay is None else min(timedelta(seconds=retry.delay), limits.MAX_DELAY)
            failure = _failure(ErrorCode.RETRY_REQUESTED, retry.reason)
        except UnusableResult as unusable:
            failure = _failure(ErrorCode(unusable.code), str(unusable))
        except Crashed as crash:
            failure = _failure(ErrorCode.CRASHED, str(crash))
        except HandlerRaised as raised:
            failure = _failure(ErrorCode.HANDLER_ERROR, raised.message, raised.trace or None)
        except Exception as error:  # noqa: BLE001 - a user's code may raise anything
            failure = failure_of(error)
        return self.attempt.outcome_of_failure(failure, now=utc_now(), delay=delay)

    def _interrupted(self) -> Outcome:
        if self._handler is not None and not self._handler.done():
            logger.warning(
                "Handler of %s task %s did not stop",
                self.attempt.type,
                self.attempt.task_id,
                extra={"event": "handler_stuck"},
            )
        match self._interruption:
            case Interruption.CANCEL:
                return Cancelled()
            case Interruption.SHUTDOWN:
                return Released(utc_now())
            case Interruption.TIMEOUT:
                return self._timed_out()
            case _:
                failure = _failure(ErrorCode.HANDLER_ERROR, "the handler cancelled itself")
                return self.attempt.outcome_of_failure(failure, now=utc_now())

    def _timed_out(self) -> Outcome:
        seconds = self.attempt.timeout.total_seconds()
        failure = _failure(ErrorCode.TIMED_OUT, f"the handler ran longer than {seconds:g} s")
        return self.attempt.outcome_of_failure(failure, now=utc_now())


class Executions:
    """The handlers that a worker runs at the moment."""

    def __init__(self) -> None:
        self._executions: dict[TaskId, Execution] = {}

    def __len__(self) -> int:
        return len(self._executions)

    def add(self, execution: Execution) -> None:
        """It is about to run."""
        self._executions[execution.attempt.task_id] = execution

    def remove(self, execution: Execution) -> None:
        """It is over; a later attempt at the same task stays."""
        if self._executions.get(execution.attempt.task_id) is execution:
            del self._executions[execution.attempt.task_id]

    def all(self) -> list[Execution]:
        """What runs now."""
        return list(self._executions.values())

    def interrupt(self, task_id: TaskId, why: Interruption) -> None:
        """Stop the handler of a task, if it runs here."""
        execution = self._executions.get(task_id)
        if execution is not None:
            execution.interrupt(why)

    def interrupt_attempt(self, attempt: Attempt, why: Interruption) -> None:
        """Stop the handler of one attempt, and not that of a later one at the same task."""
        execution = self._executions.get(attempt.task_id)
        if execution is not None and execution.attempt.token == attempt.token:
            execution.interrupt(why)

    def interrupt_all(self, why: Interruption) -> None:
        """Stop every handler."""
        for execution in self.all():
            execution.interrupt(why)


async def _either(handler: "asyncio.Future[Any]", turn: asyncio.Event) -> None:
    waiting = asyncio.ensure_future(turn.wait())
    await asyncio.wait({handler, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


def _failure(code: ErrorCode, message: str, trace: str | None = None) -> Failure:
    return Failure(code, storable(str(message), limits.MAX_ERROR_MESSAGE), trace)


def failure_of(error: Exception) -> Failure:
    """What is kept of an exception that a handler raised."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    trace = "".join(traceback.format_exception(error))[-limits.MAX_TRACEBACK :]
    return _failure(ErrorCode.HANDLER_ERROR, text, storable(trace, limits.MAX_TRACEBACK))
