"""Plans: what a dispatch would do, by the same code, and nothing of it is committed.

A plan to be applied is one pass at its clock, in slices of customers: what is no customer's first, then customers, the
longest due before the others. Each slice is a transaction of its own that is rolled back, so a live database is never
held for long; what a slice leaves to others (an audience's turns, what a vendor account has used up) is put into
theirs. A simulation is one transaction, in which the clock steps from due time to due time as in a run.
"""

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy.engine import Connection

from crmkit.core.inner import BroadcastMember
from crmkit.core.message import State
from crmkit.core.money import Money
from crmkit.core.quota import Quota
from crmkit.flow import schedule
from crmkit.flow.claim import claim, next_due, sweep
from crmkit.flow.decide import Decided, decide
from crmkit.flow.deliver import CLAIM
from crmkit.flow.setup import Setup
from crmkit.flow.verdict import TRIES
from crmkit.store import bulk, customers, log, outbox, quotas, slices
from crmkit.store import tables as t
from crmkit.store.bulk import Row
from crmkit.store.choice import ALL, Choice
from crmkit.store.slices import NOBODY, Slice
from crmkit.store.told import UNTOLD

#: Interactions one decide step takes.
STEP = 500
#: Customers of one slice, at the least and at the most; as many as take about so long, in seconds. Fewer would take
#: longer for each: a slice has some seventy statements, however many it is about.
LEAST, MOST, SPAN = 50, 500, 0.25
#: The database is left to others for so long between two slices, as a share of what the slice took.
REST = 0.5
#: What makes a message this one and no other: if one of these has changed, it is not what was planned.
PRINT = ("address", "content_hash", "gateways", "not_before")


class Rehearsing(Protocol):
    """An open database, as far as a plan needs it."""

    def rehearse(self) -> AbstractContextManager[Connection]:
        """A write transaction that is always rolled back."""

    def read(self) -> AbstractContextManager[Connection]:
        """A read transaction."""


class Setting(Protocol):
    """Gives what the steps are set up with, for the shops a database knows."""

    def __call__(self, tx: Connection) -> Setup: ...


@dataclass(slots=True)
class Plan:
    """What a dispatch at `now` would do: every message, those that would leave and those that would not.

    Each row is a message as the outbox would hold it, with `leaves_at`: when it would be handed over, None if it
    would not be in this run. In slices it has besides its `slice` (None: it is not due), its `fingerprint` (None: it is
    not queued), `is_chosen`, and its `price` with `currency` where that is known.

    Attributes:
        slices: the customers of each slice; None: nobody.
        beyond: customers with something due that it ends before, because of a limit.
    """

    now: datetime
    rows: list[dict[str, Any]] = field(default_factory=list)
    decided: Decided = field(default_factory=Decided)
    slices: list[list[int] | None] = field(default_factory=list)
    beyond: int = 0

    @property
    def leaving(self) -> list[dict[str, Any]]:
        """The messages that would leave."""
        return [row for row in self.rows if row["leaves_at"] is not None]


