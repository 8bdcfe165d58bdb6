"""A wave: what handlers asked for in one round, gathered, then written together with what is decided by it."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection
from sqlmodel import SQLModel

from crmkit.core.events import Event
from crmkit.flow import combine
from crmkit.store import broadcasts as members
from crmkit.store import bulk, log
from crmkit.store import tables as t
from crmkit.store.broadcasts import Frozen


@dataclass(slots=True)
class Work:
    """One interaction in hand."""

    row: dict[str, Any]
    event: Event
    is_quiet: bool


@dataclass(slots=True)
class Wave:
    """What one round came to.

    Attributes:
        finished: pending work that is done.
        put_back: pending work of single plugins that failed, or waits.
        told: interactions to append.
        timers, cancelled: timers to set, and (plugin, key) of those to remove.
        saves: rows of plugins' own tables.
        messages: for the outbox.
        held: sends that wait for others like them.
        broadcasts: audiences to freeze.
        quiet: sends that history would have caused, by (shop, plugin, template).
    """

    finished: list[int] = field(default_factory=list)
    put_back: list[dict[str, Any]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    timers: list[dict[str, Any]] = field(default_factory=list)
    cancelled: list[tuple[str, str]] = field(default_factory=list)
    saves: dict[type[SQLModel], list[SQLModel]] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    held: list[combine.Held] = field(default_factory=list)
    broadcasts: list[Frozen] = field(default_factory=list)
    quiet: Counter[tuple[int, str, str]] = field(default_factory=Counter)

    def set(self, timer: dict[str, Any]) -> None:
        """Set a timer, or move it; of several words on one timer, the last counts."""
        self.cancelled = [pair for pair in self.cancelled if pair != (timer["plugin"], timer["key"])]
        self.timers.append(timer)

    def cancel(self, plugin: str, key: str) -> None:
        """Remove a timer."""
        self.timers = [row for row in self.timers if (row["plugin"], row["key"]) != (plugin, key)]
        self.cancelled.append((plugin, key))

    def write(self, tx: Connection, now: datetime, listened: Collection[str]) -> list[dict[str, Any]]:
        """Write everything but the messages. Returns the interactions it appended that somebody listens to."""
        log.done(tx, self.finished)
        log.put_back(tx, self.put_back)
        log.cancel_timers(tx, self.cancelled)
        if self.held:
            bundles = combine.bundle(tx, self.held)
            self.timers.extend(bundles.timers.values())
            self.told.extend(bundles.ended)
            self.messages.extend(bundles.combined)
        log.set_timers(tx, self.timers)
        for model, rows in self.saves.items():
            _save(tx, t.table_of(model), [row.model_dump() for row in rows])
        log.count_quiet(tx, self.quiet)
        told = log.append(tx, self.told, (), now)
        members.freeze(tx, self.broadcasts, now)
        return [row for row in told if row["type"] in listened]


def _save(tx: Connection, table: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    keys = [column.name for column in table.primary_key.columns]
    is_new = [len(keys) == 1 and row[keys[0]] is None for row in rows]
    bulk.upsert(tx, table, keys, [row for row, new in zip(rows, is_new, strict=True) if not new])
    fresh = [{**row} for row, new in zip(rows, is_new, strict=True) if new]
    for row in fresh:
        del row[keys[0]]  # the database numbers it
    bulk.insert(tx, table, fresh)
