"""Profiles, identities, addresses, families and consent."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.customer import SHARED_LIMIT, Identity
from crmkit.store import bulk
from crmkit.store import tables as t
from crmkit.store.bulk import Row


def by_key(tx: Connection, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Profiles by their natural key."""
    return {row["key"]: dict(row) for row in bulk.select_in(tx, t.profile, t.profile.c.key, keys)}


def by_id(tx: Connection, ids: Iterable[int]) -> dict[int, Row]:
    """Profiles by number."""
    return {row["id"]: row for row in bulk.select_in(tx, t.profile, t.profile.c.id, ids)}


#: What families are made of and what they lead to: all of a profile but what is said of the person.
_TIES = tuple(
    t.profile.c[name]
    for name in ("id", "family_id", "merged_into", "needs_review", "settled", "stage", "cycle", "stage_at")
)


def ties_of(tx: Connection, ids: Iterable[int]) -> dict[int, Row]:
    """Family, merge, review and stage of profiles, by number."""
    return {row["id"]: row for row in bulk.select_in(tx, _TIES, t.profile.c.id, ids)}


def is_forgotten(tx: Connection, profile: int) -> bool:
    """Whether nothing is known of this profile any more."""
    p = t.profile.c
    return tx.execute(sa.select(p.id).where(p.id == profile, p.forgotten_at.is_not(None))).first() is not None


def family_of(tx: Connection, profiles: Iterable[int]) -> dict[int, int]:
    """The family of each profile."""
    p = t.profile.c
    return {row["id"]: row["family_id"] for row in bulk.select_in(tx, (p.id, p.family_id), p.id, profiles)}


def identities_of(tx: Connection, profiles: Iterable[int]) -> dict[int, set[Identity]]:
    """What each profile was seen with."""
    found: dict[int, set[Identity]] = defaultdict(set)
    for row in bulk.select_in(tx, t.identity, t.identity.c.profile_id, profiles):
        found[row["profile_id"]].add(Identity(row["kind"], row["scope"], row["value"], bool(row["is_strong"])))
    return found


def owners_of(tx: Connection, identities: Iterable[Identity]) -> dict[Identity, set[int]]:
    """The profiles each of these weak identities was seen with."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for identity in identities:
        groups[identity.kind, identity.scope].append(identity.value)
    found: dict[Identity, set[int]] = defaultdict(set)
    c = t.identity.c
    for (kind, scope), values in groups.items():
        for row in bulk.select_in(tx, t.identity, c.value, values, c.kind == kind, c.scope == scope):
            found[Identity(kind, scope, row["value"])].add(row["profile_id"])
    return found


@dataclass(slots=True)
class Evidence:
    """All that decides who some profiles are one customer with: what `families` is given.

    Attributes:
        identities: of every profile within reach.
        merges, settled: what persons decided of them.
        shared: identities that are shared by too many to be followed.
    """

    identities: dict[int, set[Identity]] = field(default_factory=dict)
    merges: dict[int, int | None] = field(default_factory=dict)
    settled: dict[int, str | None] = field(default_factory=dict)
    shared: set[Identity] = field(default_factory=set)


def evidence_around(tx: Connection, seeds: Iterable[int], fresh: Mapping[Identity, int] = {}) -> Evidence:
    """All evidence that decides who the seeds are one customer with.

    Args:
        seeds: profiles whose evidence changed.
        fresh: how many owners each weak identity just gained.
    """
    found = Evidence()
    followed: set[Identity] = set()
    frontier = set(seeds)
    while frontier:
        identities = identities_of(tx, frontier)
        for profile in frontier:
            found.identities[profile] = identities.get(profile, set())
        weak = {i for profile in frontier for i in found.identities[profile] if not i.is_strong} - followed
        followed |= weak
        reached: set[int] = set()
        for identity, owners in owners_of(tx, weak).items():
            if len(owners) > SHARED_LIMIT:
                found.shared.add(identity)
                if len(owners) - fresh.get(identity, 0) > SHARED_LIMIT:
                    continue  # it was shared by too many before: nobody is joined by it, nothing changes for them
            reached |= owners
        rows = ties_of(tx, frontier)
        found.merges.update({profile: row["merged_into"] for profile, row in rows.items()})
        found.settled.update({profile: row["settled"] for profile, row in rows.items()})
        reached |= {into for into in (row["merged_into"] for row in rows.values()) if into is not None}
        p = t.profile.c
        reached |= {row["id"] for row in bulk.select_in(tx, (p.id,), p.merged_into, frontier)}
        frontier = reached - set(found.identities)
    return found


def on_review(tx: Connection) -> list[Row]:
    """Profiles of customers that are on the review list."""
    return bulk.rows(tx, sa.select(*_TIES).where(t.profile.c.needs_review).order_by(t.profile.c.id))


def members(tx: Connection, families: Iterable[int]) -> dict[int, list[int]]:
    """The profiles of each family."""
    found: dict[int, list[int]] = defaultdict(list)
    p = t.profile.c
    for row in bulk.select_in(tx, (p.id, p.family_id), p.family_id, families):
        found[row["family_id"]].append(row["id"])
    return found


def addresses_of(tx: Connection, profiles: Iterable[int]) -> list[dict[str, Any]]:
    """Every address of these profiles."""
    return [dict(row) for row in bulk.select_in(tx, t.address, t.address.c.profile_id, profiles)]


def whose_are(tx: Connection, values: Iterable[str]) -> dict[tuple[str, str], int]:
    """Who writes from these addresses: {(kind, address): profile}.

    Where one customer is known by an address it is theirs: of their profiles the one last seen there. Where several
    are, it is the one we last wrote to there, else the one last seen there.
    """
    a, m = t.address.c, t.message.c
    rows = bulk.select_in(tx, (a.kind, a.value, a.profile_id, a.seen_at), a.value, values)
    rows.sort(key=lambda row: (row["seen_at"] is not None and row["seen_at"].timestamp(), -row["profile_id"]))
    found = {(row["kind"], row["value"]): row["profile_id"] for row in rows}
    families = family_of(tx, {row["profile_id"] for row in rows})
    known_by: dict[tuple[str, str], set[int]] = defaultdict(set)
    for row in rows:
        known_by[row["kind"], row["value"]].add(families[row["profile_id"]])
    shared = {address for address, owners in known_by.items() if len(owners) > 1}
    if not shared:
        return found
    profiles = {row["profile_id"] for row in rows if (row["kind"], row["value"]) in shared}
    written = (
        sa.select(m.address_kind, m.address, m.profile_id)
        .where(bulk.one_of(tx, m.profile_id, profiles), m.sent_at.is_not(None))
        .where(bulk.one_of(tx, m.address, {value for _, value in shared}))
        .order_by(m.sent_at, m.id)
    )
    for kind, value, profile in tx.execute(written):
        if (kind, value) in shared:
            found[kind, value] = profile
    return found


def orders_of_families(tx: Connection, families: Iterable[int]) -> dict[int, list[Row]]:
    """The milestones of every order of these families."""
    o = t.orders.c
    columns = (
        t.profile.c.family_id,
        o.shop_id,
        o.external_id,
        o.status,
        o.placed_at,
        o.paid_at,
        o.shipped_at,
        o.delivered_at,
        o.completed_at,
        o.cancelled_at,
    )
    found: dict[int, list[Row]] = defaultdict(list)
    statement = (
        sa.select(*columns)
        .join(t.profile, t.profile.c.id == o.profile_id)
        .where(bulk.one_of(tx, t.profile.c.family_id, dict.fromkeys(families)))
    )
    for row in bulk.rows(tx, statement):
        found[row["family_id"]].append(row)
    return found


# --- consent ----------------------------------------------------------------------------------------------------------


def enter_consent(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Add entries to the ledger; those whose key is there already are left alone. Returns the new ones."""
    known = {row["key"] for row in bulk.select_in(tx, (t.consent.c.key,), t.consent.c.key, [r["key"] for r in rows])}
    fresh = list({row["key"]: row for row in rows if row["key"] not in known}.values())
    ids = bulk.next_ids(tx, t.consent, len(fresh))
    entered: list[Mapping[str, Any]] = [{**row, "id": number} for number, row in zip(ids, fresh, strict=True)]
    bulk.insert(tx, t.consent, entered)
    return entered


