"""Broadcasts: audiences are frozen to members, each with a turn of its own among the pending work; progress is counted.

However many members there are, freezing takes three statements.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.broadcast import Audience, customer_column
from crmkit.core.inner import BroadcastMember
from crmkit.core.records import OrderStatus
from crmkit.store import bulk
from crmkit.store import tables as t
from crmkit.store.bulk import Row


@dataclass(frozen=True, slots=True)
class Frozen:
    """A broadcast about to be stored.

    Attributes:
        row: of `broadcast`, without its number and time.
        shops: the numbers of the audience's shops.
        cause: the interaction that asked for it.
    """

    row: Mapping[str, Any]
    audience: Audience
    shops: Collection[int]
    cause: Mapping[str, Any]


def freeze(tx: Connection, broadcasts: Sequence[Frozen], now: datetime) -> None:
    """Store broadcasts with their members, whose turns are pending work; one whose key is known is left out."""
    if not broadcasts:
        return
    unique = {one.row["key"]: one for one in reversed(broadcasts)}
    bulk.lock_all(tx, (f"broadcast:{key}" for key in unique))
    c = t.broadcast.c
    known = {row["key"] for row in bulk.select_in(tx, (c.key,), c.key, unique)}
    fresh = [one for key, one in reversed(unique.items()) if key not in known]
    rows = [
        {**one.row, "id": number, "frozen_at": now}
        for number, one in zip(bulk.next_ids(tx, t.broadcast, len(fresh)), fresh, strict=True)
    ]
    bulk.insert(tx, t.broadcast, rows)
    for row, one in zip(rows, fresh, strict=True):
        _freeze(tx, row["id"], one, now)


def _freeze(tx: Connection, number: int, one: Frozen, now: datetime) -> None:
    m, i, p = t.broadcast_member, t.interaction, t.pending
    who = _customers(tx, one, now).subquery()
    members = sa.select(_typed(m.c.broadcast_id, number), who.c.id, _numbered(tx, i, who.c.id))
    tx.execute(sa.insert(m).from_select(["broadcast_id", "profile_id", "interaction_id"], members))
    told = {
        "type": BroadcastMember.name,
        "shop_id": one.cause["shop_id"],
        "actor": f"plugin:{one.row['plugin']}",
        "occurred_at": one.cause["occurred_at"],
        "recorded_at": now,
        "payload": {"broadcast": number},
        "cause_id": one.cause["id"],
        "depth": one.cause["depth"] + 1,
        "correlation_id": one.cause["correlation_id"],
    }
    turns = sa.select(m.c.interaction_id, m.c.profile_id, *(_typed(i.c[name], value) for name, value in told.items()))
    tx.execute(sa.insert(i).from_select(["id", "profile_id", *told], turns.where(m.c.broadcast_id == number)))
    mine = sa.select(m.c.interaction_id, m.c.profile_id).where(m.c.broadcast_id == number)
    ordered = mine.order_by(m.c.interaction_id).subquery()
    work = {"plugin": one.row["plugin"], "due_at": one.cause["occurred_at"], "tries": 0}
    pending = sa.select(
        _numbered(tx, p, ordered.c.interaction_id),
        ordered.c.interaction_id,
        ordered.c.profile_id,
        *(_typed(p.c[name], value) for name, value in work.items()),
    )
    tx.execute(sa.insert(p).from_select(["id", "interaction_id", "profile_id", *work], pending))


def _typed(column: sa.Column[Any], value: Any) -> sa.ColumnElement[Any]:
    return sa.literal(value, column.type) if value is not None else sa.cast(sa.null(), column.type)


def _numbered(tx: Connection, table: sa.Table, order: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """Fresh numbers of a table for the rows of a select (see `bulk.next_ids`)."""
    if tx.dialect.name == "sqlite":
        last = sa.select(sa.func.coalesce(sa.func.max(table.c.id), 0)).scalar_subquery()
        return last + sa.func.row_number().over(order_by=order)
    return sa.func.nextval(f"{table.name}_id_seq")


def _customers(tx: Connection, one: Frozen, now: datetime) -> sa.Select[Any]:
    """The audience as a select of customers: each by the profile its family goes by, in the order of their numbers."""
    audience, root, own = one.audience, t.profile.alias("root"), t.profile.alias("own")
    found = sa.select(root.c.id).where(root.c.family_id == root.c.id)
    family = own.c.family_id == root.c.id
    if audience.stages:
        found = found.where(bulk.one_of(tx, root.c.stage, audience.stages))
    if audience.countries:
        found = found.where(sa.exists().where(family, bulk.one_of(tx, own.c.country, audience.countries)))
    if audience.locales:
        spoken = [
            sa.or_(own.c.locale == locale, own.c.locale.like(f"{locale}-%"), own.c.locale.like(f"{locale}\\_%", "\\"))
            for locale in sorted(audience.locales)
        ]
        found = found.where(sa.exists().where(family, sa.or_(*spoken)))
    if audience.customers is not None:
        chosen = sa.select(own.c.family_id).where(bulk.one_of(tx, own.c.id, sorted(set(audience.customers))))
        found = found.where(root.c.id.in_(chosen))
    if audience.table is not None:
        table = t.table_of(audience.table)
        listed = sa.select(own.c.family_id).join(table, table.c[str(customer_column(audience.table))] == own.c.id)
        found = found.where(root.c.id.in_(listed.where(*(table.c[n] == v for n, v in audience.where.items()))))
    for condition in _ordered(tx, one, own, now):
        found = found.where(condition(root.c.id))
    return found.order_by(root.c.id)


def _ordered(tx: Connection, one: Frozen, own: Any, now: datetime) -> Iterable[Any]:
    """Conditions on a customer's number by what the customer ordered."""
    audience, o = one.audience, t.orders.c
    orders = (
        sa.select(own.c.family_id)
        .join(t.orders, o.profile_id == own.c.id)
        .where(o.placed_at <= now, o.status != OrderStatus.CANCELLED)
    )
    if audience.shops:
        orders = orders.where(bulk.one_of(tx, o.shop_id, sorted(one.shops)))
    if audience.orders > 1:
        many = orders.group_by(own.c.family_id).having(sa.func.count() >= audience.orders)
        yield lambda customer: customer.in_(many)
    elif audience.orders == 1 or audience.shops:
        yield lambda customer: customer.in_(orders)
    if audience.ordered_since is not None:
        yield lambda customer: customer.in_(orders.where(o.placed_at >= audience.ordered_since))
    if audience.not_ordered_since is not None:
        yield lambda customer: customer.not_in(orders.where(o.placed_at >= audience.not_ordered_since))


