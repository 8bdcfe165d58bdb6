"""Whom we forgot: the hashes they are known by, and every place where something of a person is kept.

A table with something personal in it belongs in one of the lists here.
"""

import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlmodel import SQLModel

from crmkit.core.broadcast import customer_column
from crmkit.core.customer import PROFILE_FIELDS, Identity
from crmkit.core.errors import ConfigError
from crmkit.core.forgotten import blank, hash_of, mark_of
from crmkit.core.message import Reason, State
from crmkit.store import bulk, customers
from crmkit.store import tables as t
from crmkit.store.engine import Store

_KEY = "forgotten"

#: What belongs to an order, by the columns that are emptied. All are found by (`shop_id`, `order_external_id`).
_OF_ORDERS: Mapping[sa.Table, tuple[str, ...]] = {
    t.parcel: ("tracking_number", "tracking_url", "extras"),
    t.payment: ("extras",),
    t.refund: ("reason", "extras"),
    t.goods_return: ("tracking_number", "reason", "extras"),
    t.review: ("profile_id", "title", "text", "extras"),
}
_OF_MESSAGES = ("address", "params", "subject", "text", "html", "headers", "content_hash", "detail")
#: Raw bodies: their columns to look in, and what they become. A row that names somebody who is forgotten is emptied.
_BODIES: Mapping[sa.Table, tuple[tuple[str, ...], Mapping[str, Any]]] = {
    t.quarantine: (("raw", "reason", "place", "ref"), {"raw": None, "reason": "forgotten", "place": "forgotten"}),
    t.inbox: (("body", "query", "headers", "error"), {"body": b"", "query": "", "headers": None, "error": None}),
}
#: Messages that nobody has in hand: what becomes of them.
_STOPPED = {
    State.QUEUED: State.SUPPRESSED,
    State.HELD: State.SUPPRESSED,
    State.IN_DOUBT: State.CANCELLED,
}


# --- the key, and hashes ----------------------------------------------------------------------------------------------


def key_of(tx: Connection) -> bytes | None:
    """The key of the hashes; None if nobody was ever forgotten here.

    Raises:
        ConfigError: it was given from outside, and is not given, or is another, now.
    """
    s = t.secret.c
    row = tx.execute(sa.select(s.mark, s.value).where(s.name == _KEY)).first()
    if row is None:
        return None
    if row.value is not None:
        return bytes.fromhex(row.value)
    given: bytes | None = tx.get_execution_options().get("crmkit_key")
    if given is None or mark_of(given) != row.mark:
        raise ConfigError(
            f"people were forgotten under a key that is {'not given' if given is None else 'another'} now:"
            " who they are cannot be told",
            who="database",
            do="give [crm] key, or CRMKIT_KEY, as it was then",
        )
    return given


def make_key(tx: Connection, now: datetime) -> bytes:
    """The key of the hashes: the installation's secret, else a random one that is kept in the database."""
    known = key_of(tx)
    if known is not None:
        return known
    given: bytes | None = tx.get_execution_options().get("crmkit_key")
    key = given or secrets.token_bytes(32)
    row = {"name": _KEY, "mark": mark_of(key), "value": None if given else key.hex(), "created_at": now}
    bulk.insert(tx, t.secret, [row])
    return key


def known(tx: Connection, hashes: Iterable[str]) -> set[str]:
    """Those of these hashes that are of somebody who was forgotten."""
    c = t.forgotten.c
    return {row["hash"] for row in bulk.select_in(tx, (c.hash,), c.hash, hashes)}


def remember(tx: Connection, identities: Iterable[Identity], key: bytes, now: datetime) -> None:
    """Keep the hashes of these identities."""
    rows = [
        {"hash": hash_of(one, key), "kind": one.kind, "scope": one.scope, "forgotten_at": now}
        for one in dict.fromkeys(identities)
    ]
    bulk.insert(tx, t.forgotten, rows, skip_known=("hash",))


# --- erasing ----------------------------------------------------------------------------------------------------------


def leave_no_trace(tx: Connection) -> None:
    """Have SQLite overwrite what is erased, where it would only unlink it."""
    if tx.dialect.name == "sqlite":
        tx.exec_driver_sql("PRAGMA secure_delete=ON")


def overwrite_journal(store: Store) -> None:
    """Have what SQLite's journal still says of what was erased go too. Where somebody reads just now, it goes later."""
    if store.file is not None:
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _set(tx: Connection, table: sa.Table, where: Sequence[sa.ColumnElement[bool]], values: Mapping[str, Any]) -> None:
    tx.execute(sa.update(table).where(*where).values(**values))


