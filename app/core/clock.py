"""The one place that reads the wall clock."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The present moment: aware, UTC, whole milliseconds (the precision that MongoDB keeps)."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def to_ms(moment: datetime) -> int:
    """Milliseconds since the Unix epoch of an aware datetime: the score unit of every Redis sorted set."""
    return round(moment.timestamp() * 1000)


def from_ms(milliseconds: float) -> datetime:
    """The inverse of `to_ms`; a fraction of a millisecond is dropped."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
