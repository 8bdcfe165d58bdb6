"""Tokens: what a program shows that it may use pages of plugins, and the metrics. Only a hash of each is kept."""

import hashlib
import secrets
from datetime import datetime

from sqlmodel import Field, SQLModel

from crmkit.core.columns import Json, UtcTime

#: What every token begins with, so that one that was left lying about is known for what it is.
PREFIX = "crmkit_"


class TokenRow(SQLModel, table=True):
    """A token: `scopes` is what it may be used for, `PLUGIN:ACTION`, `PLUGIN:*` or `metrics`."""

    __tablename__ = "token"

    id: int = Field(primary_key=True)
    name: str = Field(unique=True)
    hash: str = Field(unique=True)
    scopes: list[str] = Field(sa_type=Json)
    created_at: datetime = Field(sa_type=UtcTime)
    expires_at: datetime = Field(sa_type=UtcTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcTime)
    used_at: datetime | None = Field(default=None, sa_type=UtcTime)


def new_token() -> str:
    """A token nobody can guess."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    """What is kept of a token; a fast hash does, since there is nothing to guess from."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
