"""Interactions, the work pending on them, and timers."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from crmkit.core.events import ScheduleDue
from crmkit.core.inner import BundleDue
from crmkit.store import bulk, customers
from crmkit.store import tables as t
from crmkit.store.bulk import Row
from crmkit.store.slices import Slice

#: A timer's plugin and key.
TimerName = tuple[str, str]


def append(
    tx: Connection, rows: Sequence[dict[str, Any]], listened: Collection[str], now: datetime
) -> list[dict[str, Any]]:
    """Append interactions, and pending work for those somebody listens to.

    A row with a `key` that the log has already is left out. Rows get their `id` and `recorded_at` here.

    Returns:
        The rows that were appended.
    """
    keys = [row["key"] for row in rows if row.get("key") is not None]
    if keys:
        known = {row["key"] for row in bulk.select_in(tx, (t.interaction.c.key,), t.interaction.c.key, keys)}
        fresh, seen = [], set(known)
        for row in rows:
            if row.get("key") in seen:
                continue
            if row.get("key") is not None:
                seen.add(row["key"])
            fresh.append(row)
    else:
        fresh = list(rows)
    for number, row in zip(bulk.next_ids(tx, t.interaction, len(fresh)), fresh, strict=True):
        row["id"], row["recorded_at"] = number, now
    bulk.insert(tx, t.interaction, fresh)
    add_pending(tx, [row for row in fresh if row["type"] in listened])
    return fresh


def add_pending(tx: Connection, interactions: Sequence[Mapping[str, Any]]) -> None:
    """These interactions are to be decided once they are due."""
    ids = bulk.next_ids(tx, t.pending, len(interactions))
    rows = [
        {
            "id": number,
            "interaction_id": row["id"],
            "profile_id": row.get("profile_id"),
            "due_at": row["occurred_at"],
        }
        for number, row in zip(ids, interactions, strict=True)
    ]
    bulk.insert(tx, t.pending, rows)


def next_due(
    tx: Connection, announcing: Mapping[int, datetime], absent: Collection[str] = frozenset()
) -> datetime | None:
    """The clock at which the next piece of work is due: pending work, a timer.

    What happened before its shop announces anything is due at that moment, all at once.

    Args:
        announcing: {shop: the moment from which it announces}; work of other shops is never due.
        absent: plugins whose work waits for them.
    """
    p, i = t.pending.c, t.interaction.c
    pending = (
        sa.select(p.due_at)
        .select_from(t.pending.join(t.interaction, i.id == p.interaction_id))
        .where(*_decidable(announcing, absent))
        .order_by(p.due_at)
        .limit(1)
    )
    timer = sa.select(t.timer.c.due_at).where(t.timer.c.plugin.not_in(list(absent)))
    moments = [tx.execute(timer.order_by(t.timer.c.due_at).limit(1)).scalar()]
    # Whatever is due from the moment on at which all shops announce is due as it stands; before, shop by shop.
    latest = max(announcing.values(), default=None)
    moments.append(tx.execute(pending if latest is None else pending.where(p.due_at >= latest)).scalar())
    for shop, begins in announcing.items():
        first = tx.execute(pending.where(p.due_at < latest, i.shop_id == shop)).scalar()
        moments.append(None if first is None else max(first, begins))
    if latest is not None:
        moments.append(tx.execute(pending.where(p.due_at < latest, i.shop_id.is_(None))).scalar())
    return min((moment for moment in moments if moment is not None), default=None)


def _decidable(shops: Collection[int], absent: Collection[str]) -> list[sa.ColumnElement[bool]]:
    """Work that may be decided once it is due: not parked, of a shop that is on, for a plugin that is there."""
    p, i = t.pending.c, t.interaction.c
    found = [p.parked_at.is_(None), sa.or_(i.shop_id.is_(None), i.shop_id.in_(list(shops)))]
    if absent:
        found.append(sa.or_(p.plugin.is_(None), p.plugin.not_in(list(absent))))
    return found


def due(
    tx: Connection,
    now: datetime,
    limit: int,
    shops: Collection[int],
    absent: Collection[str] = frozenset(),
    only: Slice | None = None,
) -> list[dict[str, Any]]:
    """Pending work that is due, oldest first, locked: rows another worker holds are left out.

    Each row carries its interaction, and `family`: whose turn it is. Work of shops that are not in `shops` (switched
    off) and of plugins that are `absent` stays where it is; where `only` is given, so does that of all others.
    """
    p = t.pending.c
    statement = (
        sa.select(
            p.id.label("pending_id"),
            p.plugin,
            p.tries,
            p.due_at,
            t.interaction,
        )
        .join(t.interaction, t.interaction.c.id == p.interaction_id)
        .where(p.due_at <= now, *_decidable(shops, absent))
        .order_by(p.due_at, p.interaction_id)
        .limit(limit)
    )
    if only is not None:
        statement = statement.where(only.work(tx))
    if tx.dialect.name != "sqlite":
        statement = statement.with_for_update(of=t.pending, skip_locked=True)
    rows = [dict(row) for row in bulk.rows(tx, statement)]
    _meet_buyers(tx, rows)
    families = customers.family_of(tx, [row["profile_id"] for row in rows if row["profile_id"] is not None])
    for row in rows:
        row["family"] = families.get(row["profile_id"])
    return _locked(tx, rows, now)


def one(tx: Connection, number: int) -> dict[str, Any] | None:
    """An interaction as `due` gives it, whether any of its work is pending or not; None if there is none."""
    return numbered(tx, [number]).get(number)


def numbered(tx: Connection, numbers: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Interactions by number, each as `due` gives it, whether any of its work is pending or not."""
    rows = [dict(row) for row in bulk.select_in(tx, t.interaction, t.interaction.c.id, numbers)]
    _meet_buyers(tx, rows)
    families = customers.family_of(tx, [row["profile_id"] for row in rows if row["profile_id"] is not None])
    for row in rows:
        row.update(pending_id=None, plugin=None, tries=0, family=families.get(row["profile_id"]))
    return {row["id"]: row for row in rows}


