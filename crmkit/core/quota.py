"""What one gateway account may still send, and whether it answers: one row for the whole fleet.

A claim takes its size from the row in its own transaction, so rate, day cap and budget hold for every process together.
The circuit opens after several tries in a row that came to nothing, lets one message through after a pause, and closes
when that gets an answer; each pause is twice the one before.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from sqlmodel import Field, SQLModel

from crmkit.core.columns import UtcTime

#: So many tries in a row without an answer open a circuit.
OPEN_AFTER = 5
#: It stays open this long, twice as long each time its probe fails, up to the most.
PAUSE_FIRST, PAUSE_MOST = timedelta(minutes=1), timedelta(hours=1)
#: While nothing is known of what a message costs, so many at once are claimed against a budget.
UNPRICED = 10
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_RATE = re.compile(r"([0-9]{1,9}) ?/ ?([smh])")
_BUDGET = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([A-Z]{3}) ?/ ?(day|month)")


class QuotaRow(SQLModel, table=True):
    """What is left of an account's quota, and how its circuit stands. `name` is the gateway entry's.

    Amounts are decimals as text, tokens too: a text message costs less than a minor unit. `unit_cost` is what a
    segment cost last.
    """

    __tablename__ = "quota"

    name: str = Field(primary_key=True)
    tokens: str | None = None
    refilled_at: datetime | None = Field(default=None, sa_type=UtcTime)
    #: the local day that `day_count` counts, and the day or month that `spent` sums up
    day: str | None = None
    day_count: int = 0
    period: str | None = None
    spent: str | None = None
    unit_cost: str | None = None
    #: the vendor said "not before"
    blocked_until: datetime | None = Field(default=None, sa_type=UtcTime)
    failures_in_a_row: int = 0
    #: how often in a row the circuit opened
    opened: int = 0
    open_until: datetime | None = Field(default=None, sa_type=UtcTime)
    #: somebody is sending the one message that tells whether it answers again
    probing_until: datetime | None = Field(default=None, sa_type=UtcTime)
    probing_by: str | None = None
    error: str | None = None
    #: who alone may use an exclusive gateway, until when
    leased_by: str | None = None
    lease_until: datetime | None = Field(default=None, sa_type=UtcTime)


class PauseRow(SQLModel, table=True):
    """Something that does not leave until it is resumed: `all`, or a channel, template or gateway by name.

    `fingerprint` tells the settings a gateway had when crmkit paused it: other settings lift the pause.
    """

    __tablename__ = "pause"

    scope: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    reason: str | None = None
    actor: str
    since: datetime = Field(sa_type=UtcTime)
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """An amount that may be spent in a day or a month."""

    amount: Decimal
    currency: str
    period: str

    @classmethod
    def read(cls, written: Any) -> "Budget":
        """A budget written as `20 EUR/day`.

        Raises:
            ValueError: it is not written so.
        """
        if isinstance(written, Budget):
            return written
        found = _BUDGET.fullmatch(written.strip()) if isinstance(written, str) else None
        if found is None:
            raise ValueError('should be an amount by day or month, like "20 EUR/day"')
        return cls(Decimal(found[1]), found[2], found[3])


def read_rate(written: Any) -> float:
    """Messages per second, written as `50/s`, `600/m` or `1000/h`.

    Raises:
        ValueError: it is not written so.
    """
    if isinstance(written, float):
        return written
    found = _RATE.fullmatch(written.strip()) if isinstance(written, str) else None
    if found is None or int(found[1]) == 0:
        raise ValueError('should be messages per second, minute or hour, like "50/s"')
    return int(found[1]) / _SECONDS[found[2]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What an entry's configuration allows.

    Attributes:
        rate: messages per second.
        daily: messages in a day of the installation's zone.
        budget: money in a day or month of the installation's zone.
    """

    rate: float | None = None
    daily: int | None = None
    budget: Budget | None = None

    @property
    def any(self) -> bool:
        """Whether anything is limited at all."""
        return self.rate is not None or self.daily is not None or self.budget is not None


#: As much as there is.
UNLIMITED = Limits()


