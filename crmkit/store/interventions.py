"""Messages a person does something to: which are meant, taken a batch at a time, and who did what."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.store import bulk
from crmkit.store import tables as t
from crmkit.store.bulk import Row

_m, _o = t.message.c, t.orders.c
#: What an intervention sets: of these, what a row gives.
_SET = (
    *("state", "reason", "detail", "settled_at", "sent_at", "not_before", "expires_at", "gateway", "gateways", "tries"),
    *("look_ups", "doubted_at"),
)
#: What a message that is composed anew has of its own.
COMPOSED = (
    *("template_hash", "locale", "purpose", "milestone", "channel", "address_kind", "address", "params", "asked"),
    *("subject", "text", "html", "headers", "encoding", "segments", "content_hash", "decided_at"),
)


@dataclass(frozen=True, slots=True)
class Meant:
    """Which messages are meant: all that is given has to fit.

    Attributes:
        ids: by number; None: any.
        states, reasons: one of these; none: any.
        profiles: of these; None: anybody's.
        order: about an order known by this id or number.
        since: decided at or after this time.
    """

    ids: Collection[int] | None = None
    states: Collection[str] = ()
    reasons: Collection[str] = ()
    template: str | None = None
    gateway: str | None = None
    shop: int | None = None
    profiles: Collection[int] | None = None
    order: str | None = None
    since: datetime | None = None

    def where(self, tx: Connection) -> list[sa.ColumnElement[bool]]:
        """The condition, on the table of messages."""
        found: list[sa.ColumnElement[bool]] = []
        for column, values in ((_m.id, self.ids), (_m.profile_id, self.profiles)):
            if values is not None:
                found.append(bulk.one_of(tx, column, sorted(values)))
        for names, column in ((self.states, _m.state), (self.reasons, _m.reason)):
            if names:
                found.append(column.in_(sorted(names)))
        for value, column in ((self.template, _m.template), (self.gateway, _m.gateway), (self.shop, _m.shop_id)):
            if value is not None:
                found.append(column == value)
        if self.order is not None:
            called = sa.or_(_o.external_id == self.order, _o.number == self.order)
            found.append(_m.order_id.in_(sa.select(_o.id).where(called)))
        if self.since is not None:
            found.append(_m.decided_at >= self.since)
        return found


def counted(tx: Connection, meant: Meant) -> list[Row]:
    """How many messages are meant: `count` by `state`, `reason` and `gateway`."""
    columns = (_m.state, _m.reason, _m.gateway)
    statement = sa.select(*columns, sa.func.count().label("count")).where(*meant.where(tx)).group_by(*columns)
    return sorted(bulk.rows(tx, statement), key=lambda row: (-row["count"], row["state"], row["reason"] or ""))


def names(tx: Connection, kind: str) -> set[str]:
    """Every `template`, or `gateway`, that a message has."""
    column = _m[kind]
    return set(tx.execute(sa.select(column).where(column.is_not(None)).distinct()).scalars())


def take(tx: Connection, meant: Meant, after: int, limit: int) -> list[Row]:
    """The next messages that are meant, from this number on, locked; what a run has in hand is left out."""
    statement = sa.select(t.message).where(_m.id > after, *meant.where(tx)).order_by(_m.id).limit(limit)
    if tx.dialect.name != "sqlite":
        statement = statement.with_for_update(skip_locked=True)
    return bulk.rows(tx, statement)


def listed(tx: Connection, meant: Meant, after: int, limit: int) -> list[Row]:
    """The next messages that are meant, from this number on, with the vendor's id of their `order`; not locked."""
    statement = (
        sa.select(t.message, _o.external_id.label("order"))
        .select_from(t.message.outerjoin(t.orders, _o.id == _m.order_id))
        .where(_m.id > after, *meant.where(tx))
    )
    return bulk.rows(tx, statement.order_by(_m.id).limit(limit))


def write(
    tx: Connection,
    rows: Sequence[Mapping[str, Any]],
    *,
    action: str,
    actor: str,
    reason: str | None,
    now: datetime,
    was: Mapping[int, str],
    composed: bool = False,
) -> None:
    """Set what was done to locked messages, and keep who did it.

    Args:
        rows: messages as they are now.
        was: {message: the state it was in}.
        composed: whether their content is new too.
    """
    bulk.update(tx, t.message, ("id",), (*_SET, *(COMPOSED if composed else ())), rows)
    numbers = bulk.next_ids(tx, t.intervention, len(rows))
    kept = {"at": now, "actor": actor, "action": action, "reason": reason}
    bulk.insert(
        tx,
        t.intervention,
        [
            {**kept, "id": n, "message_id": row["id"], "was": was[row["id"]]}
            for n, row in zip(numbers, rows, strict=True)
        ],
    )


def of_message(tx: Connection, number: int) -> list[Row]:
    """What persons did to a message, oldest first."""
    c = t.intervention.c
    return bulk.rows(tx, sa.select(t.intervention).where(c.message_id == number).order_by(c.id))
