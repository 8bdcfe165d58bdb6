"""What is measured: totals, counted from the tables that only grow.

Whoever did the work, on whatever machine, it is in the database; so no step counts anything, and every server that is
asked says the same. Totals go from the first row on: they outlive a restart, and a server that was away missed
nothing. Each table is read once from its beginning, then only what is new; and the rows of the last moments anew,
since on PostgreSQL one of a lower number may be committed after one of a higher.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.message import WAITING, State
from crmkit.store import bulk
from crmkit.store import tables as t
from crmkit.store.engine import Store

#: A transaction that drew numbers is over after so many seconds, or once so many more were drawn.
LATE, CHUNK = 60.0, 50_000
#: What tries are counted by: the upper ends of how long they took, in seconds.
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
#: States a message may yet be suppressed in.
_OPEN = (State.QUEUED, State.SENDING, State.IN_DOUBT, State.HELD)
#: Rows that may still change are watched so long, the newest of them.
_WATCHED = 1_000_000

Key = tuple[Any, ...]
Where = tuple[sa.ColumnElement[bool], ...]
Count = Callable[[Connection, Where], Counter[Key]]
#: Rows as (number, what it counts as, how much); None: that is still open.
Rows = Callable[[Connection, Where], Iterable[tuple[int, Key | None, int]]]


class Total:
    """The rows of a table that only grows, counted by something.

    Args:
        table: which.
        count: counts those of its rows for which something holds.
    """

    def __init__(self, table: sa.Table, count: Count) -> None:
        self.table, self.count = table, count
        self.settled: Counter[Key] = Counter()
        self.recent: Counter[Key] = Counter()
        self._mark = 0
        self._seen: deque[tuple[float, int]] = deque()

    @property
    def counts(self) -> Counter[Key]:
        """All that is counted."""
        return self.settled + self.recent

    def advance(self, store: Store, clock: float) -> None:
        """Count what is new; `clock` are seconds from any moment on."""
        number = self.table.c.id
        with store.read() as tx:
            last = tx.execute(sa.select(sa.func.max(number))).scalar() or 0
        certain = last if store.engine.dialect.name == "sqlite" else max(self._mark, last - CHUNK)
        self._seen.append((clock, last))
        while clock - self._seen[0][0] >= LATE:
            certain = max(certain, self._seen.popleft()[1])
        while self._mark < certain:
            upper = min(certain, self._mark + CHUNK)
            with store.read() as tx:
                self.settled.update(self._settle(tx, (number > self._mark, number <= upper)))
            self._mark = upper
        self.recent = Counter()
        if last > self._mark:
            with store.read() as tx:
                self.recent = self.count(tx, (number > self._mark, number <= last))

    def _settle(self, tx: Connection, where: Where) -> Counter[Key]:
        return self.count(tx, where)


class Moving(Total):
    """Rows of which each counts once it has come to an end; those that are still open are looked at again.

    Args:
        table: which.
        rows: reads those for which something holds, and which count or may count one day.
        unmoved: numbers of rows of which an index says that they are still open.
    """

    def __init__(
        self, table: sa.Table, rows: Rows, unmoved: Callable[[Connection], set[int]] = lambda _: set()
    ) -> None:
        super().__init__(table, self._ended)
        self.rows, self.unmoved = rows, unmoved
        self._open: set[int] = set()

    def advance(self, store: Store, clock: float) -> None:
        """Count what is new, and what has come to its end."""
        with store.read() as tx:
            unmoved = self.unmoved(tx)
        moved = sorted(self._open - unmoved)[-_WATCHED:]
        for first in range(0, len(moved), CHUNK):
            some = moved[first : first + CHUNK]
            self._open.difference_update(some)
            with store.read() as tx:
                self.settled.update(self._settle(tx, (bulk.one_of(tx, self.table.c.id, some),)))
        super().advance(store, clock)

    def _settle(self, tx: Connection, where: Where) -> Counter[Key]:
        found: Counter[Key] = Counter()
        for number, key, amount in self.rows(tx, where):
            if key is None:
                self._open.add(number)
            else:
                found[key] += amount
        return found

    def _ended(self, tx: Connection, where: Where) -> Counter[Key]:
        found: Counter[Key] = Counter()
        for _, key, amount in self.rows(tx, where):
            if key is not None:
                found[key] += amount
        return found


class Totals:
    """Everything that is counted.

    Attributes:
        interactions: by type and account's number.
        webhooks: kept, by account's number.
        decided: interactions that were decided, by dispatches that ended.
        messages: decided, by channel and purpose.
        suppressed: messages that will not leave, by reason: decided so, or found by the last look.
        tries: by gateway, outcome, reason and which of `BUCKETS`.
        took: milliseconds of tries, by gateway.
        receipts: by account and state.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        i, m, r = t.interaction.c, t.message.c, t.receipt.c
        self.interactions = Total(t.interaction, _by(i.type, i.shop_id))
        self.webhooks = Total(t.inbox, _by(t.inbox.c.account_id))
        self.decided = Moving(t.run, _decided)
        self.messages = Total(t.message, _by(m.channel, m.purpose))
        self.suppressed = Moving(t.message, _suppressed, _waiting)
        self.tries = Total(t.attempt, _tries)
        self.took = Total(t.attempt, _took)
        self.receipts = Total(t.receipt, _by(r.account, r.state))

    def refresh(self, clock: float | None = None) -> None:
        """Count what is new since the last time."""
        at = time.monotonic() if clock is None else clock
        for total in vars(self).values():
            if isinstance(total, Total):
                total.advance(self.store, at)


