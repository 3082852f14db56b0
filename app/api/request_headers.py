"""Request headers that handlers ask for, each by a type of its own."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NewType

from app.core import limits
from app.core.errors import FieldError, Invalid
from app.core.event_id import PATTERN as EVENT_ID_PATTERN
from app.core.event_id import EventId

IdempotencyKey = NewType("IdempotencyKey", str)
"""What the client calls its submission by."""

IDEMPOTENCY_KEY = "Idempotency-Key"
LAST_EVENT_ID = "Last-Event-ID"

_KEY = re.compile(limits.KEY_PATTERN)
_ESCAPED = re.compile(r'\\(["\\])')


@dataclass(frozen=True, slots=True)
class RequestHeader:
    """One header.

    Attributes:
        name: As it is written.
        description: For the document.
        schema: Of its value.
        read: Makes what the handler gets of all values that were sent, of which there may be none.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    read: Callable[[Sequence[str]], object]


def read_idempotency_key(values: Sequence[str]) -> IdempotencyKey | None:
    """The key, or None without one.

    The draft of the header has it as a string in quotes, most services and clients as it is; both name the same key.

    Raises:
        Invalid: it is given twice, or is no key.
    """
    if not values:
        return None
    if len(values) > 1:
        raise Invalid([FieldError(IDEMPOTENCY_KEY, "is given more than once")])
    key = values[0].strip(" \t")
    if len(key) > 1 and key.startswith('"') and key.endswith('"'):
        key = _ESCAPED.sub(r"\1", key[1:-1])
    if len(key) > limits.MAX_KEY or not _KEY.fullmatch(key):
        raise Invalid(
            [
                FieldError(
                    IDEMPOTENCY_KEY, f"must be 1 to {limits.MAX_KEY} printable ASCII characters, spaces inside only"
                )
            ]
        )
    return IdempotencyKey(key)


def read_last_event_id(values: Sequence[str]) -> EventId | None:
    """The event after which to go on, or None where nothing is said.

    Raises:
        Invalid: it is given twice, or never was an id.
    """
    if len(values) > 1:
        raise Invalid([FieldError(LAST_EVENT_ID, "is given more than once")])
    text = "".join(values).strip(" \t")
    try:
        return EventId.parse(text) if text else None
    except ValueError as error:
        raise Invalid([FieldError(LAST_EVENT_ID, str(error))]) from error


HEADERS: Mapping[object, RequestHeader] = MappingProxyType(
    {
        IdempotencyKey | None: RequestHeader(
            IDEMPOTENCY_KEY,
            "Names this submission: the same again is answered with the same task.",
            {"type": "string", "minLength": 1, "maxLength": limits.MAX_KEY},
            read_idempotency_key,
        ),
        EventId | None: RequestHeader(
            LAST_EVENT_ID,
            "The id of the last event that is known; only what came after it is told.",
            {"type": "string", "pattern": f"^$|{EVENT_ID_PATTERN}"},  # empty says nothing
            read_last_event_id,
        ),
    }
)
"""By the annotation that asks for them."""