def parked(tx: Connection, *, numbers: Collection[int] | None = None, plugin: str | None = None) -> list[Row]:
    """Decisions that failed too often and are parked: of these interactions, of this plugin, or all."""
    p, i = t.pending.c, t.interaction.c
    where: list[sa.ColumnElement[bool]] = [p.parked_at.is_not(None)]
    if numbers is not None:
        where.append(bulk.one_of(tx, p.interaction_id, sorted(numbers)))
    if plugin is not None:
        where.append(p.plugin == plugin)
    columns = (p.id, p.interaction_id, p.plugin, p.tries, p.error, p.parked_at, i.type)
    statement = sa.select(*columns).select_from(t.pending.join(t.interaction, i.id == p.interaction_id)).where(*where)
    return bulk.rows(tx, statement.order_by(p.interaction_id, p.id))


def unpark(tx: Connection, pending: Collection[int], now: datetime) -> int:
    """Parked decisions (`pending.id`) are due again, as if they had never been tried. Returns how many."""
    p = t.pending.c
    statement = sa.update(t.pending).where(bulk.one_of(tx, p.id, sorted(pending)), p.parked_at.is_not(None))
    return tx.execute(statement.values(parked_at=None, tries=0, due_at=now)).rowcount


def _meet_buyers(tx: Connection, rows: list[dict[str, Any]]) -> None:
    """Who bought may have become known only after something happened to the order."""
    unknown = {row["order_id"] for row in rows if row["profile_id"] is None and row["order_id"] is not None}
    o = t.orders.c
    buyers = {row["id"]: row["profile_id"] for row in bulk.select_in(tx, (o.id, o.profile_id), o.id, unknown)}
    for row in rows:
        if row["profile_id"] is None:
            row["profile_id"] = buyers.get(row["order_id"])


