"""A wave: what handlers asked for in one round, gathered, then written together with what is decided by it.

What batches of other customers may be writing too at this moment is gathered over all waves, and written once and in
one order at the end of the batch: so no two batches wait for each other.
"""

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
        timers: timers to set, or None to remove them; of several words on one timer, the last counts.
        saves: rows of plugins' own tables.
        messages: for the outbox.
        held: sends that wait for others like them.
        broadcasts: audiences to freeze.
        quiet: sends that history would have caused, by (shop, plugin, template).
    """

    finished: list[int] = field(default_factory=list)
    put_back: list[dict[str, Any]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    timers: dict[log.TimerName, dict[str, Any] | None] = field(default_factory=dict)
    saves: dict[type[SQLModel], list[SQLModel]] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    held: list[combine.Held] = field(default_factory=list)
    broadcasts: list[Frozen] = field(default_factory=list)
    quiet: Counter[tuple[int, str, str]] = field(default_factory=Counter)

    def set(self, timer: dict[str, Any]) -> None:
        """Set a timer, or move it."""
        self.timers[timer["plugin"], timer["key"]] = timer

    def cancel(self, plugin: str, key: str) -> None:
        """Remove a timer."""
        self.timers[plugin, key] = None

    def write(self, tx: Connection, now: datetime, listened: Collection[str]) -> list[dict[str, Any]]:
        """Write all but the messages, and what waits for the `Close`. Returns what it told that somebody listens to."""
        log.done(tx, self.finished)
        log.put_back(tx, self.put_back)
        for model, rows in self.saves.items():
            _save(tx, t.table_of(model), [row.model_dump() for row in rows])
        told = log.append(tx, self.told, (), now)
        return [row for row in told if row["type"] in listened]


@dataclass(slots=True)
class Close:
    """What is left to write when the last wave of a batch is over: as `Wave` has it, of all of them."""

    timers: dict[log.TimerName, dict[str, Any] | None] = field(default_factory=dict)
    held: list[combine.Held] = field(default_factory=list)
    broadcasts: list[Frozen] = field(default_factory=list)
    quiet: Counter[tuple[int, str, str]] = field(default_factory=Counter)

    def add(self, wave: Wave) -> None:
        """Keep what a wave leaves for the end."""
        self.timers.update(wave.timers)
        self.held.extend(wave.held)
        self.broadcasts.extend(wave.broadcasts)
        self.quiet.update(wave.quiet)

    def write(self, tx: Connection, now: datetime, listened: Collection[str]) -> list[dict[str, Any]]:
        """Write it. Returns messages that were combined with others.

        A bundle that ended is pending work: it has its turn in the next batch.
        """
        timers = [*self.timers.values(), *(one.timer for one in self.held)]
        if any(timer is not None and timer["profile_id"] is None for timer in timers):
            log.hold_shared_timers(tx)
        bundles = combine.bundle(tx, self.held) if self.held else combine.Bundles()
        log.set_timers(tx, {**self.timers, **bundles.timers})
        log.append(tx, bundles.ended, listened, now)
        members.freeze(tx, self.broadcasts, now)
        log.count_quiet(tx, self.quiet, now)
        return bundles.combined


def _save(tx: Connection, table: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    keys = [column.name for column in table.primary_key.columns]
    is_new = [len(keys) == 1 and row[keys[0]] is None for row in rows]
    bulk.upsert(tx, table, keys, [row for row, new in zip(rows, is_new, strict=True) if not new])
    fresh = [{**row} for row, new in zip(rows, is_new, strict=True) if new]
    for row in fresh:
        del row[keys[0]]  # the database numbers it
    bulk.insert(tx, table, fresh)
