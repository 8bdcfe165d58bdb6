"""What was said before: keys that are told, marketing that is planned."""

from collections.abc import Iterable
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
