"""What gateway accounts may still send and whether they answer: read by every claim, locked by who changes it."""

from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.log import GATEWAY_BACK, GATEWAY_DOWN
from crmkit.core.quota import Quota
from crmkit.store import bulk, lines
from crmkit.store import tables as t
from crmkit.store.bulk import Row

_q = t.quota.c
_COLUMNS = tuple(column.name for column in t.quota.columns if column.name != "name")


def read(tx: Connection, name: str) -> Quota:
    """An account's row as it stands; a fresh one where there is none."""
    found = bulk.rows(tx, sa.select(t.quota).where(_q.name == name))
    return _quota(found[0]) if found else Quota(name)


def every(tx: Connection) -> dict[str, Quota]:
    """Every account's row, by name."""
    return {row["name"]: _quota(row) for row in bulk.rows(tx, sa.select(t.quota))}


def lock(tx: Connection, name: str) -> Quota:
    """An account's row, made if there is none, held to the end of the transaction: whoever wants it next waits.

    It is locked before any message is: so nobody waits crosswise.
    """
    bulk.insert(tx, t.quota, [{"name": name}], skip_known=("name",))
    statement = sa.select(t.quota).where(_q.name == name)
    if tx.dialect.name != "sqlite":
        statement = statement.with_for_update()
    return _quota(bulk.rows(tx, statement)[0])


def save(tx: Connection, quota: Quota) -> None:
    """Write a locked row back. That a gateway is down is logged once, and once that it is back."""
    row = {**asdict(quota), "tokens": None if quota.tokens is None else repr(quota.tokens)}
    before = row.pop("was_down_since")
    bulk.update(tx, t.quota, ("name",), _COLUMNS, [row])
    if before is None and quota.down_since is not None:
        lines.later(tx, GATEWAY_DOWN, gateway=quota.name)
    elif before is not None and quota.down_since is None:
        lines.later(tx, GATEWAY_BACK, gateway=quota.name, since=before.isoformat(timespec="seconds"))
    quota.was_down_since = quota.down_since


def _quota(row: Row) -> Quota:
    tokens = None if row["tokens"] is None else float(row["tokens"])
    return Quota(**{**row, "tokens": tokens}, was_down_since=row["down_since"])
