"""Tokens, found by their hash: made, looked up, revoked."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.token import state_of
from crmkit.store import bulk
from crmkit.store import tables as t
from crmkit.store.bulk import Row

#: When a token was last used is kept no more exactly than this.
USED_EVERY = timedelta(minutes=1)
_c = t.token.c


def every(tx: Connection) -> list[Row]:
    """Every token there was, oldest first; without what it is found by."""
    columns = [column for column in t.token.c if column.name != "hash"]
    return bulk.rows(tx, sa.select(*columns).order_by(_c.created_at, _c.id))


def find(tx: Connection, hashed: str) -> Row | None:
    """The token of this hash, whatever has become of it."""
    found = bulk.rows(tx, sa.select(t.token).where(_c.hash == hashed))
    return found[0] if found else None


def make(tx: Connection, name: str, hashed: str, scopes: Sequence[str], *, expires_at: datetime, now: datetime) -> bool:
    """Keep a token. False: there is a live one of that name; one that expired or was revoked gives way."""
    known = bulk.rows(tx, sa.select(t.token).where(_c.name == name))
    if any(state_of(row["revoked_at"], row["expires_at"], now) == "live" for row in known):
        return False
    tx.execute(sa.delete(t.token).where(_c.name == name))
    (number,) = bulk.next_ids(tx, t.token, 1)
    row = {"id": number, "name": name, "hash": hashed, "scopes": list(scopes)}
    bulk.insert(tx, t.token, [{**row, "created_at": now, "expires_at": expires_at}])
    return True


def revoke(tx: Connection, name: str, now: datetime) -> bool | None:
    """Let a token be worth nothing from now on. False: it was so already; None: there is none of that name."""
    if tx.execute(sa.select(_c.id).where(_c.name == name)).first() is None:
        return None
    live = sa.update(t.token).where(_c.name == name, _c.revoked_at.is_(None))
    return tx.execute(live.values(revoked_at=now)).rowcount > 0


def used(tx: Connection, number: int, now: datetime) -> None:
    """A token was used; kept where that is news."""
    stale = sa.or_(_c.used_at.is_(None), _c.used_at <= now - USED_EVERY)
    tx.execute(sa.update(t.token).where(_c.id == number, stale).values(used_at=now))
