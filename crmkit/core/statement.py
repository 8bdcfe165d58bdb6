"""A customer's account with a shop: what was charged, what was paid, what went back, and what all of it comes to.

What a shop does not say is not made up: an order whose amounts are not the buyer's, or of whose payments the shop tells
nothing, is listed and counts for nothing.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from crmkit.core.money import Money
from crmkit.core.order import MILESTONES, Line, Order
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
        parcel_total: of how many parcels the order consists, where the shop says.
    """

    order: Order
    charged: Money | None
    payments: tuple[Payment, ...]
    returns: tuple[Return, ...]
    is_paid: bool
    is_told: bool
    parcel_total: int | None = None

    @property
    def counts(self) -> bool:
        """Whether what is open can be told: the price and the payments are known, and of one currency."""
        moved = [one.amount for one in self.payments]
        moved += [one.amount for one in self.returns if one.at is not None and one.amount is not None]
        return (
            self.charged is not None
            and self.is_told
            and all(one.amount is not None for one in self.returns if one.at is not None)
            and all(amount.currency == self.charged.currency for amount in moved)
        )

    @property
    def paid(self) -> Money | None:
        """What was paid in all, None where it is of several currencies, or nothing."""
        return _sum([one.amount for one in self.payments])

    @property
    def returned(self) -> Money | None:
        """What went back in all, None where it is of several currencies, or nothing."""
        return _sum([one.amount for one in self.returns if one.at is not None and one.amount is not None])

    @property
    def open(self) -> Money | None:
        """What is still to be paid; less than nothing where something is to go back. None: it cannot be told."""
        if not self.counts or self.charged is None:
            return None
        return Money(sum((entry.effect for entry in entries_of(self)), Decimal(0)), self.charged.currency)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an account, or one line of an order below its entry.

    Attributes:
        key: what tells it from every other; holds numbers and letters only.
        kind: `order`, `payment`, `paid` (the shop says so and no more), `return`, `cancelled`; `line`.
        number: what the buyer knows the order by.
        at: when; None where it is not known, `since` is when its order began.
        amount: charged more than nothing, paid less, returned more; None where it is not known.
        effect: what it changes in the balance: a return lowers the price and gives the money back, which is nothing.
        balance: what is open after it; None where it counts for nothing.
        lines: what the order consists of, where it was asked for.
    """

    key: str
    kind: str
    order_id: int
    number: str
    since: datetime
    at: datetime | None = None
    amount: Money | None = None
    effect: Decimal = Decimal(0)
    counts: bool = False
    balance: Money | None = None
    method: str | None = None
    title: str | None = None
    quantity: Decimal | None = None
    lines: tuple["Entry", ...] = field(default=())

    @property
    def seen(self) -> str:
        """A fingerprint of what is shown of it: another one once anything of that changed."""
        shown = [self.key, self.number, self.at, self.amount, self.method, self.title, self.quantity]
        said = json.dumps([*map(str, shown), *(line.seen for line in self.lines)])
        return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()


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
    known = _sum([one.amount for one in came])
    if said is not None and (known is None or known.currency == said.currency):
        rest = said.amount - (known.amount if known is not None else 0)
        if rest > 0 and len({one.amount.currency for one in came}) < 2:
            came.append(Payment(f"paid-{order.id}", Money(rest, said.currency), order.paid_at))
    began = began_at(order) or now
    back = tuple(sorted(_returns(refunds, now), key=lambda one: (one.at or one.asked_at or now, one.key)))
    tells_payments = bool(came) or order.paid_at is not None or not reports.isdisjoint({"paid", "payments"})
    tells_returns = bool(back) or "refunds" in reports or not (came and order.is_cancelled)
    return Bill(
        order=order,
        charged=charged,
        payments=tuple(sorted(came, key=lambda one: (one.at or began, one.key))),
        returns=back,
        is_paid=order.paid_at is not None and row["payment_state"] != PaymentState.PARTIAL,
        is_told=tells_payments and tells_returns,
        parcel_total=row["parcel_total"],
    )


def _said_paid(row: Mapping[str, Any], order: Order) -> Money | None:
    """What the order itself says was paid: an amount, or that it is paid."""
    if row["paid_minor"] is not None:
        return Money.of_minor(row["paid_minor"], order.currency)
    return order.total if order.paid_at is not None and row["payment_state"] != PaymentState.PARTIAL else None


def _returns(refunds: Iterable[Mapping[str, Any]], now: datetime) -> Iterable[Return]:
    for one in refunds:
        went = one["refunded_at"] if one["refunded_at"] is not None and one["refunded_at"] <= now else None
        asked = one["requested_at"] if one["requested_at"] is not None and one["requested_at"] <= now else None
        if went is not None or asked is not None:
            minor = one["refunded_minor"] if went is not None and one["refunded_minor"] is not None else None
            minor = one["requested_minor"] if minor is None else minor
            yield Return(f"return-{one['id']}", Money.of_minor(minor, one["currency"]), went, asked)


def _sum(amounts: Sequence[Money]) -> Money | None:
    currencies = {one.currency for one in amounts}
    return Money(sum((one.amount for one in amounts), Decimal(0)), currencies.pop()) if len(currencies) == 1 else None


def began_at(order: Order) -> datetime | None:
    """When the order began: its earliest milestone; None while it has reached none."""
    return min((at for name in MILESTONES if (at := getattr(order, f"{name}_at")) is not None), default=None)


_RANK = {"order": 0, "payment": 1, "paid": 1, "return": 2, "cancelled": 3}


def entries_of(bill: Bill) -> list[Entry]:
    """The entries of one order in order of time, without balances; none before it was placed."""
    order, since = bill.order, began_at(bill.order)
    if since is None:
        return []
    bare = Entry("", "", order.id, order.number, since, counts=bill.counts)
    found = [replace(bare, key=f"order-{order.id}", kind="order", at=order.placed_at, amount=bill.charged)]
    for payment in bill.payments:
        kind = payment.key.partition("-")[0]
        amount = Money(-payment.amount.amount, payment.amount.currency)
        found.append(replace(bare, key=payment.key, kind=kind, at=payment.at, amount=amount, method=payment.method))
    for one in bill.returns:
        if one.at is not None:
            found.append(replace(bare, key=one.key, kind="return", at=one.at, amount=one.amount))
    if (cancelled := order.reached("cancelled")) is not None:
        found.append(replace(bare, key=f"cancelled-{order.id}", kind="cancelled", at=cancelled))
    return _with_effects(sorted(found, key=_place)) if bill.counts else sorted(found, key=_place)


def _place(entry: Entry) -> tuple[datetime, int, int, str]:
    at = entry.since if entry.kind == "order" else max(entry.at or entry.since, entry.since)
    return at, entry.order_id, _RANK[entry.kind], entry.key


def _with_effects(entries: list[Entry]) -> list[Entry]:
    """What each changes: a return lowers what is charged as far as that goes, a cancellation takes back the rest."""
    charged, found = Decimal(0), []
    for entry in entries:
        amount = entry.amount.amount if entry.amount is not None else Decimal(0)
        effect = amount
        if entry.kind == "order":
            charged += amount
        elif entry.kind == "return":
            lowered = min(amount, charged)
            charged, effect = charged - lowered, amount - lowered
        elif entry.kind == "cancelled":
            effect, charged = -charged, Decimal(0)
            currency = next(one.amount.currency for one in entries if one.kind == "order" and one.amount is not None)
            entry = replace(entry, amount=Money(effect, currency))
        found.append(replace(entry, effect=effect))
    return found


def account_of(bills: Iterable[Bill]) -> tuple[list[Entry], dict[str, Money]]:
    """All entries in order of time, each with what is open after it; and what is open in the end, by currency."""
    balances: dict[str, Money] = {}
    found = []
    for entry in sorted((entry for bill in bills for entry in entries_of(bill)), key=_place):
        if entry.counts and entry.amount is not None:
            currency = entry.amount.currency
            before = balances[currency].amount if currency in balances else Decimal(0)
            balances[currency] = Money(before + entry.effect, currency)
            entry = replace(entry, balance=balances[currency])
        found.append(entry)
    return found, dict(sorted(balances.items()))


def with_lines(entry: Entry, lines: Sequence[tuple[str, Line]], *, is_buyers: bool) -> Entry:
    """An order's entry with the lines of the order, given with the shop's ids for them.

    Args:
        is_buyers: whether the amounts of the order are what its buyer is charged.
    """
    return replace(
        entry,
        lines=tuple(
            Entry(
                key=f"line-{entry.order_id}-{hashlib.blake2b(name.encode(), digest_size=6).hexdigest()}",
                kind="line",
                order_id=entry.order_id,
                number=entry.number,
                since=entry.since,
                amount=line.total if is_buyers else None,
                title=line.title or line.sku,
                quantity=line.quantity,
            )
            for name, line in lines
        ),
    )
