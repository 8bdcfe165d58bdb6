"""How much marketing somebody gets: so many messages within any run of so many days.

A message counts on the day it is planned for, in the zone of its reader. What is over the cap is put off to the first
day that still has room, at the same time of day.
"""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_DAYS = {"day": 1, "week": 7, "month": 30}
_WRITTEN = re.compile(r"([1-9][0-9]{0,2})/(day|week|month)")


@dataclass(frozen=True, slots=True)
class Cap:
    """So many messages (`times`) within any `days` days on end."""

    times: int
    days: int

    def leaves(self, moment: datetime, zone: ZoneInfo, *planned: Iterable[datetime]) -> datetime:
        """When a message that would leave at `moment` may: then, or later.

        Args:
            planned: when others leave; each of these lists has to stay within the cap.
        """
        local = moment.astimezone(zone)
        taken = [sorted(at.astimezone(zone).date() for at in times) for times in planned]
        day = local.date()
        while not all(self._has_room(day, days) for days in taken):
            day += timedelta(days=1)
        if day == local.date():
            return moment
        return datetime.combine(day, local.time(), zone).astimezone(UTC)

    def _has_room(self, day: date, taken: Sequence[date]) -> bool:
        """Whether no run of days that holds `day` would have more than the cap, were one more on that day."""
        offsets = [(other - day).days for other in taken if abs((other - day).days) < self.days]
        return all(
            sum(first <= offset < first + self.days for offset in offsets) < self.times
            for first in range(1 - self.days, 1)
        )


def parse_cap(written: object) -> Cap:
    """The cap `written` as `2/week`.

    Raises:
        ValueError: it is not written so.
    """
    if isinstance(written, Cap):
        return written
    found = _WRITTEN.fullmatch(written) if isinstance(written, str) else None
    if found is None:
        raise ValueError('should be a number of messages per day, week or month, like "2/week"')
    return Cap(int(found[1]), _DAYS[found[2]])


@dataclass(slots=True)
class Ledger:
    """When marketing is planned, by the customers and addresses it is for."""

    _planned: dict[Hashable, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    _entries: list[tuple[Hashable, ...]] = field(default_factory=list)

    def add(self, at: datetime, *whom: Hashable) -> None:
        """A message is planned for each of `whom`."""
        for one in whom:
            self._planned[one].append(at)
        self._entries.append(whom)

    def of(self, whom: Hashable) -> list[datetime]:
        """When messages are planned for one of them."""
        return list(self._planned.get(whom, ()))

    @property
    def size(self) -> int:
        """How many were added; `take_back` returns there."""
        return len(self._entries)

    def take_back(self, size: int) -> None:
        """Forget what was added since the ledger had this size."""
        while len(self._entries) > size:
            for one in self._entries.pop():
                self._planned[one].pop()
