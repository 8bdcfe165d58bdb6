"""Contact capture: a customer leaves an address on a page, a code is sent there, and who enters it has proven it.

Proven is that who opened the page is reached there, not who that is: a parcel insert may be found by anybody. So the
address gets news of that one order, and offers if it asked for them; nobody is recognised by it. Whether an address is
known here, suppressed, or of somebody who was forgotten makes no difference to what the page says: to the first a code
is sent, to the others none, and none is what they enter.
"""

import hmac
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.contact import LIMITS, TRIES, VALID, code_of
from crmkit.core.customer import Customer, Identity, normal_email, normal_phone
from crmkit.core.events import ContactLeft, ContactProven
from crmkit.core.forgotten import hash_of
from crmkit.flow import preference
from crmkit.flow.setup import Setup
from crmkit.store import bulk, contacts, customers, forgotten, log, orders
from crmkit.store import tables as t
from crmkit.store.bulk import Row

#: {kind of address: the channel its code goes by}
WAYS = {"email": "email", "phone": "sms"}
#: Begins what is kept in place of the address of somebody who was forgotten.
_NOBODYS = "#"


def kinds(setup: Setup, shop: str | None) -> list[str]:
    """The kinds of address that can be left: somebody sends codes, and there is a gateway for them."""
    if not any(handler.event is ContactLeft for plugin in setup.plugins for handler in plugin.handlers):
        return []
    return [
        kind
        for kind, channel in WAYS.items()
        if any(kind in e.adapter.reaches and e.serves(shop) for e in setup.channels.get(channel, ()))
    ]


def read(written: str, region: str | None) -> tuple[str, str]:
    """The kind and the normal form of an address as it was written.

    Raises:
        ValueError: it is neither an e-mail address nor a phone number.
    """
    return ("email", normal_email(written)) if "@" in written else ("phone", normal_phone(written.strip(), region))


def is_ended(tx: Connection, customer: Customer, order: Row | None) -> bool:
    """Whether an address was proven about this order already: it takes one."""
    members = customers.members(tx, [customer.id])[customer.id]
    return contacts.is_proven(tx, members, order["id"] if order is not None else None)


def leave(
    tx: Connection,
    customer: Customer,
    order: Row | None,
    kind: str,
    value: str,
    choices: Mapping[str, str],
    *,
    locale: str,
    listened: Collection[str],
    now: datetime,
    correlation_id: str | None = None,
) -> bool:
    """Keep an address that was left, and tell of it, so that a code is sent. False: they left too many already.

    Of an address that too many left nothing is told, and this is not said: it would tell of others.

    Args:
        order: what it was left about.
        kind, value: the address, in its normal form.
        choices: {purpose that is allowed: what the page said}.
        locale: the language of the page.
    """
    bulk.lock(tx, bulk.INGEST)  # whoever is forgotten meanwhile leaves nothing
    if customers.is_forgotten(tx, customer.profile_id):
        return False
    contacts.erase_old(tx, now)
    members = customers.members(tx, [customer.id])[customer.id]
    kept = _hidden(tx, kind, value) or value
    mine, of_all = contacts.left_since(tx, members, kept, now - max(span for span, _ in LIMITS))
    if _are_too_many(mine, now):
        return False
    if _are_too_many(of_all, now) or is_ended(tx, customer, order):
        kept = _NOBODYS
    row = {
        "profile_id": customer.profile_id,
        "order_id": order["id"] if order is not None else None,
        "kind": kind,
        "value": kept,
        "locale": locale,
        "choices": dict(choices),
        "left_at": now,
        "expires_at": now + VALID,
    }
    number = contacts.add(tx, row)
    if kept == value:
        told = _told(ContactLeft.name, row, order, {"contact": number}, now, correlation_id)
        [said] = log.append(tx, [told], listened, now)
        contacts.told(tx, number, said["id"])
    return True


