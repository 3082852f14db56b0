"""Everything that Arqive itself raises: one root, a stable `code` each, and no word about HTTP.

The codes appear in problem documents and in the `error.code` of a task; clients branch on them, so they never change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong with one field.

    Attributes:
        field: Dotted path from the top of the body or the name of the query parameter, such as `payload.to`.
        message: What is wrong, for a person.
    """

    field: str
    message: str


class ArqiveError(Exception):
    """The root. `str(error)` is a sentence that may be shown to a client."""

    code: ClassVar[str] = "internal_error"


class Invalid(ArqiveError):  # noqa: N818 - named for what the input is
    """The request is well-formed but says something that cannot be accepted; carries every bad field."""

    code = "invalid"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in self.errors))


class IdempotencyKeyReused(Invalid):
    """The idempotency key belongs to a task that was submitted with another body."""

    code = "idempotency_key_reused"

    def __init__(self, key: str, task_id: str) -> None:
        super().__init__([FieldError("idempotency_key", f"{key!r} was used with another body, for the task {task_id}")])


class TaskNotFound(ArqiveError):  # noqa: N818 - a fact about the task
    """No task has this id."""

    code = "task_not_found"

    def __init__(self, task_id: str) -> None:
        super().__init__(f"There is no task with the id {task_id[:64]!r}.")


class ScheduleNotFound(ArqiveError):  # noqa: N818 - a fact about the schedule
    """No schedule has this name."""

    code = "schedule_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no schedule with the name {name[:64]!r}.")


class QueueNotFound(ArqiveError):  # noqa: N818 - a fact about the queue
    """No queue has this name: no task was ever put in it, nothing is set on it, and no worker serves it."""

    code = "queue_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no queue with the name {name[:100]!r}.")


class WrongState(ArqiveError):  # noqa: N818 - a fact about the task
    """The task is in a state from which the transition asked for does not start."""

    code = "wrong_state"

    def __init__(self, *, verb: str, status: str, needed: Sequence[str]) -> None:
        self.status = status
        super().__init__(f"Cannot {verb} a task that is {status}; it must be {' or '.join(needed)}.")


class UniqueKeyTaken(ArqiveError):  # noqa: N818 - a fact about the task
    """Another task that has not ended has the unique key of this one."""

    code = "unique_key_taken"

    def __init__(self, key: str, holder: str) -> None:
        self.holder = holder
        super().__init__(f"The task {holder} has the unique key {key!r} and has not ended.")


class StoreUnavailable(ArqiveError):  # noqa: N818 - a fact about the store
    """MongoDB did not answer, or answered that it cannot serve now. Nothing is promised about the write."""

    code = "store_unavailable"


class StoreRefused(ArqiveError):  # noqa: N818 - a fact about the document
    """MongoDB is there and does not take what it was given: a document too large, a value it has no type for."""

    code = "store_refused"


class QueueUnavailable(ArqiveError):  # noqa: N818 - a fact about the queue
    """Redis did not answer in time. The truth is in MongoDB: what is missing here is caught up later."""

    code = "queue_unavailable"


class TooManyStreams(ArqiveError):  # noqa: N818 - a fact about the process
    """This process serves as many streams of events as it may."""

    code = "too_many_streams"

    def __init__(self, limit: int) -> None:
        super().__init__(f"This process serves {limit:,} streams of events already, which is the most it may.")


class TaskTypeError(ArqiveError):
    """A task type is registered wrongly: a bad name, a name taken, a handler of the wrong shape."""

    code = "bad_task_type"


class TaskModuleError(ArqiveError):
    """A module named in TASK_MODULES cannot be imported."""

    code = "bad_task_module"


class BadServerUrl(ArqiveError):  # noqa: N818 - a fact about the setting
    """The URL of MongoDB or Redis is one that its client cannot use: `str(error)` begins with the setting's name."""

    code = "bad_server_url"

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(f"{setting}: {reason}")


class UnusableResult(ArqiveError):  # noqa: N818 - a fact about the result
    """What a handler returned cannot be kept: not JSON, or too large. `code` says which."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code  # type: ignore[misc]
        super().__init__(message)
