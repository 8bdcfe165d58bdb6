"""What came of what a gateway sent, counted from rows that are only ever appended, by indexes made for it.

What went wrong is counted first: it is little where all is well, and of what was accepted no more is counted than would
make it little.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.customer import COMPLAINED
from crmkit.core.message import ACCEPTED, CAME_BACK, REFUSED, Reason
from crmkit.core.reputation import OF_RECIPIENT, Tried
from crmkit.store import tables as t

_a, _r, _c, _m = t.attempt.c, t.receipt.c, t.consent.c, t.message.c
#: What is the vendor's or the network's trouble, which the circuit deals with; not what was sent.
_PASSES = (Reason.RETRY, Reason.TRIES_USED_UP)


def troubles(tx: Connection, gateway: str, since: datetime) -> Tried:
    """What went wrong since then; what came back, and complaints, of messages that were sent before are among it."""
    is_recipients = sa.and_(_a.outcome == "rejected", _a.reason.in_(sorted(OF_RECIPIENT)))
    is_error = sa.or_(_a.outcome == "rejected", _a.reason.not_in(_PASSES))
    refused = (
        sa.select(
            sa.func.count().filter(is_error, sa.not_(is_recipients)).label("errors"),
            sa.func.count().filter(is_recipients).label("turned_away"),
        )
        .select_from(t.attempt)
        .where(sa.text(REFUSED), _a.gateway == gateway, _a.finished_at > since)
        .subquery()
    )
    came_back = sa.select(sa.func.count()).select_from(t.receipt)
    came_back = came_back.where(sa.text(CAME_BACK), _r.account == gateway, _r.received_at > since)
    complained = sa.select(sa.func.count(_c.address.distinct())).where(*_complaints(gateway, since))
    found = sa.select(
        refused.c.errors, refused.c.turned_away, came_back.scalar_subquery(), complained.scalar_subquery()
    )
    errors, turned_away, returned, complaints = tx.execute(found).one()
    return Tried(errors=errors, turned_away=turned_away, came_back=returned, complaints=complaints)


def accepted(tx: Connection, gateway: str, since: datetime, most: int) -> int:
    """How many messages a gateway's vendor took since then; no more than `most` are counted."""
    some = (
        sa.select(sa.literal(1).label("one"))
        .select_from(t.attempt)
        .where(sa.text(ACCEPTED), _a.gateway == gateway, _a.finished_at > since)
        .limit(most)
        .subquery()
    )
    return int(tx.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())


def of_late(tx: Connection, gateway: str, since: datetime) -> tuple[int, int]:
    """How many of the messages that were sent since then came back, and how many customers complained of some."""
    messages = (
        sa.select(_r.message_id.label("id"))
        .distinct()
        .where(sa.text(CAME_BACK), _r.account == gateway, _r.received_at > since)
    )
    back = messages.subquery()
    returned = sa.select(sa.func.count()).select_from(back.join(t.message, _m.id == back.c.id))
    told = sa.exists().where(_m.profile_id == _c.profile_id, _m.gateway == gateway, _m.sent_at > since)
    complained = sa.select(sa.func.count(_c.profile_id.distinct())).where(*_complaints(gateway, since), told)
    row = tx.execute(
        sa.select(returned.where(_m.sent_at > since).scalar_subquery(), complained.scalar_subquery())
    ).one()
    return row[0], row[1]


def _complaints(gateway: str, since: datetime) -> tuple[sa.ColumnElement[bool] | sa.TextClause, ...]:
    return sa.text(COMPLAINED), _c.source == f"gateway:{gateway}", _c.recorded_at > since
