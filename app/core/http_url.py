"""Which URLs tasks may call, by their form. Where a name leads is seen when it is called."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from yarl import URL

from app.core import limits

_SPACE_OR_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_AFTER_AUTHORITY = re.compile(r"[/?#]")
_HOST_LABEL = re.compile(r"[^.]{1,63}")


def sound_url(value: str) -> str:
    """The URL as it is, when it can be called.

    Parsed by the same library that will send it, so that both read the same host.

    Raises:
        ValueError: it is not absolute, not http or https, has credentials, or its host cannot be a name.
    """
    if _SPACE_OR_CONTROL.search(value):
        raise ValueError("must not contain spaces or control characters; percent-encode them")
    url = URL(value)
    if url.scheme not in {"http", "https"} or not url.raw_host:
        raise ValueError("must be an absolute http or https URL")
    if "@" in _AFTER_AUTHORITY.split(value.split("://", 1)[1], maxsplit=1)[0]:
        raise ValueError("must not contain credentials; send an Authorization header")
    host = url.raw_host.removesuffix(".")
    if len(host) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in host.split(".")):
        raise ValueError("the host name has an empty or too long part")
    return value


SoundUrl = Annotated[
    str,
    Field(
        min_length=1,
        max_length=limits.MAX_URL,
        # Of the rules, what a pattern can say, for whoever reads the document.
        json_schema_extra={"format": "uri", "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s/?#]"},
    ),
    AfterValidator(sound_url),
]
"""A URL that can be called."""
