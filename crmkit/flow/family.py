"""Who is one customer: families from evidence, and what persons decide: merge, take apart again, leave apart.

A merge is a pointer from one profile to another. Every row keeps the profile it was recorded for, so taking a merge
back is clearing the pointer: what evidence says is computed anew, and is what it would be had there been no merge.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.customer import Contest, Identity, contests, families
from crmkit.core.errors import ConfigError
from crmkit.core.lifecycle import standing
from crmkit.store import bulk, customers, log, search
from crmkit.store import tables as t


def regroup(tx: Connection, seeds: Iterable[int], fresh: Mapping[Identity, int] = {}) -> set[int]:
    """Recompute the families of profiles whose evidence, or what a person said of them, changed.

    Args:
        seeds: these profiles.
        fresh: how many owners each weak identity just gained.

    Returns:
        Profiles whose family, or review, is another now, and those their families went by before.
    """
    found = customers.evidence_around(tx, seeds, fresh)
    stored = customers.ties_of(tx, found.identities)
    changed, before = [], set()
    for family in families(found.identities, found.merges, found.shared, found.settled):
        for member in family.members:
            row = stored[member]
            if (row["family_id"], bool(row["needs_review"])) != (family.id, family.needs_review):
                changed.append({"id": member, "family_id": family.id, "needs_review": family.needs_review})
                before.add(row["family_id"])
    bulk.update(tx, t.profile, ("id",), ("family_id", "needs_review"), changed)
    return {row["id"] for row in changed} | before


def place(tx: Connection, profiles: Iterable[int], *, shop: int | None, now: datetime) -> list[dict[str, Any]]:
    """Recompute where the customers of these profiles stand in the lifecycle.

    Returns:
        `stage-changed` interactions.
    """
    touched = set(customers.family_of(tx, profiles).values())
    orders = customers.orders_of_families(tx, touched)
    roots = customers.ties_of(tx, touched)
    changed, told = [], []
    for number in sorted(touched):
        row = roots[number]
        now_at = standing(orders.get(number, ()))
        if (row["stage"], row["cycle"], row["stage_at"]) == (now_at.stage, now_at.cycle, now_at.at):
            continue
        changed.append({"id": number, "stage": str(now_at.stage), "cycle": now_at.cycle, "stage_at": now_at.at})
        if (row["stage"], row["cycle"]) == (now_at.stage, now_at.cycle):
            continue  # the same step, known to have been taken at another moment
        told.append(
            {
                "type": "stage-changed",
                "profile_id": number,
                "shop_id": shop,
                "actor": "crmkit",
                "occurred_at": now_at.at or now,
                "payload": {"before": row["stage"], "after": str(now_at.stage), "cycle": now_at.cycle},
            }
        )
    bulk.update(tx, t.profile, ("id",), ("stage", "cycle", "stage_at"), changed)
    return told


# --- what persons decide ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Joining:
    """What a merge would join: each customer's line (`search.overview`), and the buyer ids that exclude each other.

    Attributes:
        clashes: {scope: buyer ids}: these would not have been joined by evidence, whatever it was.
    """

    customers: list[dict[str, Any]]
    clashes: dict[str, list[str]]


def joining(tx: Connection, one: int, other: int) -> Joining:
    """What merging two customers would join."""
    members = customers.members(tx, (one, other))
    identities = customers.identities_of(tx, [member for ids in members.values() for member in ids])
    strong: dict[int, dict[str, set[str]]] = {}
    lines = search.overview(tx, [one, other])
    for line in lines:
        held = {identity for member in members[line["customer"]] for identity in identities.get(member, ())}
        line["identities"] = Counter(identity.kind for identity in held)
        scopes = strong[line["customer"]] = {}
        for identity in held:
            if identity.is_strong:
                scopes.setdefault(identity.scope, set()).add(identity.value)
    clashes = {
        scope: sorted(values | strong[other].get(scope, set()))
        for scope, values in sorted(strong[one].items())
        if len(values | strong[other].get(scope, set())) > 1
    }
    return Joining(lines, clashes)


def merge(tx: Connection, one: int, into: int, *, actor: str, listened: Collection[str], now: datetime) -> int:
    """Make one customer of two, by a person's word. Where evidence says so too, it holds whatever becomes of evidence.

    Args:
        one, into: profiles of theirs.

    Returns:
        The profile that points into the other now.

    Raises:
        ConfigError: they were merged already, or one of them was forgotten.
    """
    bulk.lock(tx, bulk.INGEST)
    pointing = _end_of_pointers(tx, one)
    if pointing == _end_of_pointers(tx, into):
        raise ConfigError(f"#{one} and #{into} were merged already", who="customers", operation="merge")
    _refuse_forgotten(customers.by_id(tx, (one, into)), "merge")
    bulk.update(tx, t.profile, ("id",), ("merged_into",), [{"id": pointing, "merged_into": into}])
    _settle(tx, [pointing], {pointing: f"merged into #{into}"}, actor=actor, listened=listened, now=now)
    return pointing


def _end_of_pointers(tx: Connection, profile: int) -> int:
    """Where following a person's merges from a profile ends: it points nowhere yet."""
    while (into := customers.ties_of(tx, [profile])[profile]["merged_into"]) is not None:
        profile = into
    return profile