# --- members' turns ---------------------------------------------------------------------------------------------------


def by_id(tx: Connection, ids: Iterable[int]) -> dict[int, Row]:
    """Broadcasts by number."""
    return {row["id"]: row for row in bulk.select_in(tx, t.broadcast, t.broadcast.c.id, ids)}


def taken(tx: Connection, addresses: Iterable[str], broadcasts: Collection[int]) -> set[tuple[int, str]]:
    """Of these broadcasts, the addresses that somebody was decided under, as (broadcast, address)."""
    m = t.broadcast_member.c
    rows: list[Row] = []
    for number in sorted(broadcasts):
        rows += bulk.select_in(tx, (m.broadcast_id, m.address), m.address, addresses, m.broadcast_id == number)
    return {(row["broadcast_id"], row["address"]) for row in rows}


def placed(tx: Connection, families: Iterable[int], broadcasts: Collection[int]) -> set[tuple[int, int]]:
    """Of these broadcasts, the customers of whom a member has its place, as (broadcast, family)."""
    m, p = t.broadcast_member.c, t.profile.c
    statement = (
        sa.select(m.broadcast_id, p.family_id)
        .join(t.profile, p.id == m.profile_id)
        .where(bulk.one_of(tx, p.family_id, set(families)), bulk.one_of(tx, m.broadcast_id, sorted(broadcasts)))
        .where(m.address.is_not(None))
    )
    return {(number, family) for number, family in tx.execute(statement)}


def decided(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Members (`broadcast_id`, `profile_id`) have had their turn: `message_id`, and the `address` that is theirs."""
    bulk.update(tx, t.broadcast_member, ("broadcast_id", "profile_id"), ("address", "message_id"), rows)


# --- progress ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Progress:
    """How far a broadcast is, in members.

    Attributes:
        members: all there are.
        waiting: those whose turn is still to come.
        parked: those whose turn failed too often.
        let_go: those that had their turn and no message: their plugin is gone.
        messages: the others, by (state, reason) of their message; reason None where it has none.
    """

    members: int = 0
    waiting: int = 0
    parked: int = 0
    let_go: int = 0
    messages: Counter[tuple[str, str | None]] = field(default_factory=Counter)

    @property
    def states(self) -> Counter[str]:
        """Members by the state of their message."""
        found: Counter[str] = Counter()
        for (state, _), count in self.messages.items():
            found[state] += count
        return found


def every(tx: Connection) -> list[Row]:
    """All broadcasts, newest first."""
    return bulk.rows(tx, sa.select(t.broadcast).order_by(t.broadcast.c.id.desc()))


def progress(tx: Connection, number: int) -> Progress:
    """How far a broadcast is. One statement."""
    b, m, p = t.broadcast_member.c, t.message.c, t.pending.c
    is_open, is_parked = p.id.is_not(None), p.parked_at.is_not(None)
    statement = (
        sa.select(m.state, m.reason, is_open, is_parked, sa.func.count())
        .select_from(t.broadcast_member)
        .outerjoin(t.message, m.id == b.message_id)
        .outerjoin(t.pending, sa.and_(p.profile_id == b.profile_id, p.interaction_id == b.interaction_id))
        .where(b.broadcast_id == number)
        .group_by(m.state, m.reason, is_open, is_parked)
    )
    found = Progress()
    for state, reason, opened, parked, count in tx.execute(statement):
        found.members += count
        if state is not None:
            found.messages[state, reason] += count
        elif parked:
            found.parked += count
        elif opened:
            found.waiting += count
        else:
            found.let_go += count
    return found
