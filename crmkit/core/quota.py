"""What one gateway account may still send, and whether it answers: one row for the whole fleet.

A claim takes its size from the row in its own transaction, so rate, day cap and budget hold for every process together.
The circuit opens after several tries in a row that came to nothing, lets one message through after a pause, and closes
when that gets an answer; each pause is twice the one before.
"""

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from sqlmodel import Field, SQLModel

from crmkit.core.columns import UtcTime
from crmkit.core.money import Money

#: So many tries in a row without an answer open a circuit.
OPEN_AFTER = 5
#: It stays open this long, twice as long each time its probe fails, up to the most.
PAUSE_FIRST, PAUSE_MOST = timedelta(minutes=1), timedelta(hours=1)
#: The clocks of a fleet may differ by so much. What is dated further ahead than this and its own longest length was
#: written by a run ahead of time, and counts as over.
SKEW = timedelta(minutes=5)
#: A vendor is left alone for no longer than this, whatever it asks for.
BLOCK_MOST = timedelta(days=1)
#: A vendor that says "not now" for longer than this is passed over where another gateway can take its messages.
PATIENCE = timedelta(minutes=5)
#: A message that is being sent, and so a probe, is somebody's no longer than this.
CLAIM_MOST = timedelta(minutes=5)
#: The holder of an exclusive gateway that does not renew its lease loses it after this long.
HOLD_MOST = timedelta(minutes=1)
#: While nothing is known of what a message costs, so many at once are claimed against a budget.
UNPRICED = 10
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_RATE = re.compile(r"([0-9]{1,9}) ?/ ?([smh])")
_PRICE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?([A-Z]{3})")
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
    #: since when it has not answered
    down_since: datetime | None = Field(default=None, sa_type=UtcTime)
    #: who alone may use an exclusive gateway, until when
    leased_by: str | None = None
    lease_until: datetime | None = Field(default=None, sa_type=UtcTime)
    #: since when its tries and bounces are counted: since it was last resumed
    watched_from: datetime | None = Field(default=None, sa_type=UtcTime)


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


def read_price(written: Any) -> Money:
    """A price written as `0.05 EUR`.

    Raises:
        ValueError: it is not written so.
    """
    if isinstance(written, Money):
        return written
    found = _PRICE.fullmatch(written.strip()) if isinstance(written, str) else None
    if found is None:
        raise ValueError('should be an amount of money, like "0.05 EUR"')
    return Money(Decimal(found[1]), found[2])


