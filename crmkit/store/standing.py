"""How it stands: how much waits and since when, found by the indexes of what waits."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.message import WAITING
from crmkit.store import bulk
from crmkit.store import tables as t


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits, and could have been done: how much, and since when."""

    count: int = 0
    since: datetime | None = None

    def behind(self, now: datetime) -> float:
        """By how many seconds the oldest is late."""
        return 0.0 if self.since is None else max(0.0, (now - self.since).total_seconds())


@dataclass(slots=True)
class Standing:
    """How an installation stands.

    Attributes:
        accounts: their names, by number.
        webhooks: those that were not taken in yet, by account.
        pending: interactions that are due and not decided.
        messages: messages that may leave and have not, by gateway.
        in_doubt: messages of which it is not known whether they left, by gateway.
        quarantine: what was refused and not settled since, by account.
        strangers: calls that could not show who they are, of all days, by account.
        synced: when each account was last read to its end without an error; one that never was is not in it.
    """

    accounts: dict[int, str]
    webhooks: dict[str, Queue]
    pending: Queue
    messages: dict[str, Queue]
    in_doubt: dict[str, int] = field(default_factory=dict)
    quarantine: dict[str, int] = field(default_factory=dict)
    strangers: dict[str, int] = field(default_factory=dict)
    synced: dict[str, datetime] = field(default_factory=dict)

    def ages(self, accounts: Collection[str], now: datetime) -> dict[str, float | None]:
        """How many seconds ago each of these accounts was last synced; None where it never was."""
        found = {name: self.synced.get(name) for name in sorted(accounts)}
        return {name: None if at is None else max(0.0, (now - at).total_seconds()) for name, at in found.items()}

    def late(self, accounts: Collection[str], now: datetime) -> dict[str, float]:
        """By how many seconds the oldest webhook of each of these accounts is late, where some wait."""
        return {name: queue.behind(now) for name, queue in self.webhooks.items() if name in accounts}


def standing(tx: Connection, now: datetime) -> Standing:
    """How it stands at a moment. What an index finds is written out: a parameter would not find it."""
    a = t.account.c
    known = bulk.rows(tx, sa.select(a.id, a.name, a.synced_at))
    names = {row["id"]: row["name"] for row in known}
    i, p, m, q, s = t.inbox.c, t.pending.c, t.message.c, t.quarantine.c, t.stranger.c
    due = sa.select(sa.func.count(), sa.func.min(p.due_at)).where(p.parked_at.is_(None), p.due_at <= now)
    waiting = sa.select(i.account_id, sa.func.count(), sa.func.min(i.received_at)).where(sa.text("state = 'waiting'"))
    leaving = sa.select(m.gateway, sa.func.count(), sa.func.min(m.not_before)).where(
        sa.text(WAITING), m.gateway.is_not(None), m.not_before <= now
    )
    doubted = sa.select(m.gateway, sa.func.count()).where(sa.text("state = 'in-doubt'"), m.gateway.is_not(None))
    refused = sa.select(q.account_id, sa.func.count()).where(q.resolved_at.is_(None)).group_by(q.account_id)
    strangers = sa.select(s.account_id, sa.func.sum(s.count)).group_by(s.account_id)
    return Standing(
        accounts=names,
        webhooks={
            names.get(number, "other"): Queue(count, since)
            for number, count, since in tx.execute(waiting.group_by(i.account_id))
        },
        pending=Queue(*tx.execute(due).one()),
        messages={name: Queue(count, since) for name, count, since in tx.execute(leaving.group_by(m.gateway))},
        in_doubt=_counts(tx, doubted.group_by(m.gateway)),
        quarantine={names.get(number, "other"): count for number, count in _counts(tx, refused).items()},
        strangers={names.get(number, "other"): count for number, count in _counts(tx, strangers).items()},
        synced={row["name"]: row["synced_at"] for row in known if row["synced_at"] is not None},
    )


def _counts(tx: Connection, statement: sa.Select[Any]) -> dict[Any, int]:
    return {key: int(count) for key, count in tx.execute(statement)}