def fingerprint(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a message must still be for a plan to hold."""
    return {name: row[name] for name in PRINT}


# --- in slices --------------------------------------------------------------------------------------------------------


def planned(store: Rehearsing, setting: Setting, now: datetime, choice: Choice = ALL) -> Plan:
    """A plan in slices, to be applied."""
    return _Planning(store, setting, now, choice).plan()


@dataclass(slots=True)
class _Carry:
    """What slices before leave to a slice: work of its customers, accounts as they stand, what the staff is told."""

    work: dict[int, list[Row]] = field(default_factory=lambda: defaultdict(list))
    behind: dict[str, dict[int, Row]] = field(default_factory=lambda: defaultdict(dict))
    quotas: dict[str, Quota] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)

    def take(self, tx: Connection, one: Slice, above: int, now: datetime, told: Sequence[dict[str, Any]]) -> None:
        """Keep what a slice left that is not its own."""
        mine = one.profiles or frozenset()
        for profile in mine:
            self.work.pop(profile, None)
        left = [row for row in slices.left(tx, above, now) if row["profile_id"] not in mine]
        for row in left:
            self.work[row["profile_id"]].append(row)
        if left:
            found = slices.behind(tx, left)
            self.behind["interaction"].update({row["id"]: row for row in found[t.interaction]})
            self.behind["broadcast"].update({row["id"]: row for row in found[t.broadcast]})
            self.behind["member"].update({row["interaction_id"]: row for row in found[t.broadcast_member]})
        self.quotas = quotas.every(tx)
        self.told += [row for row in told if row["staff"] and row["once"] and row["state"] not in UNTOLD]

    def put(self, tx: Connection, setup: Setup, one: Slice) -> None:
        """Give a slice what is its."""
        for name, quota in self.quotas.items():
            if setup.limits(name).any:
                quotas.lock(tx, name)
                quotas.save(tx, quota)
        outbox.add(tx, [dict(row) for row in self.told])
        work = [row for profile in sorted(one.profiles or ()) for row in self.work.get(profile, ())]
        if not work:
            return
        told = [self.behind["interaction"][row["interaction_id"]] for row in work]
        members = [self.behind["member"][row["id"]] for row in told if row["id"] in self.behind["member"]]
        casts = [self.behind["broadcast"][number] for number in sorted({row["broadcast_id"] for row in members})]
        if tx.dialect.name == "sqlite":  # which gave numbers out again that were rolled back
            told, work, members, casts = _renumbered(tx, told, work, members, casts)
        for table, rows in (
            (t.interaction, told),
            (t.broadcast, casts),
            (t.broadcast_member, members),
            (t.pending, work),
        ):
            slices.put(tx, table, rows)


def _renumbered(
    tx: Connection, told: Sequence[Row], work: Sequence[Row], members: Sequence[Row], casts: Sequence[Row]
) -> tuple[list[Row], list[Row], list[Row], list[Row]]:
    """The same rows under numbers that are free now."""

    def fresh(table: Any, rows: Sequence[Row]) -> dict[int, int]:
        return dict(zip((row["id"] for row in rows), bulk.next_ids(tx, table, len(rows)), strict=True))

    kept = {row["id"]: row for row in told}
    number, cast, turn = fresh(t.interaction, list(kept.values())), fresh(t.broadcast, casts), fresh(t.pending, work)

    def payload(row: Row) -> Any:
        if row["type"] != BroadcastMember.name:
            return row["payload"]
        return {**row["payload"], "broadcast": cast.get(row["payload"]["broadcast"], row["payload"]["broadcast"])}

    return (
        [{**row, "id": number[row["id"]], "payload": payload(row)} for row in kept.values()],
        [{**row, "id": turn[row["id"]], "interaction_id": number[row["interaction_id"]]} for row in work],
        [
            {**row, "broadcast_id": cast[row["broadcast_id"]], "interaction_id": number[row["interaction_id"]]}
            for row in members
        ],
        [{**row, "id": cast[row["id"]]} for row in casts],
    )


class _Planning:
    """One plan in the making."""

    def __init__(self, store: Rehearsing, setting: Setting, now: datetime, choice: Choice) -> None:
        self.store, self.setting, self.now, self.choice = store, setting, now, choice
        self.made, self.carry = Plan(now), _Carry()
        self.left = choice.limit

    def plan(self) -> Plan:
        with self.store.rehearse() as tx:
            setup = self.setting(tx)
            schedule.keep(tx, setup, self.now)
            sweep(tx, setup, self.now, datetime.now(UTC))
            due, is_nobodys = slices.due(tx, self.now, self.choice.shops)
        wanted = self.choice.families
        if is_nobodys and (wanted is None or None in wanted):
            self._slice(setup, None)
        waiting = self._groups({family: at for family, at in due.items() if wanted is None or family in wanted})
        size = LEAST
        while waiting and self.left != 0:
            some, most = list[int](), size if self.left is None else min(size, self.left)
            while waiting and (not some or len(some) + len(waiting[-1]) <= most):
                some += waiting.pop()
            spent = self._slice(setup, some)
            time.sleep(min(1.0, spent * REST))
            size = max(LEAST, size // 2) if spent > SPAN else min(MOST, 2 * size) if spent < SPAN / 2 else size
            if not waiting and self.carry.work:
                waiting = self._groups({})
        self.made.beyond = sum(map(len, waiting))
        self._add_rest()
        return self.made

    def _groups(self, due: dict[int, datetime]) -> list[list[int]]:
        """Those who are still to come, the first last; also those whom others left something."""
        with self.store.read() as tx:
            left = customers.family_of(tx, list(self.carry.work))
            if self.choice.families is None:
                due = {**dict.fromkeys(left.values(), self.now), **due}
            self.carry.work = defaultdict(list, {p: rows for p, rows in self.carry.work.items() if left.get(p) in due})
            return list(reversed(slices.together(tx, due)))

    def _slice(self, setup: Setup, families: list[int] | None) -> float:
        """Rehearse a slice. Returns for how many seconds it held the database."""
        number = len(self.made.slices)
        self.made.slices.append(families)
        with self.store.rehearse() as tx:
            began = time.monotonic()
            one = NOBODY if families is None else Slice.of(tx, families)
            sweep(tx, setup, self.now, datetime.now(UTC))
            if families is None:
                schedule.keep(tx, setup, self.now)
            waiting, above = slices.waiting(tx, self.now, one), slices.watermark(tx)
            self.carry.put(tx, setup, one)
            decided: list[dict[str, Any]] = []
            for step in _steps(tx, setup, self.now, one):
                decided += step.rows
                step.rows = []
                self.made.decided.add(step)
            rows = {row["id"]: {**row, "origin": "outbox"} for row in waiting}
            rows.update({row["id"]: {**_whole(row), "origin": "decided"} for row in decided})
            for row in rows.values():
                is_queued = row["state"] == State.QUEUED
                row.update(slice=number, leaves_at=None, is_chosen=self.choice.takes(row))
                row["fingerprint"] = fingerprint(row) if is_queued else None
            self._hand_over(tx, setup, rows)
            self.carry.take(tx, one, above, self.now, decided)
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
        names = frozenset(entry.name for entries in setup.channels.values() for entry in entries)
        for found in _handed(tx, setup, names, self.now, is_paced=False, only=ids) if ids else ():
            for row in found:
                rows[row["id"]].update({name: row[name] for name in _MOVED if name in row})
        for number, standing in outbox.held(tx, ids, _STANDING).items():  # what was moved with others says so
            if rows[number]["leaves_at"] is None:
                rows[number].update(standing)
        accounts = quotas.every(tx)
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


def _whole(row: Mapping[str, Any]) -> dict[str, Any]:
    """A decided message with every column the outbox has."""
    return {**{column.name: None for column in t.message.columns}, **row}


def _steps(tx: Connection, setup: Setup, now: datetime, one: Slice | None = None) -> Iterator[Decided]:
    """Decide until nothing is left."""
    while (step := decide(tx, setup, now, STEP, only=one)).interactions:
        yield step


def price_of(setup: Setup, row: Mapping[str, Any], standing: Mapping[str, Quota]) -> Money | None:
    """What a message will cost, so far as can be told: as a segment cost last, else as its gateway's entry says."""
    entry = setup.entry(row["gateway"])
    if entry is None:
        return None
    count, quota, budget = max(1, row["segments"] or 1), standing.get(entry.name), entry.limits.budget
    if budget is not None and quota is not None and quota.unit(entry.limits) is not None:
        return Money(quota.price(entry.limits, row["segments"]), budget.currency)
    return None if entry.price is None else Money(entry.price.amount * count, entry.price.currency)


# --- simulated --------------------------------------------------------------------------------------------------------


def simulated(store: Rehearsing, setting: Setting, until: datetime) -> Plan:
    """A plan of a simulated run: the clock steps from due time to due time up to `until`, in one transaction."""
    plan = Plan(until)
    with store.rehearse() as tx:
        setup = setting(tx)
        names = frozenset(entry.name for entries in setup.channels.values() for entry in entries)
        schedule.keep(tx, setup, until)
        sweep(tx, setup, until, datetime.now(UTC))
        names = names.union(outbox.gateways_waiting(tx))
        stuck: frozenset[str] = frozenset()
        step: datetime | None = None
        while True:
            moment = due_next(tx, setup, names - stuck, step)
            if moment is None or moment > until:
                break
            at = moment if step is None else max(step, moment)
            moved = _rehearse(tx, setup, names, plan, at)
            if at == step and not moved:
                still = frozenset(gateways_due(tx, setup, at)) & (names - stuck)
                if not still:
                    break
                stuck |= still
            step = at
        _add_queued(tx, plan)
    return plan


def _rehearse(tx: Connection, setup: Setup, names: frozenset[str], plan: Plan, at: datetime) -> int:
    """One step of a simulation: decide at this clock, and take off the queue what would be handed over."""
    done = 0
    for step in _steps(tx, setup, at):
        done += step.interactions
        plan.rows.extend({**row, "leaves_at": None} for row in step.rows)
        step.rows.clear()
        plan.decided.add(step)
    known = {row["id"]: row for row in plan.rows}
    for moved in _handed(tx, setup, names, at, is_paced=True):
        for row in moved:
            if row["id"] not in known:
                known[row["id"]] = {"leaves_at": None}
                plan.rows.append(known[row["id"]])
            known[row["id"]].update(row)
        done += max(1, len(moved))
    return done


def _add_queued(tx: Connection, plan: Plan) -> None:
    """What waits in the outbox and is not due by the plan's clock belongs to the picture too."""
    known = {row["id"]: row for row in plan.rows}
    for row in outbox.queued(tx):
        if row["id"] in known:
            known[row["id"]].update(row)
        else:
            plan.rows.append({**row, "leaves_at": None})


# --- both -------------------------------------------------------------------------------------------------------------


def _handed(
    tx: Connection,
    setup: Setup,
    names: frozenset[str],
    at: datetime,
    *,
    is_paced: bool,
    only: Sequence[int] | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """Take off the queue what would be handed over, of these; gives those that would be, and those that are kept.

    An empty list says that others moved: to another gateway, or to another time.
    """
    is_moving = True
    while is_moving:
        is_moving = False
        for name in sorted(names.union(outbox.gateways_due(tx, at, only))):
            while True:
                found = claim(tx, setup, name, "plan", at, CLAIM, is_paced=is_paced, is_rehearsed=True, only=only)
                left = {"state": State.SENT, "reason": None, "detail": None, "leaves_at": at}
                moved = [*found.kept, *({**row, **left} for row in found.rows)]
                outbox.settle(tx, [row for row in moved if row["state"] == State.SENT])
                is_moving = is_moving or found.moved > 0
                if not moved and not found.moved:
                    break
                yield moved


def gateways_due(tx: Connection, setup: Setup, now: datetime, only: Collection[int] | None = None) -> list[str]:
    """Gateways with messages that may leave now, or that may be asked about some; of these, those that may leave."""
    if only is not None:
        return outbox.gateways_due(tx, now, only)
    doubted = outbox.gateways_doubted(tx, setup.looking_up, now, TRIES)
    return sorted({*outbox.gateways_due(tx, now), *doubted})


def due_next(tx: Connection, setup: Setup, gateways: frozenset[str], step: datetime | None) -> datetime | None:
    """When a run whose clock has come to `step` next has something to do."""
    announcing = {number: shop.announce_from for number, shop in setup.shops.items()}
    due = (log.next_due(tx, announcing, setup.away), next_due(tx, setup, gateways, step))
    return min((moment for moment in due if moment is not None), default=None)
