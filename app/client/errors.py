"""What a request can come to instead of an answer: one root, and a class for each that a caller treats differently."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from app.core.clock import utc_now
from app.core.errors import FieldError
from app.core.retry_after import parse_retry_after

if TYPE_CHECKING:
    from app.models import Task

_SHOWN = 200  # characters of an answer that is no problem document


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the service said.

    Attributes:
        status: The HTTP status; 0 where none came.
        code: The problem's stable code, such as `wrong_state`; empty where the answer has none.
        detail: A sentence for a person.
        fields: With `invalid`, every bad field.
        task_status: With `wrong_state`, the state that the task is in.
        holder: With `unique_key_taken`, the id of the task that has the key.
        retry_after: How long the service asks to be left alone.
        request_id: Finds the request in the service's log.
    """

    status: int = 0
    code: str = ""
    detail: str = ""
    fields: tuple[FieldError, ...] = ()
    task_status: str | None = None
    holder: str | None = None
    retry_after: timedelta | None = None
    request_id: str = ""


class RequestFailed(Exception):  # noqa: N818 - a fact about the request
    """The root. `str(error)` is a sentence for a person; `error.refusal` has what the service said.

    Raised as it is for what has no class of its own, such as an internal error of the service.

    Attributes:
        refusal: What the service said.
        doubtful: Whether a try of the request may have reached the service without an answer.
        passing: Whether the same request may succeed later.
    """

    passing = False

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        self.doubtful = refusal.status in {HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT}
        super().__init__(refusal.detail)

    @property
    def code(self) -> str:
        """The problem's stable code; empty where the service did not answer with a problem."""
        return self.refusal.code

    @property
    def status(self) -> int:
        """The HTTP status; 0 where none came."""
        return self.refusal.status


class Invalid(RequestFailed):
    """What was sent cannot be accepted: 422, or 400, 413, 415 for the body as a whole."""

    @property
    def fields(self) -> tuple[FieldError, ...]:
        """Every bad field; empty where the body as a whole is refused."""
        return self.refusal.fields


class IdempotencyKeyReused(Invalid):
    """The idempotency key belongs to a task that was submitted with something else: 422."""


class Unauthorized(RequestFailed):
    """The key is missing or not known: 401."""


class Forbidden(RequestFailed):
    """The key does not have the scope that this needs: 403."""


class NotFound(RequestFailed):
    """There is no such task, queue or schedule: 404."""


class Conflict(RequestFailed):
    """Something that exists stands in the way: 409."""


class WrongState(Conflict):
    """The task is in a state from which this does not start: 409 with `wrong_state`."""

    @property
    def task_status(self) -> str | None:
        """The state that the task is in."""
        return self.refusal.task_status


class UniqueKeyTaken(Conflict):
    """The task cannot be retried, since another that has not ended has its unique key: 409."""

    @property
    def holder(self) -> str | None:
        """The id of that task."""
        return self.refusal.holder


class Unavailable(RequestFailed):
    """The service cannot do it now, and could not within `retry_for`: 429, 502, 503, 504, or no answer at all."""

    passing = True


class RateLimited(Unavailable):
    """This key has sent too many requests: 429."""


class Unreachable(Unavailable):
    """No connection, or no answer within the timeout. Whether the service has got the request is not known."""


class NotEnded(RequestFailed, TimeoutError):  # noqa: N818 - a fact about the task
    """The task did not end within the time that `wait` was given; `task` is as it was last seen."""

    def __init__(self, task: "Task", *, seconds: float) -> None:
        self.task = task
        super().__init__(Refusal(detail=f"Task {task.id} is {task.status} after {seconds:g} s."))


_BY_CODE: Mapping[str, type[RequestFailed]] = {
    "idempotency_key_reused": IdempotencyKeyReused,
    "unique_key_taken": UniqueKeyTaken,
    "wrong_state": WrongState,
}

_BY_STATUS: Mapping[int, type[RequestFailed]] = {
    HTTPStatus.BAD_REQUEST: Invalid,
    HTTPStatus.UNAUTHORIZED: Unauthorized,
    HTTPStatus.FORBIDDEN: Forbidden,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Invalid,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: Invalid,
    HTTPStatus.UNPROCESSABLE_ENTITY: Invalid,
    HTTPStatus.TOO_MANY_REQUESTS: RateLimited,
    HTTPStatus.BAD_GATEWAY: Unavailable,
    HTTPStatus.SERVICE_UNAVAILABLE: Unavailable,
    HTTPStatus.GATEWAY_TIMEOUT: Unavailable,
}


class Problem(BaseModel):
    """A problem document, as much of it as errors are made of."""

    model_config = ConfigDict(extra="ignore")

    status: int = 0
    code: str = ""
    title: str = ""
    detail: str = ""
    errors: tuple[FieldError, ...] | None = None
    task_status: str | None = None
    holder: str | None = None


def error_of(problem: Problem, headers: Mapping[str, str]) -> RequestFailed:
    """The error that a problem document stands for.

    Args:
        problem: With the HTTP status.
        headers: Of the answer.
    """
    refusal = Refusal(
        status=problem.status,
        code=problem.code,
        detail=problem.detail or problem.title or f"The service answered {problem.status}.",
        fields=problem.errors or (),
        task_status=problem.task_status,
        holder=problem.holder,
        retry_after=parse_retry_after(headers.get("Retry-After"), now=utc_now()),
        request_id=headers.get("X-Request-ID", ""),
    )
    return (_BY_CODE.get(problem.code) or _BY_STATUS.get(problem.status, RequestFailed))(refusal)


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> RequestFailed:
    """The error that an answer stands for, also when it comes from a proxy in between and is no problem document."""
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        said = " ".join(body.decode(errors="replace").split())[:_SHOWN]
        problem = Problem(detail=f"The service answered {status}: {said}" if said else "")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        place = headers.get("Location", "no other place")
        problem = Problem(detail=f"The service answered {status} and names {place}.")
    return error_of(problem.model_copy(update={"status": status}), headers)