def prove(
    tx: Connection,
    customer: Customer,
    code: str,
    keys: Sequence[bytes],
    *,
    listened: Collection[str],
    now: datetime,
    correlation_id: str | None = None,
) -> bool:
    """Whether this is the code of what the customer left last; if so, it becomes theirs, with what they allowed.

    Args:
        keys: the secrets codes are made with.
    """
    bulk.lock(tx, bulk.INGEST)
    members = customers.members(tx, [customer.id])[customer.id]
    row = contacts.latest(tx, members)
    is_open = row is not None and row["tries"] < TRIES and row["left_at"] <= now < row["expires_at"]
    if row is None or not is_open or customers.is_forgotten(tx, row["profile_id"]):
        return False
    fits = [hmac.compare_digest(code.encode(), code_of(row, key).encode()) for key in keys]
    if not any(fits) or not row["value"] or row["value"].startswith(_NOBODYS):
        contacts.tried(tx, row["id"])
        return False
    if row["proven_at"] is None:
        if contacts.is_proven(tx, members, row["order_id"]):
            return False
        order = orders.of_customer(tx, row["order_id"], customer.id) if row["order_id"] is not None else None
        contacts.proven(tx, row["id"], now)
        _link(tx, row, order, listened, now, correlation_id)
    return True


def _are_too_many(rows: Sequence[Row], now: datetime) -> bool:
    return any(sum(row["left_at"] > now - span for row in rows) >= most for span, most in LIMITS)


def _hidden(tx: Connection, kind: str, value: str) -> str | None:
    """What is kept in place of an address whose owner was forgotten: it is not theirs to be told at any more."""
    key = forgotten.key_of(tx)
    if key is None:
        return None
    hashed = hash_of(Identity(kind, "", value), key)
    return f"{_NOBODYS}{hashed}" if forgotten.known(tx, [hashed]) else None


def _link(
    tx: Connection, row: Row, order: Row | None, listened: Collection[str], now: datetime, correlation_id: str | None
) -> None:
    """The customer is reached there, for what was allowed; nobody is recognised by it, and nothing else is granted."""
    profile, kind, value = row["profile_id"], row["kind"], row["value"]
    choices: Mapping[str, str] = row["choices"] or {}
    if order is not None and "transactional" in choices:
        _reach(tx, profile, kind, value, f"{order['shop_id']}:{order['external_id']}", "transactional", now)
    if "marketing" in choices:
        _reach(tx, profile, kind, value, "", "marketing", now)
    proof = f"[code sent to {value} {row['left_at'].isoformat()}, entered {now.isoformat()}]"
    for purpose, wording in choices.items():
        said = f"{wording} {proof}"
        given: dict[str, Any] = {"listened": listened, "now": now, "correlation_id": correlation_id}
        preference.allow(tx, profile, value, WAYS[kind], purpose, wording=said, **given)
    told = _told(ContactProven.name, row, order, {"kind": kind, "address": value}, now, correlation_id)
    log.append(tx, [told], listened, now)


def _reach(tx: Connection, profile: int, kind: str, value: str, scope: str, purposes: str, now: datetime) -> None:
    """Add an address to a profile; what it may be used for already stays so."""
    known = [
        row
        for row in customers.addresses_of(tx, [profile])
        if (row["kind"], row["value"], row["scope"]) == (kind, value, scope)
    ]
    allowed = {*purposes.split(","), *(one for row in known for one in row["purposes"].split(","))}
    said = {"purposes": ",".join(sorted(allowed)), "valid_until": None, "seen_at": now}
    row = {"profile_id": profile, "kind": kind, "value": value, "scope": scope, **said}
    bulk.upsert(tx, t.address, ("profile_id", "kind", "value", "scope"), [row])


def _told(
    kind: str,
    row: Mapping[str, Any],
    order: Row | None,
    payload: Mapping[str, Any],
    now: datetime,
    correlation_id: str | None,
) -> dict[str, Any]:
    return {
        "type": kind,
        "profile_id": row["profile_id"],
        "shop_id": order["shop_id"] if order is not None else None,
        "order_id": order["id"] if order is not None else None,
        "actor": "customer",
        "occurred_at": now,
        "payload": dict(payload),
        "correlation_id": correlation_id,
    }
