"""A plan in slices of customers, to be applied: one pass at its clock.

What is no customer's comes first, then customers, the longest due before the others. Each slice is a transaction of its
own that is rolled back, so a live database is never held for long; what a slice leaves to others (an audience's turns,
what a vendor account has used up) is put into theirs.
"""

import time
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.message import State
from crmkit.core.money import Money
from crmkit.core.quota import Quota
from crmkit.engine.dry_run import Rehearsing, Setting, decided, handed
from crmkit.engine.pace import LONGEST, Pace
from crmkit.engine.plan import Plan, fingerprint
from crmkit.engine.spillover import Spillover
from crmkit.flow import schedule
from crmkit.flow.claim import sweep
from crmkit.flow.setup import Setup
from crmkit.store import customers, outbox, quotas, slices
from crmkit.store import tables as t
from crmkit.store.choice import ALL, Choice
from crmkit.store.slices import NOBODY, Slice

#: Customers of one slice: of the first, and at the least and at the most. The fewer there are, the longer each takes:
#: a slice has some fifty statements, however many it is about. The more, the more are left where one of them differs.
FIRST, LEAST, MOST = 200, 50, 500
#: SQLite is left to others for so long, in seconds, once slices held it for as long as one transaction may: who waits
#: for it looks again ten times a second. Who waits for a row of PostgreSQL gets it between two slices.
REST = 0.1


def planned(store: Rehearsing, setting: Setting, now: datetime, choice: Choice = ALL) -> Plan:
    """A plan in slices."""
    return _Planning(store, setting, now, choice).plan()