def _by(*columns: sa.ColumnElement[Any]) -> Count:
    def count(tx: Connection, where: Where) -> Counter[Key]:
        statement = sa.select(*columns, sa.func.count()).where(*where).group_by(*columns)
        return Counter({tuple(row[:-1]): row[-1] for row in tx.execute(statement)})

    return count


def _seconds(tx: Connection) -> sa.ColumnElement[Any]:
    """How long a try took."""
    c = t.attempt.c
    if tx.dialect.name == "sqlite":
        return (sa.func.julianday(c.finished_at) - sa.func.julianday(c.started_at)) * 86_400
    return sa.extract("epoch", c.finished_at - c.started_at)


def _tries(tx: Connection, where: Where) -> Counter[Key]:
    c, took = t.attempt.c, _seconds(tx)
    # written out: what is a parameter is another expression in GROUP BY than in SELECT
    bucket = sa.case(
        *(
            (took <= sa.literal_column(str(upper)), sa.literal_column(str(number)))
            for number, upper in enumerate(BUCKETS)
        ),
        else_=sa.literal_column(str(len(BUCKETS))),
    ).label("bucket")
    return _by(c.gateway, c.outcome, c.reason, bucket)(tx, where)


def _took(tx: Connection, where: Where) -> Counter[Key]:
    c = t.attempt.c
    sums = sa.select(c.gateway, sa.func.sum(_seconds(tx)))
    statement = sums.where(*where, c.outcome != "looked-up").group_by(c.gateway)
    return Counter({(gateway,): round(float(seconds) * 1000) for gateway, seconds in tx.execute(statement)})


def _suppressed(tx: Connection, where: Where) -> Iterable[tuple[int, Key | None, int]]:
    m = t.message.c
    statement = sa.select(m.id, m.state, m.reason).where(*where, m.state.in_((*_OPEN, State.SUPPRESSED)))
    for number, state, reason in tx.execute(statement):
        yield number, (reason,) if state == State.SUPPRESSED else None, 1


def _waiting(tx: Connection) -> set[int]:
    return set(tx.execute(sa.select(t.message.c.id).where(sa.text(WAITING))).scalars())


def _decided(tx: Connection, where: Where) -> Iterable[tuple[int, Key | None, int]]:
    r = t.run.c
    statement = sa.select(r.id, r.finished_at, r.counts).where(*where, r.command == "dispatch")
    for number, finished_at, counts in tx.execute(statement):
        yield number, None if finished_at is None else (), int((counts or {}).get("decided", 0))
