"""A customer's account with a shop: what was charged, what was paid, what went back, and what all of it comes to.

An order whose amounts are not the buyer's, or of which it cannot be told what was paid, is listed and counts for
nothing.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from crmkit.core.bill import Bill, began_at
from crmkit.core.money import Money
from crmkit.core.order import Line


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
        doubt: of an order, why it is not known what was paid, in the words of a bill.
        surplus: of a return, how much of it went back beyond what was paid.
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
    doubt: str | None = None
    surplus: Money | None = None
    method: str | None = None
    title: str | None = None
    quantity: Decimal | None = None
    lines: tuple["Entry", ...] = field(default=())

    @property
    def seen(self) -> str:
        """A fingerprint of what is shown of it: another one once anything of that changed."""
        shown = [self.key, self.number, self.at, self.amount, self.method, self.title, self.quantity]
        shown += [one for one in (self.doubt, self.surplus) if one is not None]
        said = json.dumps([*map(str, shown), *(line.seen for line in self.lines)])
        return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()


_RANK = {"order": 0, "payment": 1, "paid": 1, "return": 2, "cancelled": 3}


def entries_of(bill: Bill) -> list[Entry]:
    """The entries of one order in order of time, without balances; none before it was placed."""
    order, since = bill.order, began_at(bill.order)
    if since is None:
        return []
    bare = Entry("", "", order.id, order.number, since, counts=bill.counts)
    placed = replace(bare, key=f"order-{order.id}", kind="order", at=order.placed_at, amount=bill.charged)
    found = [replace(placed, doubt=bill.doubt)]
    for payment in bill.payments:
        kind = payment.key.partition("-")[0]
        amount = Money(-payment.amount.amount, payment.amount.currency)
        found.append(replace(bare, key=payment.key, kind=kind, at=payment.at, amount=amount, method=payment.method))
    for one in bill.returns:
        if one.at is not None:
            found.append(replace(bare, key=one.key, kind="return", at=one.at, amount=one.amount))
    if order.is_cancelled:
        found.append(replace(bare, key=f"cancelled-{order.id}", kind="cancelled", at=order.cancelled_at))
    found.sort(key=_place)
    return _with_effects(_with_surplus(found, bill.surplus)) if bill.counts else found


def _place(entry: Entry) -> tuple[datetime, int, int, str]:
    at = entry.since if entry.kind == "order" else max(entry.at or entry.since, entry.since)
    return at, entry.order_id, _RANK[entry.kind], entry.key


def _with_surplus(entries: list[Entry], surplus: Money | None) -> list[Entry]:
    """Of the last returns, what went back beyond what was paid."""
    found, rest = [], surplus.amount if surplus is not None else Decimal(0)
    for entry in reversed(entries):
        if entry.kind == "return" and entry.amount is not None and rest > 0:
            beyond = min(entry.amount.amount, rest)
            rest -= beyond
            entry = replace(entry, surplus=Money(beyond, entry.amount.currency))
        found.append(entry)
    return found[::-1]


def _with_effects(entries: list[Entry]) -> list[Entry]:
    """What each changes.

    A return lowers what is charged as far as that goes, and then gives back what was paid; a cancellation takes back
    the rest of what is charged.
    """
    charged, found = Decimal(0), []
    for entry in entries:
        amount = entry.amount.amount if entry.amount is not None else Decimal(0)
        effect = amount
        if entry.kind == "order":
            charged += amount
        elif entry.kind == "return":
            amount -= entry.surplus.amount if entry.surplus is not None else 0
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
