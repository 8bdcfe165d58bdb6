"""Orders and what belongs to them, by their natural keys."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.store import bulk
from crmkit.store import tables as t
from crmkit.store.bulk import Row


def by_external_id(tx: Connection, table: sa.Table, shop: int, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Rows of a shop's table by the vendor's id."""
    rows = bulk.select_in(tx, table, table.c.external_id, ids, table.c.shop_id == shop)
    return {row["external_id"]: dict(row) for row in rows}


def parcels_of(tx: Connection, shop: int, orders: Iterable[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """Parcels of a shop's orders, by (order, parcel key)."""
    c = t.parcel.c
    rows = bulk.select_in(tx, t.parcel, c.order_external_id, orders, c.shop_id == shop)
    return {(row["order_external_id"], row["key"]): dict(row) for row in rows}


def write(
    tx: Connection, table: sa.Table, fresh: Sequence[Mapping[str, Any]], changed: Sequence[Mapping[str, Any]]
) -> None:
    """Insert fresh rows; overwrite changed ones, told by `id`."""
    bulk.insert(tx, table, fresh)
    columns = [column.name for column in table.columns if column.name != "id"]
    bulk.update(tx, table, ("id",), columns, changed)


def replace_lines(
    tx: Connection, orders: Sequence[int], lines: Sequence[Mapping[str, Any]], fresh: Iterable[int]
) -> None:
    """Give these orders these lines; `fresh` are orders that had none."""
    known = set(fresh)
    bulk.delete(tx, t.line, ("order_id",), [{"order_id": number} for number in orders if number not in known])
    bulk.insert(tx, t.line, lines)


def waiting(tx: Connection, table: sa.Table, shop: int, orders: Iterable[str]) -> list[dict[str, Any]]:
    """Children that came before their order."""
    rows = bulk.select_in(
        tx, table, table.c.order_external_id, orders, table.c.shop_id == shop, table.c.is_waiting.is_(True)
    )
    return [dict(row) for row in rows]


def children(tx: Connection, table: sa.Table, shop: int, orders: Iterable[str]) -> list[dict[str, Any]]:
    """What belongs to these orders."""
    rows = bulk.select_in(tx, table, table.c.order_external_id, orders, table.c.shop_id == shop)
    return [dict(row) for row in rows]


def landed(tx: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Their order has arrived."""
    bulk.update(tx, table, ("id",), ("is_waiting",), [{"id": row["id"], "is_waiting": False} for row in rows])


def ids_of(tx: Connection, shop: int, external_ids: Iterable[str]) -> dict[str, Row]:
    """Number and profile of a shop's orders, by the vendor's id."""
    o = t.orders.c
    rows = bulk.select_in(tx, (o.id, o.external_id, o.profile_id), o.external_id, external_ids, o.shop_id == shop)
    return {row["external_id"]: row for row in rows}


def of_customer(tx: Connection, number: int, family: int) -> Row | None:
    """The order of this number, if it is this customer's."""
    o, p = t.orders.c, t.profile.c
    theirs = sa.select(o.id, o.shop_id, o.external_id, o.number, o.profile_id).join(t.profile, p.id == o.profile_id)
    return next(iter(bulk.rows(tx, theirs.where(o.id == number, p.family_id == family))), None)


def open_after(tx: Connection, shop: int, after: int, since: datetime, limit: int) -> list[Row]:
    """Orders of a shop that may still change, as (id, external_id): placed since then, with a greater number."""
    o = t.orders.c
    still_open = (o.delivered_at.is_(None), o.completed_at.is_(None), o.cancelled_at.is_(None))
    statement = (
        sa.select(o.id, o.external_id)
        .where(o.shop_id == shop, o.id > after, o.placed_at >= since, *still_open)
        .order_by(o.id)
        .limit(limit)
    )
    return bulk.rows(tx, statement)
