"""A rate, a day and a budget hold together; a circuit opens, lets one try through, and closes."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.money import Money
from crmkit.core.quota import OPEN_AFTER, PAUSE_FIRST, PAUSE_MOST, Budget, Limits, Quota, Share, read_price, read_rate

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ZONE = ZoneInfo("Asia/Shanghai")


@pytest.mark.parametrize(("written", "rate"), [("50/s", 50.0), ("60 / m", 1.0), ("1800/h", 0.5)])
def test_a_rate_is_written_by_second_minute_or_hour(written: str, rate: float) -> None:
    assert read_rate(written) == rate


@pytest.mark.parametrize("written", ["50", "0/s", "50/d", "-1/s", "a/s", 50, None])
def test_what_is_no_rate_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="50/s"):
        read_rate(written)


@pytest.mark.parametrize("written", ["20 EUR", "20/day", "EUR 20/day", "20 EUR/week", "-1 EUR/day", 20])
def test_what_is_no_budget_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="20 EUR/day"):
        Budget.read(written)
    assert Budget.read("0.5 EUR / month") == Budget(Decimal("0.5"), "EUR", "month")


@given(rate=st.sampled_from([0.5, 1.0, 7.0, 50.0, 400.0]), waits=st.lists(st.integers(0, 700), max_size=60))
def test_no_second_sees_more_than_the_rate_and_a_tenth(rate: float, waits: list[int]) -> None:
    """However often it is asked: within any second the bucket and what flows in."""
    # SEMANTICS 26
    limits, quota, now = Limits(rate=rate), Quota("x"), NOON
    left: list[tuple[datetime, int]] = []
    for wait in waits:
        now += timedelta(milliseconds=wait)
        quota.refill(limits, now, ZONE)
        room, _ = quota.room(limits, 1000)
        quota.take(limits, room, Decimal(0))
        left.append((now, room))
    for began, _ in left:
        within = sum(count for at, count in left if began <= at < began + timedelta(seconds=1))
        assert within <= rate + max(1.0, rate / 10) + 1e-6


def test_when_there_is_room_again_there_is() -> None:
    limits, quota = Limits(rate=3.0), Quota("x")
    now = NOON
    for _ in range(20):
        quota.refill(limits, now, ZONE)
        assert quota.room(limits, 5)[0] >= 1
        quota.take(limits, quota.room(limits, 5)[0], Decimal(0))
        now = quota.again_at(limits, "rate", now, ZONE)


def test_a_day_is_the_zones_and_begins_anew() -> None:
    limits, quota = Limits(daily=3), Quota("x")
    quota.refill(limits, NOON, ZONE)
    assert quota.room(limits, 10) == (3, "daily")
    quota.take(limits, 3, Decimal(0))
    assert quota.room(limits, 10) == (0, "daily")
    midnight = quota.again_at(limits, "daily", NOON, ZONE)
    assert midnight == datetime(2026, 3, 2, 16, tzinfo=UTC)
    quota.refill(limits, midnight, ZONE)
    assert quota.room(limits, 10) == (3, "daily")


def test_a_month_ends_at_its_last_midnight() -> None:
    limits, quota = Limits(budget=Budget(Decimal(1), "EUR", "month")), Quota("x", unit_cost="0.5", spent="1")
    assert quota.room(limits, 1) == (0, "budget")
    assert quota.again_at(limits, "budget", NOON, ZONE) == datetime(2026, 3, 31, 16, tzinfo=UTC)


def test_a_circuit_opens_lets_one_through_and_closes() -> None:
    quota, now = Quota("x"), NOON
    for _ in range(OPEN_AFTER - 1):
        quota.failed(now, "down")
        assert not quota.is_open(now)
    quota.failed(now, "down")
    assert quota.is_open(now)
    pauses = []
    for _ in range(9):
        assert quota.open_until is not None
        pauses.append(quota.open_until - now)
        now = quota.open_until
        assert quota.may_probe(now)
        quota.failed(now, "down")
    assert pauses[:3] == [PAUSE_FIRST, 2 * PAUSE_FIRST, 4 * PAUSE_FIRST]
    assert pauses[-1] == PAUSE_MOST
    quota.answered()
    assert not quota.is_open(now)
    assert not quota.may_probe(now)


def test_an_answer_begins_the_count_anew() -> None:
    quota = Quota("x")
    for _ in range(3):
        for _ in range(OPEN_AFTER - 1):
            quota.failed(NOON, "down")
        quota.answered()
    assert not quota.is_open(NOON)


def test_what_is_given_back_frees_nothing_of_another_day_or_month() -> None:
    # SEMANTICS 26
    limits = Limits(daily=9, budget=Budget(Decimal(1), "EUR", "month"))
    quota, eve = Quota("x"), datetime(2026, 3, 31, 15, 59, tzinfo=UTC)  # a minute before Shanghai's April
    quota.refill(limits, eve, ZONE)
    quota.take(limits, 2, Decimal("0.2"))
    share = Share(eve, Decimal("0.1"))
    quota.give_back(limits, [share], ZONE)
    assert (quota.day_count, quota.spent) == (1, "0.1")
    morning = eve + timedelta(minutes=2)
    quota.refill(limits, morning, ZONE)
    quota.take(limits, 1, Decimal("0.1"))
    quota.give_back(limits, [share], ZONE)
    quota.free(limits, share, ZONE)
    assert (quota.day_count, quota.spent) == (1, "0.1")
    assert quota.settle(limits, share, Money(Decimal("0.05"), "EUR"), 1, ZONE)
    assert (quota.spent, quota.unit_cost) == ("0.1", "0.05")
    quota.settle(limits, share, Money(Decimal("0.3"), "EUR"), 1, ZONE)
    assert quota.spent == "0.3"


def test_what_a_run_ahead_of_time_left_is_over() -> None:
    limits = Limits(rate=1.0, daily=2, budget=Budget(Decimal(1), "EUR", "day"))
    quota, far = Quota("x"), NOON + timedelta(days=30)
    quota.refill(limits, far, ZONE)
    quota.take(limits, 2, Decimal(1))
    quota.trip(far, "down")
    quota.block(far + timedelta(hours=1), far)
    quota.probe("sim", far + timedelta(minutes=5))
    quota.leased_by, quota.lease_until = "sim", far
    assert quota.is_open(far)
    assert quota.held_by(far - timedelta(seconds=1)) == "sim"
    assert (quota.is_open(NOON), quota.waits_until(NOON), quota.held_by(NOON)) == (False, None, None)
    quota.refill(limits, NOON, ZONE)
    assert quota.room(limits, 1) == (1, None)
    assert quota.room(limits, 9)[1] == "rate"
    assert quota.day == "2026-03-02"


def test_a_clock_that_is_a_little_behind_begins_no_day_and_no_bucket_anew() -> None:
    # SEMANTICS 26
    limits = Limits(rate=1.0, daily=2, budget=Budget(Decimal(1), "EUR", "day"))
    quota, midnight = Quota("x"), datetime(2026, 3, 2, 16, tzinfo=UTC)
    quota.refill(limits, midnight, ZONE)
    quota.take(limits, 2, Decimal(1))
    for behind in (3, 2, 1):
        quota.refill(limits, midnight - timedelta(seconds=behind), ZONE)
    assert (quota.day_count, quota.spent, quota.room(limits, 1)) == (2, "1", (0, "budget"))
    assert quota.tokens is not None
    assert quota.tokens < 1


def test_nobody_is_left_alone_for_longer_than_a_day_and_a_block_is_not_shortened() -> None:
    quota = Quota("x")
    quota.block(NOON + timedelta(days=300), NOON)
    assert quota.waits_until(NOON) == NOON + timedelta(days=1)
    quota.block(NOON + timedelta(minutes=1), NOON)
    assert quota.waits_until(NOON) == NOON + timedelta(days=1)


@pytest.mark.parametrize("written", ["0.05", "EUR 0.05", "-1 EUR", "0.05 eur", 1])
def test_what_is_no_price_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"0\.05 EUR"):
        read_price(written)
    assert read_price("0.05 EUR") == Money(Decimal("0.05"), "EUR")
