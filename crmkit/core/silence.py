"""Silence: for how long it is usual that nothing comes, learnt from what came, and whether it is longer than that now.

Time is counted in what would usually have come by now: an hour of the night, or of a Sunday on which the shop is
closed, counts for nothing, and an hour of a busy day for much. So one bound holds for every hour: a silence in which
half as much again was to come as in the longest of the last weeks, and at the least so much that a shop of the same
pace, by chance alone, would be silent for as long but once in some years.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Self
from zoneinfo import ZoneInfo

from sqlmodel import Field, SQLModel

from crmkit.core.columns import Json, UtcTime

#: What comes is counted in spans of this length.
SLOT = timedelta(minutes=10)
#: So far back what is usual is learnt.
SPAN = timedelta(weeks=8)
#: With less than this it is not known what is usual: so many spans in which something came, over so long.
LEAST, LEAST_SPAN = 12, timedelta(days=14)
#: Of so many silences the longest is left out: it may have been an outage.
MANY = 20
#: By how much a silence is longer than the usual ones, and how often in a year chance alone may be the cause.
MORE, BY_CHANCE = 1.5, 0.25
#: From so much in a week on, the last week says whether it is a weaker season.
SEASON = 20
_HOURS = 168
_WEEK, _YEAR = timedelta(weeks=1), timedelta(days=365)
#: From so much in all on, each hour of the week is known by itself as well as by its day and its hour.
_KNOWN = 10.0 * _HOURS


class RhythmRow(SQLModel, table=True):
    """What usually comes from an account, and whether it is silent: `kind` is `orders`, `webhooks` or `receipts`.

    `rhythm` is None while too little is known; `last_at` is when something came last, as of `looked_at`. Since
    `watched_from` somebody looked without a longer pause. A silence is one from its `silent_since` on.
    """

    __tablename__ = "rhythm"

    account_id: int = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    rhythm: dict[str, Any] | None = Field(default=None, sa_type=Json)
    learnt_at: datetime | None = Field(default=None, sa_type=UtcTime)
    looked_at: datetime = Field(sa_type=UtcTime)
    watched_from: datetime = Field(sa_type=UtcTime)
    last_at: datetime | None = Field(default=None, sa_type=UtcTime)
    silent_since: datetime | None = Field(default=None, sa_type=UtcTime)
    noticed_at: datetime | None = Field(default=None, sa_type=UtcTime)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """What usually comes.

    Attributes:
        rates: what comes in a slot, for each hour of the local week from Monday 00:00 on.
        bound: so much has to come in vain.
        longest: the longest usual time in which nothing came.
        count: from how much it was learnt.
    """

    rates: tuple[float, ...]
    bound: float
    longest: timedelta
    count: int

    def expected(self, since: datetime, until: datetime, zone: ZoneInfo, most: float = math.inf) -> float:
        """How much would usually have come from one moment to another; counted until it is more than `most`."""
        since = max(since, until - SPAN)
        found, at = 0.0, since
        while at < until and found <= most:
            ends = min(start_of(slot_of(at) + 1), until)
            found += self.rates[_hour(at, zone)] * ((ends - at) / SLOT)
            at = ends
        return found

    def is_broken(self, expected: float) -> bool:
        """Whether it is longer silent than usual, where so much would have come."""
        return expected >= self.bound

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "rates": [float(f"{rate:.4g}") for rate in self.rates],
            "bound": round(self.bound, 3),
            "longest": round(self.longest.total_seconds()),
            "count": self.count,
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """As it was written."""
        longest = timedelta(seconds=document["longest"])
        return cls(tuple(document["rates"]), document["bound"], longest, document["count"])


def slot_of(at: datetime) -> int:
    """The number of the slot a moment is in."""
    return int(at.timestamp() // SLOT.total_seconds())


def start_of(slot: int) -> datetime:
    """When a slot begins."""
    return datetime.fromtimestamp(slot * SLOT.total_seconds(), UTC)


def learn(counts: Mapping[int, int], zone: ZoneInfo) -> Rhythm | None:
    """What usually comes, from what came; None: too little.

    The time from the first to the last is all that is looked at, so a silence that has begun says nothing of what is
    usual.

    Args:
        counts: {slot: how much came in it}, of the last weeks.
        zone: whose nights and weekends it goes by.
    """
    busy = sorted(slot for slot, count in counts.items() if count > 0)
    if len(busy) < LEAST or (busy[-1] - busy[0]) * SLOT < LEAST_SPAN:
        return None
    first, last = busy[0], busy[-1]
    hours = [_hour(start_of(slot), zone) for slot in range(first, last + 1)]
    rates = _rates(counts, first, hours)
    expected = [0.0]
    for hour in hours:
        expected.append(expected[-1] + rates[hour])
    pairs = list(pairwise(busy))
    usual = _usual([expected[after - first + 1] - expected[before - first] for before, after in pairs])
    longest = _usual([float(after - before) for before, after in pairs]) * SLOT
    total = sum(counts[slot] for slot in busy)
    yearly = total * (_YEAR / ((last - first + 1) * SLOT))
    season = _season(counts, first, last, total)
    bound = max(MORE * usual, math.log(max(yearly / BY_CHANCE, math.e)))
    return Rhythm(tuple(rate * season for rate in rates), bound, longest, total)


def _rates(counts: Mapping[int, int], first: int, hours: list[int]) -> list[float]:
    """What comes in a slot of each hour of the week: as it came then, and as day and hour of the day have it.

    Of a shop of three orders a week no hour of the week says much; its days and its hours do.
    """
    came, slots = [0.0] * _HOURS, [0] * _HOURS
    for number, hour in enumerate(hours):
        slots[hour] += 1
        came[hour] += counts.get(first + number, 0)
    total = sum(came)
    rate = total / sum(slots)
    days = [_ratio(came[24 * day : 24 * day + 24], slots[24 * day : 24 * day + 24]) for day in range(7)]
    clock = [_ratio(came[hour::24], slots[hour::24]) for hour in range(24)]
    alone = total / (total + _KNOWN)
    found = []
    for hour in range(_HOURS):
        together = days[hour // 24] * clock[hour % 24] / rate
        found.append(alone * (came[hour] / slots[hour]) + (1 - alone) * together if slots[hour] else together)
    return found


def _ratio(came: list[float], slots: list[int]) -> float:
    return sum(came) / sum(slots) if sum(slots) else 0.0


def _usual(lengths: list[float]) -> float:
    """The longest, without one that may have been an outage."""
    ordered = sorted(lengths)
    return ordered[-2] if len(ordered) >= MANY else ordered[-1]


def _season(counts: Mapping[int, int], first: int, last: int, total: int) -> float:
    """How the last week was, where it was weaker than the usual one: what is expected is that much less."""
    week = round(_WEEK / SLOT)
    usual = total / ((last - first + 1) / week)
    if usual < SEASON:
        return 1.0
    lately = sum(count for slot, count in counts.items() if slot > last - week)
    return min(1.0, lately / usual)


def _hour(at: datetime, zone: ZoneInfo) -> int:
    """The hour of the local week a moment is in."""
    local = at.astimezone(zone)
    return 24 * local.weekday() + local.hour
