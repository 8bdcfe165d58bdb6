"""What an order costs its buyer and what was paid of it, as far as its shop says.

What a shop does not say is not made up: where it cannot be told what was paid, it cannot be told what is open.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from crmkit.core.money import Money
from crmkit.core.order import MILESTONES, Order
from crmkit.core.records import AmountBasis, PaymentState


@dataclass(frozen=True, slots=True)
class Payment:
    """Money that came in for an order. `at` is None where the shop does not say when."""

    key: str
    amount: Money
    at: datetime | None = None
    method: str | None = None


@dataclass(frozen=True, slots=True)
class Return:
    """Money that goes back to the buyer: `at` once it went, `asked_at` once it was asked for."""

    key: str
    amount: Money | None = None
    at: datetime | None = None
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Bill:
    """What an order costs its buyer, and what was paid of it.

    Attributes:
        order: the order as known at the moment.
        charged: what its buyer is charged; None where the shop does not say.
        payments, returns: in order of time.
        is_paid: the shop says it is paid.
        is_told: whether the shop would say if something were paid, and of a cancelled order, if it were given back.
        doubt: why it is not known what was paid of what is due: `authorized` (and not taken yet), `partial` (and not
            how much), `unclear` (the shop says one thing and the other); None where it is known.
        parcel_total: of how many parcels the order consists, where the shop says.
    """

    order: Order
    charged: Money | None
    payments: tuple[Payment, ...]
    returns: tuple[Return, ...]
    is_paid: bool
    is_told: bool
    doubt: str | None = None
    parcel_total: int | None = None

    @property
    def counts(self) -> bool:
        """Whether what is open can be told: the price and the payments are known, and of one currency."""
        gone = [one for one in self.returns if one.at is not None]
        moved = [one.amount for one in self.payments] + [one.amount for one in gone if one.amount is not None]
        return (
            self.charged is not None
            and self.is_told
            and self.doubt is None
            and all(one.amount is not None for one in gone)
            and all(amount.currency == self.charged.currency for amount in moved)
        )

    @property
    def paid(self) -> Money | None:
        """What was paid in all, None where it is of several currencies, or nothing."""
        return sum_of([one.amount for one in self.payments])

    @property
    def returned(self) -> Money | None:
        """What went back in all, None where it is of several currencies, or nothing."""
        return sum_of([one.amount for one in self.returns if one.at is not None and one.amount is not None])

    @property
    def open(self) -> Money | None:
        """What is still to be paid; less than nothing where something is to go back. None: it cannot be told.

        Of a cancelled order nothing is. A return lowers the price as far as that goes, and then gives back what was
        paid beyond it; what went back beyond that is the buyer's to keep.
        """
        if not self.counts or self.charged is None:
            return None
        charged, paid, back = self.charged.amount, _amount(self.paid), _amount(self.returned)
        if self.order.is_cancelled:
            left = min(Decimal(0), back - paid)
        else:
            left = charged - paid + min(max(Decimal(0), back - charged), max(Decimal(0), paid - charged))
        return Money(left, self.charged.currency)

    @property
    def surplus(self) -> Money | None:
        """What went back beyond all that was paid; None where nothing did, or where it cannot be told."""
        beyond = _amount(self.returned) - _amount(self.paid)
        return Money(beyond, self.charged.currency) if self.counts and self.charged and beyond > 0 else None


def bill_of(
    row: Mapping[str, Any],
    order: Order,
    payments: Iterable[Mapping[str, Any]],
    refunds: Iterable[Mapping[str, Any]],
    reports: frozenset[str],
    now: datetime,
) -> Bill:
    """The bill of an order as known at `now`.

    Args:
        row: the order as stored; `order` is its view.
        payments, refunds: as stored.
        reports: what the shop can tell.
    """
    is_buyers = order.basis == AmountBasis.BUYER_CHARGE
    came = [
        Payment(f"payment-{one['id']}", amount, one["paid_at"], one["method"])
        for one in payments
        if one["paid_at"] is not None
        and one["paid_at"] <= now
        and (amount := Money.of_minor(one["amount_minor"], one["currency"])) is not None
    ]
    charged = order.total if is_buyers else None
    said = _said_paid(row, order) if is_buyers else None
    known = sum_of([one.amount for one in came])
    if said is not None and (known is None or known.currency == said.currency):
        rest = said.amount - _amount(known)
        if rest > 0 and len({one.amount.currency for one in came}) < 2:
            came.append(Payment(f"paid-{order.id}", Money(rest, said.currency), order.paid_at))
    began = began_at(order) or now
    back = tuple(sorted(_returns(refunds, now), key=lambda one: (one.at or one.asked_at or now, one.key)))
    tells_payments = bool(came) or order.paid_at is not None or not reports.isdisjoint({"paid", "payments"})
    tells_returns = bool(back) or "refunds" in reports or not (came and order.is_cancelled)
    bill = Bill(
        order=order,
        charged=charged,
        payments=tuple(sorted(came, key=lambda one: (one.at or began, one.key))),
        returns=back,
        is_paid=_is_paid(row, order),
        is_told=tells_payments and tells_returns,
        parcel_total=row["parcel_total"],
    )
    return replace(bill, doubt=_doubt(row, bill))


def _is_paid(row: Mapping[str, Any], order: Order) -> bool:
    """Whether the shop says it is paid: in so many words, or by a time and nothing that speaks against it."""
    if row["payment_state"] == PaymentState.PAID:
        return True
    amount = Money.of_minor(row["paid_minor"], order.currency)
    is_short = amount is not None and order.total is not None and amount.amount < order.total.amount
    return row["payment_state"] == PaymentState.UNKNOWN and order.paid_at is not None and not is_short


def _said_paid(row: Mapping[str, Any], order: Order) -> Money | None:
    """What the order itself says was paid: an amount, or that it is paid, which is all of it."""
    amount = Money.of_minor(row["paid_minor"], order.currency)
    if row["payment_state"] in (PaymentState.AUTHORIZED, PaymentState.FAILED):
        return None
    if row["payment_state"] == PaymentState.PAID and amount is not None and order.total is not None:
        return max(amount, order.total, key=_amount)
    return amount if amount is not None else order.total if _is_paid(row, order) else None


def _doubt(row: Mapping[str, Any], bill: Bill) -> str | None:
    """Why it is not known what was paid. Payments that are known to cover the price leave no doubt."""
    state, order = row["payment_state"], bill.order
    charged, paid, back = _amount(bill.charged), _amount(bill.paid), _amount(bill.returned)
    if bill.charged is not None and paid >= charged and (bill.payments or not charged):
        return None
    some = bool(row["paid_minor"])
    if state == PaymentState.AUTHORIZED and not order.is_cancelled:
        return "authorized"
    if state == PaymentState.AUTHORIZED and (some or order.paid_at is not None):
        return "unclear"
    if state == PaymentState.PARTIAL and not bill.payments:
        return "partial"
    if state == PaymentState.FAILED and some:
        return "unclear"
    if state == PaymentState.PENDING and order.paid_at is not None and row["paid_minor"] is None and not bill.payments:
        return "unclear"
    return "unclear" if back > paid else None  # nobody gets back what was never paid: not all payments are known


def _amount(money: Money | None) -> Decimal:
    return money.amount if money is not None else Decimal(0)


def _returns(refunds: Iterable[Mapping[str, Any]], now: datetime) -> Iterable[Return]:
    for one in refunds:
        went = one["refunded_at"] if one["refunded_at"] is not None and one["refunded_at"] <= now else None
        asked = one["requested_at"] if one["requested_at"] is not None and one["requested_at"] <= now else None
        if went is not None or asked is not None:
            minor = one["refunded_minor"] if went is not None and one["refunded_minor"] is not None else None
            minor = one["requested_minor"] if minor is None else minor
            yield Return(f"return-{one['id']}", Money.of_minor(minor, one["currency"]), went, asked)


def sum_of(amounts: Sequence[Money]) -> Money | None:
    """What amounts of one currency come to; None where they are of several, or none."""
    currencies = {one.currency for one in amounts}
    return Money(sum((one.amount for one in amounts), Decimal(0)), currencies.pop()) if len(currencies) == 1 else None


def began_at(order: Order) -> datetime | None:
    """When the order began: its earliest milestone; None while it has reached none."""
    return min((at for name in MILESTONES if (at := getattr(order, f"{name}_at")) is not None), default=None)