def _locked(tx: Connection, rows: list[dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
    """Hold the customers of these rows for this transaction; leave out those that another worker holds.

    Another worker may hold some work of a customer that it could not get hold of, and some may have been given back or
    become due between the two locks. So of each customer only what comes before the first that is not here is taken.
    """
    if tx.dialect.name == "sqlite":
        return rows
    families = sorted({row["family"] for row in rows if row["family"] is not None})
    mine = {row["pending_id"] for row in rows}
    p, q = t.profile.c, t.pending.c
    free = sa.select(p.id).where(bulk.one_of(tx, p.id, families), p.family_id == p.id).with_for_update(skip_locked=True)
    held = set(tx.execute(free).scalars())
    now_of = customers.family_of(tx, {row["profile_id"] for row in rows if row["profile_id"] is not None})
    rows = [row for row in rows if row["family"] is None or row["family"] == now_of[row["profile_id"]]]
    waiting = (
        sa.select(p.family_id, q.id, q.due_at, q.interaction_id)
        .join(t.profile, p.id == q.profile_id)
        .where(bulk.one_of(tx, p.family_id, held), q.due_at <= now, q.parked_at.is_(None), q.plugin.is_(None))
    )
    elsewhere: dict[int, tuple[datetime, int]] = {}
    for family, number, due_at, interaction in tx.execute(waiting):
        if number not in mine:
            elsewhere[family] = min(elsewhere.get(family, (due_at, interaction)), (due_at, interaction))
    return [
        row
        for row in rows
        if (family := row["family"]) is None
        or (family in held and (family not in elsewhere or (row["due_at"], row["id"]) < elsewhere[family]))
    ]


def retrying(tx: Connection, families: Iterable[int], taken: Collection[int]) -> dict[tuple[int, str], Row]:
    """What a plugin has yet to decide of these customers, by (family, plugin): the oldest that is not in `taken`."""
    p, i, f = t.pending.c, t.interaction.c, t.profile.c
    found: dict[tuple[int, str], Row] = {}
    statement = (
        sa.select(f.family_id, p.id.label("pending_id"), p.plugin, p.due_at, p.interaction_id, i.occurred_at)
        .select_from(t.pending.join(t.profile, f.id == p.profile_id).join(t.interaction, i.id == p.interaction_id))
        .where(bulk.one_of(tx, f.family_id, set(families)), p.plugin.is_not(None), p.parked_at.is_(None))
        .order_by(i.occurred_at, i.id)
    )
    for row in bulk.rows(tx, statement):
        if row["pending_id"] not in taken:
            found.setdefault((row["family_id"], row["plugin"]), row)
    return found


def done(tx: Connection, pending: Sequence[int]) -> None:
    """This work is decided."""
    bulk.delete(tx, t.pending, ("id",), [{"id": number} for number in pending])


def put_back(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Work that failed: one row for each (interaction, plugin), due again later or parked."""
    ids = bulk.next_ids(tx, t.pending, len(rows))
    bulk.insert(tx, t.pending, [{**row, "id": number} for number, row in zip(ids, rows, strict=True)])


# --- timers -----------------------------------------------------------------------------------------------------------


#: Who may write timers that are no customer's. What is a customer's is written by whoever holds the customer.
_SHARED = "timers of nobody"


def hold_shared_timers(tx: Connection) -> None:
    """Wait until nobody else fires or sets timers that are no customer's, and keep others from it."""
    bulk.lock(tx, _SHARED)


def set_timers(tx: Connection, rows: Mapping[TimerName, Mapping[str, Any] | None]) -> None:
    """Set timers, or move those that are set; None removes one. They are written in one order, whoever writes them."""
    removed = [{"plugin": plugin, "key": key} for (plugin, key), row in sorted(rows.items(), key=_name) if row is None]
    bulk.delete(tx, t.timer, ("plugin", "key"), removed)
    bulk.upsert(tx, t.timer, ("plugin", "key"), [row for _, row in sorted(rows.items(), key=_name) if row is not None])


def _name(item: tuple[TimerName, Any]) -> TimerName:
    return item[0]


def timers_named(tx: Connection, names: Collection[TimerName]) -> dict[TimerName, Row]:
    """Timers that are set, by name; held to the end of the transaction, so that none fires meanwhile."""
    c = t.timer.c
    statement = sa.select(t.timer).where(
        bulk.one_of(tx, c.plugin, sorted({plugin for plugin, _ in names})),
        bulk.one_of(tx, c.key, sorted({key for _, key in names})),
    )
    if tx.dialect.name != "sqlite":
        statement = statement.order_by(c.plugin, c.key).with_for_update()
    found = {(row["plugin"], row["key"]): row for row in bulk.rows(tx, statement)}
    return {name: row for name, row in found.items() if name in names}


def fire_timers(
    tx: Connection,
    now: datetime,
    listened: Collection[str],
    limit: int,
    absent: Collection[str] = frozenset(),
    only: Slice | None = None,
) -> int:
    """Turn timers that are due into interactions, dated at their due time; those of `absent` plugins wait.

    Timers that are no customer's wait while another worker fires or sets such. Those of schedules are not among them:
    they are fired and armed again by `flow.schedule`.

    Args:
        only: whose timers.

    Returns:
        How many.
    """
    c = t.timer.c
    statement = (
        sa.select(t.timer)
        .where(c.due_at <= now, c.plugin.not_in(list(absent)), ~_IS_SCHEDULE)
        .where(sa.or_(c.type != BundleDue.name, ~_may_grow()))
        .order_by(c.due_at, c.plugin, c.key)
        .limit(limit)
    )
    if only is not None:
        statement = statement.where(only.timers(tx))
    if tx.dialect.name != "sqlite":
        nobodys = sa.exists().where(c.due_at <= now, c.profile_id.is_(None))
        if tx.execute(sa.select(nobodys)).scalar() and not bulk.take_free(tx, [_SHARED]):
            statement = statement.where(c.profile_id.is_not(None))
        statement = statement.with_for_update(skip_locked=True)
    fired = bulk.rows(tx, statement)
    if fired:
        append(tx, [interaction_of(row) for row in fired], listened, now)
        bulk.delete(tx, t.timer, ("plugin", "key"), [{"plugin": r["plugin"], "key": r["key"]} for r in fired])
    return len(fired)


#: What the key of a schedule's timer begins with.
SCHEDULE = "@every "
_IS_SCHEDULE = sa.and_(t.timer.c.type == ScheduleDue.name, t.timer.c.key.startswith(SCHEDULE, autoescape=True))


def schedules(tx: Connection, due_by: datetime | None = None) -> dict[TimerName, Row]:
    """The timers of schedules, by name; only those due by then, where it is said."""
    statement = sa.select(t.timer).where(_IS_SCHEDULE)
    if due_by is not None:
        statement = statement.where(t.timer.c.due_at <= due_by)
    return {(row["plugin"], row["key"]): row for row in bulk.rows(tx, statement)}


def hold_schedules(tx: Connection) -> bool:
    """Keep others from the timers of schedules to the end of the transaction; False if another worker does already."""
    return bool(bulk.take_free(tx, [SCHEDULE]))


def _may_grow() -> sa.ColumnElement[bool]:
    """Whether something that belongs into a bundle that is due is still to be decided."""
    c, p, i = t.timer.c, t.pending.c, t.interaction.c
    waits = (
        sa.exists()
        .where(p.due_at < c.due_at, p.parked_at.is_(None), sa.or_(p.plugin.is_(None), p.plugin == c.plugin))
        .where(i.id == p.interaction_id, i.shop_id == c.shop_id)
    )
    return sa.or_(waits.where(p.profile_id == c.profile_id), sa.and_(c.profile_id.is_(None), waits))


def interaction_of(timer: Mapping[str, Any]) -> dict[str, Any]:
    """What a timer becomes when it fires."""
    return {
        "type": timer["type"],
        "profile_id": timer["profile_id"],
        "shop_id": timer["shop_id"],
        "order_id": timer["order_id"],
        "actor": f"plugin:{timer['plugin']}",
        "occurred_at": timer["due_at"],
        "payload": timer["payload"],
        "cause_id": timer["cause_id"],
        "depth": timer["depth"],
        "correlation_id": timer["correlation_id"],
    }


def count_quiet(tx: Connection, counts: Mapping[tuple[int, str, str], int], now: datetime) -> None:
    """Add to the number of sends that history would have caused, by (shop, plugin, template)."""
    if not counts:
        return
    counted = (sqlite if tx.dialect.name == "sqlite" else postgresql).insert(t.quiet)
    was, new = t.quiet.c, counted.excluded
    latest = sa.case((was.recorded_at > new.recorded_at, was.recorded_at), else_=new.recorded_at)
    added = counted.on_conflict_do_update(
        index_elements=["shop_id", "plugin", "template"],
        set_={"count": was.count + new.count, "recorded_at": latest},
    )
    rows = [
        {"shop_id": shop, "plugin": plugin, "template": template, "count": count, "recorded_at": now}
        for (shop, plugin, template), count in sorted(counts.items())
    ]
    tx.execute(added, rows)
