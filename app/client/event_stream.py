"""Reads server-sent events out of bytes as they come.

Source: the section "Server-sent events" of the HTML standard.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")
"""A carriage return at the end of what is there may be the first half of an end."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One event as it came; without data it is none, and only says from where to go on.

    Attributes:
        last_id: The id of this event or the last one before that had one.
        name: What it is about.
        data: What it says.
    """

    last_id: str
    name: str
    data: str


@dataclass(slots=True)
class EventParser:
    """Takes bytes and gives events.

    Attributes:
        last_id: What to go on from.
        retry_ms: When the server wants a client back after an end.
    """

    last_id: str = ""
    retry_ms: int | None = None
    _rest: bytes = b""
    _id: str | None = None
    _name: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, some: bytes) -> Iterator[Frame]:
        """The events that are complete with these bytes."""
        *lines, self._rest = _LINE_END.split(self._rest + some)
        for line in lines:
            if not line:
                yield from self._dispatch()
            else:
                self._take(line.decode(errors="replace"))

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "event":
                self._name = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry_ms = int(value[:9])
            case _:
                pass  # a comment, or a field of a later standard

    def _dispatch(self) -> Iterator[Frame]:
        # Only now: of an event that breaks off here, nothing has been told.
        self.last_id = self.last_id if self._id is None else self._id
        name, data = self._name, self._data
        self._name, self._data = "", []
        if data:
            yield Frame(self.last_id, name or "message", "\n".join(data))
