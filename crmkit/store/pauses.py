"""What does not leave until it is resumed."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.columns import storable
from crmkit.core.message import ACCEPTED, KEPT, LEASED, WAITING, Reason, State
from crmkit.store import bulk
from crmkit.store import tables as t
from crmkit.store.bulk import Row

_m, _p, _a = t.message.c, t.pause.c, t.attempt.c
#: The column of a message that a scope names.
_SCOPES = {"channel": _m.channel, "template": _m.template, "gateway": _m.gateway}


def standing(tx: Connection) -> list[Row]:
    """Every pause, oldest first."""
    return bulk.rows(tx, sa.select(t.pause).order_by(_p.since, _p.scope, _p.name))


def of_gateway(tx: Connection, name: str) -> Row | None:
    """What pauses a gateway itself; None if nothing does."""
    found = bulk.rows(tx, sa.select(t.pause).where(_p.scope == "gateway", _p.name == name))
    return found[0] if found else None


def begin(
    tx: Connection,
    scope: str,
    name: str,
    now: datetime,
    *,
    reason: str | None = None,
    actor: str,
    fingerprint: str | None = None,
) -> dict[str, Any]:
    """Let nothing of this leave until it is resumed, or say anew why. Returns the row, which every mark now asks for.

    It waits for nobody, and takes as long however much is queued: what waits says so later (`flow.spread`).
    """
    row = {
        "scope": scope,
        "name": "" if scope == "all" else name,
        "reason": None if reason is None else storable(reason),
        "actor": actor,
        "since": now,
        "fingerprint": fingerprint,
    }
    bulk.upsert(tx, t.pause, ("scope", "name"), [row])
    return row


def lift(tx: Connection, scope: str, name: str) -> bool:
    """Take a pause away; whether there was one."""
    return tx.execute(sa.delete(t.pause).where(_p.scope == scope, _p.name == name)).rowcount > 0


def is_paused(but: tuple[str, str] | None = None) -> sa.ColumnElement[bool]:
    """The condition that a message is paused, as of the statement that asks.

    Args:
        but: by another pause than this one: its scope and name.
    """
    named = [sa.and_(_p.scope == scope, _p.name == column) for scope, column in _SCOPES.items()]
    where = [sa.or_(_p.scope == "all", *named)]
    if but is not None:
        where.append(sa.or_(_p.scope != but[0], _p.name != but[1]))
    return sa.exists(sa.select(sa.literal(1)).where(*where).correlate(t.message))


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
        where: list[Any] = [sa.text(WAITING), _about(row)]
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
    where = (_about({"scope": scope, "name": name}), sa.not_(is_paused()))
    return sum(_count(tx, sa.text(part), *where) for part in (WAITING, KEPT))


def _count(tx: Connection, *where: sa.ColumnElement[bool] | sa.TextClause) -> int:
    return int(tx.execute(sa.select(sa.func.count()).select_from(t.message).where(*where)).scalar_one())


def figures(tx: Connection, scope: str, name: str, gateways: Collection[str], midnight: datetime) -> dict[str, int]:
    """How messages of this stand, each number by an index.

    Args:
        gateways: every gateway it may have left by.
        midnight: when today began.

    Returns:
        `queued`, `in_flight` (handed over at this moment), `in_doubt`, `sent_today`.
    """
    about = _about({"scope": scope, "name": name})
    taken = (sa.text(LEASED), _m.state == State.SENDING, about)
    sent = sa.select(sa.func.count()).select_from(t.attempt)
    if scope == "template":
        sent = sa.select(sa.func.count()).select_from(t.attempt.join(t.message, _m.id == _a.message_id)).where(about)
    sent = sent.where(sa.text(ACCEPTED), _a.gateway.in_(sorted(gateways)), _a.finished_at >= midnight)
    return {
        "queued": sum(_count(tx, sa.text(part), about) for part in (WAITING, KEPT))
        + _count(tx, *taken, _m.started_at.is_(None)),
        "in_flight": _count(tx, *taken, _m.started_at.is_not(None)),
        "in_doubt": _count(tx, sa.text("state = 'in-doubt'"), about),
        "sent_today": int(tx.execute(sent).scalar_one()),
    }


def leaving(tx: Connection, scope: str, name: str, now: datetime) -> list[Row]:
    """What leaves once this is resumed, by template and channel: `now`, `later`, and `stale` what does not any more."""
    is_stale = sa.and_(_m.expires_at.is_not(None), _m.expires_at <= now)
    columns = (
        _m.template,
        _m.channel,
        sa.func.count().filter(sa.not_(is_stale), _m.not_before <= now).label("now"),
        sa.func.count().filter(sa.not_(is_stale), _m.not_before > now).label("later"),
        sa.func.count().filter(is_stale).label("stale"),
    )
    where = (_about({"scope": scope, "name": name}), sa.not_(is_paused((scope, name))))
    parts = (sa.text(WAITING), sa.and_(sa.text(KEPT), _m.reason == Reason.PAUSED))
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for part in parts:
        for row in bulk.rows(tx, sa.select(*columns).where(part, *where).group_by(_m.template, _m.channel)):
            total = found.setdefault((row["template"], row["channel"]), dict.fromkeys(("now", "later", "stale"), 0))
            for kind in ("now", "later", "stale"):
                total[kind] += row[kind]
    return [
        {"template": template, "channel": channel, **found[template, channel]} for template, channel in sorted(found)
    ]


def unlabel(tx: Connection) -> int:
    """Queued messages wait for no pause any more. Returns how many did."""
    was = sa.text(KEPT), _m.reason == Reason.PAUSED
    return tx.execute(sa.update(t.message).where(*was).values(reason=None, detail=None)).rowcount


def detail(row: Mapping[str, Any]) -> str:
    """A pause in words."""
    what = "all" if row["scope"] == "all" else f"{row['scope']} {row['name']}"
    return f"{what} is paused by {row['actor']}" + (f": {row['reason']}" if row["reason"] else "")
