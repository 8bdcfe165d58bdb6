"""Many messages of a gateway at once: sent on their way by the next of their chain, or put off to a later time.

Each statement is about those that wait, and may be bounded: the oldest first, so that no transaction is long.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.message import WAITING, Reason
from crmkit.store import outbox
from crmkit.store import tables as t

_m = t.message.c
#: Held by who moves many queued messages at once, so that two of them do not wait crosswise.
LOCK = "chains"
#: So many messages move in one transaction: others wait for it.
SLICE = 5_000


def due(tx: Connection, gateway: str, now: datetime, only: Collection[int] | None = None) -> list[list[str]]:
    """The different chains of a gateway's messages, of these, that may leave now."""
    about = (sa.text(WAITING), _m.gateway == gateway, _m.not_before <= now, outbox.among(tx, only))
    statement = sa.select(_m.gateways).distinct().where(*about)
    return [list(chain) for chain in tx.execute(statement).scalars()]


def move(
    tx: Connection,
    gateway: str,
    chain: Sequence[str],
    now: datetime,
    values: Mapping[str, Any],
    *,
    unless: Reason | None = None,
    most: int | None = None,
    only: Collection[int] | None = None,
) -> int:
    """Set these columns of a gateway's messages with this chain that may leave now. Returns how many.

    Args:
        unless: those that wait for this reason stay as they are.
        most: so many at once, the oldest first.
        only: of these.
    """
    about = sa.and_(_m.gateway == gateway, _m.not_before <= now, _m.gateways == list(chain), outbox.among(tx, only))
    if unless is not None:
        about = sa.and_(about, _m.reason.is_distinct_from(unless))
    return _set_oldest(tx, about, values, most)


def put_off(tx: Connection, now: datetime) -> list[tuple[str, list[str]]]:
    """The gateways, and different chains, of messages that wait for another try and may not leave yet."""
    statement = sa.select(_m.gateway, _m.gateways).distinct().where(sa.text(WAITING), *_is_put_off(now))
    return [(gateway, list(chain)) for gateway, chain in tx.execute(statement)]


def move_put_off(tx: Connection, gateway: str, chain: Sequence[str], now: datetime, values: Mapping[str, Any]) -> int:
    """Set these columns of a gateway's messages with this chain that wait for another try. Returns how many."""
    about = sa.and_(_m.gateway == gateway, _m.gateways == list(chain), *_is_put_off(now))
    return _set_oldest(tx, about, values, None)


def _is_put_off(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return _m.reason == Reason.RETRY, _m.not_before > now


def defer(
    tx: Connection,
    gateway: str,
    now: datetime,
    until: datetime,
    reason: Reason,
    detail: str,
    *,
    most: int | None = None,
    only: Collection[int] | None = None,
) -> int:
    """Put off a gateway's messages that may leave now: all, or so many of these, the oldest first. Returns how many."""
    about = sa.and_(_m.gateway == gateway, _m.not_before <= now, outbox.among(tx, only))
    return _set_oldest(tx, about, {"not_before": until, "reason": reason, "detail": detail}, most)


def _set_oldest(tx: Connection, about: sa.ColumnElement[bool], values: Mapping[str, Any], most: int | None) -> int:
    statement = sa.update(t.message).where(sa.text(WAITING), about).values(**values)
    if most is not None:
        first = sa.select(_m.id).where(sa.text(WAITING), about).order_by(_m.not_before, _m.id).limit(most)
        statement = statement.where(_m.id.in_(first))
    return tx.execute(statement).rowcount
