"""Forgetting a customer: values go, keyed hashes of the identities stay, so that nothing of the person comes back.

Ingest asks here before anything else (`sift`): a record about somebody who was forgotten is stored for the books,
without the person, and an order of theirs is known again by its number whatever is said of it later.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.adapters.stream import Refused
from crmkit.core.account import Shop
from crmkit.core.customer import SHARED_LIMIT, Identity, normal_address, order_token, recognise
from crmkit.core.errors import ConfigError
from crmkit.core.forgotten import hash_of, without_person
from crmkit.core.message import State
from crmkit.core.records import ConsentRecord, CustomerRecord, InboundRecord, OrderRecord, Record
from crmkit.core.trace import Traces
from crmkit.flow import family
from crmkit.store import bodies, bulk, customers, forgotten, log, orders
from crmkit.store import tables as t

#: Kinds of address that are of one person for good.
_LASTING = frozenset({"email", "phone"})
#: Kinds of records that are told by the order they belong to, and of what customers said.
_OF_ORDERS = ("order", "parcel", "payment", "refund", "return")
_SAID = frozenset({"inbound", "answer"})


# --- by a person's word -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Preview:
    """What forgetting a customer takes away.

    Attributes:
        counts: rows by what they are.
        shared_with: customers who hold an identity of this one's, and are not this one: by it alone nobody will be
            recognised any more, so orders of theirs that carry it will be stored without a person too.
        unreached: tables of plugins that are not loaded.
    """

    customer: int
    counts: dict[str, int]
    shared_with: list[int]
    unreached: list[str]


def preview(tx: Connection, number: int) -> Preview:
    """What forgetting the customer of this number would take away."""
    members = customers.members(tx, [number])[number]
    identities, others = _identities(tx, members)

    def count(table: sa.Table, column: str, *where: sa.ColumnElement[bool]) -> int:
        statement = sa.select(sa.func.count()).where(bulk.one_of(tx, table.c[column], members), *where)
        return int(tx.execute(statement).scalar() or 0)

    counts = {
        "profiles": len(members),
        "identities": len(identities),
        "addresses": count(t.address, "profile_id"),
        "orders": count(t.orders, "profile_id"),
        "reviews": count(t.review, "profile_id"),
        "interactions": count(t.interaction, "profile_id"),
        "messages": count(t.message, "profile_id"),
        "messages that wait": count(t.message, "profile_id", t.message.c.state == State.QUEUED),
    }
    there = set(sa.inspect(tx).get_table_names())
    for table, column in forgotten.plugin_tables().items():
        if table.name in there:
            counts[table.name] = count(table, column)
    families = sorted(set(customers.family_of(tx, others).values()))
    return Preview(number, counts, families, forgotten.unreached(tx))


def look_through(read: Callable[[], AbstractContextManager[Connection]], number: int) -> bodies.Looked:
    """Find the raw bodies about the customer of this number: what takes long is done before anything is held.

    Args:
        read: begins a read transaction.
    """
    with read() as tx:
        members = customers.members(tx, [number])[number]
        identities, _ = _identities(tx, members)
        traces = _traces(tx, members, identities, forgotten.orders_of(tx, members))
    return bodies.look_through(read, traces)


def forget(tx: Connection, number: int, *, now: datetime, looked: bodies.Looked | None = None) -> dict[str, int]:
    """Forget the customer of this number. What is on the wire ends its try; `forgotten.sweep` erases it then.

    Args:
        looked: the raw bodies about them that were found before (`look_through`); without it all are read here.

    Returns:
        How many rows went, by what they are.

    Raises:
        ConfigError: it was forgotten already, or the key people were forgotten under is not there.
    """
    bulk.lock(tx, bulk.INGEST)
    forgotten.leave_no_trace(tx)
    members = customers.members(tx, [number])[number]
    theirs = forgotten.orders_of(tx, members)
    forgotten.hold(tx, members, [order for order, _, _ in theirs])
    rows = customers.by_id(tx, members)
    if all(row["forgotten_at"] is not None for row in rows.values()):
        raise ConfigError(f"#{number} was forgotten already", who="customers", operation="forget")
    before = preview(tx, number)
    identities, others = _identities(tx, members)
    traces = _traces(tx, members, identities, theirs)
    key = forgotten.make_key(tx, now)
    tokens = [order_token(f"{shop}:{external}") for _, shop, external in theirs]
    forgotten.remember(tx, [*identities, *tokens, *_reviews(tx, members)], key, now)
    forgotten.erase_orders(tx, theirs, now)
    forgotten.erase_profiles(tx, members, now)
    emptied = bodies.erase(tx, traces, now, looked)
    plugins = forgotten.erase_in_plugins(tx, members)
    _place_again(tx, others, (), None, now)
    return {**before.counts, "raw bodies": emptied, **plugins}


def _place_again(
    tx: Connection, related: Iterable[int], ordered_for: Iterable[int], shop: int | None, now: datetime
) -> None:
    """Who somebody is that a forgotten one had something to do with, and where they stand, is told anew.

    Args:
        related: profiles that shared evidence with them, or a family.
        ordered_for: profiles an order was recorded for that is nobody's now.
        shop: where that was.
    """
    moved = family.regroup(tx, related)
    log.append(tx, family.place(tx, {*moved, *ordered_for}, shop=shop, now=now), (), now)


def _identities(tx: Connection, members: Collection[int]) -> tuple[set[Identity], set[int]]:
    """By what these profiles are known again, and other profiles that hold one of it.

    What too many share is no one's: by it nobody is known.
    """
    held = {identity for found in customers.identities_of(tx, members).values() for identity in found}
    owners = customers.owners_of(tx, [identity for identity in held if not identity.is_strong])
    for row in customers.addresses_of(tx, members):
        if row["kind"] in _LASTING:
            held.add(Identity(row["kind"], "", row["value"]))
    crowded = {identity for identity, found in owners.items() if len(found) > SHARED_LIMIT}
    others = {profile for identity in owners for profile in owners[identity]} - set(members)
    return held - crowded, others


def _reviews_of(tx: Connection, members: Collection[int]) -> list[bulk.Row]:
    r = t.review.c
    return bulk.select_in(tx, (r.shop_id, r.external_id), r.profile_id, members)


def _reviews(tx: Connection, members: Collection[int]) -> list[Identity]:
    return [_review_token(row["shop_id"], row["external_id"]) for row in _reviews_of(tx, members)]


def _review_token(shop: int, external_id: str) -> Identity:
    return Identity("review", "", f"{shop}:{external_id}")


def _traces(
    tx: Connection, members: Collection[int], identities: Iterable[Identity], theirs: Sequence[tuple[int, int, str]]
) -> Traces:
    """What raw bodies about these profiles are told by: addresses in them, records of theirs they are about."""
    values = {one.value for one in identities if one.kind in _LASTING}
    values |= {row["value"] for row in customers.addresses_of(tx, members)}
    shops = {shop for _, shop, _ in theirs}
    refs = {(shop, ref) for _, shop, external in theirs for ref in _order_refs(external)}
    for one in identities:
        if one.is_strong:
            number = one.scope.removeprefix("shop:")
            refs |= {(shop, f"customer:{one.value}") for shop in ({int(number)} if number.isdigit() else shops)}
    refs |= {(row["shop_id"], f"review:{row['external_id']}") for row in _reviews_of(tx, members)}
    i = t.interaction.c
    for row in bulk.select_in(tx, (i.key,), i.profile_id, members, i.key.is_not(None)):
        account, _, ref = row["key"].partition(":")
        if account.isdigit() and ref.partition(":")[0] in _SAID:
            refs.add((int(account), ref))
    return Traces(frozenset(values), frozenset(refs))


def _order_refs(external: str) -> list[str]:
    """What a webhook about an order, or about something that belongs to one, is kept as being about."""
    return [f"{kind}:{external}" for kind in _OF_ORDERS]


# --- within ingest ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Sifted:
    """A batch without those who were forgotten: what is left of it, and how many records of a kind went.

    Attributes:
        places: where each record that is left was in the batch.
    """

    records: list[Record]
    gone: list[str] = field(default_factory=list)
    places: Sequence[int] = ()


def sift(tx: Connection, shop: Shop, records: list[Record], now: datetime) -> Sifted:
    """Take the person from every record that is about somebody who was forgotten.

    An order is known by its buyer or by its own number, and what belongs to an order by that. One statement where
    nobody was ever forgotten.

    Raises:
        ConfigError: the key people were forgotten under is not there.
    """
    key = forgotten.key_of(tx)
    if key is None:
        return Sifted(records, places=range(len(records)))
    hashes = [[hash_of(one, key) for one in _told_by(record, shop)] for record in records]
    meant = forgotten.known(tx, {one for found in hashes for one in found})
    if not meant:
        return Sifted(records, places=range(len(records)))
    fresh: dict[str, Identity] = {}
    for record, found in zip(records, hashes, strict=True):
        if isinstance(record, OrderRecord) and not meant.isdisjoint(found):
            token = _token(shop, record.external_id)
            fresh[hash_of(token, key)] = token
    fresh = {one: token for one, token in fresh.items() if one not in meant}
    if fresh:
        _forget_orders(tx, shop, list(fresh.values()), key, now)
        meant |= set(fresh)
    owned = _still_owned(tx, shop, records)
    sifted, places = Sifted([]), list[int]()
    for index, (record, found) in enumerate(zip(records, hashes, strict=True)):
        is_free = meant.isdisjoint(found) or index in owned
        left = record if is_free else without_person(record)
        if left is None:
            sifted.gone.append(record.kind)
        else:
            sifted.records.append(left)
            places.append(index)
    sifted.places = places
    return sifted


def about_forgotten(
    tx: Connection,
    shop: Shop,
    said: Mapping[int, Sequence[Record]],
    hinted: Mapping[int, Sequence[tuple[str, str]]] = {},
) -> set[int]:
    """Which of these webhooks are about somebody who was forgotten; asked after their records were taken in.

    Args:
        said: {webhook: its records}.
        hinted: {webhook: records that are to be read again, or could not be read, as (kind, id)}.
    """
    key = forgotten.key_of(tx)
    if key is None:
        return set()
    named = [(number, record) for number, records in said.items() for record in records]
    owned = _still_owned(tx, shop, [record for _, record in named])
    told: dict[int, set[str]] = {number: set() for number in said}
    for index, (number, record) in enumerate(named):
        if index not in owned:
            told[number].update(hash_of(one, key) for one in _told_by(record, shop))
    for number, refs in hinted.items():
        told.setdefault(number, set()).update(
            hash_of(_buyer(shop, ref) if kind == "customer" else _token(shop, ref), key) for kind, ref in refs
        )
    meant = forgotten.known(tx, {one for found in told.values() for one in found})
    return {number for number, found in told.items() if not meant.isdisjoint(found)}


def sift_refused(tx: Connection, shop: Shop, refused: Sequence[Refused]) -> list[Refused]:
    """Take the raw body from what could not be read of orders of somebody who was forgotten."""
    key = forgotten.key_of(tx) if refused else None
    if key is None:
        return list(refused)
    hashes = [
        {hash_of(one, key) for one in (_token(shop, r.ref), _buyer(shop, r.ref))} if r.ref is not None else set[str]()
        for r in refused
    ]
    meant = forgotten.known(tx, {one for found in hashes for one in found})
    return [
        one if meant.isdisjoint(found) else Refused(one.kind, one.place, "forgotten", "", one.ref)
        for one, found in zip(refused, hashes, strict=True)
    ]


def _told_by(record: Record, shop: Shop) -> list[Identity]:
    """All by which a record may be about somebody who was forgotten."""
    found: list[Identity] = []
    order = record.external_id if isinstance(record, OrderRecord) else getattr(record, "order_external_id", None)
    if order is not None:
        found.append(_token(shop, order))
    if record.kind == "review":
        found.append(_review_token(shop.id, record.ref))
    buyer = getattr(record, "buyer", None)
    if isinstance(record, CustomerRecord) and record.buyer.external_id is None:
        buyer = record.buyer.model_copy(update={"external_id": record.external_id})
    if buyer is not None:
        found += recognise(buyer, shop=f"shop:{shop.id}", region=shop.region, order=None).identities
    address = record.sender if isinstance(record, InboundRecord) else getattr(record, "address", None)
    if address is not None and address.kind in _LASTING:
        found.append(Identity(address.kind, "", normal_address(address, shop.region).value))
    return found


def _token(shop: Shop, order: str) -> Identity:
    return order_token(f"{shop.id}:{order}")


def _buyer(shop: Shop, number: str) -> Identity:
    return Identity("buyer", f"shop:{shop.id}", number, is_strong=True)


def _forget_orders(tx: Connection, shop: Shop, tokens: Sequence[Identity], key: bytes, now: datetime) -> None:
    """Orders turn out to be of somebody who was forgotten: what came of them before goes, and a guest known by them."""
    forgotten.leave_no_trace(tx)
    forgotten.remember(tx, tokens, key, now)
    external = [token.value.partition(":")[2] for token in tokens]
    stored = orders.ids_of(tx, shop.id, external)
    theirs = [(stored[number]["id"] if number in stored else None, shop.id, number) for number in external]
    guests = [row["id"] for row in customers.by_key(tx, (f"order:{token.value}" for token in tokens)).values()]
    _, others = _identities(tx, guests)
    families = customers.family_of(tx, guests)
    others |= {one for found in customers.members(tx, families.values()).values() for one in found}
    ordered_for = {row["profile_id"] for row in stored.values() if row["profile_id"] is not None}
    forgotten.erase_orders(tx, theirs, now)
    if guests:
        forgotten.erase_profiles(tx, guests, now)
        forgotten.erase_in_plugins(tx, guests)
    bodies.erase(tx, Traces(refs=frozenset((shop.id, ref) for one in external for ref in _order_refs(one))), now)
    _place_again(tx, others, ordered_for, shop.id, now)


def _still_owned(tx: Connection, shop: Shop, records: Sequence[Record]) -> set[int]:
    """Consent said by an address that somebody is still reached at: it is theirs, whoever else was forgotten."""
    said: dict[int, Any] = {
        index: normal_address(record.address, shop.region).value
        for index, record in enumerate(records)
        if isinstance(record, ConsentRecord) and record.address is not None
    }
    c = t.address.c
    owned = {row["value"] for row in bulk.select_in(tx, (c.value,), c.value, said.values())}
    return {index for index, value in said.items() if value in owned}
