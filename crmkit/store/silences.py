"""When something came last, how much came before, and which silences are known."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.message import ACCEPTED
from crmkit.core.silence import SLOT
from crmkit.store import bulk
from crmkit.store import tables as t
from crmkit.store.bulk import Row

#: What comes, by its kind: the table, whose it is, and when it came.
_COMES: Mapping[str, tuple[sa.Table, sa.Column[Any], sa.Column[Any], sa.Column[Any]]] = {
    "orders": (t.orders, t.orders.c.shop_id, t.orders.c.placed_at, t.account.c.id),
    "webhooks": (t.inbox, t.inbox.c.account_id, t.inbox.c.received_at, t.account.c.id),
    "receipts": (t.receipt, t.receipt.c.account, t.receipt.c.received_at, t.account.c.name),
}
#: An account's number, and what comes from it.
Series = tuple[int, str]
#: So many of the last runs tell how often accounts are read.
_RUNS = 100


def hold(tx: Connection) -> bool:
    """Keep others from looking for silences to the end of the transaction; False if somebody does already."""
    return bool(bulk.take_free(tx, ["silence"]))


def known(tx: Connection) -> dict[Series, Row]:
    """What is known of each account and kind."""
    return {(row["account_id"], row["kind"]): row for row in bulk.rows(tx, sa.select(t.rhythm))}


def save(tx: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write what is known of some."""
    bulk.upsert(tx, t.rhythm, ("account_id", "kind"), list(rows))


def last(tx: Connection, now: datetime) -> dict[Series, datetime]:
    """When something came last, by account and kind, as of `now`: one step into an index for each."""
    columns = [
        sa.select(sa.func.max(at)).where(owner == of, at <= now).scalar_subquery().label(kind)
        for kind, (_, owner, at, of) in _COMES.items()
    ]
    found = bulk.rows(tx, sa.select(t.account.c.id, *columns))
    return {(row["id"], kind): row[kind] for row in found for kind in _COMES if row[kind] is not None}


def last_sent(tx: Connection, now: datetime) -> dict[str, datetime]:
    """When each account that is a gateway took a message last, as of `now`."""
    a, account = t.attempt.c, t.account.c
    taken = sa.select(sa.func.max(a.finished_at)).where(
        sa.text(ACCEPTED), a.gateway == account.name, a.finished_at <= now
    )
    found = bulk.rows(tx, sa.select(account.name, taken.scalar_subquery().label("at")))
    return {row["name"]: row["at"] for row in found if row["at"] is not None}


def counts(tx: Connection, account: Row, kind: str, since: datetime, until: datetime) -> dict[int, int]:
    """How much came from an account, by slot."""
    table, owner, at, of = _COMES[kind]
    size: sa.ColumnElement[Any] = sa.literal_column(str(int(SLOT.total_seconds())))
    slot: sa.ColumnElement[Any] = sa.func.floor(sa.extract("epoch", at) / size)
    if tx.dialect.name == "sqlite":
        slot = sa.cast(sa.func.strftime("%s", at), sa.Integer).op("/")(size)
    statement = sa.select(slot.label("slot"), sa.func.count()).select_from(table)
    statement = statement.where(owner == account[of.name], at >= since, at <= until).group_by(sa.text("slot"))
    return {int(number): count for number, count in tx.execute(statement)}


def sent(tx: Connection, gateway: str, since: datetime, until: datetime) -> int:
    """How many messages a gateway took between two moments."""
    a = t.attempt.c
    statement = sa.select(sa.func.count()).where(
        sa.text(ACCEPTED), a.gateway == gateway, a.finished_at > since, a.finished_at <= until
    )
    return int(tx.execute(statement).scalar_one())


def reads(tx: Connection) -> list[datetime]:
    """When accounts were read, of late; the oldest first."""
    r = t.run.c
    found = bulk.rows(tx, sa.select(r.command, r.started_at).order_by(r.id.desc()).limit(_RUNS))
    return sorted(row["started_at"] for row in found if row["command"] == "sync")
