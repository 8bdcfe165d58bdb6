"""What a run alone wrote: found by its number, looked at for what came of it, and taken away."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.customer import Identity
from crmkit.core.message import State
from crmkit.store import bulk, forgotten
from crmkit.store import tables as t
from crmkit.store.bulk import Row

_o, _p, _i, _m, _c = t.orders.c, t.profile.c, t.interaction.c, t.message.c, t.consent.c
#: States of messages that left, or may have.
_LEFT = (State.SENDING, State.SENT, State.DELIVERED, State.BOUNCED, State.IN_DOUBT)
#: What belongs to an order.
CHILDREN: Mapping[str, sa.Table] = {
    "parcels": t.parcel,
    "payments": t.payment,
    "refunds": t.refund,
    "returns": t.goods_return,
    "reviews": t.review,
}


@dataclass(frozen=True, slots=True)
class Written:
    """Orders, profiles and interactions that a run alone wrote, by number."""

    run: int
    orders: frozenset[int]
    profiles: frozenset[int]
    interactions: frozenset[int]

    @classmethod
    def by(cls, tx: Connection, run: int) -> "Written":
        """By this run, as of now."""
        return cls(
            run,
            *(
                frozenset(tx.execute(sa.select(table.c.id).where(table.c.run_id == run)).scalars())
                for table in (t.orders, t.profile, t.interaction)
            ),
        )


def runs(tx: Connection, limit: int | None) -> list[Row]:
    """The last runs (None: all), oldest first."""
    return bulk.rows(tx, sa.select(t.run).order_by(t.run.c.id.desc()).limit(limit))[::-1]


def run(tx: Connection, number: int) -> Row | None:
    """The run of this number."""
    return next(iter(bulk.rows(tx, sa.select(t.run).where(t.run.c.id == number))), None)


def _about(tx: Connection, table: sa.Table, written: Written) -> sa.ColumnElement[bool]:
    of_profiles = bulk.one_of(tx, table.c.profile_id, written.profiles)
    return sa.or_(of_profiles, bulk.one_of(tx, table.c.order_id, written.orders))


def _told(tx: Connection, written: Written) -> sa.ColumnElement[bool]:
    """The messages that came of it."""
    return sa.or_(_about(tx, t.message, written), bulk.one_of(tx, _m.interaction_id, written.interactions))


def went_out(tx: Connection, written: Written) -> tuple[int, int]:
    """Of the messages that came of it: how many left, or may have; how many wait."""
    left = sa.or_(_m.state.in_(sorted(_LEFT)), _m.sent_at.is_not(None), _m.doubted_at.is_not(None))
    waits = sa.and_(_m.state.in_((State.QUEUED, State.HELD)), sa.not_(left))
    found = sa.select(*(sa.func.coalesce(sa.func.sum(sa.case((one, 1), else_=0)), 0) for one in (left, waits)))
    row = tx.execute(found.select_from(t.message).where(_told(tx, written))).one()
    return int(row[0]), int(row[1])


def came_of(tx: Connection, written: Written) -> dict[str, int]:
    """What came of it already, by what it is called: messages, and what plugins wrote."""
    profiles, interactions = written.profiles, written.interactions

    def number(table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
        return int(tx.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar_one())

    told = _told(tx, written)
    by_plugins = sa.or_(_about(tx, t.interaction, written), bulk.one_of(tx, _i.cause_id, interactions))
    found = {
        "messages": number(t.message, told),
        "interactions of plugins": number(t.interaction, by_plugins, _i.actor.startswith("plugin:")),
        "members of broadcasts": number(t.broadcast_member, bulk.one_of(tx, t.broadcast_member.c.profile_id, profiles)),
    }
    there = set(sa.inspect(tx).get_table_names())
    for table, column in forgotten.plugin_tables().items():
        if table.name in there:
            found[f"rows of {table.name}"] = number(table, bulk.one_of(tx, table.c[column], profiles))
    return {name: count for name, count in found.items() if count}


def told_of(tx: Connection, written: Written) -> set[int]:
    """Every order the run told something of, whoever else wrote of it."""
    statement = sa.select(_i.order_id).where(_i.run_id == written.run, _i.order_id.is_not(None)).distinct()
    return set(tx.execute(statement).scalars())


def shared_orders(tx: Connection, written: Written) -> set[int]:
    """Those of its orders that others wrote something of since, too."""
    others = [sa.select(_i.order_id).where(bulk.one_of(tx, _i.order_id, written.orders), _not_by(_i.run_id, written))]
    for table in CHILDREN.values():
        c = table.c
        joined = table.join(t.orders, sa.and_(_o.shop_id == c.shop_id, _o.external_id == c.order_external_id))
        mine = (_o.run_id == written.run, _not_by(c.run_id, written))
        others.append(sa.select(_o.id).select_from(joined).where(*mine))
    return set(tx.execute(sa.union(*others)).scalars())


def shared_profiles(tx: Connection, written: Written, gone: Collection[int]) -> set[int]:
    """Those of its profiles that others wrote something of, too; `gone` are orders that will not be there."""
    mine = written.profiles
    others = [
        sa.select(_o.profile_id).where(bulk.one_of(tx, _o.profile_id, mine), sa.not_(bulk.one_of(tx, _o.id, gone))),
        sa.select(_p.merged_into).where(bulk.one_of(tx, _p.merged_into, mine)),
        sa.select(t.contact.c.profile_id).where(bulk.one_of(tx, t.contact.c.profile_id, mine)),
    ]
    for table in (t.interaction, t.consent, t.identity, t.address, t.review):
        c = table.c
        others.append(sa.select(c.profile_id).where(bulk.one_of(tx, c.profile_id, mine), _not_by(c.run_id, written)))
    return set(tx.execute(sa.union(*others)).scalars())


def _not_by(column: sa.ColumnElement[int | None], written: Written) -> sa.ColumnElement[bool]:
    return column.is_distinct_from(written.run)


def evidence(tx: Connection, written: Written) -> tuple[set[Identity], set[int]]:
    """The weak identities it wrote, and the profiles they are of."""
    c = t.identity.c
    rows = bulk.rows(tx, sa.select(t.identity).where(c.run_id == written.run))
    weak = {Identity(row["kind"], row["scope"], row["value"], False) for row in rows if not row["is_strong"]}
    return weak, {row["profile_id"] for row in rows}


def take_away(tx: Connection, written: Written, orders: Collection[int], profiles: Collection[int]) -> dict[str, int]:
    """Delete these orders and profiles with what belongs to them, and what else the run told of nobody's orders.

    Children of orders that stay, stay with them.

    Returns:
        How many rows went, by what they are.
    """
    counts: dict[str, int] = {}

    def drop(name: str, table: sa.Table, *where: sa.ColumnElement[bool]) -> None:
        counts[name] = counts.get(name, 0) + tx.execute(sa.delete(table).where(*where)).rowcount

    of_orders = bulk.one_of(tx, _i.order_id, orders)
    told = sa.select(_i.id).where(_i.run_id == written.run, sa.or_(of_orders, _i.order_id.is_(None)))
    numbers = set(tx.execute(told).scalars())
    drop("pending", t.pending, bulk.one_of(tx, t.pending.c.interaction_id, numbers))
    timer = t.timer.c
    of_nobody = (
        bulk.one_of(tx, timer.cause_id, numbers),
        bulk.one_of(tx, timer.order_id, orders),
        bulk.one_of(tx, timer.profile_id, profiles),
    )
    drop("timers", t.timer, sa.or_(*of_nobody))
    drop("interactions", t.interaction, bulk.one_of(tx, _i.id, numbers))
    for name, table in CHILDREN.items():
        c = table.c
        called = sa.exists().where(_o.shop_id == c.shop_id, _o.external_id == c.order_external_id)
        stays = called.where(sa.not_(bulk.one_of(tx, _o.id, orders)))
        drop(name, table, c.run_id == written.run, sa.not_(stays))
    drop("order lines", t.line, bulk.one_of(tx, t.line.c.order_id, orders))
    drop("orders", t.orders, bulk.one_of(tx, _o.id, orders))
    for name, table in (("consent", t.consent), ("addresses", t.address), ("identities", t.identity)):
        theirs = table.c.profile_id
        drop(name, table, sa.or_(table.c.run_id == written.run, bulk.one_of(tx, theirs, profiles)))
    drop("profiles", t.profile, bulk.one_of(tx, _p.id, profiles))
    tx.execute(sa.update(t.profile).where(bulk.one_of(tx, _p.family_id, profiles)).values(family_id=_p.id))
    return {name: count for name, count in counts.items() if count}


def buyers_of(tx: Connection, orders: Collection[int]) -> set[int]:
    """The profiles these orders were recorded for."""
    rows = bulk.select_in(tx, (_o.profile_id,), _o.id, orders)
    return {row["profile_id"] for row in rows if row["profile_id"] is not None}


def in_families_of(tx: Connection, profiles: Collection[int]) -> set[int]:
    """Every profile of the customers these profiles are of."""
    families = sa.select(_p.family_id).where(bulk.one_of(tx, _p.id, profiles))
    return set(tx.execute(sa.select(_p.id).where(_p.family_id.in_(families))).scalars())


def mark(tx: Connection, number: int, now: datetime, by: str) -> None:
    """The run is undone; what it was is kept."""
    row = run(tx, number)
    told = {**((row["counts"] if row is not None else None) or {}), "undone": {"at": now.isoformat(), "by": by}}
    tx.execute(sa.update(t.run).where(t.run.c.id == number).values(outcome="undone", counts=told))