def read_rate(written: Any, what: str = "messages") -> float:
    """Messages, or whatever else, per second, written as `50/s`, `600/m` or `1000/h`.

    Raises:
        ValueError: it is not written so.
    """
    if isinstance(written, float):
        return written
    found = _RATE.fullmatch(written.strip()) if isinstance(written, str) else None
    if found is None or int(found[1]) == 0:
        raise ValueError(f'should be {what} per second, minute or hour, like "50/s"')
    return int(found[1]) / _SECONDS[found[2]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What an entry's configuration allows.

    Attributes:
        rate: messages per second.
        daily: messages in a day of the installation's zone.
        budget: money in a day or month of the installation's zone.
        price: what a segment costs until the vendor says, in the budget's currency.
    """

    rate: float | None = None
    daily: int | None = None
    budget: Budget | None = None
    price: Decimal | None = None

    @property
    def any(self) -> bool:
        """Whether anything is limited at all."""
        return self.rate is not None or self.daily is not None or self.budget is not None


#: As much as there is.
UNLIMITED = Limits()


@dataclass(frozen=True, slots=True)
class Share:
    """What a message took of its account as it was claimed, and when."""

    taken_at: datetime | None
    reserved: Decimal = Decimal(0)


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
    down_since: datetime | None = None
    leased_by: str | None = None
    lease_until: datetime | None = None
    watched_from: datetime | None = None
    #: since when it had not answered as it was read
    was_down_since: datetime | None = None

    # how much may leave

    def refill(self, limits: Limits, now: datetime, zone: ZoneInfo, batch: int = 1) -> None:
        """Bring tokens, day and period up to `now`."""
        if limits.rate is not None:
            most = _bucket(limits.rate, batch)
            if self.tokens is None or self.refilled_at is None or self.refilled_at > now + SKEW:
                self.tokens, self.refilled_at = most, now
            elif now > self.refilled_at:
                grown = (now - self.refilled_at).total_seconds() * limits.rate
                self.tokens, self.refilled_at = min(most, self.tokens + grown), now
        today, latest = _day(now, zone), _day(now + SKEW, zone)
        if self.day is None or not today <= self.day <= latest:
            self.day, self.day_count = today, 0
        if limits.budget is not None:
            size = len(_period(limits.budget, today))
            if self.period is None or len(self.period) != size or not today[:size] <= self.period <= latest[:size]:
                self.period, self.spent = today[:size], None

    def room(self, limits: Limits, wanted: int) -> tuple[int, str | None]:
        """How many of `wanted` messages may leave, and by what they are held up: `rate`, `daily` or `budget`."""
        room, why = wanted, None
        if limits.rate is not None:
            room, why = _less(room, why, int((self.tokens or 0.0) + 1e-6), "rate")
        if limits.daily is not None:
            room, why = _less(room, why, limits.daily - self.day_count, "daily")
        if limits.budget is not None:
            left = self.left(limits)
            unit = self.unit(limits)
            if left <= 0 or (unit is not None and left < unit):
                return 0, "budget"
            if unit is None:
                room, why = _less(room, why, UNPRICED, None)
        return max(0, room), why

    def left(self, limits: Limits) -> Decimal:
        """What is left of the budget; nothing where there is none."""
        return limits.budget.amount - money(self.spent) if limits.budget is not None else Decimal(0)

    def unit(self, limits: Limits) -> Decimal | None:
        """What a segment costs: as it cost last, else as its entry says; None where neither is known."""
        return limits.price if self.unit_cost is None else money(self.unit_cost)

    def price(self, limits: Limits, segments: int | None) -> Decimal:
        """What a message will cost, so far as can be told."""
        return (self.unit(limits) or Decimal(0)) * max(1, segments or 1)

    def take(self, limits: Limits, count: int, cost: Decimal) -> None:
        """So many messages are on their way, and will cost about so much."""
        if self.tokens is not None and limits.rate is not None:
            self.tokens -= count
        self.day_count += count
        self.spend(limits, cost)

    def give_back(self, limits: Limits, shares: Sequence[Share], zone: ZoneInfo, batch: int = 1) -> None:
        """These were not tried after all. What was taken on another day is no part of what is counted now."""
        if self.tokens is not None and limits.rate is not None:
            self.tokens = min(_bucket(limits.rate, batch), self.tokens + len(shares))
        for share in shares:
            self.free(limits, share, zone)

    def free(self, limits: Limits, share: Share, zone: ZoneInfo, *, counts: bool = False) -> None:
        """One was tried and cost nothing; nor does it count for its day, unless `counts`."""
        if not counts and self._is_of_day(share, zone):
            self.day_count = max(0, self.day_count - 1)
        if self._is_of_period(limits, share, zone):
            self.spend(limits, -share.reserved)

    def settle(self, limits: Limits, share: Share, cost: Money, segments: int | None, zone: ZoneInfo) -> bool:
        """One cost so much; whether that says anything about the budget: another currency does not."""
        if limits.budget is None or cost.currency != limits.budget.currency:
            return False
        more = cost.amount - share.reserved
        if more > 0 or self._is_of_period(limits, share, zone):
            self.spend(limits, more)
        self.unit_cost = str(cost.amount / max(1, segments or 1))
        return True

    def spend(self, limits: Limits, cost: Decimal) -> None:
        """More was spent, or less than was thought."""
        if limits.budget is not None and cost:
            self.spent = str(max(Decimal(0), money(self.spent) + cost))

    def _is_of_day(self, share: Share, zone: ZoneInfo) -> bool:
        return share.taken_at is not None and self.day == _day(share.taken_at, zone)

    def _is_of_period(self, limits: Limits, share: Share, zone: ZoneInfo) -> bool:
        if share.taken_at is None or limits.budget is None:
            return False
        return self.period == _period(limits.budget, _day(share.taken_at, zone))

    def again_at(self, limits: Limits, why: str, now: datetime, zone: ZoneInfo, batch: int = 1) -> datetime:
        """When there is room again, held up as `room` says."""
        if why == "rate" and limits.rate is not None:
            wanted = float(batch) if batch > 1 else max(1.0, _bucket(limits.rate) / 2)
            lacking = max(0.0, wanted - (self.tokens or 0.0)) / limits.rate
            since = max(now, _near(self.refilled_at, now, timedelta(0)) or now)
            return since + timedelta(microseconds=math.ceil(lacking * 1e6))
        day = now.astimezone(zone).date()
        month = limits.budget is not None and limits.budget.period == "month" and why == "budget"
        first = (day.replace(day=28) + timedelta(days=4)).replace(day=1) if month else day + timedelta(days=1)
        midnight = datetime(first.year, first.month, first.day, tzinfo=zone)
        return midnight.astimezone(UTC)

    # whether it answers

    def is_open(self, now: datetime) -> bool:
        """Whether nothing may be sent because the last tries came to nothing."""
        until = _near(self.open_until, now, PAUSE_MOST)
        return until is not None and now < until

    def may_probe(self, now: datetime) -> bool:
        """Whether one message may be sent to see if it answers again."""
        return self.open_until is not None and not self.is_open(now)

    def waits_until(self, now: datetime) -> datetime | None:
        """Until when nobody claims anything: the vendor asked to wait, or somebody is probing."""
        times = (_near(self.blocked_until, now, BLOCK_MOST), _near(self.probing_until, now, CLAIM_MOST))
        return max((at for at in times if at is not None and at > now), default=None)

    def shut_until(self, now: datetime) -> datetime | None:
        """Until when its messages go by others: it is down, or its vendor asked to wait for long; None: it is not."""
        if self.is_open(now):
            return self.open_until
        until = _near(self.blocked_until, now, BLOCK_MOST)
        return until if until is not None and until - now > PATIENCE else None

    def block(self, until: datetime, now: datetime) -> None:
        """The vendor asked to be left alone until then."""
        known = _near(self.blocked_until, now, BLOCK_MOST)
        self.blocked_until = max(min(until, now + BLOCK_MOST), known or now)

    def probe(self, claim_id: str, until: datetime) -> None:
        """This claim sends the one message that tells whether it answers again."""
        self.probing_until, self.probing_by = until, claim_id

    def end_probe(self, claim_ids: Collection[str]) -> bool:
        """What one of these claims sent to see if it answers is known, or did not leave; whether one of them did so."""
        if self.probing_by is None or self.probing_by not in claim_ids:
            return False
        self.probing_until = self.probing_by = None
        return True

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
        self.down_since = self.down_since or now
        self.failures_in_a_row = max(self.failures_in_a_row, OPEN_AFTER)
        self.open_until, self.probing_until, self.probing_by, self.error = now + pause, None, None, error

    def answered(self) -> None:
        """The vendor spoke: the circuit is closed."""
        self.failures_in_a_row = self.opened = 0
        self.open_until = self.probing_until = self.probing_by = self.error = self.down_since = None

    # who alone may use it

    def held_by(self, now: datetime) -> str | None:
        """Who alone may use an exclusive gateway by the real clock; None: whoever takes it."""
        until = _near(self.lease_until, now, HOLD_MOST)
        return self.leased_by if until is not None and until > now else None


def _near(at: datetime | None, now: datetime, longest: timedelta) -> datetime | None:
    """A time, unless it is so far ahead that a run ahead of time must have written it."""
    return None if at is None or at > now + longest + SKEW else at


def _day(at: datetime, zone: ZoneInfo) -> str:
    return at.astimezone(zone).date().isoformat()


def _period(budget: Budget, day: str) -> str:
    return day if budget.period == "day" else day[:7]


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
