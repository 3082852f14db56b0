"""The entries of API_KEYS and of the file that API_KEYS_FILE names."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

ScopeName = Literal["read", "write", "admin"]

MIN_RATE, MAX_RATE = 0.001, 100_000

_ENTRY = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]{0,63}):(?P<scope>read|write|admin):sha256:(?P<digest>[0-9a-fA-F]{64})"
    r"(?::rate=(?P<rate>\d{1,6}(?:\.\d{1,6})?))?"
)
_WANTED = "must be name:scope:sha256:HEX with scope read, write or admin, as `arqive keys new` prints it"


@dataclass(frozen=True, slots=True)
class ApiKeyEntry:
    """One key.

    Attributes:
        name: Unlike any other's.
        scope: What it allows.
        digest: SHA-256 of the key.
        rate: Requests per second, 0 without a limit, or None to take API_KEY_RATE.
    """

    name: str
    scope: ScopeName
    digest: bytes
    rate: float | None


def parse_entries(text: str) -> tuple[ApiKeyEntry, ...]:
    """The entries of a list with commas or line ends between them, none of an empty text; # starts a remark.

    Raises:
        ValueError: one is bad, or the text says nothing. The message counts and never quotes, since what stands where
            an entry should may be a key that somebody did not mean to put there.
    """
    without_remarks = re.sub(r"(?m)#.*$", "", text)
    entries = []
    for number, part in enumerate(filter(None, map(str.strip, re.split(r"[,\n]", without_remarks))), 1):
        match = _ENTRY.fullmatch(part)
        if match is None:
            raise ValueError(f"entry {number} {_WANTED}")
        rate = None if match["rate"] is None else float(match["rate"])
        if rate and not MIN_RATE <= rate <= MAX_RATE:
            raise ValueError(f"entry {number}: rate must be 0 for no limit, or {MIN_RATE} to {MAX_RATE:,}")
        entries.append(
            ApiKeyEntry(match["name"], cast("ScopeName", match["scope"]), bytes.fromhex(match["digest"]), rate)
        )
    if text and not entries:
        raise ValueError("has no entry, and without keys everybody would be let in")
    return each_once(entries)


def each_once(entries: list[ApiKeyEntry]) -> tuple[ApiKeyEntry, ...]:
    """The entries, of which no two have a name or a key in common.

    Raises:
        ValueError: two have.
    """
    if len({entry.name for entry in entries}) != len(entries):
        raise ValueError("two entries have the same name")
    if len({entry.digest for entry in entries}) != len(entries):
        raise ValueError("two entries have the same key")
    return tuple(entries)


def read_entries(path: str) -> tuple[ApiKeyEntry, ...]:
    """The entries of a file.

    Raises:
        ValueError: it cannot be read, has none, or one is bad.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ValueError(f"cannot be read: {reason}") from error
    return parse_entries(text or "#")
