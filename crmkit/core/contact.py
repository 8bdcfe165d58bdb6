"""Contact capture: an address a customer left on a page, until it is proven to be theirs. Only then is it linked."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from crmkit.core.columns import Json, UtcTime


class ContactRow(SQLModel, table=True):
    """An address that was left, and the hash of the code that was sent there.

    `choices` is what its owner allowed: {purpose: whether}; `tries` counts wrong codes.
    """

    __tablename__ = "contact"
    __table_args__ = (Index("contact_profile", "profile_id"), Index("contact_value", "value"))

    id: int = Field(primary_key=True)
    profile_id: int
    order_id: int | None = None
    kind: str
    value: str
    code_hash: str
    choices: dict[str, Any] | None = Field(default=None, sa_type=Json)
    wording: str | None = None
    left_at: datetime = Field(sa_type=UtcTime)
    expires_at: datetime = Field(sa_type=UtcTime)
    tries: int = 0
    proven_at: datetime | None = Field(default=None, sa_type=UtcTime)
