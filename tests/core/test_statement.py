"""A customer's account: what each entry does to the balance, whatever the shop reports and in whatever order."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.bill import Bill, bill_of
from crmkit.core.money import Money
from crmkit.core.order import MILESTONES, Order
from crmkit.core.records import PaymentState
from crmkit.core.statement import account_of, entries_of

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NOON_OF = {"placed": None, "cancelled": NOW - 2 * DAY}
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
    **times: datetime | None,
) -> Bill:
    """An order with payments and refunds as (minor units, when)."""
    said: Any = {"placed_at": NOW - 10 * DAY, **times}
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


@pytest.mark.parametrize("status", ["placed", "cancelled"])
def test_more_went_back_than_is_known_to_be_paid_so_not_all_payments_are_known(status: str):
    one = bill(status=status, cancelled_at=NOON_OF[status], refunds=[(100_00, NOW - DAY)])
    assert (one.open, one.doubt) == (None, "unclear")
    assert all(entry.balance is None for entry in account_of([one])[0])


@pytest.mark.parametrize("status", ["placed", "cancelled"])
@pytest.mark.parametrize("refunds", [[60_00], [20_00, 40_00], [55_00, 5_00]])
def test_what_goes_back_beyond_what_was_paid_is_the_buyers_and_no_debt(status: str, refunds: list[int]):
    back = [(minor, NOW - (3 - i) * DAY) for i, minor in enumerate(refunds)]
    paid = [(50_00, NOW - 5 * DAY)]
    one = bill(total=50_00, status=status, cancelled_at=NOON_OF[status], payments=paid, refunds=back)
    assert opened(one) == 0
    assert one.surplus == Money(Decimal(10), "EUR")
    assert sum(entry.surplus.amount for entry in entries_of(one) if entry.surplus is not None) == 10
    assert all(entry.balance is None or entry.balance.amount <= 50 for entry in account_of([one])[0])


@pytest.mark.parametrize(
    ("said", "is_paid", "doubt", "open_"),
    [
        ({"payment_state": "paid"}, True, None, 0),
        ({"payment_state": "paid", "paid_minor": 40_00}, True, None, 0),
        ({"payment_state": "paid", "paid_minor": 120_00}, True, None, -20),
        ({"payment_state": "paid", "reports": frozenset()}, True, None, 0),
        ({"payment_state": "unknown", "paid_at": NOW}, True, None, 0),
        ({"payment_state": "unknown", "paid_at": NOW, "paid_minor": 40_00}, False, None, 60),
        ({"payment_state": "partial"}, False, "partial", None),
        ({"payment_state": "partial", "paid_at": NOW}, False, "partial", None),
        ({"payment_state": "partial", "paid_minor": 40_00}, False, None, 60),
        ({"payment_state": "partial", "payments": [(40_00, NOW)]}, False, None, 60),
        ({"payment_state": "authorized"}, False, "authorized", None),
        ({"payment_state": "authorized", "paid_at": NOW, "paid_minor": 100_00}, False, "authorized", None),
        ({"payment_state": "authorized", "payments": [(100_00, NOW)]}, False, None, 0),
        ({"payment_state": "failed"}, False, None, 100),
        ({"payment_state": "failed", "paid_at": NOW}, False, None, 100),
        ({"payment_state": "failed", "paid_minor": 100_00}, False, "unclear", None),
        ({"payment_state": "pending"}, False, None, 100),
        ({"payment_state": "pending", "paid_at": NOW}, False, "unclear", None),
        ({"payment_state": "pending", "paid_minor": 40_00}, False, None, 60),
    ],
)
def test_what_the_shop_says_of_the_payment(said: Any, is_paid: bool, doubt: str | None, open_: int | None):
    one = bill(**said)
    assert (one.is_paid, one.doubt, opened(one)) == (is_paid, doubt, open_)


@given(
    state=st.sampled_from(list(PaymentState)),
    status=st.sampled_from(["placed", "cancelled"]),
    total=st.integers(0, 9),
    paid_minor=st.none() | st.integers(0, 9),
    payments=st.lists(st.tuples(st.integers(0, 9), st.sampled_from([NOW, NOW - DAY])), max_size=2),
    refunds=st.lists(st.tuples(st.integers(0, 12), st.sampled_from([NOW, NOW - 2 * DAY])), max_size=2),
    paid_at=st.sampled_from([None, NOW - DAY]),
)
def test_whatever_is_said_no_debt_is_made_up(state: PaymentState, status: str, **said: Any):
    one = bill(payment_state=state, status=status, cancelled_at=NOON_OF[status], **said)
    left = opened(one)
    assert left is None or left == sum(entry.effect for entry in entries_of(one))
    if left is not None:
        assert one.charged is not None
        assert left <= one.charged.amount
        assert status != "cancelled" or left <= 0
        assert state != "paid" or left <= 0
        assert not one.is_paid or left <= 0
    for balance in account_of([one])[1].values():
        assert status != "cancelled" or balance.amount <= 0


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
