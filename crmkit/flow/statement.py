"""Statement: a customer's account with a shop, each entry of which they can confirm or dispute.

What is confirmed is what was shown: an entry that changed meanwhile is shown again. A dispute is a complaint like any
other, told to whoever works on complaints; what became of it is read from the log.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.account import Shop
from crmkit.core.bill import Bill, bill_of
from crmkit.core.columns import storable
from crmkit.core.customer import Customer
from crmkit.core.events import ComplaintFiled, Event, StatementConfirmed
from crmkit.core.interaction import CUSTOMER
from crmkit.core.money import Money
from crmkit.core.order import Order, order_at
from crmkit.core.records import AmountBasis
from crmkit.core.statement import Entry, account_of, with_lines
from crmkit.store import customers, facts, log
from crmkit.store import statement as rows
from crmkit.store import tables as t

#: Entries shown at once, and characters of a dispute.
PAGE, LONGEST = 20, 2000
#: What a complaint that was filed on a statement says of where it comes from.
SOURCE = "statement"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an entry stands: `open`, `confirmed`, `changed` (since it was confirmed), `disputed`, `resolved`."""

    state: str = "open"
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """A page of an account.

    Attributes:
        entries: the newest first; orders with their lines.
        standings: by the key of an entry or line; those that are not here are open.
        balances: what is open in the end, one for each currency.
        page, pages: which part this is, from 1, and of how many.
        counts: whether every entry counts in the balance.
    """

    entries: Sequence[Entry]
    standings: Mapping[str, Standing]
    balances: Sequence[Money]
    page: int
    pages: int
    counts: bool


@dataclass(slots=True)
class Outcome:
    """What became of entries the customer answered for: keys, by what was done with them.

    Attributes:
        done: confirmed or disputed now.
        known: they stood so before.
        changed: they are not what was shown, so nothing was done.
    """

    done: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Account:
    """A whole account, and what was said of it."""

    tx: Connection
    profiles: Sequence[int]
    orders: Mapping[int, Mapping[str, Any]]
    entries: list[Entry]
    balances: Sequence[Money]
    now: datetime

    def lined(self, entries: Iterable[Entry]) -> list[Entry]:
        """These entries, orders with their lines."""
        found = list(entries)
        lines = rows.lines_of(self.tx, [entry.order_id for entry in found if entry.kind == "order"])
        return [self._lined(entry, lines[entry.order_id]) if entry.kind == "order" else entry for entry in found]

    def _lined(self, entry: Entry, lines: Sequence[Mapping[str, Any]]) -> Entry:
        order = self.orders[entry.order_id]
        named = [(line["external_id"], facts.line_of(line, order["currency"])) for line in lines]
        return with_lines(entry, named, is_buyers=order["basis"] == AmountBasis.BUYER_CHARGE)

    def standings(self, entries: Iterable[Entry]) -> dict[str, tuple[Standing, int]]:
        """Where entries and their lines stand, and how often each was answered for."""
        shown = [one for entry in entries for one in (entry, *entry.lines)]
        said = rows.said_of(self.tx, {one.order_id for one in shown}, self.profiles, self.now)
        return _standings({one.key: one.seen for one in shown}, said)


