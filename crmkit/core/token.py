"""Tokens: what a program shows that it may use pages of plugins, and the metrics. Only a hash of each is kept."""

import hashlib
import re
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Literal

from sqlmodel import Field, SQLModel

from crmkit.core.columns import Json, UtcTime

#: What every token begins with, so that one that was left lying about is known for what it is.
PREFIX = "crmkit_"
#: How long a token lasts where nobody says, and how long at most.
DEFAULT_LIFE, LONGEST_LIFE = timedelta(days=90), timedelta(days=730)
#: The one scope that is no plugin's.
METRICS = "metrics"
_SCOPE = re.compile(r"[a-z][a-z0-9_-]+:(\*|[a-z][a-z0-9_-]*)")
_NAME = re.compile(r"[\w.@-]{1,60}")

State = Literal["live", "expired", "revoked"]


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


def is_scope(written: str) -> bool:
    """Whether it is written as a scope: `PLUGIN:ACTION`, `PLUGIN:*` or `metrics`."""
    return written == METRICS or _SCOPE.fullmatch(written) is not None


def is_name(written: str) -> bool:
    """Whether a token may be called so."""
    return _NAME.fullmatch(written) is not None


def allows(scopes: Collection[str], wanted: str) -> bool:
    """Whether a token of these scopes may do what is wanted; `a:*` is all of plugin a, and nothing of another's."""
    plugin, colon, _ = wanted.partition(":")
    return wanted in scopes or (bool(colon) and f"{plugin}:*" in scopes)


def state_of(revoked_at: datetime | None, expires_at: datetime, now: datetime) -> State:
    """What has become of a token."""
    if revoked_at is not None:
        return "revoked"
    return "expired" if now >= expires_at else "live"
