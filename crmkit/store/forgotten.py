"""Whom we forgot: the hashes they are known by, and every place where something of a person is kept.

A table with something personal in it belongs in one of the lists here.
"""

import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection
from sqlmodel import SQLModel

from crmkit.core.broadcast import customer_column
from crmkit.core.customer import PROFILE_FIELDS, Identity
from crmkit.core.errors import ConfigError
from crmkit.core.forgotten import blank, blank_context, hash_of, mark_of
from crmkit.core.inner import BundleDue
from crmkit.core.message import Reason, State
from crmkit.store import bulk, customers, log
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
_OF_MESSAGES = ("address", "params", "asked", "subject", "text", "html", "headers", "content_hash", "detail")
#: Messages that nobody has in hand: what becomes of them.
_STOPPED: Mapping[str, State] = {
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
    told = _erase_told(tx, [bulk.one_of(tx, t.interaction.c.order_id, numbers)])
    _erase_messages(tx, sa.or_(bulk.one_of(tx, t.message.c.order_id, numbers), _to_staff_of(tx, told)), now)
    tx.execute(sa.delete(t.timer).where(bulk.one_of(tx, t.timer.c.order_id, numbers)))


def erase_profiles(tx: Connection, profiles: Collection[int], now: datetime) -> None:
    """Leave of these profiles their numbers, which other rows point at; what is of their orders see `erase_orders`."""
    held = {row["value"] for row in customers.addresses_of(tx, profiles)}
    log.hold_shared_timers(tx)
    if held:
        _recognise_told(tx, held, min(profiles))
    if profiles:
        _recognise_bundles(tx, profiles)
    for table in (t.identity, t.address, t.timer):
        tx.execute(sa.delete(table).where(bulk.one_of(tx, table.c.profile_id, profiles)))
    elsewhere = {row["value"] for row in bulk.select_in(tx, (t.address.c.value,), t.address.c.value, held)}
    gone = held - elsewhere
    tx.execute(sa.delete(t.suppression).where(bulk.one_of(tx, t.suppression.c.address, gone)))
    contact = t.contact.c
    erase_contacts(
        tx, [sa.or_(bulk.one_of(tx, contact.profile_id, profiles), bulk.one_of(tx, contact.value, gone))], now
    )
    c = t.consent.c
    of_them = sa.or_(bulk.one_of(tx, c.profile_id, profiles), bulk.one_of(tx, c.address, gone))
    key = sa.literal("forgotten:") + sa.cast(c.id, sa.String)
    _set(tx, t.consent, [of_them], {"address": None, "wording": None, "key": key})
    r = t.review.c
    emptied = dict.fromkeys(_OF_ORDERS[t.review])
    _set(tx, t.review, [bulk.one_of(tx, r.profile_id, profiles)], emptied)
    told = _erase_told(tx, [bulk.one_of(tx, t.interaction.c.profile_id, profiles)])
    _erase_messages(tx, sa.or_(bulk.one_of(tx, t.message.c.profile_id, profiles), _to_staff_of(tx, told)), now)
    orphans = [t.receipt.c.message_id.is_(None), bulk.one_of(tx, t.receipt.c.recipient, gone)]
    _set(tx, t.receipt, orphans, {"recipient": None, "detail": None})
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
    _set(tx, t.profile, [bulk.one_of(tx, p.merged_into, profiles)], {"merged_into": None})
    _set(tx, t.profile, [bulk.one_of(tx, p.id, profiles)], nobody)


def erase_contacts(tx: Connection, where: Sequence[sa.ColumnElement[bool]], now: datetime) -> None:
    """Addresses that were left on a page go, with the messages that were sent there to prove them."""
    c, m = t.contact.c, t.message.c
    rows = bulk.rows(tx, sa.select(c.id, c.interaction_id).where(*where, c.value != ""))
    _set(tx, t.contact, [bulk.one_of(tx, c.id, _ids(rows))], {"value": "", "choices": None})
    told = bulk.one_of(tx, m.interaction_id, _numbers(rows, "interaction_id"))
    _erase_messages(tx, sa.and_(m.profile_id.is_(None), m.staff.is_(None), told), now)


def _recognise_told(tx: Connection, addresses: Collection[str], profile: int) -> None:
    """What came from these addresses while nobody was known by them is this profile's, with what it caused."""
    i, c = t.interaction.c, t.timer.c
    sender = sa.type_coerce(i.payload, _document(tx))["sender"].as_string()
    said = (i.profile_id.is_(None), i.type == "message-received", bulk.one_of(tx, sender, addresses))
    frontier = set(tx.execute(sa.select(i.id).where(*said)).scalars())
    found = set(frontier)
    while frontier:
        is_next = (i.profile_id.is_(None), i.type != BundleDue.name)
        frontier = {row["id"] for row in bulk.select_in(tx, (i.id,), i.cause_id, frontier, *is_next)} - found
        found |= frontier
    if found:
        _set(tx, t.interaction, [bulk.one_of(tx, i.id, found)], {"profile_id": profile})
        theirs = [c.profile_id.is_(None), c.type != BundleDue.name, bulk.one_of(tx, c.cause_id, found)]
        _set(tx, t.timer, theirs, {"profile_id": profile})


def _recognise_bundles(tx: Connection, profiles: Collection[int]) -> None:
    """What tells the staff of several customers keeps nothing of these; once it was told, it is theirs as well."""
    i, c, p = t.interaction.c, t.timer.c, t.pending.c
    told = {row["id"] for row in bulk.select_in(tx, (i.id,), i.profile_id, profiles)}
    reviews = {row["id"] for row in bulk.select_in(tx, (t.review.c.id,), t.review.c.profile_id, profiles)}
    is_nobodys = (c.profile_id.is_(None), c.type == BundleDue.name, bulk.one_of(tx, c.cause_id, told))
    waiting = sa.select(c.plugin, c.key, c.payload).where(*is_nobodys).order_by(c.plugin, c.key)
    if tx.dialect.name != "sqlite":
        waiting = waiting.with_for_update()
    bulk.update(tx, t.timer, ("plugin", "key"), ("payload",), [_said_less(row) for row in bulk.rows(tx, waiting)])
    fired = sa.select(i.id, i.cause_id, i.payload).where(i.profile_id.is_(None), i.type == BundleDue.name)
    rows = [
        row
        for row in bulk.rows(tx, fired)
        if row["cause_id"] in told or not reviews.isdisjoint((row["payload"] or {}).get("reviews") or ())
    ]
    undecided = {row["interaction_id"] for row in bulk.select_in(tx, (p.interaction_id,), p.interaction_id, _ids(rows))}
    later = [_said_less(row) for row in rows if row["id"] in undecided]
    bulk.update(tx, t.interaction, ("id",), ("payload",), later)
    mine = [bulk.one_of(tx, i.id, _ids(rows) - undecided)]
    _set(tx, t.interaction, mine, {"profile_id": min(profiles)})


def _said_less(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "payload": blank_context(row["payload"])}


def _ids(rows: Sequence[Mapping[str, Any]]) -> set[int]:
    return {row["id"] for row in rows}


def _document(tx: Connection) -> sa.JSON:
    return sa.JSON() if tx.dialect.name == "sqlite" else JSONB()


def _erase_told(tx: Connection, where: Sequence[sa.ColumnElement[bool]]) -> list[int]:
    """The log keeps its rows, what they say is gone, and nothing more is decided about them. Returns their numbers."""
    i = t.interaction.c
    rows = bulk.rows(tx, sa.select(i.id, i.payload).where(*where))
    changed = [{"id": row["id"], "payload": blank(row["payload"])} for row in rows if row["payload"]]
    bulk.update(tx, t.interaction, ("id",), ("payload",), changed)
    numbers = [row["id"] for row in rows]
    tx.execute(sa.delete(t.pending).where(bulk.one_of(tx, t.pending.c.interaction_id, numbers)))
    return numbers


def _to_staff_of(tx: Connection, told: Collection[int]) -> sa.ColumnElement[bool]:
    """Messages to others that these interactions led to."""
    return sa.and_(t.message.c.profile_id.is_(None), bulk.one_of(tx, t.message.c.interaction_id, told))


def _erase_messages(tx: Connection, theirs: sa.ColumnElement[bool], now: datetime, *, waits: bool = True) -> int:
    """What waits is not sent; what is on the wire is left to the end of its try (see `sweep`). Returns how many.

    They are held first: what a try that ends meanwhile makes of a message is known, or stays as it is.

    Args:
        waits: for others who hold one of them; else that one is left out.
    """
    m = t.message.c
    held = sa.select(m.id, m.state, m.doubted_at).where(theirs, m.state != State.SENDING).order_by(m.id)
    if tx.dialect.name != "sqlite":
        held = held.with_for_update(skip_locked=not waits)
    rows = bulk.rows(tx, held)
    becomes: dict[State, list[int]] = defaultdict(list)
    for row in rows:
        if row["state"] in _STOPPED:
            # What an earlier try may have sent was not suppressed.
            doubted = row["doubted_at"] is not None
            becomes[State.CANCELLED if doubted else _STOPPED[row["state"]]].append(row["id"])
    for state, stopped in becomes.items():
        values = {"state": state, "reason": Reason.FORGOTTEN, "settled_at": now}
        _set(tx, t.message, [bulk.one_of(tx, m.id, stopped)], values)
    numbers = [row["id"] for row in rows]
    if numbers:
        _set(tx, t.attempt, [bulk.one_of(tx, t.attempt.c.message_id, numbers)], {"detail": None})
        erase_receipts(tx, numbers)
        _set(tx, t.message, [bulk.one_of(tx, m.id, numbers)], dict.fromkeys(_OF_MESSAGES))
    return len(numbers)


def erase_receipts(tx: Connection, messages: Collection[int]) -> None:
    """What vendors wrote of these messages, and to whom they went."""
    of_them = bulk.one_of(tx, t.receipt.c.message_id, messages)
    _set(tx, t.receipt, [of_them], {"detail": None, "recipient": None})


def hold(tx: Connection, profiles: Collection[int], orders: Collection[int]) -> None:
    """Hold these profiles and all messages about them and their orders, once nobody else does, in the usual order.

    SQLite has one writer.
    """
    if tx.dialect.name == "sqlite":
        return
    p, m, i = t.profile.c, t.message.c, t.interaction.c
    tx.execute(sa.select(p.id).where(bulk.one_of(tx, p.id, profiles)).order_by(p.id).with_for_update())
    log.hold_shared_timers(tx)
    told = sa.select(i.id).where(sa.or_(bulk.one_of(tx, i.profile_id, profiles), bulk.one_of(tx, i.order_id, orders)))
    about = sa.or_(
        bulk.one_of(tx, m.profile_id, profiles),
        bulk.one_of(tx, m.order_id, orders),
        sa.and_(m.profile_id.is_(None), m.interaction_id.in_(told)),
    )
    tx.execute(sa.select(m.id).where(about).order_by(m.id).with_for_update())


def meant(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> set[int]:
    """Those of these messages (`id`, `profile_id`, `interaction_id`) that are about somebody who was forgotten."""
    p, i = t.profile.c, t.interaction.c
    is_gone = p.forgotten_at.is_not(None)
    gone = {row["id"] for row in bulk.select_in(tx, (p.id,), p.id, _numbers(rows, "profile_id"), is_gone)}
    found = {row["id"] for row in rows if row["profile_id"] in gone}
    others = [row for row in rows if row["profile_id"] is None]
    told = sa.select(i.id).join(t.profile, p.id == i.profile_id).where(is_gone)
    causes = _numbers(others, "interaction_id")
    if causes:
        about = set(tx.execute(told.where(bulk.one_of(tx, i.id, causes))).scalars())
        found |= {row["id"] for row in others if row["interaction_id"] in about}
    return found


def _numbers(rows: Sequence[Mapping[str, Any]], name: str) -> set[int]:
    return {row[name] for row in rows if row[name] is not None}


def sweep(tx: Connection, now: datetime) -> int:
    """Erase messages that were on the wire when their customer was forgotten. Returns how many.

    One statement where nobody was forgotten. What somebody else holds is left to the next.
    """
    m, p, i = t.message.c, t.profile.c, t.interaction.c
    gone = sa.select(p.id).where(p.forgotten_at.is_not(None))
    if tx.execute(gone.limit(1)).first() is None:
        return 0
    is_left = sa.and_(
        m.state != State.SENDING,
        sa.or_(m.text.is_not(None), m.address.is_not(None), m.state.in_(_STOPPED)),
    )
    # Lists of few, and not joins: beginning with who was forgotten, however long the outbox is.
    theirs = sa.select(m.id).where(m.profile_id.in_(gone), is_left)
    about = sa.select(i.id).where(i.profile_id.in_(gone))
    left = theirs.union_all(sa.select(m.id).where(m.profile_id.is_(None), m.interaction_id.in_(about), is_left))
    numbers = list(tx.execute(left).scalars())
    return _erase_messages(tx, bulk.one_of(tx, m.id, numbers), now, waits=False) if numbers else 0


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
