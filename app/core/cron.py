"""Cron expressions on a wall clock, and what becomes of them when the clock is changed."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from cronsim import CronSim, CronSimError

from app.core import limits

_SECOND = timedelta(seconds=1)
_STRIDE = timedelta(days=7)
"""No zone changes its clock and back again within this time."""

_WRITTEN = re.compile(r"[0-9A-Za-z*,/#\-]+([ \t]+[0-9A-Za-z*,/#\-]+){4,5}")

_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_ANY_MOMENT = datetime(2000, 1, 1)  # noqa: DTZ001 - of a wall clock


class BadCron(ValueError):  # noqa: N818 - named for what the text is
    """Not a cron expression; `str(error)` says why, for whoever wrote it."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression, from which follows when a wall clock shows what it asks for.

    CronSim 2.8 answers for the wall clock alone, that is without a time zone. What it does itself when a clock is
    changed leaves moments out where the change is half an hour, differs between five and six fields, and can lie in
    the past (docs/adr/0011-slots-of-schedules.md). So the changes of the clock are dealt with here:

    - An expression for *fixed times*, whose seconds, minutes and hours do not begin with a star, means the times that a
      person sees. A time that the clock leaves out when it is put forward is made up for at that moment, once however
      many were left out; a time that the clock shows twice when it is put back counts the first time.
    - Any other expression means a steady beat. What the clock leaves out does not happen, what it shows twice happens
      twice.

    Attributes:
        expression: Five or six fields, separated by spaces.
        at_fixed_times: Which of the two it is.
    """

    expression: str
    at_fixed_times: bool

    @classmethod
    def parse(cls, text: str) -> "Cron":
        """Read an expression of five fields, of six with seconds first, or one of the nicknames such as @daily.

        Raises:
            BadCron: it is not one, or asks for what never comes.
        """
        written = text.strip(" \t")
        expression = _NICKNAMES.get(written.lower(), written)
        if not _WRITTEN.fullmatch(expression):
            raise BadCron("must have five fields, or six with seconds first: minute, hour, day, month, day of week")
        fields = expression.split()
        cron = cls(" ".join(fields), not any(field.startswith("*") for field in fields[:-3]))
        try:
            never = cron._next_match(_ANY_MOMENT) is None
        except CronSimError as error:
            raise BadCron(f"is not a cron expression: {str(error).lower()}") from error
        if never:
            raise BadCron("asks for a date that does not come within fifty years")
        return cron

    def next_after(self, moment: datetime, zone: tzinfo) -> datetime | None:
        """The first moment after `moment` that is asked for, in whole seconds of UTC, or None when none comes.

        It depends on nothing but the expression and the zone: whoever asks from any moment before it gets the same.

        Args:
            moment: Aware.
            zone: Of the wall clock.
        """
        instant = moment.astimezone(UTC).replace(microsecond=0)
        offset = _offset(zone, instant)
        wall = self._wall_at(instant, offset, zone)
        while (match := self._next_match(wall)) is not None and match.year < limits.LAST_YEAR:
            found = (match - offset).replace(tzinfo=UTC)
            change = _first_change(zone, instant, found)
            if change is None:
                return found
            would_show, shows = _naive(change + offset), _naive(change + _offset(zone, change))
            if self.at_fixed_times and match < shows:
                return change
            # From here on the new offset holds. Fixed times that are shown again have had their turn.
            wall = (max(would_show, shows) if self.at_fixed_times else shows) - _SECOND
            instant, offset = change, _offset(zone, change)
        return None

    def _wall_at(self, instant: datetime, offset: timedelta, zone: tzinfo) -> datetime:
        """What the clock shows; for fixed times the end of what it shows again, while it does."""
        local = instant.astimezone(zone)
        if not (self.at_fixed_times and local.fold):
            return _naive(instant + offset)
        before = local.replace(fold=0).utcoffset() or timedelta(0)
        change = _first_change(zone, instant - (before - offset), instant)
        return _naive((change or instant) + before) - _SECOND

    def _next_match(self, wall: datetime) -> datetime | None:
        return next(CronSim(self.expression, wall), None)


def _offset(zone: tzinfo, instant: datetime) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta(0)


def _naive(instant: datetime) -> datetime:
    return instant.replace(tzinfo=None)


def _first_change(zone: tzinfo, after: datetime, until: datetime) -> datetime | None:
    """The first second after `after` and up to `until` at which the clock has another offset than at `after`."""
    offset = _offset(zone, after)
    low = after
    while low < until:
        high = min(low + _STRIDE, until)
        if _offset(zone, high) != offset:
            break
        low = high
    else:
        return None
    while high - low > _SECOND:
        middle = low + (high - low) // _SECOND // 2 * _SECOND
        if _offset(zone, middle) == offset:
            low = middle
        else:
            high = middle
    return high
