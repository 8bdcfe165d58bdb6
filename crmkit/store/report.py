"""Counts, and what the commands show: lists of the log, of messages, of what is stuck."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.message import State
from crmkit.store import accounts, bulk, interventions
from crmkit.store import tables as t
from crmkit.store.bulk import Row


def counts(tx: Connection) -> dict[str, Any]:
    """How much there is of everything; a customer is a family of profiles, and `forgotten` are profiles of nobody."""

    def number(what: sa.Select[Any]) -> int:
        return int(tx.execute(what).scalar() or 0)

    def every(table: sa.Table) -> int:
        return number(sa.select(sa.func.count()).select_from(table))

    def by(column: sa.Column[Any]) -> dict[str, int]:
        statement = sa.select(column, sa.func.count()).group_by(column).order_by(column)
        return {str(key): count for key, count in tx.execute(statement)}

    return {
        "customers": number(
            sa.select(sa.func.count(t.profile.c.family_id.distinct())).where(t.profile.c.forgotten_at.is_(None))
        ),
        "forgotten": number(
            sa.select(sa.func.count()).select_from(t.profile).where(t.profile.c.forgotten_at.is_not(None))
        ),
        "profiles": every(t.profile),
        "orders": every(t.orders),
        "order_lines": every(t.line),
        "parcels": every(t.parcel),
        "payments": every(t.payment),
        "refunds": every(t.refund),
        "returns": every(t.goods_return),
        "reviews": every(t.review),
        "interactions": by(t.interaction.c.type),
        "messages": {str(state): 0 for state in State} | by(t.message.c.state),
        "pending": number(sa.select(sa.func.count()).where(t.pending.c.parked_at.is_(None))),
        "parked": number(sa.select(sa.func.count()).where(t.pending.c.parked_at.is_not(None))),
        "timers": every(t.timer),
        "quarantined": number(sa.select(sa.func.count()).where(t.quarantine.c.resolved_at.is_(None))),
    }


# --- the log ----------------------------------------------------------------------------------------------------------


def interactions(
    tx: Connection,
    *,
    profiles: Sequence[int] | None = None,
    types: Sequence[str] = (),
    shop: int | None = None,
    order: str | None = None,
    since: datetime | None = None,
    limit: int | None = 50,
) -> list[Row]:
    """The last interactions that fit (None: all), oldest first, each with the number its order is known by."""
    i, o = t.interaction.c, t.orders.c
    statement = sa.select(t.interaction, o.external_id.label("order")).select_from(
        t.interaction.outerjoin(t.orders, o.id == i.order_id)
    )
    if profiles is not None:
        statement = statement.where(i.profile_id.in_(profiles))
    if types:
        statement = statement.where(i.type.in_(types))
    if shop is not None:
        statement = statement.where(i.shop_id == shop)
    if order is not None:
        statement = statement.where(sa.or_(o.external_id == order, o.number == order))
    if since is not None:
        statement = statement.where(i.occurred_at >= since)
    return bulk.rows(tx, statement.order_by(i.occurred_at.desc(), i.id.desc()).limit(limit))[::-1]


def causes(tx: Connection, interaction: int | None) -> list[Row]:
    """An interaction, what caused it, what caused that, and so on."""
    found: list[Row] = []
    while interaction is not None and interaction not in {row["id"] for row in found}:
        rows = bulk.rows(tx, sa.select(t.interaction).where(t.interaction.c.id == interaction))
        if not rows:
            break
        found.append(rows[0])
        interaction = rows[0]["cause_id"]
    return found


def order_named(tx: Connection, order: int | None) -> str | None:
    """What an order is known by."""
    o = t.orders.c
    name: str | None = tx.execute(sa.select(sa.func.coalesce(o.number, o.external_id)).where(o.id == order)).scalar()
    return name


def orders_called(tx: Connection, name: str) -> list[Row]:
    """Orders of any shop with this id or number."""
    o = t.orders.c
    return bulk.rows(tx, sa.select(t.orders).where(sa.or_(o.external_id == name, o.number == name)).order_by(o.id))


# --- messages ---------------------------------------------------------------------------------------------------------


def messages(
    tx: Connection,
    *,
    profiles: Sequence[int] | None = None,
    states: Sequence[str] = (),
    reasons: Sequence[str] = (),
    template: str | None = None,
    shop: int | None = None,
    order: str | None = None,
    limit: int | None = 50,
) -> list[Row]:
    """The last messages that fit (None: all), oldest first, each with the number its order is known by."""
    m, o = t.message.c, t.orders.c
    statement = sa.select(t.message, sa.func.coalesce(o.number, o.external_id).label("order")).select_from(
        t.message.outerjoin(t.orders, o.id == m.order_id)
    )
    if profiles is not None:
        statement = statement.where(m.profile_id.in_(profiles))
    if states:
        statement = statement.where(m.state.in_(states))
    if reasons:
        statement = statement.where(m.reason.in_(reasons))
    if template is not None:
        statement = statement.where(m.template == template)
    if shop is not None:
        statement = statement.where(m.shop_id == shop)
    if order is not None:
        statement = statement.where(sa.or_(o.external_id == order, o.number == order))
    return bulk.rows(tx, statement.order_by(m.id.desc()).limit(limit))[::-1]


def message(tx: Connection, number: int) -> dict[str, Any] | None:
    """A message with its `attempts`, `receipts`, `interventions` and the `template_row` it was rendered from."""
    rows = bulk.rows(tx, sa.select(t.message).where(t.message.c.id == number))
    if not rows:
        return None
    found = dict(rows[0])
    found["order"] = order_named(tx, found["order_id"])
    attempts = sa.select(t.attempt).where(t.attempt.c.message_id == number).order_by(t.attempt.c.id)
    receipts = sa.select(t.receipt).where(t.receipt.c.message_id == number).order_by(t.receipt.c.occurred_at)
    template = sa.select(t.template).where(t.template.c.hash == found["template_hash"])
    found["attempts"] = [dict(row) for row in bulk.rows(tx, attempts)]
    found["receipts"] = [dict(row) for row in bulk.rows(tx, receipts)]
    found["interventions"] = [dict(row) for row in interventions.of_message(tx, number)]
    found["template_row"] = next((dict(row) for row in bulk.rows(tx, template)), None)
    return found


def quiet(tx: Connection, shop: int | None = None) -> list[Row]:
    """How many sends history would have caused, per shop, plugin and template."""
    statement = sa.select(t.quiet).order_by(t.quiet.c.shop_id, t.quiet.c.plugin, t.quiet.c.template)
    return bulk.rows(tx, statement if shop is None else statement.where(t.quiet.c.shop_id == shop))


# --- what is stuck ----------------------------------------------------------------------------------------------------

#: So many of the last runs are looked at.
_RUNS = 100
#: Tables of children that may come before their order.
CHILDREN: Mapping[str, sa.Table] = {
    "parcels": t.parcel,
    "payments": t.payment,
    "refunds": t.refund,
    "returns": t.goods_return,
    "reviews": t.review,
}


def parked(tx: Connection, limit: int = 20) -> tuple[int, list[dict[str, Any]]]:
    """Decisions that failed too often: how many, and the last of them with the type of their interaction."""
    p, i = t.pending.c, t.interaction.c
    where = p.parked_at.is_not(None)
    total = int(tx.execute(sa.select(sa.func.count()).select_from(t.pending).where(where)).scalar() or 0)
    statement = (
        sa.select(t.pending, i.type)
        .select_from(t.pending.join(t.interaction, i.id == p.interaction_id))
        .where(where)
        .order_by(p.parked_at.desc(), p.id.desc())
        .limit(limit)
    )
    return total, [dict(row) for row in bulk.rows(tx, statement)]


def overdue(tx: Connection, now: datetime, age: timedelta) -> int:
    """Decisions that have been due for longer than `age` and are not parked."""
    p = t.pending.c
    statement = sa.select(sa.func.count()).where(p.parked_at.is_(None), p.due_at <= now - age)
    return int(tx.execute(statement).scalar() or 0)


def waiting(tx: Connection, now: datetime, age: timedelta) -> dict[str, int]:
    """Children whose order has not arrived for longer than `age` after the vendor's last word on them."""
    found = {}
    for name, table in CHILDREN.items():
        statement = sa.select(table.c.version_updated).where(table.c.is_waiting.is_(True))
        stamps = [_stamp(text) for text in tx.execute(statement).scalars()]
        old = sum(1 for at in stamps if at is None or at <= now - age)
        if old:
            found[name] = old
    return found


