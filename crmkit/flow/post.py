"""Messages go into the outbox: each under a key of its own, and nobody is told one thing twice."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.message import Reason, State
from crmkit.flow import callback, key
from crmkit.flow.opt_outs import OptOuts
from crmkit.flow.pause import Pauses
from crmkit.store import broadcasts, outbox, told
from crmkit.store.told import Kin

_SETTLED = frozenset({State.SUPPRESSED, State.HELD})


def post(
    tx: Connection,
    rows: Sequence[dict[str, Any]],
    listened: Collection[str],
    now: datetime,
) -> None:
    """Add decided messages, and tell of those that will not leave.

    Args:
        rows: messages as composed; they get their numbers here. What is a repeat becomes suppressed.
    """
    if not rows:
        return
    members = [row for row in rows if row["broadcast_id"] is not None]
    kin = _kin(tx, rows)
    _drop_told(tx, rows, kin, now)
    _drop_shared(tx, members, kin, now)
    _tell_apart(tx, rows)
    if any(row["purpose"] == "marketing" for row in rows):
        OptOuts.standing(tx).apply(rows)
    Pauses.standing(tx).apply(rows)
    outbox.add(tx, rows)
    if members:
        broadcasts.decided(
            tx,
            [
                {**row, "message_id": row["id"], "address": row["address"] if _takes_place(row) else None}
                for row in members
            ],
        )
    callback.tell(tx, [row for row in rows if row["state"] in _SETTLED], listened, now)


def _suppress(row: dict[str, Any], detail: str, now: datetime) -> None:
    row.update(state=State.SUPPRESSED, reason=Reason.DUPLICATE, detail=detail, settled_at=now)


def _kin(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> dict[int, Kin]:
    """The customers of messages that a customer gets once, by whichever profile."""
    profiles = {row["profile_id"] for row in rows if row["once"] is not None and row["profile_id"] is not None}
    return told.kin_of(tx, profiles) if profiles else {}


def _onces(row: Mapping[str, Any], kin: Mapping[int, Kin]) -> set[str]:
    """The author's own key of a message, for each profile of its customer."""
    found = {row["once"]}
    if row["profile_id"] in kin:
        found.update(f"{row['once_of']}:{key.of_profile(natural)}" for natural in kin[row["profile_id"]].keys)
    return found


def _drop_told(tx: Connection, rows: Sequence[dict[str, Any]], kin: Mapping[int, Kin], now: datetime) -> None:
    """One interaction tells one thing to one recipient once; of a key of the author's own, one message is told at all.

    What did not leave and never will does not count.
    """
    said: set[tuple[Any, str]] = set()
    live = [row for row in rows if row["state"] != State.SUPPRESSED]
    own = {id(row): _onces(row, kin) for row in live if row["once"] is not None}
    known = told.once(tx, set().union(*own.values())) if own else set()
    for row in live:
        if not known.isdisjoint(own.get(id(row), ())) or (row["interaction_id"], row["key"]) in said:
            _suppress(row, "told before", now)
        elif row["once"] is not None:
            known.add(row["once"])
        said.add((row["interaction_id"], row["key"]))


def _takes_place(row: Mapping[str, Any]) -> bool:
    """Whether a member of a broadcast stands for its address: it is told, or would be if it were not held out."""
    return bool(row["state"] != State.SUPPRESSED or row["reason"] == Reason.HOLD_OUT)


def _drop_shared(tx: Connection, members: Sequence[dict[str, Any]], kin: Mapping[int, Kin], now: datetime) -> None:
    """A broadcast reaches each address once, whoever shares it, and each customer, of however many members by now."""
    mine = [row for row in members if row["address"] is not None and _takes_place(row)]
    if not mine:
        return
    numbers = {row["broadcast_id"] for row in mine}
    taken = broadcasts.taken(tx, {row["address"] for row in mine}, numbers)
    placed = broadcasts.placed(tx, {kin[row["profile_id"]].family for row in mine}, numbers)
    for row in mine:
        place, person = (row["broadcast_id"], row["address"]), (row["broadcast_id"], kin[row["profile_id"]].family)
        if place in taken:
            _suppress(row, "another customer of the same address is told", now)
        elif person in placed:
            _suppress(row, "this customer has a place already, as another member", now)
        else:
            taken.add(place)
            placed.add(person)


def _tell_apart(tx: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Give each message a key that none has: what comes to a known key is numbered, the same way each time."""
    used: set[str] = set()
    wanted = {id(row): row["key"] for row in rows}
    unclear, round_ = list(rows), 1
    while unclear:
        known = outbox.keys_known(tx, [row["key"] for row in unclear])
        again = []
        for row in unclear:
            if row["key"] in known or row["key"] in used:
                again.append(row)
            else:
                used.add(row["key"])
        round_ += 1
        for row in again:
            first = wanted[id(row)] if row["once"] is None else f"{wanted[id(row)]}#{row['cause']}"
            row["key"] = first if first != row["key"] and round_ == 2 else f"{first}#{round_}"
        unclear = again
