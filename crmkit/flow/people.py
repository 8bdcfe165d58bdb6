"""Part of ingest: from what a batch says of persons to profiles, identities, addresses, consent and families.

Everything here is a join: profiles exist for every key ever seen, identities and addresses only accumulate, each field
of a profile holds the newest plain value, and families are recomputed from all evidence within reach.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.account import Shop
from crmkit.core.customer import Identity, Recognised, order_token, recognise
from crmkit.core.records import Buyer
from crmkit.core.version import Version
from crmkit.flow import consent, family
from crmkit.store import bulk, customers
from crmkit.store import tables as t


@dataclass(slots=True)
class _Seen:
    """One record's word on one person."""

    recognised: Recognised
    buyer: Buyer
    version: Version
    at: datetime
    first_at: datetime
    correlation: str | None


@dataclass(slots=True)
class People:
    """The persons of one batch."""

    tx: Connection
    shop: Shop
    now: datetime
    seen: list[_Seen] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    created: list[tuple[int, datetime, str | None]] = field(default_factory=list)
    consents: list[dict[str, Any]] = field(default_factory=list)
    _changed: set[int] = field(default_factory=set)
    _links: defaultdict[int, set[Identity]] = field(default_factory=lambda: defaultdict(set))
    _fresh: Counter[Identity] = field(default_factory=Counter)
    _touched: set[int] = field(default_factory=set)

    def see(
        self,
        buyer: Buyer | None,
        order: str | None,
        version: Version,
        at: datetime,
        first_at: datetime,
        correlation: str | None,
    ) -> Recognised:
        """Note what a record says of a person.

        Args:
            buyer: whom it is about; None says "nobody is known".
            order: the vendor's id of the order it is about.
            version: the record's.
            at: the time of the record's last change.
            first_at: the earliest time it knows of.
            correlation: what the record came of, in logs.
        """
        scope = f"shop:{self.shop.id}"
        token = f"{self.shop.id}:{order}" if order is not None else None
        recognised = recognise(buyer, shop=scope, region=self.shop.region, order=token)
        if recognised.key:
            self.seen.append(_Seen(recognised, buyer or Buyer(), version, at, first_at, correlation))
        return recognised

    def settle(self) -> None:
        """Store profiles, identities, addresses and consent of everybody seen."""
        known = customers.by_key(self.tx, (seen.recognised.key for seen in self.seen))
        fresh = self._profiles(known)
        self.ids = {key: row["id"] for key, row in known.items()}
        self._identities(fresh)
        self._addresses(fresh)
        self._consent()

    def _profiles(self, known: dict[str, dict[str, Any]]) -> set[int]:
        missing = list(dict.fromkeys(seen.recognised.key for seen in self.seen if seen.recognised.key not in known))
        rows = {}
        for number, key in zip(bulk.next_ids(self.tx, t.profile, len(missing)), missing, strict=True):
            rows[key] = known[key] = {"id": number, "key": key, "family_id": number, "created_at": self.now}
            rows[key]["run_id"] = self.shop.run
        first: dict[str, datetime] = {}
        by: dict[str, str | None] = {}
        changed: dict[str, dict[str, Any]] = {}
        for seen in self.seen:
            key = seen.recognised.key
            if key in rows:
                first[key] = min(first.get(key, seen.first_at), seen.first_at)
                by.setdefault(key, seen.correlation)
            if self._take_fields(known[key], seen) and key not in rows:
                changed[key] = known[key]
                changed[key]["run_id"] = self._still(changed[key])
        self.created = [(row["id"], first[key], by[key]) for key, row in rows.items()]
        bulk.insert(self.tx, t.profile, list(rows.values()))
        columns = ("name", "locale", "timezone", "city", "country", "birthday", "sources", "run_id")
        bulk.update(self.tx, t.profile, ("id",), columns, list(changed.values()))
        self._changed = {row["id"] for row in (*rows.values(), *changed.values())}
        return {row["id"] for row in rows.values()}

    def _still(self, row: dict[str, Any]) -> int | None:
        """Whose alone a row is that this run changes."""
        return self.shop.run if row["run_id"] == self.shop.run else None

    def is_changed(self, key: str) -> bool:
        """Whether this batch said something new of the person under this key."""
        return self.ids[key] in self._changed or self.ids[key] in self._touched

    def _take_fields(self, row: dict[str, Any], seen: _Seen) -> bool:
        """Take each field whose plain value is newer than the stored one. Nothing said never empties a field."""
        sources = dict(row.get("sources") or {})
        changed = False
        for name, value in seen.recognised.fields.items():
            if value is None:
                continue
            rank = [0 if name in seen.buyer.masked or "*" in str(value) else 1, *seen.version, self.shop.id]
            if name not in sources or rank > list(sources[name]):
                if row.get(name) != value or sources.get(name) != rank:
                    changed = True
                row[name], sources[name] = value, rank
        row["sources"] = sources or None
        return changed

    def _identities(self, fresh: set[int]) -> None:
        wanted: dict[int, set[Identity]] = defaultdict(set)
        for seen in self.seen:
            wanted[self.ids[seen.recognised.key]].update(seen.recognised.identities)
        self.add_evidence(wanted, fresh)

    def add_evidence(self, wanted: dict[int, set[Identity]], fresh: Iterable[int] = ()) -> None:
        """Store identities that profiles were not seen with before; `fresh` are profiles known to have none."""
        old = customers.identities_of(self.tx, set(wanted) - set(fresh))
        rows = []
        for profile, identities in wanted.items():
            for identity in identities - old.get(profile, set()):
                rows.append(
                    {
                        "kind": identity.kind,
                        "scope": identity.scope,
                        "value": identity.value,
                        "profile_id": profile,
                        "is_strong": identity.is_strong,
                        "run_id": self.shop.run,
                    }
                )
                if not identity.is_strong:
                    self._fresh[identity] += 1
                self._touched.add(profile)
        bulk.insert(self.tx, t.identity, rows)

    def link(self, order: str, profiles: Iterable[int]) -> None:
        """One order, or its review, was recorded for several profiles over time: that links them, weakly."""
        for profile in profiles:
            self._links[profile].add(order_token(f"{self.shop.id}:{order}"))

    def _addresses(self, fresh: set[int]) -> None:
        profiles = {self.ids[seen.recognised.key] for seen in self.seen if seen.recognised.addresses}
        stored = {
            (row["profile_id"], row["kind"], row["value"], row["scope"]): row
            for row in customers.addresses_of(self.tx, profiles - fresh)
        }
        new: dict[tuple[Any, ...], dict[str, Any]] = {}
        changed: dict[tuple[Any, ...], dict[str, Any]] = {}
        for seen in self.seen:
            profile = self.ids[seen.recognised.key]
            for scope, address in seen.recognised.addresses:
                key = (profile, address.kind, address.value, scope)
                row = stored.get(key) or new.get(key)
                values = {
                    "profile_id": profile,
                    "kind": address.kind,
                    "value": address.value,
                    "scope": scope,
                    "purposes": ",".join(sorted(address.purposes)),
                    "valid_until": address.valid_until,
                    "seen_at": seen.at,
                    "run_id": self.shop.run,
                }
                if row is None:
                    new[key] = values
                elif row["seen_at"] is None or _newer(values, row):
                    row.update({**values, "run_id": self._still(row)})
                    if key in stored:
                        changed[key] = row
        bulk.insert(self.tx, t.address, list(new.values()))
        columns = ("purposes", "valid_until", "seen_at", "run_id")
        bulk.update(self.tx, t.address, ("profile_id", "kind", "value", "scope"), columns, list(changed.values()))

    def _consent(self) -> None:
        """Enter what shops say of consent, once for each moment at which they said it.

        Also where it repeats what was said before: a word from elsewhere may turn up that falls between the two, and
        then it matters that the shop said it again only after that (`consent_news`).
        """
        rows: list[dict[str, Any]] = []
        for seen in self.seen:
            given = seen.buyer.marketing_consent
            if given is None:
                continue
            state = "granted" if given else "withdrawn"
            rows.append(
                {
                    "key": f"{seen.recognised.key}|{self.shop.id}|{state}|{seen.at.isoformat()}",
                    "profile_id": self.ids[seen.recognised.key],
                    "channel": "*",
                    "purpose": "marketing",
                    "state": state,
                    "source": f"shop:{self.shop.id}",
                    "actor": "customer",
                    "occurred_at": seen.at,
                    "recorded_at": self.now,
                    "correlation_id": seen.correlation,
                    "run_id": self.shop.run,
                }
            )
        if not rows:
            return
        _, turned = consent.record(self.tx, rows)
        self.consents = [{**consent.told(row), "shop_id": self.shop.id} for row in turned]

    def join_families(self, ordered_for: Iterable[int]) -> list[dict[str, Any]]:
        """Recompute the families whose evidence changed, and where their customers stand in the lifecycle.

        Args:
            ordered_for: profiles with an order that is new or moved on.

        Returns:
            `stage-changed` interactions.
        """
        self.add_evidence(self._links)
        touched = set(ordered_for)
        if self._fresh:
            touched |= family.regroup(self.tx, self._touched, self._fresh)
        return family.place(self.tx, touched, shop=self.shop.id, now=self.now)


def _newer(values: dict[str, Any], row: dict[str, Any]) -> bool:
    """Whether an address was seen later; between two of one time, the greater content wins, whichever came first."""
    told = ("seen_at", "valid_until", "purposes")
    return [str(values[name]) for name in told] > [str(row[name]) for name in told]
