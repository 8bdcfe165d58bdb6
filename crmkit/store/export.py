"""Everything that is kept of one customer, row by row, for whoever asks what is known of them.

What is kept of nobody by number is not in it: raw bodies and refused records, which go with `[retention]`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.store import bulk, customers, forgotten
from crmkit.store import tables as t
from crmkit.store.bulk import Row

#: Tables that say by `profile_id` whose a row is.
BY_PROFILE = (t.identity, t.address, t.orders, t.interaction, t.pending, t.timer, t.message, t.contact)
#: What belongs to an order, by the number it has at its shop.
BY_ORDER = (t.parcel, t.payment, t.refund, t.goods_return, t.review)
#: What belongs to a message.
BY_MESSAGE = (t.attempt, t.receipt, t.intervention)
#: What tells, of messages to the staff, to whom of them they went: the key does, and what is said of them may.
_OF_STAFF: Mapping[str, Sequence[str]] = {
    "message": ("staff", "address", "key", "once", "detail"),
    "attempt": ("redirected_to", "detail"),
    "receipt": ("recipient", "message_key", "detail"),
}


def everything(tx: Connection, family: int) -> dict[str, list[dict[str, Any]]]:
    """The rows of every table that are of this customer, of the core and of loaded plugins, by the table's name.

    Whom of the staff a message about them went to, and who of them intervened in one, is left out. A table without any
    is not there.
    """
    members = customers.members(tx, [family]).get(family, [])
    found: dict[str, list[Row]] = {"profile": list(customers.by_id(tx, members).values())}
    for table in (*BY_PROFILE, t.broadcast_member):
        found[table.name] = bulk.select_in(tx, table, table.c.profile_id, members)
    values = {row["value"] for row in found["address"]}
    found["consent"] = customers.consent_of(tx, members, values)
    found["suppression"] = bulk.select_in(tx, t.suppression, t.suppression.c.address, values)
    orders = {(row["shop_id"], row["external_id"]): row["id"] for row in found["orders"]}
    for table in (t.interaction, t.timer, t.message):  # what is nobody's, and of their orders
        c = table.c
        found[table.name] += bulk.select_in(tx, table, c.order_id, orders.values(), c.profile_id.is_(None))
    _add(found["message"], _led_to(tx, [row["id"] for row in found["interaction"]]))
    found["order_line"] = bulk.select_in(tx, t.line, t.line.c.order_id, orders.values())
    for table in BY_ORDER:
        rows = bulk.select_in(tx, table, table.c.order_external_id, {number for _, number in orders})
        found[table.name] = [row for row in rows if (row["shop_id"], row["order_external_id"]) in orders]
    _add(found["review"], bulk.select_in(tx, t.review, t.review.c.profile_id, members))
    numbers = [row["id"] for row in found["message"]]
    for table in BY_MESSAGE:
        found[table.name] = bulk.select_in(tx, table, table.c.message_id, numbers)
    there = set(sa.inspect(tx).get_table_names())
    for table, column in forgotten.plugin_tables().items():
        if table.name in there:
            found.setdefault(table.name, bulk.select_in(tx, table, table.c[column], members))
    to_staff = {row["id"] for row in found["message"] if row["staff"] is not None}
    by_hand = {row["message_id"] for row in found["intervention"]}
    return {
        name: [_theirs(name, row, to_staff, by_hand) for row in sorted(rows, key=lambda row: row.get("id") or 0)]
        for name, rows in sorted(found.items())
        if rows
    }


def _led_to(tx: Connection, told: Sequence[int]) -> list[Row]:
    """Messages to the staff that these interactions led to; one that tells of several customers is nobody's."""
    m = t.message.c
    return bulk.select_in(tx, t.message, m.interaction_id, told, m.profile_id.is_(None))


def _add(rows: list[Row], more: Iterable[Row]) -> None:
    known = {row["id"] for row in rows}
    rows += [row for row in more if row["id"] not in known]


def _theirs(table: str, row: Row, to_staff: Collection[int], by_hand: Collection[int]) -> dict[str, Any]:
    """A row without the persons of the staff that are in it.

    Args:
        to_staff: messages that went to them.
        by_hand: messages that somebody intervened in: what is said of these names who it was.
    """
    blank: Sequence[str] = ()
    if table in ("timer", "interaction") and "staff" in (row["payload"] or {}):  # a burst of news for them
        return {**row, "key": None, "payload": {**row["payload"], "staff": None}}
    if table in _OF_STAFF and row["id" if table == "message" else "message_id"] in to_staff:
        blank = _OF_STAFF[table]
    elif table == "message" and row["id"] in by_hand:
        blank = ("detail",)
    elif table == "intervention":
        blank = ("actor",)
    return {**row, **dict.fromkeys(blank)}
