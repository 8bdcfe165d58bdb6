"""What was said before: keys that are told, marketing that is planned."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.message import State
from crmkit.store import bulk
from crmkit.store import tables as t
from crmkit.store.bulk import Row

_m = t.message.c
#: A message in one of these states has told nobody anything, and will not.
UNTOLD = (State.SUPPRESSED, State.CANCELLED, State.FAILED, State.BOUNCED)


def once(tx: Connection, keys: Iterable[str]) -> set[str]:
    """Those of these keys of authors' own of which a message left or may still leave."""
    return {row["once"] for row in bulk.select_in(tx, (_m.once,), _m.once, keys, _m.state.not_in(UNTOLD))}


@dataclass(slots=True)
class Kin:
    """The customer a profile is of: its number, and the natural keys of all its profiles."""

    family: int
    keys: list[str] = field(default_factory=list)


def kin_of(tx: Connection, profiles: Iterable[int]) -> dict[int, Kin]:
    """The customer of each of these profiles."""
    own, other = t.profile.alias("own"), t.profile.alias("other")
    statement = (
        sa.select(own.c.id, own.c.family_id, other.c.key)
        .join(other, other.c.family_id == own.c.family_id)
        .where(bulk.one_of(tx, own.c.id, set(profiles)))
        .order_by(other.c.id)
    )
    found: dict[int, Kin] = {}
    for number, family, natural_key in tx.execute(statement):
        found.setdefault(number, Kin(family)).keys.append(natural_key)
    return found


def marketing(tx: Connection, profiles: Iterable[int], addresses: Iterable[str], since: datetime) -> list[Row]:
    """Marketing that left after `since`, or is to leave, to these profiles or addresses: `at` is when."""
    at = sa.func.coalesce(_m.sent_at, _m.not_before, type_=_m.not_before.type)
    recent = sa.or_(at >= since, _m.state == State.QUEUED)
    columns = (_m.id, _m.profile_id, _m.address, _m.state, at.label("at"))
    # written out: what is a parameter does not find the index
    of_marketing: sa.ColumnElement[bool] = sa.literal_column("purpose = 'marketing'", sa.Boolean())
    wanted = (of_marketing, _m.staff.is_(None), _m.state.not_in(UNTOLD), recent)
    found = {row["id"]: row for row in bulk.select_in(tx, columns, _m.profile_id, profiles, *wanted)}
    found.update({row["id"]: row for row in bulk.select_in(tx, columns, _m.address, addresses, *wanted)})
    return list(found.values())