class _Planning:
    """One plan in the making."""

    def __init__(self, store: Rehearsing, setting: Setting, now: datetime, choice: Choice) -> None:
        self.store, self.setting, self.now, self.choice = store, setting, now, choice
        self.made, self.spillover = Plan(now), Spillover()
        self.left = choice.limit
        self.is_swept = False
        self.is_sqlite, self.held = False, 0.0

    def plan(self) -> Plan:
        with self.store.rehearse() as tx:
            setup = self.setting(tx)
            before = slices.written(tx)
            sweep(tx, setup, self.now, datetime.now(UTC))
            self.is_swept = slices.written(tx) == before
            schedule.keep(tx, setup, self.now)
            due, is_nobodys = slices.due(tx, self.now, self.choice.shops)
            self.is_sqlite = tx.dialect.name == "sqlite"
        wanted = self.choice.families
        if is_nobodys and (wanted is None or None in wanted):
            self._slice(setup, None)
        waiting = self._groups({family: at for family, at in due.items() if wanted is None or family in wanted})
        pace = Pace(FIRST, LEAST, MOST)
        while waiting and self.left != 0:
            some, most = list[int](), pace.size if self.left is None else min(pace.size, self.left)
            while waiting and (not some or len(some) + len(waiting[-1]) <= most):
                some += waiting.pop()
            spent = self._slice(setup, some)
            pace.note(spent)
            self._rest(spent)
            if not waiting and self.spillover.work:
                waiting = self._groups({})
        self.made.beyond = sum(map(len, waiting))
        self._add_rest()
        return self.made

    def _rest(self, spent: float) -> None:
        """Leave the database to others, where it was held for long since they had it."""
        self.held += spent
        if self.is_sqlite and self.held >= LONGEST:
            time.sleep(REST)
            self.held = 0.0

    def _groups(self, due: dict[int, datetime]) -> list[list[int]]:
        """Those who are still to come, the first last; also those whom others left something."""
        work = self.spillover.work
        with self.store.read() as tx:
            left = customers.family_of(tx, list(work))
            if self.choice.families is None:
                due = {**dict.fromkeys(left.values(), self.now), **due}
            self.spillover.work = defaultdict(list, {p: rows for p, rows in work.items() if left.get(p) in due})
            return list(reversed(slices.households(tx, due)))

    def _slice(self, setup: Setup, families: list[int] | None) -> float:
        """Rehearse a slice. Returns for how many seconds it held the database."""
        number = len(self.made.slices)
        self.made.slices.append(families)
        with self.store.rehearse() as tx:
            began = time.monotonic()
            one = NOBODY if families is None else Slice.of(tx, families)
            if not self.is_swept:  # what was to be put in order is so again: it was rolled back
                sweep(tx, setup, self.now, datetime.now(UTC))
            if families is None:
                schedule.keep(tx, setup, self.now)
            waiting, above = slices.waiting(tx, self.now, one), slices.watermark(tx)
            self.spillover.put(tx, setup, one)
            rows = {row["id"]: {**row, "origin": "outbox"} for row in waiting}
            fresh = list[dict[str, Any]]()
            for step in decided(tx, setup, self.now, one):
                fresh += step.rows
                step.rows = []
                self.made.decided.add(step)
            rows.update({row["id"]: {**_EMPTY, **row, "origin": "decided"} for row in fresh})
            for row in rows.values():
                is_queued = row["state"] == State.QUEUED
                row.update(slice=number, leaves_at=None, is_chosen=self.choice.takes(row))
                row["fingerprint"] = fingerprint(row) if is_queued else None
            self._hand_over(tx, setup, rows)
            self.spillover.take(tx, one, above, self.now, fresh)
        spent = time.monotonic() - began
        self.made.rows.extend(rows.values())
        return spent

    def _hand_over(self, tx: Connection, setup: Setup, rows: dict[int, dict[str, Any]]) -> None:
        """See which of a slice's messages would be handed over, and what keeps the others."""
        ready = [
            row for row in rows.values() if row["fingerprint"] and row["not_before"] <= self.now and row["is_chosen"]
        ]
        ready.sort(key=lambda row: (row["not_before"], row["id"]))
        for row in [] if self.left is None else ready[self.left :]:
            row["is_chosen"] = False
        ids = [row["id"] for row in ready if row["is_chosen"]]
        for found in handed(tx, setup, frozenset(), self.now, is_paced=False, only=ids) if ids else ():
            for row in found:
                rows[row["id"]].update({name: row[name] for name in _MOVED if name in row})
        stay = [number for number in ids if rows[number]["leaves_at"] is None]
        for number, standing in (outbox.held(tx, stay, _STANDING) if stay else {}).items():
            rows[number].update(standing)  # what was moved with others says so
        accounts = self.spillover.quotas = quotas.every(tx)
        for row in rows.values():
            if row["leaves_at"] is not None:
                cost = price_of(setup, row, accounts)
                row.update(
                    price=None if cost is None else cost.amount, currency=None if cost is None else cost.currency
                )
        if self.left is not None:
            self.left -= sum(row["leaves_at"] is not None for row in rows.values())

    def _add_rest(self) -> None:
        """What waits in the outbox and is not due belongs to the picture too."""
        known = {row["key"] for row in self.made.rows}
        with self.store.read() as tx:
            rest = [row for row in outbox.queued(tx) if row["key"] not in known and self.choice.takes(row)]
        more = {"slice": None, "origin": "outbox", "leaves_at": None, "fingerprint": None, "is_chosen": True}
        self.made.rows.extend({**row, **more} for row in rest)


#: What handing over changes of a row, and what is read again of one that stays.
_STANDING = ("id", "state", "reason", "detail", "gateway", "not_before", "settled_at")
_MOVED = (*_STANDING, "leaves_at")
#: Every column the outbox has: a decided message says no more than it has to.
_EMPTY = {column.name: None for column in t.message.columns}


def price_of(setup: Setup, row: Mapping[str, Any], standing: Mapping[str, Quota]) -> Money | None:
    """What a message will cost, so far as can be told: as a segment cost last, else as its gateway's entry says."""
    entry = setup.entry(row["gateway"])
    if entry is None:
        return None
    count, quota, budget = max(1, row["segments"] or 1), standing.get(entry.name), entry.limits.budget
    if budget is not None and quota is not None and quota.unit(entry.limits) is not None:
        return Money(quota.price(entry.limits, row["segments"]), budget.currency)
    return None if entry.price is None else Money(entry.price.amount * count, entry.price.currency)
