"""Slices: the customers one transaction of a plan is about, and who has anything due at a moment."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.message import WAITING, State
from crmkit.store import bulk, customers
from crmkit.store import tables as t
from crmkit.store.bulk import Row

_p, _i, _o, _m = t.pending.c, t.interaction.c, t.orders.c, t.message.c


@dataclass(frozen=True, slots=True)
class Slice:
    """Some customers, or nobody: what belongs to no customer.

    Attributes:
        profiles: every profile of those customers; None: what is no customer's.
    """

    profiles: frozenset[int] | None = None

    @classmethod
    def of(cls, tx: Connection, families: Collection[int]) -> "Slice":
        """These customers as they are now: also with whom they were joined since."""
        now_of = set(customers.family_of(tx, families).values())
        members = customers.members(tx, now_of)
        return cls(frozenset(profile for found in members.values() for profile in found))

    def work(self, tx: Connection) -> sa.ColumnElement[bool]:
        """The condition that pending work is theirs; who bought may have become known only after it was told."""
        if self.profiles is None:
            known = sa.select(_o.id).where(_o.id == _i.order_id, _o.profile_id.is_not(None))
            return sa.and_(_p.profile_id.is_(None), ~sa.exists(known.correlate(t.interaction)))
        mine = sa.select(_p.id).where(bulk.one_of(tx, _p.profile_id, self.profiles))
        orders = sa.select(_o.id).where(bulk.one_of(tx, _o.profile_id, self.profiles))
        bought = (
            sa.select(_p.id)
            .join(t.interaction, _i.id == _p.interaction_id)
            .where(_p.profile_id.is_(None), _i.order_id.in_(orders))
        )
        return _p.id.in_(sa.union_all(mine, bought))

    def timers(self, tx: Connection) -> sa.ColumnElement[bool]:
        """The condition that a timer is theirs."""
        whose = t.timer.c.profile_id
        return whose.is_(None) if self.profiles is None else bulk.one_of(tx, whose, self.profiles)

    def messages(self, tx: Connection) -> sa.ColumnElement[bool]:
        """The condition that a message is theirs; what is for the staff is nobody's."""
        return _m.profile_id.is_(None) if self.profiles is None else bulk.one_of(tx, _m.profile_id, self.profiles)


#: What is no customer's.
NOBODY = Slice()