def _stamp(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def stuck_messages(tx: Connection, now: datetime, age: timedelta) -> dict[str, dict[str, int]]:
    """Messages that wait for somebody: held, in doubt, failed; and queued for longer than `age` past their time.

    Returns:
        {state: {reason: count}}.
    """
    m = t.message.c
    late = sa.and_(m.state == "queued", m.not_before <= now - age)
    statement = (
        sa.select(m.state, m.reason, sa.func.count())
        .where(sa.or_(m.state.in_(("held", "in-doubt", "failed")), late))
        .group_by(m.state, m.reason)
        .order_by(m.state, m.reason)
    )
    found: dict[str, dict[str, int]] = {}
    for state, reason, count in tx.execute(statement):
        found.setdefault(state, {})[reason or "due"] = count
    return found


def quarantined(tx: Connection) -> list[Row]:
    """What is in quarantine, by account, kind and scope."""
    q = t.quarantine.c
    statement = (
        sa.select(q.account_id, q.kind, q.scope, sa.func.count().label("count"), sa.func.max(q.seen_at).label("last"))
        .where(q.resolved_at.is_(None))
        .group_by(q.account_id, q.kind, q.scope)
        .order_by(q.account_id, q.kind, q.scope)
    )
    return bulk.rows(tx, statement)


def quarantine_rows(tx: Connection, numbers: Iterable[int]) -> list[Row]:
    """Refusals by number."""
    return sorted(bulk.select_in(tx, t.quarantine, t.quarantine.c.id, numbers), key=lambda row: row["id"])


def last_runs(tx: Connection) -> dict[str, Row]:
    """The last run of each command that began."""
    latest = sa.select(sa.func.max(t.run.c.id)).group_by(t.run.c.command)
    return {row["command"]: row for row in bulk.rows(tx, sa.select(t.run).where(t.run.c.id.in_(latest)))}


def unread(tx: Connection) -> dict[str, str]:
    """Accounts that could not be read to their end when they were last tried, of late: what kind of error it was."""
    r = t.run.c
    statement = sa.select(r.command, r.counts).where(r.finished_at.is_not(None)).order_by(r.id.desc()).limit(_RUNS)
    found: dict[str, str | None] = {}
    for row in bulk.rows(tx, statement):
        if row["command"] == "sync":
            for name, counts in (row["counts"] or {}).items():
                found.setdefault(name, counts.get("error") if isinstance(counts, dict) else None)
    return {name: error for name, error in found.items() if error is not None}


def last_moved(tx: Connection) -> dict[int, datetime]:
    """When each account last gave something new: the last time one of its cursors moved by more than time."""
    c = t.cursor.c
    gave = c.moved_at > accounts.NEVER
    statement = sa.select(c.account_id, sa.func.max(c.moved_at).label("at")).where(gave).group_by(c.account_id)
    return {row["account_id"]: row["at"] for row in bulk.rows(tx, statement)}


def integrity(tx: Connection) -> list[str]:
    """What the database itself finds wrong with its file; a server looks after its own."""
    if tx.dialect.name != "sqlite":
        return []
    found = [str(row[0]) for row in tx.exec_driver_sql("PRAGMA quick_check(5)")]
    return [] if found == ["ok"] else found
