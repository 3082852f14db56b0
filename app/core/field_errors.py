"""Turns what pydantic found wrong into our own list of bad fields."""

from pydantic import ValidationError

from app.core.errors import FieldError
from app.core.text import storable

MAX_FIELD = 200  # characters of a path
MAX_MESSAGE = 500  # characters

_WORDING = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "list_type": "must be an array",
    "tuple_type": "must be an array",
}
"""Where pydantic's own words are those of Python."""


def field_errors(error: ValidationError, *within: str | int) -> list[FieldError]:
    """Every bad field, in the order in which pydantic found them.

    Args:
        error: What was raised.
        within: Where the validated value is, such as `"payload"` or `3`.
    """
    return [
        FieldError(dotted((*within, *item["loc"])), _message(item["type"], item["msg"]))
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def dotted(location: tuple[str | int, ...]) -> str:
    """A location as clients see it: `payload.to`, `tags[2]`, `[3].type`; `body` for the whole of it."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return storable(path.removeprefix("."), MAX_FIELD) or "body"


def _message(kind: str, text: str) -> str:
    return _WORDING.get(kind) or storable(text.removeprefix("Value error, "), MAX_MESSAGE)
