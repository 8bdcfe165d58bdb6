"""A rate, a day and a budget hold together; a circuit opens, lets one try through, and closes."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.quota import OPEN_AFTER, PAUSE_FIRST, PAUSE_MOST, Budget, Limits, Quota, read_rate

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
