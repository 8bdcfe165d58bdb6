"""Ingest: records become customers, orders and interactions, in one transaction with the source's cursor.

A join: records may arrive twice, late and in any order, and the state comes out the same. Newness is decided by the
row that owns it (a milestone column that was empty, a parcel, a review), locked by this transaction, which appends the
interaction. Children that come before their order wait without telling anything.

One ingest runs at a time per database: families may span shops, and a single writer keeps thousands of orders a
second in batches; a process that has to wait for its turn waits with all its steps.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.adapters.stream import Page, Refused
from crmkit.core.account import Shop
from crmkit.core.log import INTERACTION, PAGE_TAKEN
from crmkit.core.order import RANK, milestones_of, parcel_milestones
from crmkit.core.records import (
    RECORDS,
    AnswerRecord,
    ConsentRecord,
    CustomerRecord,
    OrderRecord,
    ParcelRecord,
    ReceiptRecord,
    Record,
    ReviewRecord,
    SuppressionRecord,
)
from crmkit.core.version import Joined, Version, join, version_of
from crmkit.flow import callback, forget, inbound, reputation
from crmkit.flow.people import People
from crmkit.flow.shape import CHILDREN, ORDER_FIELDS, Child, line_row, order_columns
from crmkit.store import accounts, bulk, inbox, lines, log, orders
from crmkit.store import tables as t
from crmkit.store.engine import UNSTORABLE, refusal

#: The stream of what came by webhooks.
WEBHOOK = "webhook"


@dataclass(slots=True)
class Tally:
    """What an ingest did: {kind: {created, updated, unchanged, refused}}, interactions by type, and refusals."""

    records: dict[str, Counter[str]] = field(default_factory=dict)
    interactions: Counter[str] = field(default_factory=Counter)
    refused: list[Refused] = field(default_factory=list)
    flaws: list[Refused] = field(default_factory=list)

    def count(self, kind: str, what: str, by: int = 1) -> None:
        """One more record of this kind that was created, updated, unchanged or refused."""
        self.records.setdefault(kind, Counter())[what] += by

    def add(self, other: "Tally") -> None:
        """Take another tally's numbers on board."""
        for kind, counts in other.records.items():
            self.records.setdefault(kind, Counter()).update(counts)
        self.interactions.update(other.interactions)
        self.refused.extend(other.refused)
        self.flaws.extend(other.flaws)

    @property
    def news(self) -> int:
        """Records that said something new."""
        return sum(counts["created"] + counts["updated"] for counts in self.records.values())

    @property
    def total(self) -> int:
        """Records seen, refused ones included."""
        return sum(sum(counts.values()) for counts in self.records.values())


#: A record, and what it came of in logs.
Known = tuple[Record, str | None]


# --- the step ---------------------------------------------------------------------------------------------------------


def ingest(
    tx: Connection,
    shop: Shop,
    page: Page,
    *,
    stream: str,
    listened: Collection[str],
    now: datetime,
    stood: accounts.Stood | None = None,
    correlations: Sequence[str | None] = (),
) -> Tally:
    """Store a page: its records, what was refused of it, what it hints at, and its cursor.

    Args:
        tx: a write transaction; all of this commits with it.
        shop: the account it came from.
        page: records, refusals and cursor, as the source yields them.
        stream: the stream's name.
        listened: wire names of the events somebody handles; only these become pending work.
        now: the run's clock.
        stood: where this reading knows the cursor to stand; it moves from there alone. None moves none: a backfill, a
            re-read by id.
        correlations: what each record of the page, then each of its hints, came of, in logs; nobody's where empty.

    Returns:
        What was done.
    """
    bulk.lock(tx, bulk.INGEST)
    known, places, strange = _sorted_out(page, correlations, stream)
    unread = forget.sift_refused(tx, shop, page.refused)
    tally = _isolated(tx, shop, known, places, stream, listened, now)
    for refused in strange:
        tally.count(refused.kind, "refused")
    tally.refused.extend([*strange, *unread])
    for refused in unread:
        tally.count(refused.kind, "refused")
    _quarantine(tx, shop, stream, tally, now)
    if page.hints:
        came_of = correlations[len(page.records) :] or [None] * len(page.hints)
        refs = [(hint.kind, hint.external_id) for hint in page.hints]
        inbox.hint(tx, shop.id, refs, now, dict(zip(refs, came_of, strict=True)))
    if stood is not None and page.cursor is not None:
        accounts.move_cursor(tx, shop, stream, page.cursor, now, stood=stood)
    if tally.total:
        lines.later(
            tx,
            PAGE_TAKEN,
            account=shop.name,
            stream=stream,
            records=tally.total,
            news=tally.news,
            refused=len(tally.refused),
            interactions=tally.interactions.total(),
            correlation=correlations[0] if len(set(correlations)) == 1 else None,
        )
    return tally


