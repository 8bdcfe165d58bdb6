"""Part of forget: raw bodies that were kept, in quarantine and of webhooks, and which of them are about somebody.

They are looked through slice by slice before anybody is forgotten, so that the transaction that forgets reads again
only what was found, and what came since. A webhook that was not taken in yet is left alone: it may be about others too,
and is emptied as it is taken in.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.trace import Finder, Traces
from crmkit.store import bulk
from crmkit.store import tables as t
from crmkit.store.bulk import Row

#: Bodies that are read together.
SLICE = 200
#: Who keeps a body draws its number first: so many may turn up below the last that was seen.
_LATE = 100


@dataclass(frozen=True, slots=True)
class _Kept:
    """A table of raw bodies: its columns to look in, and what they become."""

    looked_in: tuple[str, ...]
    empty: Mapping[str, Any]
    refs: tuple[str, ...]


_TABLES: Mapping[sa.Table, _Kept] = {
    t.quarantine: _Kept(
        ("raw", "reason", "place", "ref"), {"raw": None, "reason": "forgotten", "place": "forgotten"}, ("kind", "ref")
    ),
    t.inbox: _Kept(
        ("body", "query", "headers", "error"), {"body": b"", "query": "", "headers": None, "error": None}, ("refs",)
    ),
}


@dataclass(frozen=True, slots=True)
class Looked:
    """Where bodies about somebody were found.

    Attributes:
        traces: what was looked for.
        found: numbers of the bodies, by table.
        upto: the last number that was looked at, by table.
    """

    traces: Traces
    found: Mapping[str, Collection[int]] = field(default_factory=dict)
    upto: Mapping[str, int] = field(default_factory=dict)


def look_through(read: Callable[[], AbstractContextManager[Connection]], traces: Traces) -> Looked:
    """Look through every body, each slice in a transaction of its own.

    Args:
        read: begins a read transaction.
        traces: what to look for.
    """
    look = _Look(traces)
    found: dict[str, list[int]] = {}
    upto: dict[str, int] = {}
    for table in _TABLES:
        found[table.name], upto[table.name] = [], 0
        while True:
            with read() as tx:
                rows = look.rows(tx, table, upto[table.name])
            if not rows:
                break
            found[table.name] += [row["id"] for row in rows if look.is_meant(row)]
            upto[table.name] = rows[-1]["id"]
    return Looked(traces, found, upto)


def erase(tx: Connection, traces: Traces, now: datetime, looked: Looked | None = None) -> int:
    """Empty the bodies that are about somebody; where no value is looked for, none is read for it. Returns how many.

    Args:
        traces: what they are told by.
        looked: what was found beforehand; it counts if it is the same that was looked for.
    """
    look = _Look(traces)
    before = looked if looked is not None and looked.traces == traces else Looked(traces)
    total = 0
    for table, kept in _TABLES.items():
        hits = [row["id"] for row in look.candidates(tx, table, before) if look.is_meant(row)]
        if not hits:
            continue
        where, values = [bulk.one_of(tx, table.c.id, hits)], {**kept.empty}
        if "resolved_at" in table.c:
            values["resolved_at"] = now
        if "state" in table.c:
            where.append(table.c.state != "waiting")
        total += tx.execute(sa.update(table).where(*where).values(**values)).rowcount
    return total


class _Look:
    """How bodies are read, and which of them are about somebody."""

    def __init__(self, traces: Traces) -> None:
        self.traces = traces
        self._finds = Finder(traces.values)

    def _columns(self, table: sa.Table) -> list[sa.Column[Any]]:
        kept = _TABLES[table]
        names = dict.fromkeys(("id", "account_id", *kept.refs, *(kept.looked_in if self.traces.values else ())))
        return [table.c[name] for name in names]

    def rows(self, tx: Connection, table: sa.Table, after: int) -> list[Row]:
        """The next rows."""
        statement = sa.select(*self._columns(table)).where(table.c.id > after).order_by(table.c.id)
        return bulk.rows(tx, statement.limit(SLICE if self.traces.values else 50 * SLICE))

    def candidates(self, tx: Connection, table: sa.Table, before: Looked) -> Iterator[Row]:
        """What was found before, and what was not looked at."""
        yield from bulk.select_in(tx, self._columns(table), table.c.id, before.found.get(table.name, ()))
        after = max(0, before.upto.get(table.name, 0) - _LATE)
        while rows := self.rows(tx, table, after):
            yield from rows
            after = rows[-1]["id"]

    def is_meant(self, row: Row) -> bool:
        """Whether a body is about them."""
        if not self.traces.refs.isdisjoint((row["account_id"], ref) for ref in _refs(row)):
            return True
        return any(self._finds(value) for name, value in row.items() if name not in {"id", "account_id", "refs"})


def _refs(row: Row) -> Sequence[str]:
    if "refs" in row:
        return row["refs"] or ()
    return () if row["ref"] is None else (f"{row['kind']}:{row['ref']}",)
