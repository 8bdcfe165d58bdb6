"""A customer's account: what each entry does to the balance, whatever the shop reports and in whatever order."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.money import Money
from crmkit.core.order import MILESTONES, Order
from crmkit.core.statement import Bill, account_of, bill_of, entries_of

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ALL = frozenset({"placed", "paid", "payments", "refunds", "cancelled"})


def bill(
    *,
    number: int = 1,
    total: int | None = 100_00,
    payments: Any = (),
    refunds: Any = (),
    reports: frozenset[str] = ALL,
    basis: str = "buyer_charge",
    status: str = "placed",
    paid_minor: int | None = None,
    payment_state: str = "unknown",
    **times: datetime,
) -> Bill:
    """An order with payments and refunds as (minor units, when)."""
    said = {"placed_at": NOW - 10 * DAY, **times}
    order = Order(number, 1, str(number), str(number), status, "EUR", basis, Money.of_minor(total, "EUR"), None, **said)
    row = {"paid_minor": paid_minor, "payment_state": payment_state, "parcel_total": None}
    came = [
        {"id": number * 100 + i, "paid_at": at, "amount_minor": minor, "currency": "EUR", "method": None}
        for i, (minor, at) in enumerate(payments)
    ]
    went = [
        {
            "id": number * 100 + i,
            "refunded_at": at,
            "refunded_minor": minor,
            "requested_at": None,
            "requested_minor": None,
            "currency": "EUR",
        }
        for i, (minor, at) in enumerate(refunds)
    ]
    return bill_of(row, order, came, went, reports, NOW)


def opened(one: Bill) -> Decimal | None:
    return one.open.amount if one.open is not None else None


def kinds(one: Bill) -> list[str]:
    return [entry.kind for entry in entries_of(one)]


def test_a_paid_order_comes_to_nothing():
    assert opened(bill(payments=[(100_00, NOW - DAY)])) == 0


def test_what_is_said_to_be_paid_beyond_known_payments_is_an_entry_of_its_own():
    one = bill(payments=[(30_00, NOW - 3 * DAY)], paid_at=NOW - DAY)
    assert kinds(one) == ["order", "payment", "paid"]
    assert opened(one) == 0


def test_partly_paid_is_not_paid():
    one = bill(paid_at=NOW - DAY, payment_state="partial", paid_minor=40_00)
    assert (one.is_paid, opened(one)) == (False, 60)


def test_a_refund_leaves_the_balance_as_it_was():
    assert opened(bill(paid_at=NOW - 5 * DAY, refunds=[(30_00, NOW - DAY)])) == 0


@pytest.mark.parametrize("refunded", [NOW - 3 * DAY, NOW - DAY])
def test_a_cancelled_order_that_was_refunded_comes_to_nothing_in_either_order(refunded: datetime):
    one = bill(paid_at=NOW - 5 * DAY, cancelled_at=NOW - 2 * DAY, status="cancelled", refunds=[(100_00, refunded)])
    assert opened(one) == 0


def test_a_cancelled_order_that_was_partly_refunded_owes_the_rest():
    one = bill(paid_at=NOW - 5 * DAY, cancelled_at=NOW - 2 * DAY, status="cancelled", refunds=[(30_00, NOW - DAY)])
    assert opened(one) == -70


@pytest.mark.parametrize(
    "one",
    [
        bill(total=None),
        bill(basis="seller_proceeds"),
        bill(reports=frozenset({"placed"})),
        bill(reports=frozenset({"placed", "paid"}), paid_at=NOW - DAY, cancelled_at=NOW - DAY, status="cancelled"),
    ],
    ids=["no price", "not the buyer's", "no payments told", "no returns told"],
)
def test_what_cannot_be_told_counts_for_nothing(one: Bill):
    entries, balances = account_of([one, bill(number=2, total=5_00)])
    assert opened(one) is None
    assert [str(money) for money in balances.values()] == ["EUR 5.00"]
    assert all(entry.balance is None for entry in entries if entry.order_id == 1)


def test_what_comes_later_is_not_there_yet():
    assert kinds(bill(payments=[(100_00, NOW + DAY)], refunds=[(1_00, NOW + DAY)])) == ["order"]


def test_an_order_that_has_reached_nothing_is_not_on_the_account():
    assert entries_of(bill(placed_at=None)) == []  # type: ignore[arg-type]


TIMES = st.integers(0, 9).map(lambda days: NOW - days * DAY)
MOVED = st.lists(st.tuples(st.integers(1, 200_00), TIMES), max_size=4)


@given(
    st.lists(
        st.builds(
            bill,
            number=st.integers(1, 9),
            total=st.none() | st.integers(0, 200_00),
            payments=MOVED,
            refunds=MOVED,
            status=st.sampled_from(MILESTONES),
            paid_minor=st.none() | st.integers(0, 200_00),
            placed_at=TIMES,
            cancelled_at=TIMES,
        ),
        max_size=6,
        unique_by=lambda one: one.order.id,
    ),
    st.randoms(),
)
def test_an_account_adds_up_in_order_of_time(bills: list[Bill], random: Any):
    entries, balances = account_of(bills)
    assert len({entry.key for entry in entries}) == len(entries)
    running = Decimal(0)
    for entry in entries:
        if entry.counts:
            running += entry.effect
            assert entry.balance == Money(running, "EUR")
    alone = [one.open.amount for one in bills if one.open is not None]
    assert [money.amount for money in balances.values()] == ([sum(alone)] if alone else [])
    shuffled = random.sample(bills, len(bills))
    assert account_of(shuffled) == (entries, balances)
    assert [entry.seen for entry in entries] == [entry.seen for entry in account_of(shuffled)[0]]