def _sorted_out(
    page: Page, correlations: Sequence[str | None], stream: str
) -> tuple[list[Known], dict[int, str], list[Refused]]:
    """The records of kinds that are known, their places, and refusals of the others: none vanishes."""
    known: list[Known] = []
    places: dict[int, str] = {}
    strange = []
    for index, record in enumerate(page.records):
        place = page.places.get(index)
        if type(record) in RECORDS:
            if place is not None:
                places[len(known)] = place
            known.append((record, correlations[index] if correlations else None))
        else:
            kind = str(getattr(record, "kind", type(record).__name__))
            reason = f"crmkit knows no record of this kind ({type(record).__name__})"
            strange.append(Refused(kind, place or f"{stream} {record.ref}", reason, _raw(record), record.ref))
    return known, places, strange


def _isolated(
    tx: Connection,
    shop: Shop,
    records: list[Known],
    places: dict[int, str],
    stream: str,
    listened: Collection[str],
    now: datetime,
) -> Tally:
    """Ingest records; what the database refuses is halved until the culprit stands alone and is quarantined."""
    try:
        with tx.begin_nested():
            return _Batch(tx, shop, records, listened, now).run()
    except UNSTORABLE as error:
        reason = refusal(error)
        if reason is None:
            raise
        if len(records) > 1:
            middle = len(records) // 2
            tally = _isolated(tx, shop, records[:middle], places, stream, listened, now)
            rest = {index - middle: place for index, place in places.items() if index >= middle}
            tally.add(_isolated(tx, shop, records[middle:], rest, stream, listened, now))
            return tally
        (record, _), tally = records[0], Tally()
        place = places.get(0, f"{stream} {record.ref}")
        tally.refused.append(Refused(record.kind, place, reason, _raw(record), record.ref))
        tally.count(record.kind, "refused")
        return tally


def _raw(record: Record) -> str:
    try:
        return record.model_dump_json()
    except ValueError:  # what made it unfit may keep it from being written as JSON too
        return repr(record)


def refusal_key(shop: Shop, stream: str, scope: str, refused: Refused) -> str:
    """What makes a refusal the same one when it is met again.

    What has no id, and came by a webhook, is told from others that read alike by its place in there.
    """
    is_placed = refused.ref is None and stream == WEBHOOK
    told = refused.kind, scope, refused.place, refused.raw, refused.reason
    return accounts.quarantine_key(shop.id, *told, is_placed=is_placed)


def _quarantine(tx: Connection, shop: Shop, stream: str, tally: Tally, now: datetime) -> None:
    rows = []
    for scope, refusals in (("record", tally.refused), ("field", tally.flaws)):
        for refused in refusals:
            rows.append(
                {
                    "key": refusal_key(shop, stream, scope, refused),
                    "account_id": shop.id,
                    "stream": stream,
                    "kind": refused.kind,
                    "scope": scope,
                    "ref": refused.ref,
                    "place": refused.place,
                    "reason": refused.reason,
                    "raw": refused.raw,
                    "seen_at": now,
                }
            )
    accounts.quarantine(tx, rows)


