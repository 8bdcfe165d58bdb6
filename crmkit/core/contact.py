"""Contact capture: an address a customer left on a page, until it is proven to be theirs. Only then is it linked."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from crmkit.core.columns import Json, UtcTime
from crmkit.core.records import Address

#: A code proves an address for so long, and is dead after so many wrong ones.
VALID, TRIES = timedelta(minutes=30), 5
#: Within so long, so many codes for one customer, and for one address.
LIMITS = ((timedelta(hours=1), 3), (timedelta(days=1), 10))
#: What was left is erased after so long; what was proven is the customer's by then.
KEPT = timedelta(days=1)
_DIGITS = 6


class ContactRow(SQLModel, table=True):
    """An address that was left. No code is kept: it is made of the row and a secret of the installation (`code_of`).

    `choices` is what its owner allowed: {purpose: what the page said}; `interaction_id` is what told of it; `tries`
    counts wrong codes. `value` is empty once it was erased; of somebody who was forgotten it never is the address.
    """

    __tablename__ = "contact"
    __table_args__ = (
        Index("contact_profile", "profile_id"),
        Index("contact_value", "value"),
        Index("contact_kept", "left_at", sqlite_where=text("value != ''"), postgresql_where=text("value != ''")),
    )

    id: int = Field(primary_key=True)
    profile_id: int
    order_id: int | None = None
    interaction_id: int | None = None
    kind: str
    value: str
    locale: str
    choices: dict[str, Any] | None = Field(default=None, sa_type=Json)
    left_at: datetime = Field(sa_type=UtcTime)
    expires_at: datetime = Field(sa_type=UtcTime)
    tries: int = 0
    proven_at: datetime | None = Field(default=None, sa_type=UtcTime)


@dataclass(frozen=True, slots=True)
class Contact:
    """An address that was left, as handlers see it: it may be told its code, and nothing else.

    Attributes:
        kind: `email` or `phone`.
        locale: the language of the page it was left on.
        code: what proves it.
    """

    id: int
    kind: str
    value: str
    locale: str
    left_at: datetime
    code: str

    @property
    def address(self) -> Address:
        """Where its code goes."""
        return Address(kind=self.kind, value=self.value)


def code_of(row: Mapping[str, Any], key: bytes) -> str:
    """The code that proves an address that was left: six digits, which nobody finds who has not the key."""
    told = "\x1f".join(("contact code", str(row["id"]), row["kind"], row["value"], row["left_at"].isoformat()))
    digest = hmac.new(key, told.encode(), hashlib.sha256).digest()
    return f"{int.from_bytes(digest) % 10**_DIGITS:0{_DIGITS}}"
