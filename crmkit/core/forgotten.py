"""Who was forgotten: keyed hashes of identities, and what is left of a record, an event's payload, once they are.

A hash tells that somebody is meant who is to be forgotten, and to who has not the key it tells nothing else. The facts
of an order stay for the books; what says who bought, where it went and what they wrote goes.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlmodel import Field, SQLModel

from crmkit.core.columns import UtcTime
from crmkit.core.customer import Identity
from crmkit.core.records import (
    AnswerRecord,
    ConsentRecord,
    CustomerRecord,
    InboundRecord,
    OrderRecord,
    ParcelRecord,
    PaymentRecord,
    Record,
    RefundRecord,
    ReturnRecord,
    ReviewRecord,
    SuppressionRecord,
)


class ForgottenRow(SQLModel, table=True):
    """The keyed hash of an identity of somebody who was forgotten."""

    __tablename__ = "forgotten"

    hash: str = Field(primary_key=True)
    kind: str
    scope: str
    forgotten_at: datetime = Field(sa_type=UtcTime)


class SecretRow(SQLModel, table=True):
    """A key this database works with: its `mark`, by which it is known again, and the key itself where none is given.

    A key that lies beside what it hides hides it from those only who see a part of the database. The row
    `installation` holds no key: its mark, drawn when an account is first opened, tells this installation from others.
    """

    __tablename__ = "secret"

    name: str = Field(primary_key=True)
    mark: str
    value: str | None = None
    created_at: datetime = Field(sa_type=UtcTime)


def hash_of(identity: Identity, key: bytes) -> str:
    """The keyed hash an identity is forgotten under."""
    keyed = _keyed(key).copy()
    keyed.update("\x1f".join((identity.kind, identity.scope, identity.value)).encode())
    return keyed.hexdigest()


@lru_cache(maxsize=4)
def _keyed(key: bytes) -> "hashlib.blake2b":
    return hashlib.blake2b(key=hashlib.sha256(key).digest(), digest_size=20)


def mark_of(key: bytes) -> str:
    """What a key is known again by."""
    return hashlib.blake2b(b"mark", key=hashlib.sha256(key).digest(), digest_size=8).hexdigest()


#: What an event says that names nobody: kinds, states, moments.
_PLAIN = frozenset(
    "before after channel purpose state template reason survey promised_at complaint_kind level what since".split()
)


def blank(payload: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """An event's payload without what it says: numbers stay, which point at rows; texts are empty."""
    if payload is None:
        return None
    return {name: value if name in _PLAIN else _blank(value) for name, value in payload.items()}


def blank_context(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload of a bundle without the words of the first who is in it: the others are still to be told of."""
    context = payload.get("context") or {}
    return {**payload, "context": {name: _blank(value) for name, value in context.items()}}


def _blank(value: Any) -> Any:
    return type(value)() if isinstance(value, str | dict | list) else value


#: What records say that is of a person, and what it becomes.
_PERSONAL: dict[type[Record], dict[str, Any]] = {
    OrderRecord: {"ship_to": None, "note": None, "tags": (), "extras": {}},
    ParcelRecord: {"tracking_number": None, "tracking_url": None, "extras": {}},
    PaymentRecord: {"extras": {}},
    RefundRecord: {"reason": None, "extras": {}},
    ReturnRecord: {"reason": None, "tracking_number": None, "extras": {}},
    ReviewRecord: {"title": None, "text": None, "extras": {}},
    AnswerRecord: {"answers": {}},
    InboundRecord: {"text": "", "extras": {}},
}


def without_person(record: Record) -> Record | None:
    """What is left of a record about somebody who was forgotten; None where it is about nobody else.

    It keeps the version of what it was: said again it is no news.
    """
    if isinstance(record, CustomerRecord | ConsentRecord | SuppressionRecord):
        return None
    said = record.model_fields_set
    values = {name: value for name, value in _PERSONAL.get(type(record), {}).items() if name in said}
    if isinstance(record, OrderRecord):
        values["lines"] = tuple(line.model_copy(update={"extras": {}}) for line in record.lines)
        values["parcels"] = ()  # they have become records of their own
    elif isinstance(record, InboundRecord):
        values["sender"] = record.sender.model_copy(update={"value": ""})
    left = record.model_copy(update={name: value for name, value in values.items() if name in said})
    return left.said_by_nobody(record.content_hash())
