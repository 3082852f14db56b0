"""Reads from a stored schedule when it has its slots. May read files of time zones: not for the event loop."""

import re
from datetime import UTC, timedelta, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.core.cron import Cron
from app.core.slots import CronRule, IntervalRule, Timing
from app.store.schedules import ScheduleDocument

# Besides zones there are other copies of them in the directory, some of which count leap seconds, and that of this
# machine.
_ZONE = re.compile(r"(?!posix/|right/|posixrules|localtime|Factory)[A-Za-z][\w+-]*(/[\w+-]+)*", re.ASCII)


class UnknownZone(ValueError):  # noqa: N818 - a fact about the name
    """There is no time zone of this name here."""


@cache
def load_zone(name: str) -> tzinfo:
    """The time zone of a name in the IANA's database.

    Raises:
        UnknownZone: there is none.
    """
    if name == "UTC":
        return UTC
    try:
        if not _ZONE.fullmatch(name):
            raise UnknownZone(name)
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: the name of a directory
        raise UnknownZone(f"there is no time zone {name[:64]!r}; write it as in Europe/Berlin or UTC") from error


def timing_of(document: ScheduleDocument) -> Timing:
    """When a schedule has its slots.

    Raises:
        BadCron: its expression is not one.
        UnknownZone: its time zone is not known here.
    """
    rule: CronRule | IntervalRule
    if document["interval_s"] is not None and document["anchor_at"] is not None:
        rule = IntervalRule(timedelta(seconds=document["interval_s"]), document["anchor_at"])
    else:
        rule = CronRule(Cron.parse(document["cron"] or ""), load_zone(document["time_zone"] or "UTC"))
    return Timing(rule, document["start_at"], document["end_at"])
