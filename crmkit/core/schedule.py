"""When a function that is marked with `@every` is due: its slots, in the installation's time zone.

Whole days and weeks are counted by the calendar: 09:00 is 09:00 by the clock on the wall, summer and winter. A time the
clocks skip is taken as much later as they skip; one they show twice is the first of the two: either way one slot.
Anything shorter, or not of whole days, is counted in elapsed time from midnight UTC, whatever the clocks do.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Self
from zoneinfo import ZoneInfo

from crmkit.core.duration import parse_duration, write_duration

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
SHORTEST, LONGEST = timedelta(minutes=1), timedelta(days=3650)
_DAY, _WEEK = timedelta(days=1), timedelta(days=7)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])\Z")


@dataclass(frozen=True, slots=True)
class Schedule:
    """An endless row of slots.

    Attributes:
        interval: from slot to slot.
        at: the local time of a slot; None where the interval is not of whole days.
        weekday: 0 (Monday) to 6; None where the interval is not of whole weeks.
    """

    interval: timedelta
    at: time | None = None
    weekday: int | None = None

    @classmethod
    def of(cls, interval: Any, at: Any = None, on: Any = None) -> Self:
        """The schedule as `@every` is told it.

        Args:
            interval: a duration, `15m`, `1d`, `2w`.
            at: local time as `09:00`, for whole days; midnight by default.
            on: a day of the week, for whole weeks; Monday by default.

        Raises:
            ValueError: one of them is not right; it says which, and what would be.
        """
        duration = parse_duration(interval)
        if not SHORTEST <= duration <= LONGEST:
            within = f"from {write_duration(SHORTEST)} to {write_duration(LONGEST)}"
            raise ValueError(f"{interval!r} is too {'short' if duration < SHORTEST else 'long'}; write {within}")
        is_days, is_weeks = duration % _DAY == timedelta(0), duration % _WEEK == timedelta(0)
        if at is not None and not is_days:
            raise ValueError(f"at={at!r} needs whole days, and {interval!r} is not; leave it out, or write 1d")
        if on is not None and not is_weeks:
            raise ValueError(f"on={on!r} needs whole weeks, and {interval!r} is not; leave it out, or write 1w")
        clock = _CLOCK.match(at) if isinstance(at, str) else None
        if at is not None and clock is None:
            raise ValueError(f"at={at!r} is no time of the day; write it like 09:00")
        if on is not None and on not in WEEKDAYS:
            raise ValueError(f"on={on!r} is no day of the week; write one of {', '.join(WEEKDAYS)}")
        local = time(int(clock[1]), int(clock[2])) if clock is not None else time()
        weekday = WEEKDAYS.index(on) if on is not None else 0
        return cls(duration, local if is_days else None, weekday if is_weeks else None)

    def __str__(self) -> str:
        told = f"every {write_duration(self.interval)}"
        if self.weekday is not None:
            told += f" on {WEEKDAYS[self.weekday]}"
        return f"{told} at {self.at:%H:%M}" if self.at is not None else told

    def after(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """The first slot later than `moment`, in UTC."""
        if self.at is None:
            return self._count(moment) + self.interval
        # from yesterday on: a time that is skipped before midnight comes after it
        day = self._on_or_before(moment.astimezone(zone).date().toordinal() - 1)
        while (slot := self._slot(day, zone)) <= moment:
            day += self.interval.days
        return slot

    def latest(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """The last slot that is not later than `moment`, in UTC."""
        if self.at is None:
            return self._count(moment)
        day = self._on_or_before(moment.astimezone(zone).date().toordinal())
        while (slot := self._slot(day, zone)) > moment:
            day -= self.interval.days
        return slot

    def _count(self, moment: datetime) -> datetime:
        return _EPOCH + (moment - _EPOCH) // self.interval * self.interval

    def _on_or_before(self, ordinal: int) -> int:
        """The last day with a slot up to a day; days are counted from the first Monday of the calendar."""
        first = 1 + (self.weekday or 0)
        return ordinal - (ordinal - first) % self.interval.days

    def _slot(self, ordinal: int, zone: ZoneInfo) -> datetime:
        assert self.at is not None
        return datetime.combine(date.fromordinal(ordinal), self.at, zone).astimezone(UTC)
