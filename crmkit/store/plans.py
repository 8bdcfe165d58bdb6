"""Where plans were written: their files hold what buyers are told, and are forgotten like everything else."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.store import bulk
from crmkit.store import tables as t
from crmkit.store.bulk import Row


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
