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


def label(
    tx: Connection, pauses: Sequence[Mapping[str, Any]], *, gateway: str | None = None, most: int | None = None
) -> int:
    """Queued messages that these pauses are about wait for them to end. Returns how many it is news for.

    A gateway's pause is not among these: its messages may have another to go by.

    Args:
        gateway: only messages whose turn is at this one.
        most: so many at once.
    """
    count = 0
    for row in pauses:
        if row["scope"] == "gateway" or count == most:
            continue
        where = [sa.text(WAITING), _about(row)]
        if gateway is not None:
            where.append(_m.gateway == gateway)
        statement = sa.update(t.message).values(reason=Reason.PAUSED, detail=detail(row))
        if most is not None:
            statement = statement.where(_m.id.in_(sa.select(_m.id).where(*where).limit(most - count)))
        count += tx.execute(statement.where(*where)).rowcount
    return count


def _about(row: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    """The condition that a message is one a pause is about."""
    return sa.true() if row["scope"] == "all" else _SCOPES[row["scope"]] == row["name"]


def count_free(tx: Connection, scope: str, name: str) -> int:
    """How many queued messages of this no standing pause keeps."""
    about = _about({"scope": scope, "name": name})
    return sum(
        int(
            tx.execute(
                sa.select(sa.func.count()).select_from(t.message).where(sa.text(part), about, sa.not_(is_paused()))
            ).scalar_one()
        )
        for part in (WAITING, KEPT)
    )


def unlabel(tx: Connection) -> int:
    """Queued messages wait for no pause any more. Returns how many did."""
    was = sa.text(KEPT), _m.reason == Reason.PAUSED
    return tx.execute(sa.update(t.message).where(*was).values(reason=None, detail=None)).rowcount


def detail(row: Mapping[str, Any]) -> str:
    """A pause in words."""
    what = "all" if row["scope"] == "all" else f"{row['scope']} {row['name']}"
    return f"{what} is paused by {row['actor']}" + (f": {row['reason']}" if row["reason"] else "")