def statement(
    tx: Connection, customer: Customer, shop: Shop, now: datetime, page: int = 1, holding: str | None = None
) -> Statement:
    """A page of a customer's account with a shop, the newest entries first.

    Args:
        holding: the key of an entry or line: the page that holds it, whichever was asked for, if there is one.
    """
    account = _account(tx, customer, shop, now)
    pages = max(1, -(-len(account.entries) // PAGE))
    if holding is not None:
        key = f"order-{holding.split('-')[1]}" if holding.startswith("line-") else holding
        places = (place for place, entry in enumerate(account.entries[::-1]) if entry.key == key)
        page = next((place // PAGE + 1 for place in places), page)
    page = min(max(page, 1), pages)
    entries = account.lined(account.entries[::-1][(page - 1) * PAGE : page * PAGE])
    standings = {key: standing for key, (standing, _) in account.standings(entries).items()}
    return Statement(entries, standings, account.balances, page, pages, all(e.counts for e in account.entries))


def bill(tx: Connection, number: int, customer: Customer, shops: Mapping[int, Shop], now: datetime) -> Bill | None:
    """What an order of a customer costs and what was paid; None where it is not theirs, or its shop is gone."""
    row = rows.order(tx, number)
    shop = shops.get(row["shop_id"]) if row is not None else None
    if row is None or shop is None or row["family_id"] != customer.id:
        return None
    order = facts.orders_at(tx, [number], now)[number]
    return _bills(tx, [row], shop, now, {number: order})[0]


def confirm(
    tx: Connection,
    customer: Customer,
    shop: Shop,
    seen: Mapping[str, str],
    *,
    listened: Collection[str],
    now: datetime,
    correlation_id: str | None = None,
) -> Outcome:
    """The customer says that entries are right.

    Args:
        seen: {key: the fingerprint of what was shown}.
        listened: events that somebody handles.
    """
    outcome, news = Outcome(), []
    for entry, standing, turn in _answered(tx, customer, shop, seen, outcome, now):
        if standing.state in ("confirmed", "disputed"):
            outcome.known.append(entry.key)
            continue
        amount = str(entry.amount) if entry.amount is not None else None
        told = StatementConfirmed(kind=entry.kind, entry=entry.key, amount=amount, seen=entry.seen)
        key = f"{told.name}:{entry.key}:{turn}"
        news.append(_told(told, key, entry, customer, shop, now, correlation_id))
        outcome.done.append(entry.key)
    log.append(tx, news, listened, now)
    return outcome


def dispute(
    tx: Connection,
    customer: Customer,
    shop: Shop,
    key: str,
    seen: str,
    text: str,
    *,
    listened: Collection[str],
    now: datetime,
    correlation_id: str | None = None,
) -> Outcome:
    """The customer says that an entry is not right, in words of their own: a complaint is filed.

    Args:
        key, seen: the entry, and the fingerprint of what was shown of it.
        text: not empty; what is beyond `LONGEST` is left out.
        listened: events that somebody handles.
    """
    outcome = Outcome()
    for entry, standing, turn in _answered(tx, customer, shop, {key: seen}, outcome, now):
        if standing.state == "disputed":
            outcome.known.append(entry.key)
            continue
        complaint = f"{SOURCE}:{entry.key}:{turn}"
        words = storable(text)[:LONGEST]
        told = ComplaintFiled(complaint=complaint, text=words, source=SOURCE, about=_about(entry))
        news = _told(told, f"complaint:{complaint}", entry, customer, shop, now, correlation_id)
        log.append(tx, [news], listened, now)
        outcome.done.append(entry.key)
    return outcome


def _answered(
    tx: Connection, customer: Customer, shop: Shop, seen: Mapping[str, str], outcome: Outcome, now: datetime
) -> list[tuple[Entry, Standing, int]]:
    """The entries and lines that are still what was shown, where each stands, and the how-manieth answer this is."""
    rows.hold(tx, customer.id, shop.id)
    account = _account(tx, customer, shop, now)
    orders = {number for key in seen for number in key.split("-")[1:2]}
    wanted = [e for e in account.entries if e.key in seen or (e.kind == "order" and str(e.order_id) in orders)]
    entries = account.lined(wanted)
    found = {one.key: one for entry in entries for one in (entry, *entry.lines)}
    standings = account.standings(entries)
    outcome.changed += [key for key, shown in seen.items() if key not in found or found[key].seen != shown]
    return [(found[key], *standings.get(key, (Standing(), 0))) for key in seen if key not in outcome.changed]


def _about(entry: Entry) -> str:
    """An entry in words, for who works on the complaint."""
    what = f"{entry.title or '?'} × {entry.quantity}" if entry.kind == "line" else entry.kind
    parts = (entry.number, what, entry.amount, entry.at.date().isoformat() if entry.at is not None else None)
    return ", ".join(str(part) for part in parts if part is not None)


def _told(
    event: Event, key: str, entry: Entry, customer: Customer, shop: Shop, now: datetime, correlation_id: str | None
) -> dict[str, Any]:
    return {
        "type": event.name,
        "profile_id": customer.profile_id,
        "shop_id": shop.id,
        "order_id": entry.order_id,
        "actor": CUSTOMER,
        "occurred_at": now,
        "payload": event.payload(),
        "key": key,
        "correlation_id": correlation_id,
    }


def _account(tx: Connection, customer: Customer, shop: Shop, now: datetime) -> _Account:
    profiles = customers.members(tx, [customer.id])[customer.id]
    orders = rows.orders_of(tx, profiles, shop.id)
    entries, balances = account_of(_bills(tx, orders, shop, now))
    by_number = {row["id"]: row for row in orders}
    shown = [entry for entry in entries if entry.since <= now]
    return _Account(tx, profiles, by_number, shown, list(balances.values()), now)


def _bills(
    tx: Connection,
    orders: Sequence[Mapping[str, Any]],
    shop: Shop,
    now: datetime,
    views: Mapping[int, Order] | None = None,
) -> list[Bill]:
    payments = rows.children_of(tx, t.payment, orders)
    refunds = rows.children_of(tx, t.refund, orders)
    return [
        bill_of(
            row,
            views[row["id"]] if views is not None else order_at(row, now),
            payments[row["id"]],
            refunds[row["id"]],
            shop.reports,
            now,
        )
        for row in orders
    ]


def _standings(seen: Mapping[str, str], said: Iterable[Mapping[str, Any]]) -> dict[str, tuple[Standing, int]]:
    """Where each entry stands after what was said, and how often it was answered for."""
    found: dict[str, tuple[Standing, int]] = {}
    for row in said:
        payload, at = row["payload"] or {}, row["occurred_at"]
        if row["type"] == rows.CONFIRMED:
            key, is_same = str(payload.get("entry")), payload.get("seen") == seen.get(str(payload.get("entry")))
            standing = Standing("confirmed" if is_same else "changed", at)
        else:
            key = _entry_of(str(payload.get("complaint")))
            state = {rows.RESOLVED: "resolved", rows.CLOSED: "resolved"}.get(row["type"], "disputed")
            standing = Standing(state, at)
        if key in seen:
            before, turns = found.get(key, (Standing(), 0))
            answers = row["type"] in (rows.CONFIRMED, rows.FILED)
            if before.state == "resolved" and standing.state == "resolved":
                standing = replace(standing, at=before.at)
            found[key] = (standing, turns + answers)
    return found


def _entry_of(complaint: str) -> str:
    """The entry a complaint is about, told by its key."""
    source, _, rest = complaint.partition(":")
    return rest.rpartition(":")[0] if source == SOURCE else ""
