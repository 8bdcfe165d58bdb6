"""What handlers, policies and templates are shown, loaded for a whole batch: a few statements, never one per row."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlmodel import SQLModel

from crmkit.core.customer import PROFILE_FIELDS, Customer
from crmkit.core.money import Money
from crmkit.core.order import Line, Order, Parcel, Refund, Review, order_at
from crmkit.store import bulk, customers
from crmkit.store import tables as t
from crmkit.store.bulk import Row


def _known(at: datetime | None, now: datetime) -> datetime | None:
    return at if at is not None and at <= now else None


def milestones_at(tx: Connection, ids: Iterable[int], now: datetime) -> dict[int, Order]:
    """Orders without their lines and parcels, as known at `now`."""
    return {row["id"]: order_at(row, now) for row in bulk.select_in(tx, t.orders, t.orders.c.id, ids)}


def orders_at(tx: Connection, ids: Iterable[int], now: datetime) -> dict[int, Order]:
    """Orders with their lines and parcels, as known at `now`."""
    rows = bulk.select_in(tx, t.orders, t.orders.c.id, ids)
    lines: dict[int, list[Row]] = defaultdict(list)
    for row in bulk.select_in(tx, t.line, t.line.c.order_id, [row["id"] for row in rows]):
        lines[row["order_id"]].append(row)
    parcels: dict[tuple[int, str], list[Parcel]] = defaultdict(list)
    c = t.parcel.c
    for shop in {row["shop_id"] for row in rows}:
        numbers = [row["external_id"] for row in rows if row["shop_id"] == shop]
        for row in bulk.select_in(tx, t.parcel, c.order_external_id, numbers, c.shop_id == shop):
            parcels[shop, row["order_external_id"]].append(_parcel(row, now))
    return {
        row["id"]: order_at(
            row,
            now,
            [line_of(line, row["currency"]) for line in sorted(lines[row["id"]], key=lambda line: line["position"])],
            sorted(parcels[row["shop_id"], row["external_id"]], key=lambda parcel: parcel.key),
        )
        for row in rows
    }


def line_of(row: Row, currency: str | None) -> Line:
    """A line of an order whose amounts are in `currency`."""
    return Line(
        title=row["title"],
        quantity=Decimal(row["quantity"]),
        sku=row["sku"],
        product_id=row["product_id"],
        total=Money.of_minor(row["total_minor"], currency),
    )


def _parcel(row: Mapping[str, Any], now: datetime) -> Parcel:
    return Parcel(
        id=row["id"],
        key=row["key"],
        carrier=row["carrier"],
        tracking_number=row["tracking_number"],
        tracking_url=row["tracking_url"],
        shipped_at=_known(row["shipped_at"], now),
        delivered_at=_known(row["delivered_at"], now),
    )


def parcels_at(tx: Connection, ids: Iterable[int], now: datetime) -> dict[int, Parcel]:
    """Parcels by number."""
    return {row["id"]: _parcel(row, now) for row in bulk.select_in(tx, t.parcel, t.parcel.c.id, ids)}


def refunds_at(tx: Connection, ids: Iterable[int], now: datetime) -> dict[int, Refund]:
    """Refunds by number."""
    found = {}
    for row in bulk.select_in(tx, t.refund, t.refund.c.id, ids):
        minor = row["refunded_minor"] if row["refunded_minor"] is not None else row["requested_minor"]
        found[row["id"]] = Refund(
            id=row["id"],
            external_id=row["external_id"],
            amount=Money.of_minor(minor, row["currency"]),
            requested_at=_known(row["requested_at"], now),
            refunded_at=_known(row["refunded_at"], now),
            reason=row["reason"],
        )
    return found


def reviews_at(tx: Connection, ids: Iterable[int], now: datetime) -> dict[int, Review]:
    """Reviews by number."""
    return {
        row["id"]: Review(
            id=row["id"],
            external_id=row["external_id"],
            rating=None if row["rating"] is None else Decimal(row["rating"]),
            title=row["title"],
            text=row["text"],
            posted_at=_known(row["posted_at"], now),
        )
        for row in bulk.select_in(tx, t.review, t.review.c.id, ids)
    }


#: What a customer is shown with.
_PERSON = tuple(t.profile.c[name] for name in ("id", "key", "family_id", "stage", "cycle", *PROFILE_FIELDS))


def customers_of(tx: Connection, profiles: Iterable[int]) -> dict[int, Customer]:
    """The customer each profile belongs to: what the profile does not say, others of its family do."""
    p = t.profile.c
    own = {row["id"]: row for row in bulk.select_in(tx, _PERSON, p.id, profiles)}
    families: dict[int, list[Row]] = defaultdict(list)
    for row in bulk.select_in(tx, _PERSON, p.family_id, [row["family_id"] for row in own.values()]):
        families[row["family_id"]].append(row)
    found = {}
    for number, row in own.items():
        members = sorted(families[row["family_id"]], key=lambda member: (member["id"] != number, member["id"]))
        root = next((member for member in members if member["id"] == row["family_id"]), row)
        said = {
            name: next((member[name] for member in members if member[name] is not None), None)
            for name in PROFILE_FIELDS
        }
        found[number] = Customer(
            id=row["family_id"],
            profile_id=number,
            key=row["key"],
            stage=root["stage"],
            cycle=root["cycle"],
            **said,
        )
    return found


@dataclass(slots=True)
class Reach:
    """What is known of reaching some families at a moment.

    Attributes:
        addresses: live addresses by family, the one last seen first.
        consent: entries of the ledger by family, oldest first, as of the moment.
        by_address: entries of the ledger about an address itself.
        suppressed: standing suppressions by address.
    """

    addresses: dict[int, list[dict[str, Any]]]
    consent: dict[int, list[Row]]
    by_address: dict[str, list[Row]]
    suppressed: dict[str, list[Row]]

    def said_of_addresses(self, family: int | None, address: str | None) -> list[Row]:
        """What was said of an address and of the others of the same customer, oldest first.

        Who stops one address has stopped the customer: the next message does not go to an older one.
        """
        values = {row["value"] for row in self.addresses.get(family, ())} if family is not None else set()
        entries = [
            entry for value in {*values, address} if value is not None for entry in self.by_address.get(value, ())
        ]
        return sorted(entries, key=lambda entry: (entry["occurred_at"], entry["id"]))


def reach_of(tx: Connection, families: Collection[int], now: datetime, also: Collection[str] = ()) -> Reach:
    """Addresses, consent and suppressions of these families, as of `now`; what is said of the addresses `also` too."""
    family_of = {m: family for family, members in customers.members(tx, families).items() for m in members}
    addresses: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in customers.addresses_of(tx, family_of):
        if row["valid_until"] is None or row["valid_until"] > now:
            addresses[family_of[row["profile_id"]]].append(row)
    for rows in addresses.values():
        rows.sort(
            key=lambda row: (row["seen_at"] is None, row["seen_at"] and -row["seen_at"].timestamp(), row["value"])
        )
    values = {row["value"] for rows in addresses.values() for row in rows}.union(also)
    consent: dict[int, list[Row]] = defaultdict(list)
    by_address: dict[str, list[Row]] = defaultdict(list)
    for entry in customers.consent_of(tx, family_of, values):
        if entry["occurred_at"] > now:
            continue
        if entry["profile_id"] in family_of:
            consent[family_of[entry["profile_id"]]].append(entry)
        if entry["address"] is not None:
            by_address[entry["address"]].append(entry)
    return Reach(addresses, consent, by_address, customers.suppressed(tx, values))


def rows_of(tx: Connection, model: type[SQLModel], where: Mapping[str, Any]) -> list[Any]:
    """Rows of a plugin's own table whose columns equal `where`, as its models."""
    table = t.table_of(model)
    statement = sa.select(table)
    for name, value in where.items():
        statement = statement.where(table.c[name] == value)
    return [model(**row) for row in bulk.rows(tx, statement)]
