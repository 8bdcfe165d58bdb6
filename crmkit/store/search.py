"""Who is meant, and everything that is known of one customer: what `customers` and `explain` show."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.customer import SHARED_LIMIT
from crmkit.store import bulk, customers
from crmkit.store import tables as t
from crmkit.store.bulk import Row

#: Kinds of weak identity that people search by.
_CONTACT = ("email", "phone")


def families_meant(tx: Connection, text: str, limit: int = 50) -> list[int]:
    """The customers a text may mean: a customer's number, an e-mail address, a phone number, a buyer id, an order's id
    or number; else a part of a name or of an address.
    """
    text = text.strip()
    numbers: dict[int, None] = {}
    number = text.removeprefix("#")
    if number.isdecimal() and len(number) < 18:
        numbers.update(dict.fromkeys(customers.family_of(tx, [int(number)]).values()))
        if text.startswith("#"):
            return list(numbers)
    profiles = [*_by_identity(tx, text), *_by_order(tx, text)]
    numbers.update(dict.fromkeys(customers.family_of(tx, profiles).values()))
    if numbers or not text:
        return list(numbers)
    return list(dict.fromkeys(customers.family_of(tx, _by_part(tx, text, limit)).values()))[:limit]


def _by_identity(tx: Connection, text: str) -> list[int]:
    c = t.identity.c
    written = {text, text.lower()}
    if re.fullmatch(r"[+0-9][0-9 ()./-]{4,}", text):
        written.add("+" + re.sub(r"\D", "", text))
    statement = sa.select(c.profile_id).where(c.value.in_(written), c.kind != "order").order_by(c.profile_id)
    return list(tx.execute(statement).scalars())


def _by_order(tx: Connection, text: str) -> list[int]:
    o = t.orders.c
    statement = sa.select(o.profile_id).where(
        sa.or_(o.external_id == text, o.number == text), o.profile_id.is_not(None)
    )
    return list(tx.execute(statement.order_by(o.profile_id)).scalars())


def _by_part(tx: Connection, text: str, limit: int) -> list[int]:
    p, i = t.profile.c, t.identity.c
    named = sa.select(p.id).where(p.name.icontains(text, autoescape=True)).order_by(p.id).limit(limit)
    found = list(tx.execute(named).scalars())
    contact = (
        sa.select(i.profile_id)
        .where(i.kind.in_(_CONTACT), i.value.icontains(text.lower(), autoescape=True))
        .order_by(i.profile_id)
        .limit(limit)
    )
    return [*found, *tx.execute(contact).scalars()]


def overview(tx: Connection, families: Sequence[int]) -> list[dict[str, Any]]:
    """One line for each of these customers, in their order."""
    members = customers.members(tx, families)
    owner = {member: family for family, ids in members.items() for member in ids}
    profiles = customers.by_id(tx, owner)
    contact: dict[int, dict[str, str]] = defaultdict(dict)
    for row in customers.addresses_of(tx, owner):
        contact[owner[row["profile_id"]]].setdefault(row["kind"], row["value"])
    o = t.orders.c
    orders: Counter[int] = Counter()
    last: dict[int, Any] = {}
    for order in bulk.select_in(tx, (o.profile_id, o.placed_at), o.profile_id, owner):
        family = owner[order["profile_id"]]
        orders[family] += 1
        if order["placed_at"] is not None and (last.get(family) is None or order["placed_at"] > last[family]):
            last[family] = order["placed_at"]
    found = []
    for family in families:
        rows = [profiles[member] for member in sorted(members.get(family, ()))]
        if not rows:
            continue
        root = next(row for row in rows if row["id"] == family)
        found.append(
            {
                "customer": family,
                "name": _first(rows, "name"),
                "stage": root["stage"],
                "cycle": root["cycle"],
                "email": contact[family].get("email"),
                "phone": contact[family].get("phone"),
                "orders": orders[family],
                "last_order_at": last.get(family),
                "profiles": len(rows),
                "needs_review": any(row["needs_review"] for row in rows),
            }
        )
    return found


def _first(rows: Iterable[Row], name: str) -> Any:
    return next((row[name] for row in rows if row[name] is not None), None)


def dossier(tx: Connection, family: int) -> dict[str, Any]:
    """Everything that is known of one customer, apart from messages and the log."""
    members = customers.members(tx, [family]).get(family, [])
    profiles = [dict(row) for _, row in sorted(customers.by_id(tx, members).items())]
    identities = customers.identities_of(tx, members)
    for profile in profiles:
        profile["identities"] = [
            {"kind": one.kind, "scope": one.scope, "value": one.value, "is_strong": one.is_strong}
            for one in sorted(identities.get(profile["id"], ()), key=lambda one: (one.kind, one.scope, one.value))
        ]
    addresses = customers.addresses_of(tx, members)
    values = {row["value"] for row in addresses}
    o, item, p = t.orders.c, t.line.c, t.parcel.c
    orders = [dict(row) for row in bulk.select_in(tx, t.orders, o.profile_id, members)]
    numbers = [order["id"] for order in orders]
    lines = Counter(row["order_id"] for row in bulk.select_in(tx, (item.order_id,), item.order_id, numbers))
    parcels = Counter(
        (row["shop_id"], row["order_external_id"])
        for row in bulk.select_in(
            tx, (p.shop_id, p.order_external_id), p.order_external_id, [r["external_id"] for r in orders]
        )
    )
    for order in orders:
        order["lines"], order["parcels"] = lines[order["id"]], parcels[order["shop_id"], order["external_id"]]
    return {
        **overview(tx, [family])[0],
        "profiles": profiles,
        "addresses": sorted(addresses, key=lambda row: (row["kind"], row["value"], row["scope"])),
        "consent": [dict(row) for row in customers.consent_of(tx, members, values)],
        "suppressed": [dict(row) for rows in customers.suppressed(tx, values).values() for row in rows],
        "orders": sorted(orders, key=lambda row: (str(row["placed_at"]), row["id"])),
    }


def shared_between(tx: Connection, family: int) -> list[dict[str, Any]]:
    """The weak identities that more than one profile was seen with: why profiles are one customer, or are not.

    Each with its `profiles` and their `families`; one shared by too many joins nobody.
    """
    members = customers.members(tx, [family]).get(family, [])
    weak = {one for found in customers.identities_of(tx, members).values() for one in found if not one.is_strong}
    found = []
    for identity, owners in customers.owners_of(tx, weak).items():
        if len(owners) < 2:
            continue
        found.append(
            {
                "kind": identity.kind,
                "value": identity.value,
                "profiles": sorted(owners),
                "families": sorted(set(customers.family_of(tx, owners).values())),
                "is_shared_by_too_many": len(owners) > SHARED_LIMIT,
            }
        )
    return sorted(found, key=lambda one: (one["kind"], one["value"]))


def every_family(tx: Connection, after: int, limit: int) -> list[int]:
    """Customers by number, a chunk at a time; who was forgotten is none."""
    p = t.profile.c
    statement = (
        sa.select(p.id).where(p.family_id == p.id, p.id > after, p.forgotten_at.is_(None)).order_by(p.id).limit(limit)
    )
    return list(tx.execute(statement).scalars())


def timers_of(tx: Connection, members: Iterable[int]) -> list[Row]:
    """What is to happen later to these profiles, soonest first."""
    rows = bulk.select_in(tx, t.timer, t.timer.c.profile_id, members)
    return sorted(rows, key=lambda row: (row["due_at"], row["plugin"], row["key"]))


def pending_of(tx: Connection, members: Iterable[int]) -> list[dict[str, Any]]:
    """What is still to be decided of these profiles, with the type of its interaction."""
    rows = bulk.select_in(tx, t.pending, t.pending.c.profile_id, members)
    i = t.interaction.c
    types = {
        row["id"]: row["type"]
        for row in bulk.select_in(tx, (i.id, i.type), i.id, [row["interaction_id"] for row in rows])
    }
    found = [{**row, "type": types.get(row["interaction_id"])} for row in rows]
    return sorted(found, key=lambda row: (row["due_at"], row["id"]))