@dataclass(slots=True)
class Quota:
    """The row as it is worked with; `changed` tells whether it has to be written back."""

    name: str
    tokens: float | None = None
    refilled_at: datetime | None = None
    day: str | None = None
    day_count: int = 0
    period: str | None = None
    spent: str | None = None
    unit_cost: str | None = None
    blocked_until: datetime | None = None
    failures_in_a_row: int = 0
    opened: int = 0
    open_until: datetime | None = None
    probing_until: datetime | None = None
    probing_by: str | None = None
    error: str | None = None
    leased_by: str | None = None
    lease_until: datetime | None = None

    # how much may leave

    def refill(self, limits: Limits, now: datetime, zone: ZoneInfo, batch: int = 1) -> None:
        """Bring tokens, day and period up to `now`."""
        if limits.rate is not None:
            most = _bucket(limits.rate, batch)
            if self.tokens is None or self.refilled_at is None:
                self.tokens, self.refilled_at = most, now
            elif now > self.refilled_at:
                grown = (now - self.refilled_at).total_seconds() * limits.rate
                self.tokens, self.refilled_at = min(most, self.tokens + grown), now
        today = now.astimezone(zone).date().isoformat()
        if self.day is None or today > self.day:
            self.day, self.day_count = today, 0
        if limits.budget is not None:
            period = today if limits.budget.period == "day" else today[:7]
            if self.period is None or len(self.period) != len(period) or period > self.period:
                self.period, self.spent = period, None

    def room(self, limits: Limits, wanted: int) -> tuple[int, str | None]:
        """How many of `wanted` messages may leave, and by what they are held up: `rate`, `daily` or `budget`."""
        room, why = wanted, None
        if limits.rate is not None:
            room, why = _less(room, why, int((self.tokens or 0.0) + 1e-6), "rate")
        if limits.daily is not None:
            room, why = _less(room, why, limits.daily - self.day_count, "daily")
        if limits.budget is not None:
            left = self.left(limits)
            if left <= 0 or left < money(self.unit_cost):
                return 0, "budget"
            if self.unit_cost is None:
                room, why = _less(room, why, UNPRICED, None)
        return max(0, room), why

    def left(self, limits: Limits) -> Decimal:
        """What is left of the budget; nothing where there is none."""
        return limits.budget.amount - money(self.spent) if limits.budget is not None else Decimal(0)

    def price(self, segments: int | None) -> Decimal:
        """What a message will cost, so far as can be told."""
        return money(self.unit_cost) * max(1, segments or 1)

    def take(self, limits: Limits, count: int, cost: Decimal) -> None:
        """So many messages are on their way, and will cost about so much."""
        if self.tokens is not None and limits.rate is not None:
            self.tokens -= count
        self.day_count += count
        self.spend(limits, cost)

    def give_back(self, limits: Limits, count: int, cost: Decimal, batch: int = 1) -> None:
        """So many did not leave after all."""
        if self.tokens is not None and limits.rate is not None:
            self.tokens = min(_bucket(limits.rate, batch), self.tokens + count)
        self.day_count = max(0, self.day_count - count)
        self.spend(limits, -cost)

    def spend(self, limits: Limits, cost: Decimal) -> None:
        """More was spent, or less than was thought."""
        if limits.budget is not None and cost:
            self.spent = str(max(Decimal(0), money(self.spent) + cost))

    def again_at(self, limits: Limits, why: str, now: datetime, zone: ZoneInfo, batch: int = 1) -> datetime:
        """When there is room again, held up as `room` says."""
        if why == "rate" and limits.rate is not None:
            wanted = float(batch) if batch > 1 else max(1.0, _bucket(limits.rate) / 2)
            lacking = max(0.0, wanted - (self.tokens or 0.0)) / limits.rate
            return max(now, self.refilled_at or now) + timedelta(microseconds=math.ceil(lacking * 1e6))
        day = now.astimezone(zone).date()
        month = limits.budget is not None and limits.budget.period == "month" and why == "budget"
        first = (day.replace(day=28) + timedelta(days=4)).replace(day=1) if month else day + timedelta(days=1)
        midnight = datetime(first.year, first.month, first.day, tzinfo=zone)
        return midnight.astimezone(UTC)

    # whether it answers

    def is_open(self, now: datetime) -> bool:
        """Whether nothing may be sent because the last tries came to nothing."""
        return self.open_until is not None and now < self.open_until

    def may_probe(self, now: datetime) -> bool:
        """Whether one message may be sent to see if it answers again."""
        return self.open_until is not None and not self.is_open(now)

    def waits_until(self, now: datetime) -> datetime | None:
        """Until when nobody claims anything: the vendor asked to wait, or somebody is probing."""
        times = [at for at in (self.blocked_until, self.probing_until) if at is not None and at > now]
        return max(times, default=None)

    def failed(self, now: datetime, error: str) -> None:
        """A try came to nothing; several in a row, or one that was a probe, open the circuit."""
        self.failures_in_a_row += 1
        self.error = error
        if self.is_open(now):
            return
        if self.failures_in_a_row >= OPEN_AFTER or self.open_until is not None:
            self.trip(now, error)

    def trip(self, now: datetime, error: str) -> None:
        """Open the circuit, for twice as long as the last time."""
        pause: timedelta = min(PAUSE_FIRST * 2 ** min(self.opened, 20), PAUSE_MOST)
        self.opened += 1
        self.failures_in_a_row = max(self.failures_in_a_row, OPEN_AFTER)
        self.open_until, self.probing_until, self.error = now + pause, None, error

    def answered(self) -> None:
        """The vendor spoke: the circuit is closed."""
        self.failures_in_a_row = self.opened = 0
        self.open_until = self.probing_until = self.error = None


def _bucket(rate: float, batch: int = 1) -> float:
    """How many tokens are kept at the most: what comes in a tenth of a second, one batch at least.

    Little, so that in no second more leaves than the rate and a tenth.
    """
    return max(1.0, float(batch), rate / 10)


def _less(room: int, why: str | None, other: int, reason: str | None) -> tuple[int, str | None]:
    return (other, reason) if other < room else (room, why)


def money(text: str | None) -> Decimal:
    """An amount as it is kept; none is nothing."""
    try:
        return Decimal(text or 0)
    except InvalidOperation:
        return Decimal(0)
