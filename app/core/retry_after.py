"""Reads the HTTP header Retry-After."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER = timedelta(days=1)
"""A server may ask for no longer pause than this."""


def parse_retry_after(value: str | None, *, now: datetime) -> timedelta | None:
    """How long a server asks to be left alone: between nothing and a day.

    Args:
        value: The header's value, a number of seconds or an HTTP-date; None where it was not sent.
        now: What a date is counted from; aware.

    Returns:
        None when the header is missing or unreadable.

    Source: RFC 9110, section 10.2.3.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text)  # not int(), which refuses more than 4,300 digits
    else:
        try:
            moment = parsedate_to_datetime(text)
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp()
        except (ValueError, OverflowError):
            return None
    return timedelta(seconds=min(max(seconds, 0.0), MAX_RETRY_AFTER.total_seconds()))
