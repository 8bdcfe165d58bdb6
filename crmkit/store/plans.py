"""Where plans were written: their files hold what buyers are told, and are forgotten like everything else."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.store import bulk
from crmkit.store import tables as t
from crmkit.store.bulk import Row


@dataclass(frozen=True, slots=True)
class Named:
    """Somebody, as a plan may name them: profiles, their orders, and the interactions that tell of them, by number."""

    profiles: frozenset[int]
    orders: frozenset[int]
    interactions: frozenset[int]


def named(tx: Connection, profiles: Collection[int]) -> Named:
    """Whom a plan may name by these profiles; the log still knows it when they are forgotten."""
    i, o = t.interaction.c, t.orders.c
    told = bulk.select_in(tx, (i.id, i.order_id), i.profile_id, profiles)
    orders = {row["id"] for row in bulk.select_in(tx, (o.id,), o.profile_id, profiles)}
    orders |= {row["order_id"] for row in told if row["order_id"] is not None}
    return Named(frozenset(profiles), frozenset(orders), frozenset(row["id"] for row in told))


def note(tx: Connection, path: str, host: str, now: datetime) -> None:
    """A plan is written there."""
    bulk.upsert(tx, t.plan_file, ("path", "host"), [{"path": path, "host": host, "made_at": now}])


def every(tx: Connection) -> list[Row]:
    """Every file a plan was written to and that is not known to be gone, oldest first."""
    c = t.plan_file.c
    return bulk.rows(tx, sa.select(t.plan_file).order_by(c.made_at, c.path))


def drop(tx: Connection, rows: Sequence[Row]) -> None:
    """These are gone."""
    bulk.delete(tx, t.plan_file, ("path", "host"), rows)
