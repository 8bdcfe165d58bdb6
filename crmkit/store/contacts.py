"""Addresses that were left on a page, and are not proven yet."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.contact import KEPT, Contact, code_of
from crmkit.store import bulk, forgotten
from crmkit.store import tables as t
from crmkit.store.bulk import Row

_c = t.contact.c


def add(tx: Connection, row: Mapping[str, Any]) -> int:
    """Keep an address that was left. Returns its number."""
    [number] = bulk.next_ids(tx, t.contact, 1)
    bulk.insert(tx, t.contact, [{**row, "id": number}])
    return number


def told(tx: Connection, number: int, interaction: int) -> None:
    """By which interaction somebody is told of it."""
    tx.execute(sa.update(t.contact).where(_c.id == number).values(interaction_id=interaction))


def left_since(tx: Connection, profiles: Collection[int], value: str, since: datetime) -> tuple[list[Row], list[Row]]:
    """What these profiles left since then, and how often this address was left by anybody."""
    recent = _c.left_at > since
    mine = bulk.select_in(tx, (_c.id, _c.left_at), _c.profile_id, profiles, recent)
    return mine, bulk.select_in(tx, (_c.id, _c.left_at), _c.value, [value], recent)


def latest(tx: Connection, profiles: Collection[int]) -> Row | None:
    """What these profiles left last."""
    newest = (
        sa.select(t.contact).where(bulk.one_of(tx, _c.profile_id, profiles)).order_by(_c.left_at.desc(), _c.id.desc())
    )
    return next(iter(bulk.rows(tx, newest.limit(1))), None)


def is_proven(tx: Connection, profiles: Collection[int], order: int | None) -> bool:
    """Whether one of these profiles has proven an address about an order."""
    of_order = _c.order_id.is_(None) if order is None else _c.order_id == order
    return bool(bulk.select_in(tx, (_c.id,), _c.profile_id, profiles, of_order, _c.proven_at.is_not(None)))


def tried(tx: Connection, number: int) -> None:
    """A wrong code was entered."""
    tx.execute(sa.update(t.contact).where(_c.id == number).values(tries=_c.tries + 1))


def proven(tx: Connection, number: int, now: datetime) -> None:
    """It is its owner's."""
    tx.execute(sa.update(t.contact).where(_c.id == number).values(proven_at=now))


def waiting(tx: Connection, ids: Iterable[int], now: datetime, key: bytes | None) -> dict[int, Contact]:
    """Addresses that wait for their code, by number, with it; none without the key it is made with."""
    if key is None:
        return {}
    open_ = (_c.proven_at.is_(None), _c.left_at <= now, _c.expires_at > now, _c.value != "")
    return {
        row["id"]: Contact(
            id=row["id"],
            kind=row["kind"],
            value=row["value"],
            locale=row["locale"],
            left_at=row["left_at"],
            code=code_of(row, key),
        )
        for row in bulk.select_in(tx, t.contact, _c.id, ids, *open_)
    }


def erase_old(tx: Connection, now: datetime) -> int:
    """Erase what was left a day ago and more, and the messages it led to. Returns how many."""
    old = sa.select(_c.id).where(_c.left_at <= now - KEPT, sa.text("value != ''"))  # as the index says it
    numbers = list(tx.execute(old).scalars())
    if numbers:
        forgotten.leave_no_trace(tx)
        forgotten.erase_contacts(tx, [bulk.one_of(tx, _c.id, numbers)], now)
    return len(numbers)
