"""What a customer's account with a shop is made of: a fixed number of statements, however much they bought."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.store import bulk
from crmkit.store import tables as t
from crmkit.store.bulk import Row

#: What a statement's entries are told of by in the log.
FILED, RESOLVED, CLOSED, REOPENED = "complaint-filed", "complaint-resolved", "complaint-closed", "complaint-reopened"
CONFIRMED = "statement-confirmed"


def order(tx: Connection, number: int) -> Row | None:
    """An order with the family of who bought it; None where there is none, or nobody is known to have bought it."""
    statement = (
        sa.select(t.orders, t.profile.c.family_id)
        .join(t.profile, t.profile.c.id == t.orders.c.profile_id)
        .where(t.orders.c.id == number)
    )
    return next(iter(bulk.rows(tx, statement)), None)


def orders_of(tx: Connection, profiles: Iterable[int], shop: int) -> list[Row]:
    """All that these profiles ordered at a shop."""
    return bulk.select_in(tx, t.orders, t.orders.c.profile_id, profiles, t.orders.c.shop_id == shop)


def children_of(tx: Connection, table: sa.Table, orders: Collection[Row]) -> dict[int, list[Row]]:
    """The payments or refunds of orders of one shop, by the order's number."""
    numbers = {row["external_id"]: row["id"] for row in orders}
    found: dict[int, list[Row]] = defaultdict(list)
    if not numbers:
        return found
    [shop] = {row["shop_id"] for row in orders}
    for row in bulk.select_in(tx, table, table.c.order_external_id, numbers, table.c.shop_id == shop):
        found[numbers[row["order_external_id"]]].append(row)
    return found


def lines_of(tx: Connection, orders: Iterable[int]) -> dict[int, list[Row]]:
    """The lines of orders, as they stand there."""
    found: dict[int, list[Row]] = defaultdict(list)
    for row in bulk.select_in(tx, t.line, t.line.c.order_id, orders):
        found[row["order_id"]].append(row)
    for rows in found.values():
        rows.sort(key=lambda row: (row["position"], row["external_id"]))
    return found


def said_of(tx: Connection, orders: Iterable[int], profiles: Iterable[int], now: datetime) -> list[Row]:
    """What was confirmed and disputed of these orders, and what became of the disputes, oldest first.

    What became of them is found by the customer too: whoever works on complaints may not say the order.
    """
    i = t.interaction.c
    until = i.occurred_at <= now
    types = (FILED, CONFIRMED, RESOLVED, CLOSED, REOPENED)
    rows = bulk.select_in(tx, t.interaction, i.order_id, orders, i.type.in_(types), until)
    rows += bulk.select_in(tx, t.interaction, i.profile_id, profiles, i.type.in_(types[2:]), until)
    unique = {row["id"]: row for row in rows}
    return sorted(unique.values(), key=lambda row: (row["occurred_at"], row["id"]))


def hold(tx: Connection, family: int, shop: int) -> None:
    """Nobody else confirms or disputes anything of this account until the transaction ends."""
    bulk.lock(tx, f"statement {family} {shop}")


def orders_since(tx: Connection, shop: int, since: datetime) -> list[Row]:
    """Orders that somebody is known to have placed at a shop since a moment, oldest first."""
    o = t.orders.c
    wanted = (o.id, o.profile_id, o.external_id, o.number)
    statement = sa.select(*wanted).where(o.shop_id == shop, o.profile_id.is_not(None), o.placed_at >= since)
    return bulk.rows(tx, statement.order_by(o.placed_at, o.id))
