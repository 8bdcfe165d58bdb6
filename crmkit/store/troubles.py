"""What is not as it should be, each kind by an index of what is amiss: a constant number of statements."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.trouble import KINDS, Trouble
from crmkit.store import bulk
from crmkit.store import tables as t

#: Who waits longer than this for a parcel has been told, or has gone.
LATE_MOST = timedelta(days=30)
#: What bounced or failed was decided within this.
_DECIDED = timedelta(days=30)


def troubles(
    tx: Connection, since: datetime, until: datetime, shops: Collection[int], grace: timedelta, worst: int
) -> list[Trouble]:
    """What is amiss at a moment, the gravest first; what there is none of is not in it.

    Args:
        since: what came after it is fresh.
        shops: those that report deliveries: of others it cannot be said what is late.
        grace: an order is late so long after it was promised.
        worst: how many are named.
    """
    found = [*_silent(tx, since, worst), *_messages(tx, since, until, worst)]
    if shops:
        found.append(_late(tx, since - grace, until - grace, shops, worst))
    return sorted((one for one in found if one.count), key=lambda one: KINDS.index(one.kind))


def _late(tx: Connection, since: datetime, until: datetime, shops: Collection[int], worst: int) -> Trouble:
    o = t.orders.c
    open_ones = (o.delivered_at.is_(None), o.completed_at.is_(None), o.cancelled_at.is_(None))
    where = (*open_ones, o.shop_id.in_(list(shops)), o.promised_at <= until, o.promised_at > until - LATE_MOST)
    count, fresh = tx.execute(sa.select(sa.func.count(), _sum(o.promised_at > since)).where(*where)).one()
    names = sa.select(sa.func.coalesce(o.number, o.external_id)).where(*where).order_by(o.promised_at, o.id)
    return Trouble("late", count, int(fresh or 0), tuple(tx.execute(names.limit(worst)).scalars()) if count else ())


def _messages(tx: Connection, since: datetime, until: datetime, worst: int) -> list[Trouble]:
    """Messages that wait for somebody, and what came back since."""
    m, o = t.message.c, t.orders.c
    at = sa.func.coalesce(m.settled_at, m.decided_at, type_=m.decided_at.type)
    recent = (m.decided_at > since - _DECIDED, at > since, at <= until)
    wheres: dict[str, tuple[Any, ...]] = {
        kind: (sa.text(f"message.state = '{kind}'"), *(recent if kind in {"bounced", "failed"} else ()))
        for kind in ("held", "in-doubt", "bounced", "failed")
    }
    found = []
    for kind, where in wheres.items():
        when = sa.func.coalesce(m.doubted_at, m.decided_at, type_=m.decided_at.type) if kind == "in-doubt" else at
        count, fresh = tx.execute(sa.select(sa.func.count(), _sum(when > since)).where(*where)).one()
        names: list[str] = []
        if count:
            named = sa.select(sa.func.coalesce(o.number, o.external_id)).select_from(
                t.message.join(t.orders, o.id == m.order_id)
            )
            latest = named.where(*where).order_by(m.id.desc()).limit(4 * worst)
            names = list(dict.fromkeys(tx.execute(latest).scalars()))[:worst]
        found.append(Trouble(kind, count, int(fresh or 0), tuple(names)))
    return found


def _silent(tx: Connection, since: datetime, worst: int) -> list[Trouble]:
    r, a = t.rhythm.c, t.account.c
    statement = sa.select(r.kind, r.noticed_at, a.name).join(t.account, a.id == r.account_id)
    rows = bulk.rows(tx, statement.where(r.silent_since.is_not(None)).order_by(r.silent_since, a.name))
    found = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row for row in rows if row["kind"] == kind]
        fresh = sum(row["noticed_at"] is not None and row["noticed_at"] > since for row in mine)
        found.append(Trouble(f"silent-{kind}", len(mine), fresh, tuple(row["name"] for row in mine[:worst])))
    return found


def _sum(holds: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    return sa.func.sum(sa.case((holds, 1), else_=0))