@dataclass(slots=True)
class _State:
    """A row on its way: as stored (or None), as it will be, and what it reached, by what that came of in logs."""

    row: dict[str, Any]
    is_fresh: bool
    is_changed: bool = False
    reached: dict[str, str | None] = field(default_factory=dict)
    was_waiting: bool = False
    correlation: str | None = None


def _is_trouble(record: Record) -> bool:
    """Whether a record tells that what a gateway sent went wrong."""
    if isinstance(record, ReceiptRecord):
        return record.state == "bounced"
    return isinstance(record, ConsentRecord) and record.is_complaint


class _Batch:
    """One batch of records on its way into the database."""

    def __init__(
        self, tx: Connection, shop: Shop, records: Sequence[Known], listened: Collection[str], now: datetime
    ) -> None:
        self.tx, self.shop, self.now, self.listened = tx, shop, now, listened
        self.tally = Tally()
        known = self._with_parcels(records)
        sifted = forget.sift(tx, shop, [record for record, _ in known], now)
        self.records = sifted.records
        self.correlations = [known[place][1] for place in sifted.places]
        #: what all of it came of, where that is one thing
        self.correlation = self.correlations[0] if len(set(self.correlations)) == 1 else None
        for kind in sifted.gone:
            self.tally.count(kind, "unchanged")
        self.told: list[dict[str, Any]] = []
        self.people = People(tx, shop, now)
        self.orders: dict[str, _State] = {}
        self.lines: dict[str, OrderRecord] = {}
        self.versions: dict[int, Version] = {}  # of records that are about a person: hashing one takes a while
        self.landed: list[tuple[str, str]] = []
        self.news: set[int] = set()  # indexes of records that said something new
        self.flaws: list[tuple[int, Refused]] = []
        self.met: set[str] = set()  # orders known before, of which it is only known now who bought
        self.left: set[int | None] = set()  # profiles an order was recorded for before

    @staticmethod
    def _with_parcels(records: Sequence[Known]) -> list[Known]:
        """Parcels carried in an order become records of their own, of the order's version."""
        found: list[Known] = []
        for record, correlation in records:
            found.append((record, correlation))
            if isinstance(record, OrderRecord):
                for parcel in record.parcels:
                    update = {
                        "updated_at": parcel.updated_at or record.changed_at,
                        "observed_at": parcel.observed_at or record.observed_at,
                    }
                    found.append((parcel.model_copy(update=update), correlation))
        return found

    def run(self) -> Tally:
        """Everything, in the order in which one thing needs another."""
        keys = self._see_people()
        self.people.settle()
        self._join_orders(keys)
        children = {kind: self._join_children(kind, keys) for kind in CHILDREN}
        self._ship_by_parcels(children[ParcelRecord])
        self._write_orders()
        for kind, states in children.items():
            self._write_children(kind, states)
        profiles = {index: self.people.ids[key] for index, key in keys.items()}
        heard = inbound.hear(
            self.tx,
            self.shop,
            self.records,
            profiles,
            correlations=self.correlations,
            listened=self.listened,
            now=self.now,
        )
        self.told.extend(heard.told)
        for counted in heard.counts:
            self.tally.count(*counted)
        receipts = {index: record for index, record in enumerate(self.records) if isinstance(record, ReceiptRecord)}
        callback.take(
            self.tx,
            list(receipts.values()),
            account=self.shop.name,
            listened=self.listened,
            now=self.now,
            correlations=[self.correlations[index] for index in receipts],
        )
        suppressions = [record for record in self.records if isinstance(record, SuppressionRecord)]
        for what, count in callback.shut_out(self.tx, suppressions, self.shop).items():
            self.tally.count(SuppressionRecord.kind, what, count)
        self._tell_of_people()
        for row in self.told:
            order = row.pop("order", None)
            if order is not None:
                row["order_id"], row["profile_id"] = order.row["id"], order.row.get("profile_id")
            row.setdefault("correlation_id", self.correlation)
            row["run_id"] = self.shop.run
        self.told.sort(key=lambda row: row["occurred_at"])
        for row in log.append(self.tx, self.told, self.listened, self.now):
            self.tally.interactions[row["type"]] += 1
            said = {"interaction": row["id"], "type": row["type"], "correlation": row["correlation_id"]}
            lines.later(self.tx, INTERACTION, account=self.shop.name, **said)
        if self.shop.watch is not None and any(_is_trouble(record) for record in self.records):
            reputation.judge(self.tx, self.shop.name, self.shop.watch, self.now, listened=self.listened)
        # What was said before was listed then, and may have been settled since.
        self.tally.flaws = [flaw for index, flaw in self.flaws if index in self.news]
        if self.landed:
            still = [
                accounts.quarantine_key(self.shop.id, f.kind, "field", f.place, f.raw, f.reason)
                for f in self.tally.flaws
            ]
            accounts.resolve(self.tx, self.shop.id, self.landed, self.now, still)
        return self.tally

    # people

    def _see_people(self) -> dict[int, str]:
        """{index of a record: the key of the profile it is about}."""
        keys: dict[int, str] = {}
        long_ago = self.shop.announce_from - timedelta(microseconds=1)
        at: datetime | None
        first: datetime | None
        for index, record in enumerate(self.records):
            order: str | None = None
            if isinstance(record, OrderRecord):
                if "buyer" not in record.model_fields_set:
                    continue
                buyer, order = record.buyer, record.external_id
                at, first = record.changed_at, record.first_at
            elif isinstance(record, CustomerRecord):
                buyer, at = record.buyer, record.updated_at or record.created_at
                first = record.created_at or record.updated_at
                if buyer.external_id is None:
                    buyer = buyer.model_copy(update={"external_id": record.external_id})
            elif isinstance(record, ReviewRecord | AnswerRecord) and record.buyer is not None:
                buyer, order = record.buyer, record.order_external_id
                at = record.posted_at or record.updated_at if isinstance(record, ReviewRecord) else record.answered_at
                first = at
            elif isinstance(record, ConsentRecord) and record.buyer is not None:
                buyer, at, first = record.buyer, record.said_at, record.said_at
            else:
                continue
            at = at or long_ago  # who is listed without a time was there before the shop announced anything
            version = self.versions[index] = version_of(record, at)
            found = self.people.see(buyer, order, version, at, first or long_ago, self.correlations[index])
            if found.key:
                keys[index] = found.key
            for name, reason in found.flaws.items():
                place = f"{record.kind} {record.ref}"
                flaw = Refused(record.kind, place, f"{name} left out: {reason}", json.dumps({name: reason}), record.ref)
                self.flaws.append((index, flaw))
        return keys

    def _tell_of_people(self) -> None:
        for profile, at, correlation in self.people.created:
            self._tell("customer-created", at, correlation, profile_id=profile, actor="customer")
        self.told.extend(self.people.consents)
        changed = [state for state in self.orders.values() if state.is_fresh or state.is_changed]
        by = {profile: correlation for profile, _, correlation in self.people.created}
        by |= {state.row["profile_id"]: state.correlation for state in changed if state.row.get("profile_id")}
        moved = {state.row.get("profile_id") for state in changed} | self.left
        for row in self.people.join_families({profile for profile in moved if profile is not None}):
            self.told.append({**row, "correlation_id": by.get(row["profile_id"], self.correlation)})

    # orders

    def _join_orders(self, keys: Mapping[int, str]) -> None:
        wanted = [record.external_id for record in self.records if isinstance(record, OrderRecord)]
        stored = orders.by_external_id(self.tx, t.orders, self.shop.id, wanted)
        for index, record in enumerate(self.records):
            if isinstance(record, CustomerRecord):
                self.tally.count("customer", "created" if self._is_new(keys[index]) else "unchanged")
                if self.people.is_changed(keys[index]):
                    self._land(index, record)
            elif isinstance(record, OrderRecord):
                self._join_order(index, record, keys.get(index), stored)
            elif isinstance(record, AnswerRecord):
                self.news.add(index)

    def _is_new(self, key: str) -> bool:
        return any(profile == self.people.ids[key] for profile, *_ in self.people.created)

    def _land(self, index: int, record: Record) -> None:
        self.news.add(index)
        self.landed.append((record.kind, record.ref))

    def _join_order(
        self, index: int, record: OrderRecord, key: str | None, stored: Mapping[str, dict[str, Any]]
    ) -> None:
        number = record.external_id
        state = self.orders.get(number)
        if state is None:
            row = stored.get(number)
            state = _State(row or {"shop_id": self.shop.id, "external_id": number}, is_fresh=row is None)
            self.orders[number] = state
        version = self.versions.get(index) or version_of(record, record.changed_at)
        said = order_columns(record)
        if key is not None:
            said["profile_id"] = self.people.ids[key]
            before = state.row.get("profile_id")
            if before is None and not state.is_fresh:
                self.met.add(number)
            if before is not None and before != said["profile_id"]:
                self.left.add(before)
                self.people.link(number, (before, said["profile_id"]))
        joined = join(
            state.row if "said" in state.row else None,
            said,
            version,
            ORDER_FIELDS,
            milestones_of(record),
            {"parcel_total": record.parcel_total},
        )
        self._tell_of_changes(state, joined, record, self.correlations[index])
        seen_only = set(joined.values) <= {"version_updated", "version_observed"}
        kind = "created" if state.is_fresh and "said" not in state.row else "unchanged" if seen_only else "updated"
        self.tally.count("order", kind)
        if not seen_only:
            self._land(index, record)
            self.landed.append(("line", number))
        if "lines_hash" in joined.values:
            self.lines[number] = record
        self._join(state, joined, self.correlations[index])

    @staticmethod
    def _join(state: _State, joined: Joined, correlation: str | None) -> None:
        state.row.update(joined.values)
        state.reached.update(dict.fromkeys(joined.reached, correlation))
        state.is_changed = state.is_changed or bool(joined.values)
        if joined.values:
            state.correlation = correlation

    def _tell_of_changes(self, state: _State, joined: Joined, record: OrderRecord, correlation: str | None) -> None:
        """What newer versions take back: not milestones, and not part of the join."""
        if "said" not in state.row:
            return
        at = record.changed_at or self.now
        was, now_is = joined.before.get("status"), joined.values.get("status")
        if was == "cancelled" and now_is is not None:
            self._tell("order-reopened", at, correlation, order=state, actor="shop")
        promised = joined.before.get("promised_at")
        if promised is not None and joined.values.get("promised_at") is not None:
            before = {"before": promised.isoformat()}
            self._tell("order-promise-changed", at, correlation, order=state, actor="shop", payload=before)

    def _ship_by_parcels(self, parcels: Mapping[tuple[str, ...], _State]) -> None:
        """The first parcel ships its order, the last of a known number delivers it."""
        moved = {key[0]: state.correlation for key, state in parcels.items() if state.is_fresh or state.is_changed}
        elsewhere = set(moved) - set(self.orders)
        for number, row in orders.by_external_id(self.tx, t.orders, self.shop.id, elsewhere).items():
            self.orders[number] = _State(row, is_fresh=False)
        touched = {n: s for n, s in self.orders.items() if n in moved or s.is_fresh or s.is_changed}
        times: dict[str, dict[str, tuple[datetime | None, datetime | None]]] = {number: {} for number in touched}
        for (number, key), row in orders.parcels_of(self.tx, self.shop.id, touched).items():
            times[number][key] = (row["shipped_at"], row["delivered_at"])
        for (number, key), state in parcels.items():
            if number in times:
                times[number][key] = (state.row.get("shipped_at"), state.row.get("delivered_at"))
        for number, order in touched.items():
            for name, at in parcel_milestones(times[number].values(), order.row.get("parcel_total")).items():
                stored_at = order.row.get(name)
                if at is not None and (stored_at is None or at < stored_at):
                    if stored_at is None:
                        order.reached[name] = moved.get(number, order.correlation)
                    order.row[name], order.is_changed = at, True

    def _write_orders(self) -> None:
        fresh = [state for state in self.orders.values() if state.is_fresh]
        for fresh_id, state in zip(bulk.next_ids(self.tx, t.orders, len(fresh)), fresh, strict=True):
            state.row["id"] = fresh_id
        changed = [state.row for state in self.orders.values() if state.is_changed and not state.is_fresh]
        self._sign(fresh, changed)
        orders.write(self.tx, t.orders, [state.row for state in fresh], changed)
        rows = []
        for number, record in self.lines.items():
            order = self.orders[number].row["id"]
            rows += [line_row(order, i, line, record.currency) for i, line in enumerate(record.lines)]
        orders.replace_lines(
            self.tx,
            [self.orders[number].row["id"] for number in self.lines],
            rows,
            [state.row["id"] for state in fresh],
        )
        for state in self.orders.values():
            for name in sorted(state.reached, key=lambda name: RANK[name.removesuffix("_at")]):
                actor = "customer" if name in {"placed_at", "paid_at"} else "shop"
                kind, correlation = f"order-{name.removesuffix('_at')}", state.reached[name]
                self._tell(kind, state.row[name], correlation, order=state, actor=actor)

    def _sign(self, fresh: Sequence[_State], changed: Sequence[dict[str, Any]]) -> None:
        """What is new is this run's; what another wrote is nobody's alone from now on."""
        for state in fresh:
            state.row["run_id"] = self.shop.run
        for row in changed:
            row["run_id"] = row["run_id"] if row["run_id"] == self.shop.run else None

    # children

    def _key(self, record: Any) -> tuple[str, ...]:
        return (record.order_external_id, record.key) if isinstance(record, ParcelRecord) else (record.external_id,)

    def _join_children(self, kind: type[Record], keys: Mapping[int, str]) -> dict[tuple[str, ...], _State]:
        spec = CHILDREN[kind]
        found = [(index, record) for index, record in enumerate(self.records) if type(record) is kind]
        states: dict[tuple[str, ...], _State] = {}
        if not found:
            return states
        stored: dict[tuple[str, ...], dict[str, Any]]
        if kind is ParcelRecord:
            parents = {record.order_external_id for _, record in found}  # type: ignore[attr-defined]
            stored = {tuple(key): row for key, row in orders.parcels_of(self.tx, self.shop.id, parents).items()}
        else:
            ids = {record.external_id for _, record in found}  # type: ignore[attr-defined]
            rows = orders.by_external_id(self.tx, spec.table, self.shop.id, ids)
            stored = {(number,): row for number, row in rows.items()}
        for index, record in found:
            key = self._key(record)
            if key not in states:
                row = stored.get(key)
                states[key] = _State(row or self._natural(record), is_fresh=row is None)
                states[key].was_waiting = bool(row and row["is_waiting"])
            self._join_child(states[key], index, record, spec, keys.get(index))
        return states

    def _natural(self, record: Any) -> dict[str, Any]:
        row = {"shop_id": self.shop.id, "order_external_id": record.order_external_id, "is_waiting": False}
        if isinstance(record, ParcelRecord):
            return {**row, "key": record.key}
        return {**row, "external_id": record.external_id}

    def _join_child(self, state: _State, index: int, record: Any, spec: Child, profile_key: str | None) -> None:
        said = spec.columns(record)
        if profile_key is not None:
            said["profile_id"] = self.people.ids[profile_key]
        milestones = {name: getattr(record, name) for name in spec.milestones}
        if isinstance(record, ReviewRecord) and record.posted_at is None:
            milestones["posted_at"] = record.updated_at
        known = state.row if "said" in state.row else None
        version: Version = version_of(record, max((at for at in milestones.values() if at), default=None))
        joined = join(known, said, version, spec.fields, milestones)
        seen_only = set(joined.values) <= {"version_updated", "version_observed"}
        what = "created" if known is None else "unchanged" if seen_only else "updated"
        self.tally.count(record.kind, what)
        if not seen_only:
            self._land(index, record)
        self._join(state, joined, self.correlations[index])

    def _write_children(self, kind: type[Record], states: Mapping[tuple[str, ...], _State]) -> None:
        spec = CHILDREN[kind]
        parents = {s.row["order_external_id"] for s in states.values() if s.row["order_external_id"] is not None}
        known: dict[str, Any] = {number: state.row for number, state in self.orders.items()}
        missing = parents - set(known)
        if missing:
            known.update(orders.ids_of(self.tx, self.shop.id, missing))
        fresh = [state for state in states.values() if state.is_fresh]
        for number, state in zip(bulk.next_ids(self.tx, spec.table, len(fresh)), fresh, strict=True):
            state.row["id"] = number
        for state in states.values():
            parent = state.row["order_external_id"]
            waits = parent is not None and parent not in known
            state.is_changed = state.is_changed or state.row["is_waiting"] != waits
            state.row["is_waiting"] = waits
            if state.was_waiting and not waits:
                by = state.correlation or self._landed_by(parent)
                state.reached = {name: by for name in spec.milestones if state.row.get(name) is not None}
        changed = [state.row for state in states.values() if state.is_changed and not state.is_fresh]
        self._sign(fresh, changed)
        orders.write(self.tx, spec.table, [state.row for state in fresh], changed)

        telling = [(state.row, state.reached) for state in states.values() if not state.row["is_waiting"]]
        new_orders = [number for number, state in self.orders.items() if state.is_fresh]
        if new_orders:
            here = {state.row["id"] for state in states.values()}
            waited = [r for r in orders.waiting(self.tx, spec.table, self.shop.id, new_orders) if r["id"] not in here]
            orders.landed(self.tx, spec.table, waited)
            for row in waited:
                by = self._landed_by(row["order_external_id"])
                telling.append((row, {name: by for name in spec.milestones if row[name] is not None}))
        for row, reached in telling:
            self._tell_of_child(spec, row, reached, known)
        if kind is ReviewRecord:
            written = orders.children(self.tx, spec.table, self.shop.id, self.met)
            self._link_reviewers([*(row for row, _ in telling), *written], known)

    def _landed_by(self, order: str | None) -> str | None:
        """What the order came of for which something waited."""
        state = self.orders.get(order or "")
        return state.correlation if state is not None else self.correlation

    def _link_reviewers(self, reviews: Sequence[Mapping[str, Any]], known: Mapping[str, Any]) -> None:
        """Who reviews an order and who bought it are weakly linked."""
        for row in reviews:
            parent = known.get(row["order_external_id"])
            buyer = parent.get("profile_id") if parent is not None else None
            reviewer = row.get("profile_id")
            if buyer is not None and reviewer is not None and buyer != reviewer:
                self.people.link(row["order_external_id"], (buyer, reviewer))

    def _tell_of_child(
        self, spec: Child, row: Mapping[str, Any], reached: Mapping[str, str | None], known: Mapping[str, Any]
    ) -> None:
        for name, correlation in reached.items():
            event = spec.milestones[name]
            if event is None:
                continue
            parent = known.get(row["order_external_id"])
            subject = event.partition("-")[0]
            subject = "refund" if event == "order-refunded" else subject
            self._tell(
                event,
                row[name],
                correlation,
                profile_id=parent.get("profile_id") if parent is not None else row.get("profile_id"),
                order_id=parent["id"] if parent is not None else None,
                actor="customer" if subject == "review" or name == "requested_at" else "shop",
                payload={subject: row["id"]},
            )

    def _tell(
        self,
        kind: str,
        at: datetime,
        correlation: str | None,
        *,
        actor: str,
        order: _State | None = None,
        order_id: int | None = None,
        profile_id: int | None = None,
        payload: dict[str, Any] | None = None,
        key: str | None = None,
    ) -> None:
        row: dict[str, Any] = {
            "type": kind,
            "shop_id": self.shop.id,
            "profile_id": profile_id,
            "order_id": order_id,
            "actor": actor,
            "occurred_at": at,
            "payload": payload,
            "key": key,
            "correlation_id": correlation,
        }
        if order is not None:
            row["order"] = order
        self.told.append(row)