def due(tx: Connection, now: datetime, shops: Collection[int] | None = None) -> tuple[dict[int, datetime], bool]:
    """Who has something due: work to be decided, a timer, a message that may leave.

    Args:
        shops: something of these shops.

    Returns:
        {customer: since when}, and whether anything of nobody's is due.
    """

    def of(shop: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        return sa.true() if shops is None else bulk.one_of(tx, shop, sorted(shops))

    timer = t.timer.c
    whose = sa.func.coalesce(_p.profile_id, _o.profile_id)
    since: sa.ColumnElement[Any] = sa.func.min(_p.due_at, type_=_p.due_at.type)
    pending = (
        sa.select(whose.label("profile_id"), since.label("at"))
        .select_from(
            t.pending.join(t.interaction, _i.id == _p.interaction_id).outerjoin(t.orders, _o.id == _i.order_id)
        )
        .where(_p.due_at <= now, _p.parked_at.is_(None), of(_i.shop_id))
        .group_by(whose)
    )
    timers = (
        sa.select(timer.profile_id, sa.func.min(timer.due_at, type_=timer.due_at.type).label("at"))
        .where(timer.due_at <= now, of(timer.shop_id))
        .group_by(timer.profile_id)
    )
    waiting = (
        sa.select(_m.profile_id, sa.func.min(_m.not_before, type_=_m.not_before.type).label("at"))
        .where(sa.text(WAITING), _m.not_before <= now, of(_m.shop_id))
        .group_by(_m.profile_id)
    )
    first: dict[int | None, datetime] = {}
    for row in (*bulk.rows(tx, pending), *bulk.rows(tx, timers), *bulk.rows(tx, waiting)):
        first[row["profile_id"]] = min(row["at"], first.get(row["profile_id"], row["at"]))
    is_nobodys = first.pop(None, None) is not None
    found: dict[int, datetime] = {}
    families = customers.family_of(tx, [profile for profile in first if profile is not None])
    for profile, at in first.items():
        if profile in families:
            family = families[profile]
            found[family] = min(at, found.get(family, at))
    return found, is_nobodys


def households(tx: Connection, families: Mapping[int, datetime]) -> list[list[int]]:
    """These customers, the longest due first; those who share an address stand together.

    What the one is told may decide what the other is: an address is told once, and its cap counts for both.
    """
    of = {family: family for family in families}

    def root(family: int) -> int:
        while of[family] != family:
            of[family] = of[of[family]]
            family = of[family]
        return family

    a, p = t.address.c, t.profile.c
    statement = (
        sa.select(a.value, p.family_id)
        .join(t.profile, p.id == a.profile_id)
        .where(bulk.one_of(tx, p.family_id, sorted(families)))
    )
    first: dict[str, int] = {}
    for value, family in tx.execute(statement):
        other = root(first.setdefault(value, family))
        of[root(family)] = other
    groups: dict[int, list[int]] = defaultdict(list)
    for family in sorted(families, key=lambda one: (families[one], one)):
        groups[root(family)].append(family)
    return list(groups.values())


def waiting(tx: Connection, now: datetime, one: Slice) -> list[Row]:
    """Messages of a slice that may leave, soonest first."""
    statement = sa.select(t.message).where(sa.text(WAITING), _m.not_before <= now, one.messages(tx))
    return bulk.rows(tx, statement.order_by(_m.not_before, _m.id))


def hand_over(tx: Connection, ids: Collection[int]) -> None:
    """Take these messages off the queue, as if each had been handed over at once: for what is rolled back."""
    statement = sa.update(t.message).where(bulk.one_of(tx, _m.id, ids))
    tx.execute(statement.values(state=State.SENT, reason=None, detail=None))


def with_keys(tx: Connection, keys: Iterable[str]) -> dict[str, Row]:
    """Messages by their keys."""
    return {row["key"]: row for row in bulk.select_in(tx, t.message, _m.key, keys)}


# --- what one slice leaves to others ----------------------------------------------------------------------------------


def written(tx: Connection) -> int:
    """A number that is another once this transaction has written or held a row that it did not before."""
    if tx.dialect.name == "sqlite":
        return int(tx.exec_driver_sql("SELECT total_changes()").scalar_one())
    return int(tx.exec_driver_sql("SELECT coalesce(txid_current_if_assigned(), 0)").scalar_one())


def watermark(tx: Connection) -> int:
    """What pending work that comes from now on is numbered above."""
    if tx.dialect.name == "sqlite":
        return int(tx.exec_driver_sql("SELECT coalesce(max(id), 0) FROM pending").scalar_one())
    return int(tx.exec_driver_sql("SELECT nextval('pending_id_seq')").scalar_one())


def left(tx: Connection, above: int, now: datetime) -> list[Row]:
    """Due work of customers that is numbered above, as `due` of the log gives it."""
    statement = sa.select(t.pending).where(_p.id > above, _p.due_at <= now, _p.parked_at.is_(None))
    return bulk.rows(tx, statement.where(_p.profile_id.is_not(None)).order_by(_p.id))


def behind(tx: Connection, work: Sequence[Row]) -> dict[sa.Table, list[Row]]:
    """What pending work points at: its interactions, and of members the broadcast and their place in it."""
    numbers = [row["interaction_id"] for row in work]
    members = bulk.select_in(tx, t.broadcast_member, t.broadcast_member.c.interaction_id, numbers)
    broadcasts = bulk.select_in(tx, t.broadcast, t.broadcast.c.id, {row["broadcast_id"] for row in members})
    return {
        t.interaction: bulk.select_in(tx, t.interaction, _i.id, numbers),
        t.broadcast: broadcasts,
        t.broadcast_member: members,
    }


def put(tx: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put rows back under the numbers they had; those that are there are left alone."""
    keys = [column.name for column in table.primary_key.columns]
    bulk.insert(tx, table, rows, skip_known=keys)
