"""Tasks on their way to the service, alone and in bulk."""

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from itertools import chain
from typing import Annotated, Any, TypedDict

from pydantic import BaseModel, Field, TypeAdapter

from app.callback_models import CallbackRequest
from app.client.accepted import AcceptedAs, AcceptedTask, accepted
from app.client.connection import Connection, encode
from app.client.errors import Problem, RequestFailed, error_of, read_error
from app.core import limits
from app.core.backoff import Backoff
from app.core.errors import FieldError
from app.models import BackoffModel, Submission, Task

CHUNK_BYTES = 900_000
"""A body of bulk is no longer, unless one task alone is: MAX_BODY_BYTES is 1 MiB where nobody has set another."""

Payload = Mapping[str, Any] | BaseModel
NewTask = Submission | Mapping[str, Any]
"""A task to submit, checked here or not."""

TASK = TypeAdapter(Task)


class TaskOptions(TypedDict, total=False):
    """How a task is run; what is left out takes the default of the type. See `POST /tasks`."""

    queue: str
    priority: int
    run_at: datetime
    delay: float | timedelta
    max_attempts: int
    timeout: float | timedelta
    backoff: Backoff | BackoffModel | Mapping[str, float | bool]
    start_before: datetime
    tags: Iterable[str]
    callback: CallbackRequest | Mapping[str, Any]
    unique_key: str


class BulkItems(BaseModel):
    """What became of each task of one chunk, in order.

    Attributes:
        items: The task, or what is wrong.
        replayed: Positions of those whose idempotency key says that they had been submitted before.
        existing: Positions of those whose unique key an unfinished task has.
    """

    items: list[Annotated[Task | Problem, Field(union_mode="left_to_right")]]
    replayed: frozenset[int] = frozenset()
    existing: frozenset[int] = frozenset()


_BULK_ITEMS = TypeAdapter(BulkItems)
_UNPROCESSABLE = frozenset({HTTPStatus.UNPROCESSABLE_ENTITY.value})
_POSITION = re.compile(r"^\[\d+\]\.?")


def encode_task(task: NewTask) -> bytes:
    """The task as JSON; what a Submission leaves out stays out."""
    return encode(task.model_dump(exclude_unset=True) if isinstance(task, Submission) else task)


def with_options(task_type: str, payload: Payload | None, options: TaskOptions) -> dict[str, Any]:
    """The body of POST /tasks."""
    body: dict[str, Any] = {"type": task_type, **options}
    if payload is not None:
        body["payload"] = payload
    if "tags" in options:
        body["tags"] = list(options["tags"])
    return body


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some tasks that one request takes.

    Attributes:
        tasks: Each encoded.
        keyed: Of each, whether it has an idempotency key of its own.
    """

    tasks: tuple[bytes, ...]
    keyed: tuple[bool, ...]

    @property
    def body(self) -> bytes:
        """The body of POST /tasks/bulk."""
        return b"[" + b",".join(self.tasks) + b"]"

    def halves(self) -> tuple["Chunk", "Chunk"]:
        """The same tasks for two requests."""
        middle = len(self.tasks) // 2
        return (
            Chunk(self.tasks[:middle], self.keyed[:middle]),
            Chunk(self.tasks[middle:], self.keyed[middle:]),
        )


def chunks(tasks: Iterable[NewTask]) -> Iterator[Chunk]:
    """The tasks in order, as few requests as the service's limits allow."""
    gathered: list[bytes] = []
    keyed: list[bool] = []
    size = 0
    for task in tasks:
        encoded = encode_task(task)
        if gathered and (len(gathered) == limits.MAX_BULK or size + len(encoded) > CHUNK_BYTES):
            yield Chunk(tuple(gathered), tuple(keyed))
            gathered, keyed, size = [], [], 0
        gathered.append(encoded)
        keyed.append(_has_key(task))
        size += len(encoded) + 1
    if gathered:
        yield Chunk(tuple(gathered), tuple(keyed))


def _has_key(task: NewTask) -> bool:
    key = task.idempotency_key if isinstance(task, Submission) else task.get("idempotency_key")
    return key is not None


async def submit_chunks(
    connection: Connection, tasks: Iterable[NewTask]
) -> AsyncIterator[list[AcceptedTask | RequestFailed]]:
    """Submit the tasks chunk by chunk; for each chunk what became of its tasks, in order.

    The first request that fails as a whole is the last one: its error stands for every task from there on.
    """
    remaining = chunks(tasks)
    for chunk in remaining:
        try:
            outcomes = await _submit_chunk(connection, chunk)
        except RequestFailed as error:
            for unsent in chain([chunk], remaining):
                yield [error] * len(unsent.tasks)
            return
        yield outcomes


async def _submit_chunk(connection: Connection, chunk: Chunk) -> list[AcceptedTask | RequestFailed]:
    answer = await connection.request(
        "POST",
        "/tasks/bulk",
        body=chunk.body,
        headers=connection.submission_headers(),
        also=_UNPROCESSABLE | {HTTPStatus.REQUEST_ENTITY_TOO_LARGE},
    )
    if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        error = read_error(answer.status, answer.headers, answer.body)
        if len(chunk.tasks) == 1:
            return [error]
        first, second = chunk.halves()
        return [*await _submit_chunk(connection, first), *await _submit_chunk(connection, second)]
    if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY and b'"items"' not in answer.body[:20]:
        raise read_error(answer.status, answer.headers, answer.body)  # of the request as a whole
    result = answer.read(_BULK_ITEMS)
    return [
        accepted(item, _how(result, position, own_key=own_key))
        if isinstance(item, Task)
        else _refusal(item, answer.headers)
        for position, (item, own_key) in enumerate(zip(result.items, chunk.keyed, strict=True))
    ]


def _how(result: BulkItems, position: int, *, own_key: bool) -> AcceptedAs:
    if position in result.existing:
        return AcceptedAs.EXISTING
    # Without a key of the caller's it has one of this request, whose first try has made it then.
    return AcceptedAs.REPLAYED if own_key and position in result.replayed else AcceptedAs.NEW


def _refusal(problem: Problem, headers: Mapping[str, str]) -> RequestFailed:
    """What is wrong with one task, its fields named as in a submission of its own."""
    named = tuple(FieldError(_POSITION.sub("", bad.field) or "body", bad.message) for bad in problem.errors or ())
    return error_of(problem.model_copy(update={"errors": named or None}), headers)
