"""What is let go once it is old: words and bodies are emptied, and rows deleted that nothing is known by.

What repeats are told by stays for ever: keys of messages and of webhooks, what was told once, receipts by their
vendor's id, interactions and facts. The newest row of a table stays too, since numbers go on from it, and the fence is
held against it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.message import State
from crmkit.store import accounts, bulk
from crmkit.store import tables as t

#: Rows one transaction lets go.
BATCH = 500
#: It is time again so long after it was last begun.
AGAIN = timedelta(hours=20)
COMMAND = "prune"

_m, _a, _r, _q, _run, _tok = (x.c for x in (t.message, t.attempt, t.receipt, t.quarantine, t.run, t.token))
#: States nothing leaves any more, but by hand.
_SETTLED = (State.SENT, State.DELIVERED, State.BOUNCED, State.FAILED, State.SUPPRESSED, State.CANCELLED)
_NEWEST_TRY = sa.select(sa.func.max(_a.id)).scalar_subquery()
_NEWEST_RUNS = sa.select(sa.func.max(_run.id)).group_by(_run.command).scalar_subquery()


@dataclass(frozen=True, slots=True)
class Kind:
    """Something that grows old.

    Attributes:
        name: as `[retention]` calls it.
        says: what it is, in words.
        at: when it was new.
        where: what of the table is meant, and not let go yet.
        empty: what columns become; None: the rows go.
    """

    name: str
    says: str
    table: sa.Table
    at: sa.ColumnElement[Any]
    where: tuple[sa.ColumnElement[bool], ...]
    empty: Mapping[str, Any] | None = None

    def old(self, before: datetime) -> tuple[sa.ColumnElement[bool], ...]:
        """The condition that a row of it is older."""
        return (*self.where, self.at < before)


KINDS: tuple[Kind, ...] = (
    Kind(
        "texts",
        "texts and facts of messages that are settled",
        t.message,
        _m.decided_at,
        (_m.state.in_(_SETTLED), sa.or_(_m.text.is_not(None), _m.params.is_not(None))),
        dict.fromkeys(("subject", "text", "html", "params", "headers")),
    ),
    Kind(
        "attempts",
        "tries at delivering messages that are settled",
        t.attempt,
        _a.finished_at,
        (
            _a.id < _NEWEST_TRY,
            sa.exists(sa.select(sa.literal(1)).where(_m.id == _a.message_id, _m.state.in_(_SETTLED))),
        ),
    ),
    Kind(
        "receipts",
        "vendors' words, and recipients, of receipts",
        t.receipt,
        _r.received_at,
        (
            sa.or_(_r.detail.is_not(None), _r.recipient.is_not(None)),
            sa.or_(_r.message_id.is_not(None), _r.given_up_at.is_not(None)),
        ),
        {"detail": None, "recipient": None},
    ),
    Kind(
        "quarantine",
        "bodies of records that are refused still",
        t.quarantine,
        _q.seen_at,
        (_q.raw.is_not(None),),
        {"raw": None},
    ),
    Kind("runs", "what commands did", t.run, _run.started_at, (_run.id.not_in(_NEWEST_RUNS),)),
    Kind(
        "tokens",
        "tokens that expired or were revoked",
        t.token,
        sa.func.coalesce(_tok.revoked_at, _tok.expires_at, type_=_tok.expires_at.type),
        (),
    ),
)


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts that grow old: few rows without numbers of their own, let go at once.

    Attributes:
        name, says: as of a `Kind`.
        is_old: the condition that a row was last counted, or looked at, before a moment.
    """

    name: str
    says: str
    table: sa.Table
    is_old: Callable[[datetime], sa.ColumnElement[bool]]


TALLIES: tuple[Tally, ...] = (
    Tally(
        "strangers",
        "how many calls were not their vendor's, by day",
        t.stranger,
        lambda before: t.stranger.c.day < before.date(),
    ),
    Tally(
        "history",
        "how many messages history would have sent, by template",
        t.quiet,
        lambda before: t.quiet.c.recorded_at < before,
    ),
    Tally(
        "rhythms",
        "what is usual of accounts that are off",
        t.rhythm,
        lambda before: t.rhythm.c.looked_at < before,
    ),
)
NAMES = (*(kind.name for kind in KINDS), *(tally.name for tally in TALLIES))


@dataclass(frozen=True, slots=True)
class Old:
    """What of a kind there is, and what is older than it is kept.

    Attributes:
        kept: rows that hold some.
        oldest: when the oldest of them was new.
        old: how many are let go.
    """

    name: str
    says: str
    table: str
    deletes: bool
    kept: int
    oldest: datetime | None
    old: int


def survey(tx: Connection, keep: Mapping[str, timedelta | None], now: datetime) -> Iterator[Old]:
    """What there is of each kind, and how much of it is old. Looks through whole tables."""
    for kind in KINDS:
        life = keep[kind.name]
        is_old = sa.false() if life is None else kind.at < now - life
        counted = sa.select(sa.func.count(), sa.func.min(kind.at), sa.func.count().filter(is_old))
        total, oldest, old = tx.execute(counted.select_from(kind.table).where(*kind.where)).one()
        yield Old(kind.name, kind.says, kind.table.name, kind.empty is None, total, oldest, old)
    for tally in TALLIES:
        life = keep[tally.name]
        is_old = sa.false() if life is None else tally.is_old(now - life)
        sizes = sa.select(sa.func.count(), sa.func.count().filter(is_old)).select_from(tally.table)
        total, old = tx.execute(sizes).one()
        yield Old(tally.name, tally.says, tally.table.name, True, total, None, old)


def some(tx: Connection, kind: Kind, before: datetime, after: int) -> list[int]:
    """Numbers of the next rows that are old, from a number on."""
    number = kind.table.c.id
    return list(
        tx.execute(sa.select(number).where(number > after, *kind.old(before)).order_by(number).limit(BATCH)).scalars()
    )


def let_go(tx: Connection, kind: Kind, numbers: list[int], before: datetime) -> int:
    """Let these rows go, or what is in them, as far as that is still so. Returns how many."""
    where = (bulk.one_of(tx, kind.table.c.id, numbers), *kind.old(before))
    if kind.empty is None:
        return tx.execute(sa.delete(kind.table).where(*where)).rowcount
    return tx.execute(sa.update(kind.table).where(*where).values(**kind.empty)).rowcount


def let_counts_go(tx: Connection, tally: Tally, before: datetime) -> int:
    """Forget what was counted last before then. Returns how many rows."""
    return tx.execute(sa.delete(tally.table).where(tally.is_old(before))).rowcount


def begin(tx: Connection, now: datetime, *, is_asked: bool) -> int | None:
    """Begin a run, unless one was begun within the day; whoever is asked to by a person begins anyway.

    Returns:
        The run's number; None if it is not time.
    """
    bulk.lock(tx, "crmkit prune")
    last = tx.execute(sa.select(sa.func.max(_run.started_at)).where(_run.command == COMMAND)).scalar()
    if last is not None and not is_asked and now - last < AGAIN:
        return None
    return accounts.begin_run(tx, COMMAND, now)