def orders_of(tx: Connection, profiles: Collection[int]) -> list[tuple[int, int, str]]:
    """(number, shop, the vendor's id) of every order of these profiles."""
    o = t.orders.c
    rows = bulk.select_in(tx, (o.id, o.shop_id, o.external_id), o.profile_id, profiles)
    return [(row["id"], row["shop_id"], row["external_id"]) for row in rows]


def erase_orders(tx: Connection, orders: Sequence[tuple[int | None, int, str]], now: datetime) -> None:
    """Leave of these orders, given as (number if it is stored, shop, the vendor's id), what the books need."""
    numbers = [number for number, _, _ in orders if number is not None]
    emptied = dict.fromkeys(("profile_id", "ship_to", "note", "tags", "extras"))
    _set(tx, t.orders, [bulk.one_of(tx, t.orders.c.id, numbers)], emptied)
    _set(tx, t.line, [bulk.one_of(tx, t.line.c.order_id, numbers)], {"extras": None})
    for shop in dict.fromkeys(shop for _, shop, _ in orders):
        external = [number for _, of, number in orders if of == shop]
        for table, columns in _OF_ORDERS.items():
            where = [table.c.shop_id == shop, bulk.one_of(tx, table.c.order_external_id, external)]
            _set(tx, table, where, dict.fromkeys(columns))
    _erase_told(tx, t.interaction.c.order_id, numbers)
    _erase_messages(tx, t.message.c.order_id, numbers, now)
    tx.execute(sa.delete(t.timer).where(bulk.one_of(tx, t.timer.c.order_id, numbers)))


def erase_profiles(tx: Connection, profiles: Collection[int], now: datetime) -> None:
    """Leave of these profiles their numbers, which other rows point at; what is of their orders see `erase_orders`."""
    held = {row["value"] for row in customers.addresses_of(tx, profiles)}
    for table in (t.identity, t.address, t.timer):
        tx.execute(sa.delete(table).where(bulk.one_of(tx, table.c.profile_id, profiles)))
    elsewhere = {row["value"] for row in bulk.select_in(tx, (t.address.c.value,), t.address.c.value, held)}
    gone = held - elsewhere
    tx.execute(sa.delete(t.suppression).where(bulk.one_of(tx, t.suppression.c.address, gone)))
    c = t.consent.c
    of_them = sa.or_(bulk.one_of(tx, c.profile_id, profiles), bulk.one_of(tx, c.address, gone))
    key = sa.literal("forgotten:") + sa.cast(c.id, sa.String)
    _set(tx, t.consent, [of_them], {"address": None, "wording": None, "key": key})
    r = t.review.c
    emptied = dict.fromkeys(_OF_ORDERS[t.review])
    _set(tx, t.review, [bulk.one_of(tx, r.profile_id, profiles)], emptied)
    _erase_told(tx, t.interaction.c.profile_id, profiles)
    _erase_messages(tx, t.message.c.profile_id, profiles, now)
    b = t.broadcast_member.c
    _set(tx, t.broadcast_member, [bulk.one_of(tx, b.profile_id, profiles)], {"address": None})
    p = t.profile.c
    nobody = {
        **dict.fromkeys((*PROFILE_FIELDS, "sources", "merged_into", "settled", "stage_at")),
        "key": sa.literal("forgotten:") + sa.cast(p.id, sa.String),
        "family_id": p.id,
        "needs_review": False,
        "stage": "engage",
        "cycle": 1,
        "forgotten_at": sa.func.coalesce(p.forgotten_at, sa.literal(now, p.forgotten_at.type)),
    }
    _set(tx, t.profile, [bulk.one_of(tx, p.id, profiles)], nobody)


def _erase_told(tx: Connection, column: sa.ColumnElement[Any], values: Collection[int]) -> None:
    """The log keeps its rows, what they say is gone, and nothing more is decided about them."""
    i = t.interaction.c
    rows = bulk.select_in(tx, (i.id, i.payload), column, values)
    changed = [{"id": row["id"], "payload": blank(row["payload"])} for row in rows if row["payload"]]
    bulk.update(tx, t.interaction, ("id",), ("payload",), changed)
    pending = t.pending.c.interaction_id
    tx.execute(sa.delete(t.pending).where(bulk.one_of(tx, pending, [row["id"] for row in rows])))


