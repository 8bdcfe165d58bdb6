"""What does not leave until it is resumed."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.message import KEPT, WAITING, Reason
from crmkit.store import bulk
from crmkit.store import tables as t
from crmkit.store.bulk import Row

_m, _p = t.message.c, t.pause.c
#: The column of a message that a scope names.
_SCOPES = {"channel": _m.channel, "template": _m.template, "gateway": _m.gateway}


def standing(tx: Connection) -> list[Row]:
    """Every pause, oldest first."""
    return bulk.rows(tx, sa.select(t.pause).order_by(_p.since, _p.scope, _p.name))


def put(tx: Connection, row: Mapping[str, Any]) -> None:
    """Pause something, or say anew why it is paused."""
    bulk.upsert(tx, t.pause, ("scope", "name"), [row])


def lift(tx: Connection, scope: str, name: str) -> bool:
    """Take a pause away; whether there was one."""
    return tx.execute(sa.delete(t.pause).where(_p.scope == scope, _p.name == name)).rowcount > 0


def is_paused() -> sa.ColumnElement[bool]:
    """The condition that a message is paused, as of the statement that asks."""
    named = [sa.and_(_p.scope == scope, _p.name == column) for scope, column in _SCOPES.items()]
    return sa.exists(sa.select(sa.literal(1)).where(sa.or_(_p.scope == "all", *named)).correlate(t.message))


def label(tx: Connection, pauses: Sequence[Mapping[str, Any]]) -> int:
    """Queued messages that these pauses are about wait for them to end. Returns how many it is news for.

    A gateway's pause is not among these: its messages may have another to go by.
    """
    count = 0
    for row in pauses:
        if row["scope"] == "gateway":
            continue
        about = sa.true() if row["scope"] == "all" else _SCOPES[row["scope"]] == row["name"]
        values = {"reason": Reason.PAUSED, "detail": detail(row)}
        count += tx.execute(sa.update(t.message).where(sa.text(WAITING), about).values(**values)).rowcount
    return count


def unlabel(tx: Connection) -> int:
    """Queued messages wait for no pause any more. Returns how many did."""
    was = sa.text(KEPT), _m.reason == Reason.PAUSED
    return tx.execute(sa.update(t.message).where(*was).values(reason=None, detail=None)).rowcount


def detail(row: Mapping[str, Any]) -> str:
    """A pause in words."""
    what = "all" if row["scope"] == "all" else f"{row['scope']} {row['name']}"
    return f"{what} is paused by {row['actor']}" + (f": {row['reason']}" if row["reason"] else "")