def consent_of(tx: Connection, profiles: Iterable[int], addresses: Iterable[str] = ()) -> list[Row]:
    """The ledger's entries about these profiles and addresses, oldest first; of one moment, the withdrawal last."""
    rows = bulk.select_in(tx, t.consent, t.consent.c.profile_id, profiles)
    rows += bulk.select_in(tx, t.consent, t.consent.c.address, addresses)
    unique = {row["id"]: row for row in rows}
    return sorted(unique.values(), key=lambda row: (row["occurred_at"], row["state"] == "withdrawn", row["id"]))


def suppressed(tx: Connection, addresses: Iterable[str]) -> dict[str, list[Row]]:
    """Standing suppressions by address."""
    found: dict[str, list[Row]] = defaultdict(list)
    s = t.suppression.c
    for row in bulk.select_in(tx, t.suppression, s.address, addresses, s.lifted_at.is_(None)):
        found[row["address"]].append(row)
    return found


def suppress_all(tx: Connection, rows: Iterable[Mapping[str, Any]]) -> int:
    """Never write to these addresses again, until somebody lifts it.

    Of several that say so of one address, the earliest is kept, in whatever order they are told.

    Args:
        rows: each with `channel`, `address` (None where it was forgotten: nothing is done), `reason`, `source`,
            `since`, and `purpose` where it is not for all.

    Returns:
        How many are new.
    """
    wanted: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for row in rows:
        if row["address"] is not None:
            key = (row["address"], row["channel"], row.get("purpose", "*"))
            wanted[key] = min(wanted.get(key, row), row, key=_told_first)
    if not wanted:
        return 0
    standing = {
        (row["address"], row["channel"], row["purpose"]): row
        for found in suppressed(tx, [address for address, _, _ in wanted]).values()
        for row in found
    }
    fresh = [{**row, "purpose": key[2]} for key, row in wanted.items() if key not in standing]
    ids = bulk.next_ids(tx, t.suppression, len(fresh))
    bulk.insert(tx, t.suppression, [{**row, "id": number} for number, row in zip(ids, fresh, strict=True)])
    earlier = [
        {"id": known["id"], "reason": str(row["reason"]), "source": row["source"], "since": row["since"]}
        for key, row in wanted.items()
        if (known := standing.get(key)) is not None and _told_first(row) < _told_first(known)
    ]
    bulk.update(tx, t.suppression, ("id",), ("reason", "source", "since"), earlier)
    return len(fresh)


def _told_first(row: Mapping[str, Any]) -> tuple[datetime, str, str]:
    return row["since"], str(row["reason"]), row["source"]


def suppress(
    tx: Connection, *, channel: str, address: str, reason: str, source: str, now: datetime, purpose: str = "*"
) -> None:
    """Never write to this address again, until somebody lifts it."""
    row = {"channel": channel, "address": address, "reason": reason, "source": source, "since": now}
    suppress_all(tx, [{**row, "purpose": purpose}])