def _erase_messages(tx: Connection, column: sa.ColumnElement[Any], values: Collection[int], now: datetime) -> None:
    """What waits is not sent; what is on the wire is left to the end of its try (see `sweep`)."""
    m = t.message.c
    theirs = bulk.one_of(tx, column, values)
    for state, becomes in _STOPPED.items():
        stopped = {"state": becomes, "reason": Reason.FORGOTTEN, "settled_at": now}
        _set(tx, t.message, [theirs, m.state == state], stopped)
    numbers = sa.select(m.id).where(theirs, m.state != State.SENDING)
    _set(tx, t.attempt, [t.attempt.c.message_id.in_(numbers)], {"detail": None})
    _set(tx, t.receipt, [t.receipt.c.message_id.in_(numbers)], {"detail": None, "recipient": None})
    _set(tx, t.message, [theirs, m.state != State.SENDING], dict.fromkeys(_OF_MESSAGES))


def sweep(tx: Connection, now: datetime) -> int:
    """Erase messages that were on the wire when their customer was forgotten. Returns how many customers they were of.

    One statement where nobody was forgotten, or nothing is left.
    """
    m, p = t.message.c, t.profile.c
    left = (
        sa.select(m.profile_id)
        .join(t.profile, p.id == m.profile_id)
        .where(p.forgotten_at.is_not(None), m.state != State.SENDING, m.text.is_not(None))
        .distinct()
    )
    profiles = list(tx.execute(left).scalars())
    if profiles:
        _erase_messages(tx, m.profile_id, profiles, now)
    return len(profiles)


def erase_bodies(tx: Connection, values: Collection[str], refs: Mapping[int, Collection[str]], now: datetime) -> int:
    """Empty raw bodies in which one of these values stands, or that are of one of these ids of an account.

    Args:
        values: e-mail addresses, phone numbers, buyer ids, names of more than one word.
        refs: {account: the vendor's ids of orders and buyers}.

    Returns:
        How many.
    """
    found = _finder(values)
    total = 0
    for table, (columns, empty) in _BODIES.items():
        hits = [
            row["id"]
            for row in _every(tx, table, columns)
            if ("ref" in columns and row["ref"] in refs.get(row["account_id"], ()))
            or any(found(row[name]) for name in columns)
        ]
        closed = {"resolved_at": now} if "resolved_at" in table.c else {}
        _set(tx, table, [bulk.one_of(tx, table.c.id, hits)], {**empty, **closed})
        total += len(hits)
    return total


def _every(tx: Connection, table: sa.Table, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    after = 0
    chosen = [table.c[name] for name in ("id", "account_id", *columns)]
    while rows := bulk.rows(tx, sa.select(*chosen).where(table.c.id > after).order_by(table.c.id).limit(500)):
        yield from rows
        after = rows[-1]["id"]


class _finder:  # noqa: N801
    """Whether one of some values stands in a text, in whatever case; numbers however they are set apart."""

    def __init__(self, values: Iterable[str]) -> None:
        self.texts = {value.lower() for value in values if value}
        self.digits = {re.sub(r"\D", "", value)[-9:] for value in values if re.fullmatch(r"\+\d{7,}", value)}

    def __call__(self, held: Any) -> bool:
        if held is None:
            return False
        text = (held.decode("utf-8", "replace") if isinstance(held, bytes) else str(held)).lower()
        if any(value in text for value in self.texts):
            return True
        return bool(self.digits) and any(value in re.sub(r"[ ()./\-]", "", text) for value in self.digits)


# --- plugins' tables --------------------------------------------------------------------------------------------------


def plugin_tables() -> dict[sa.Table, str]:
    """Tables of loaded plugins that hold something of customers: {table: its column of customers' numbers}."""
    found: dict[sa.Table, str] = {}
    todo: list[type[SQLModel]] = list(SQLModel.__subclasses__())
    while todo:
        model = todo.pop()
        todo.extend(model.__subclasses__())
        column = customer_column(model)
        if column is not None and hasattr(model, "__table__"):
            found[t.table_of(model)] = column
    return dict(sorted(found.items(), key=lambda item: item[0].name))


def erase_in_plugins(tx: Connection, profiles: Collection[int]) -> dict[str, int]:
    """Delete these customers' rows of plugins' tables, by whichever profile. Returns how many by table."""
    there = set(sa.inspect(tx).get_table_names())
    counts = {}
    for table, column in plugin_tables().items():
        if table.name in there:
            counts[table.name] = tx.execute(sa.delete(table).where(bulk.one_of(tx, table.c[column], profiles))).rowcount
    return {name: count for name, count in counts.items() if count}


def unreached(tx: Connection) -> list[str]:
    """Tables of this database that no loaded plugin, and not the core, knows: what they hold is not reached."""
    known_here = set(t.metadata.tables)
    return sorted(
        name for name in sa.inspect(tx).get_table_names() if name not in known_here and not name.endswith("_version")
    )
