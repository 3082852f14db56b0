"""Makes what a handler returned into what can be kept."""

from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from app.core.errors import UnusableResult
from app.core.json_value import problem_with
from app.core.outcomes import ErrorCode


def keepable(result: Any, *, max_bytes: int) -> Any:
    """The result as plain JSON values; pydantic models, dataclasses, dates and the like are written as pydantic does.

    Raises:
        UnusableResult: it is not JSON, or takes more than `max_bytes` bytes as JSON.
    """
    try:
        raw = to_json(result, inf_nan_mode="constants")
        value = from_json(raw, allow_inf_nan=False)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise UnusableResult(ErrorCode.RESULT_NOT_JSON, f"the handler's result is not JSON: {error}") from error
    if len(raw) > max_bytes:
        raise UnusableResult(
            ErrorCode.RESULT_TOO_LARGE,
            f"the handler's result takes {len(raw):,} bytes as JSON; at most {max_bytes:,} are kept",
        )
    problem = problem_with(value)
    if problem is not None:
        raise UnusableResult(ErrorCode.RESULT_NOT_JSON, f"the handler's result cannot be kept: {problem}")
    return value
