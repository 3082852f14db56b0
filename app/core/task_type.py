"""What is known of a task type: its name, its code and its defaults."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter

from app.core.backoff import Backoff

Handler = Callable[..., Any]
"""`async def handler(ctx, payload) -> result`, or the same without async, which then runs in a thread or a process."""


@dataclass(frozen=True, slots=True)
class TaskType:
    """A registered type.

    Attributes:
        name: What clients write in `type`.
        handler: The code; takes a context and the validated payload.
        payload: Validates the payload and knows its JSON schema.
        is_async: Whether the handler is a coroutine function; otherwise it runs in a thread or a process.
        summary: The first line of the handler's docstring, for `GET /types`.
        max_attempts: Unless the task says otherwise.
        timeout: Unless the task says otherwise.
        backoff: Unless the task says otherwise.
        in_process: Whether the handler runs in a process of its own.
        internal: Whether only Arqive itself makes tasks of it: clients neither see nor submit it.
    """

    name: str
    handler: Handler
    payload: TypeAdapter[Any]
    is_async: bool
    summary: str = ""
    max_attempts: int = 5
    timeout: timedelta = timedelta(seconds=60)
    backoff: Backoff = field(default_factory=Backoff)
    in_process: bool = False
    internal: bool = False


TaskTypes = Mapping[str, TaskType]
"""The registered types by name."""
