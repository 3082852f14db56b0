"""API keys: what they allow, how they are made, how they are recognised, and how often they may be used."""

import hmac
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

PREFIX = "arqive_"
"""What every key that is made here starts with, so that scanners for leaked secrets can know one."""

_RANDOM_BYTES = 32


class Scope(StrEnum):
    """What a key allows; each includes those before it."""

    READ = "read"  # to see tasks, types and counts
    WRITE = "write"  # also to submit and change tasks
    ADMIN = "admin"  # also to change how the service runs

    def includes(self, other: "Scope") -> bool:
        """Whether this scope allows what `other` does."""
        return _ORDER[self] >= _ORDER[other]


_ORDER = {scope: rank for rank, scope in enumerate(Scope)}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Somebody who may call the API.

    Attributes:
        name: For logs and messages.
        scope: What it allows.
        digest: SHA-256 of the key; the key itself is nowhere in the service.
        rate: Requests per second that it may make on one process, or None without a limit.
        burst: Requests that it may make at once before the rate applies.
    """

    name: str
    scope: Scope
    digest: bytes
    rate: float | None = None
    burst: int = 1


def digest_of(key: str) -> bytes:
    """What is kept of a key.

    One round of SHA-256 and no salt: a key is 256 random bits, so there is nothing to guess that a slow hash would make
    slower to guess, and a slow hash would be paid for with every request.
    """
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


def new_key() -> str:
    """A key that nobody has: 256 random bits in characters that need no quoting anywhere."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def entry_of(name: str, scope: Scope, key: str) -> str:
    """The line for API_KEYS that lets a key in."""
    return f"{name}:{scope}:sha256:{digest_of(key).hex()}"


class KeyRing:
    """The keys of one service."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._by_digest = {key.digest: key for key in keys}

    def __len__(self) -> int:
        return len(self._by_digest)

    def find(self, key: str) -> ApiKey | None:
        """Who has this key, or None.

        What is looked up is the digest, whose bits a caller cannot choose, so that the time a lookup takes says nothing
        about any key; the last word has a comparison whose time does not depend on what it compares.
        """
        digest = digest_of(key)
        found = self._by_digest.get(digest)
        return found if found is not None and hmac.compare_digest(found.digest, digest) else None


class Allowance:
    """How often a key may be used: a bucket that holds `burst` requests and is refilled at `rate` a second.

    Args:
        rate: Requests per second.
        burst: The most that can be saved up; at least 1.
        clock: Seconds that never go back.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left = float(burst)
        self._at = clock()

    def take(self) -> float:
        """Use it once: 0, or else the seconds until there is something left."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self._rate