def merged(tx: Connection, family: int) -> dict[int, int]:
    """A person's merges within a customer: {profile: the one it was merged into}."""
    rows = customers.ties_of(tx, customers.members(tx, [family])[family])
    return {row["id"]: row["merged_into"] for row in rows.values() if row["merged_into"] is not None}


def unmerge(tx: Connection, profile: int, *, actor: str, listened: Collection[str], now: datetime) -> list[int]:
    """Take back that this profile was merged into another.

    Returns:
        The customers its family falls into.

    Raises:
        ConfigError: it was not merged.
    """
    bulk.lock(tx, bulk.INGEST)
    into = customers.ties_of(tx, [profile])[profile]["merged_into"]
    if into is None:
        raise ConfigError(f"profile {profile} was not merged into another", who="customers", operation="unmerge")
    bulk.update(tx, t.profile, ("id",), ("merged_into",), [{"id": profile, "merged_into": None}])
    texts = {profile: f"no longer merged into #{into}", into: f"#{profile} is no longer merged into it"}
    _settle(tx, [profile, into], texts, actor=actor, listened=listened, now=now)
    return sorted(set(customers.family_of(tx, [profile, into]).values()))


def _settle(
    tx: Connection,
    seeds: Iterable[int],
    notes: Mapping[int, str],
    *,
    actor: str,
    listened: Collection[str],
    now: datetime,
) -> None:
    """Recompute what a person's word changes, and put the word on the timeline."""
    told = place(tx, regroup(tx, seeds), shop=None, now=now)
    for profile, text in notes.items():
        told.append(
            {"type": "note", "profile_id": profile, "actor": actor, "occurred_at": now, "payload": {"text": text}}
        )
    log.append(tx, told, listened, now)


def _refuse_forgotten(rows: Mapping[int, Mapping[str, Any]], operation: str) -> None:
    for number, row in rows.items():
        if row["forgotten_at"] is not None:
            raise ConfigError(f"#{number} was forgotten", who="customers", operation=operation, do="name another")


# --- the review list --------------------------------------------------------------------------------------------------


def review(tx: Connection, family: int | None = None) -> list[Contest]:
    """What weak evidence would join and must not, and nobody settled yet; all of it, or what touches one customer."""
    p = t.profile.c
    if family is None:
        seeds = [row["id"] for row in customers.on_review(tx)]
    else:
        seeds = [row["id"] for row in bulk.select_in(tx, (p.id,), p.family_id, [family])]
    found = customers.evidence_around(tx, seeds)
    family_of = customers.family_of(tx, found.identities)
    return [
        contest
        for contest in contests(found.identities, found.merges, found.shared)
        if len({family_of[member] for member in contest.members}) > 1
        and any(found.settled.get(member) != contest.mark for member in contest.members)
    ]


def leave_apart(tx: Connection, family: int, *, actor: str, listened: Collection[str], now: datetime) -> list[Contest]:
    """Settle what touches this customer on the review list: they are different people, until new evidence comes.

    Returns:
        What was settled; nothing if the customer is not on the list.
    """
    bulk.lock(tx, bulk.INGEST)
    found = review(tx, family)
    marks = {member: contest.mark for contest in found for member in contest.members}
    rows = [{"id": member, "settled": mark} for member, mark in marks.items()]
    bulk.update(tx, t.profile, ("id",), ("settled",), rows)
    notes = {family: "looked at: not one customer with those it shares something with"} if found else {}
    _settle(tx, marks, notes, actor=actor, listened=listened, now=now)
    return found
