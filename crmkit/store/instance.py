"""Which database this is: its name and place, how far it has come, and what adopting it would take on."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from crmkit.core.instance import Instance, Place
from crmkit.core.message import Reason, State
from crmkit.store import bulk
from crmkit.store import tables as t
from crmkit.store.engine import is_out_of_order

_i, _m = t.instance.c, t.message.c
#: The one row there is.
_ROW = 1
#: PostgreSQL's state where a user may not ask.
_MAY_NOT = "42501"
#: What may have left already, in the words a message shows.
DETAIL = "the database that was lost, or is elsewhere, may have sent it; nobody can tell from here"
#: Waits that something else ends before their time: a gateway that is back (`chain.turn_back`), staging that is off
#: (`outbox.unfence`).
_SHORTENED = (Reason.RETRY, Reason.FENCED)


def place(tx: Connection) -> Place:
    """Where this database is."""
    if tx.dialect.name == "sqlite":
        name = tx.engine.url.database
        file = Path(name or "").resolve()
        try:
            found = file.stat()
        except OSError:  # a database in memory is nowhere else
            return Place(str(file))
        return Place(str(file), f"{found.st_dev}:{found.st_ino}")
    number = tx.exec_driver_sql("SELECT oid FROM pg_database WHERE datname = current_database()").scalar()
    return Place(f"postgresql:{_server(tx)}/{number}")


def _server(tx: Connection) -> str:
    """The number a PostgreSQL cluster was given when it was made; empty where this user may not ask."""
    try:
        with tx.begin_nested():
            return str(tx.exec_driver_sql("SELECT system_identifier FROM pg_control_system()").scalar())
    except DBAPIError as error:
        if is_out_of_order(error) and getattr(error.orig, "sqlstate", None) != _MAY_NOT:
            raise  # it answers no more, and has not moved
        return ""


def name(tx: Connection) -> str | None:
    """What this database is called; None before anything was to leave."""
    found: str | None = tx.execute(sa.select(_i.name).where(_i.id == _ROW)).scalar()
    return found


def read(tx: Connection) -> Instance | None:
    """This database as it says itself; None before anything was to leave."""
    rows = bulk.rows(tx, sa.select(t.instance).where(_i.id == _ROW))
    if not rows:
        return None
    [row] = rows
    return Instance(
        name=row["name"],
        place=Place(row["place"], row["inode"]),
        here=place(tx),
        epoch=row["epoch"],
        sequence=sequence(tx),
        doubtful_until=row["doubtful_until"],
        behind=row["behind"],
    )


def sequence(tx: Connection) -> int:
    """The number of the last try at delivering there is; 0 where there is none."""
    return int(tx.execute(sa.select(sa.func.max(t.attempt.c.id))).scalar() or 0)


def doubtful_until(tx: Connection) -> datetime | None:
    """What happened before this may have been told by a database that was lost."""
    until: datetime | None = tx.execute(sa.select(_i.doubtful_until).where(_i.id == _ROW)).scalar()
    return until


def draw(tx: Connection, name: str, now: datetime) -> Instance:
    """Name this database, unless another process does at this moment."""
    here = place(tx)
    row = {"id": _ROW, "name": name, "place": here.at, "inode": here.inode, "epoch": 0, "drawn_at": now}
    bulk.insert(tx, t.instance, [row], skip_known=("id",))
    found = read(tx)
    assert found is not None
    return found


def change(tx: Connection, **values: Any) -> None:
    """Set columns of the row."""
    tx.execute(sa.update(t.instance).where(_i.id == _ROW).values(**values))


def settle_here(tx: Connection, here: Place) -> None:
    """This is where it is from now on."""
    change(tx, place=here.at, inode=here.inode)


# --- adopting ---------------------------------------------------------------------------------------------------------


def _may_have_left(until: datetime, is_copy: bool) -> Mapping[str, sa.ColumnElement[bool]]:
    """Messages another database may have sent by then: those it may simply have sent, and those it may have resent.

    One that was copied from goes on sending: all that is queued leaves there, also what may leave later only.
    """
    may_be_due = sa.or_(_m.not_before < until, sa.and_(_m.decided_at < until, _m.reason.in_(_SHORTENED)))
    is_due = sa.and_(_m.state == State.QUEUED, sa.true() if is_copy else may_be_due)
    is_doubted = _m.doubted_at.is_not(None)
    was_begun = sa.and_(_m.state == State.SENDING, _m.started_at.is_not(None))
    was_claimed = sa.and_(_m.state == State.SENDING, _m.started_at.is_(None))
    return {
        State.HELD: sa.and_(sa.or_(is_due, was_claimed), sa.not_(is_doubted)),
        State.IN_DOUBT: sa.or_(was_begun, sa.and_(sa.or_(is_due, was_claimed), is_doubted)),
    }


def adoption(tx: Connection, until: datetime | None, now: datetime, *, is_copy: bool = False) -> dict[str, int]:
    """What is queued, due or later; what of it `put_aside` would take; and what is not decided yet."""

    def count(table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
        return int(tx.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar_one())

    p = t.pending.c
    found = {
        "queued": count(t.message, _m.state.in_((State.QUEUED, State.SENDING))),
        "due": count(t.message, _m.state.in_((State.QUEUED, State.SENDING)), _m.not_before <= now),
        "undecided": count(t.pending, p.parked_at.is_(None)),
    }
    for state, where in _may_have_left(until, is_copy).items() if until is not None else ():
        found[str(state)] = count(t.message, where)
    return found


def put_aside(tx: Connection, until: datetime, now: datetime, *, is_copy: bool = False) -> int:
    """Hold what may have left by then for a person; what was in doubt already stays so. Returns how many.

    Args:
        is_copy: another database goes on with all that is queued.
    """
    told = {"reason": Reason.MAY_HAVE_LEFT, "detail": DETAIL}
    free = {"claim_id": None, "lease_until": None}
    total = 0
    # once it is released, what it waited for is looked at again
    not_before = sa.case((_m.reason.in_(_SHORTENED), sa.literal(now, _m.not_before.type)), else_=_m.not_before)
    for state, where in _may_have_left(until, is_copy).items():
        values: dict[str, Any] = {**told, **free, "state": state, "settled_at": now, "not_before": not_before}
        if state == State.IN_DOUBT:
            values |= {"settled_at": None, "doubted_at": sa.func.coalesce(_m.doubted_at, _m.started_at)}
        total += tx.execute(sa.update(t.message).where(where).values(**values)).rowcount
    return total
