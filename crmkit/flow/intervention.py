"""What a person does to messages: try again, release what is held, settle a doubt, cancel.

Each takes a batch of messages that nobody has in hand, so a run may go on beside it; what cannot be done to one is
counted with its reason, and the message stays as it is. Who did it is kept for each message.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.actions import Send, staff
from crmkit.core.columns import storable
from crmkit.core.message import Reason, State
from crmkit.flow import callback
from crmkit.flow.context import OWN
from crmkit.flow.decide import composed_anew
from crmkit.flow.opt_outs import OptOuts
from crmkit.flow.pause import Pauses
from crmkit.flow.setup import Setup
from crmkit.store import customers, log, told
from crmkit.store import interventions as stored
from crmkit.store.interventions import Meant

#: Messages in one transaction.
BATCH = 1_000
#: {what is done: to messages in which states}.
STATES: Mapping[str, tuple[State, ...]] = {
    "retry": (State.FAILED, State.BOUNCED, State.IN_DOUBT),
    "release": (State.HELD,),
    "settle": (State.IN_DOUBT,),
    "cancel": (State.QUEUED, State.HELD),
}


@dataclass(frozen=True, slots=True)
class By:
    """Who does it, when, and what they say of it."""

    actor: str
    now: datetime
    reason: str | None = None

    @property
    def words(self) -> str:
        """Who, in a message's detail."""
        return f"by {self.actor}" + (f": {storable(self.reason)}" if self.reason else "")


@dataclass(slots=True)
class Done:
    """What was done to a batch.

    Attributes:
        states: messages by the state they are in now.
        left: messages that stay as they are, by why.
        last: the number of the last that was looked at; None: there are no more.
    """

    states: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    last: int | None = None

    def add(self, other: "Done") -> None:
        """Take another batch's numbers on board."""
        self.states.update(other.states)
        self.left.update(other.left)
        self.last = other.last


def retry(
    tx: Connection, setup: Setup, meant: Meant, by: By, after: int = 0, *, may_repeat: bool = False, limit: int = BATCH
) -> Done:
    """Queue failed messages again, and those in doubt whose gateway tells repeats.

    What they say stays as it was frozen; the last look still decides whether they leave.

    Args:
        may_repeat: also those in doubt whose gateway does not: they may arrive twice.
    """
    rows = stored.take(tx, meant, after, limit)
    said = told.once(tx, {row["once"] for row in rows if row["once"] is not None and row["state"] != State.IN_DOUBT})
    suppressed = _suppressed(tx, rows)
    done, moved = _begun(rows, limit), list[dict[str, Any]]()
    for row in rows:
        chain = _chain(setup, row)
        why = _unfit(row, by.now)
        if why is None and row["state"] == State.IN_DOUBT:
            is_told_apart = row["gateway"] in setup.deduplicating
            why = None if may_repeat or is_told_apart else "may-repeat"
        elif why is None and row["id"] in suppressed:
            why = "address-suppressed"
        elif why is None and row["once"] in said:
            why = "told-since"
        if why is None and not chain:
            why = "no-gateway"
        if why is not None:
            done.left[why] += 1
            continue
        queued = {"state": State.QUEUED, "reason": None, "detail": f"tried again {by.words}", "settled_at": None}
        turn = {"gateways": chain, "gateway": chain[0], "not_before": by.now, "tries": 0, "look_ups": 0}
        moved.append({**row, **queued, **turn})
    _write(tx, setup, "retry", moved, rows, by, done)
    return done


def _suppressed(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> set[int]:
    """Messages whose address is not written to any more."""
    known = customers.suppressed(tx, {row["address"] for row in rows if row["address"] is not None})
    return {
        row["id"]
        for row in rows
        if any(one["channel"] in {row["channel"], "*"} for one in known.get(row["address"], ()))
    }


def _begun(rows: Sequence[Mapping[str, Any]], limit: int) -> Done:
    return Done(last=rows[-1]["id"] if len(rows) == limit else None)


def _unfit(row: Mapping[str, Any], now: datetime) -> str | None:
    """Why a message can leave no more."""
    if row["address"] is None:
        return "forgotten"
    if row["text"] is None:
        return "pruned"
    return "stale" if row["expires_at"] is not None and row["expires_at"] <= now else None


def _chain(setup: Setup, row: Mapping[str, Any]) -> list[str]:
    """The gateways a message may go by when it is tried again: those left of its chain, else all that reach it.

    After doubt that is the one alone that may have it.
    """
    if row["state"] == State.IN_DOUBT:
        return [row["gateway"]] if setup.entry(row["gateway"] or "") is not None else []
    chain = [name for name in row["gateways"] if setup.entry(name) is not None]
    shop = setup.shops.get(row["shop_id"])
    fit = (
        entry.name
        for entry in setup.channels.get(row["channel"], ())
        if entry.serves(shop.name if shop is not None else None) and row["address_kind"] in entry.adapter.reaches
    )
    return chain or list(fit)


def release(tx: Connection, setup: Setup, meant: Meant, by: By, after: int = 0, *, limit: int = BATCH) -> Done:
    """Compose held messages anew, by the templates and facts of now, and queue them. No handler is called again.

    What was held when it was decided was never frozen: what kept it was missing. What still keeps it holds it again,
    but for the doubt whether it left already, which the person has settled. What had been frozen, and was put aside
    when a database was adopted, leaves as it was frozen.
    """
    rows = stored.take(tx, meant, after, limit)
    done = _begun(rows, limit)
    moved = _unfrozen(tx, setup, [row for row in rows if not _is_put_aside(row)], by, done)
    moved += _put_back(tx, setup, [row for row in rows if _is_put_aside(row)], by, done)
    OptOuts.standing(tx).apply(moved)
    Pauses.standing(tx).apply(moved)
    done.left.update(f"still {row['reason']}" for row in moved if row["state"] == State.HELD)
    _write(tx, setup, "release", moved, rows, by, done, composed=True)
    return done


def _is_put_aside(row: Mapping[str, Any]) -> bool:
    """Whether it was queued, and held when its database was adopted: what is held when decided keeps what was asked."""
    return row["reason"] == Reason.MAY_HAVE_LEFT and row["asked"] is None


def _put_back(
    tx: Connection, setup: Setup, rows: Sequence[Mapping[str, Any]], by: By, done: Done
) -> list[dict[str, Any]]:
    """These leave as they were frozen, not before they were to."""
    suppressed = _suppressed(tx, rows) if rows else set[int]()
    moved = []
    for row in rows:
        chain = _chain(setup, row)
        why = _unfit(row, by.now)
        why = why or ("address-suppressed" if row["id"] in suppressed else None if chain else "no-gateway")
        if why is not None:
            done.left[why] += 1
            continue
        queued = {"state": State.QUEUED, "reason": None, "detail": f"released {by.words}", "settled_at": None}
        turn = {"gateways": chain, "gateway": chain[0], "not_before": max(by.now, row["not_before"]), "tries": 0}
        moved.append({**row, **queued, **turn})
    return moved


def _unfrozen(
    tx: Connection, setup: Setup, rows: Sequence[Mapping[str, Any]], by: By, done: Done
) -> list[dict[str, Any]]:
    """These as they are composed now."""
    causes = log.numbered(tx, {row["interaction_id"] for row in rows if row["interaction_id"] is not None})
    fit = [row for row in rows if row["interaction_id"] in causes and not _is_nobodys(row)]
    if len(fit) < len(rows):
        done.left["nothing-to-compose-from"] += len(rows) - len(fit)
    asked = [(causes[row["interaction_id"]], row["plugin"], _send(row)) for row in fit]
    setup = replace(setup, doubtful_until=None)  # a person has looked at it: the doubt is settled
    moved = []
    for row, new in zip(fit, composed_anew(tx, setup, by.now, asked) if asked else [], strict=True):
        if isinstance(new, str):
            done.left[new] += 1
            continue
        composed = {name: new.get(name) for name in (*stored.COMPOSED, "state", "reason", "settled_at", "expires_at")}
        detail = new["detail"] or f"released {by.words}"
        where = {name: new[name] for name in ("gateway", "gateways", "not_before")}
        moved.append({**row, **composed, **where, "detail": detail, "tries": 0})
    return moved


def _is_nobodys(row: Mapping[str, Any]) -> bool:
    """Whether it goes to an address that was left on a page: a code that is asked for anew does, too."""
    return row["profile_id"] is None and row["staff"] is None


def _send(row: Mapping[str, Any]) -> Send:
    """What a plugin asked for when a message was held."""
    asked = row["asked"] or {}
    context = asked.get("context", {name: value for name, value in (row["params"] or {}).items() if name not in OWN})
    to = None if row["staff"] is None else staff(row["staff"])
    return Send(row["template"], via=tuple(asked.get("via", (row["channel"],))), to=to, context=context)


def settle(
    tx: Connection, setup: Setup, meant: Meant, by: By, after: int = 0, *, arrived: bool, limit: int = BATCH
) -> Done:
    """A person says what became of messages in doubt: they arrived, or they did not, and may then be tried again."""
    rows = stored.take(tx, meant, after, limit)
    done = _begun(rows, limit)
    state = State.DELIVERED if arrived else State.FAILED
    what = {
        "state": state,
        "reason": None if arrived else Reason.NO_VERDICT,
        "detail": f"{'arrived' if arrived else 'did not arrive'}, said {by.words}",
        "settled_at": by.now,
        "doubted_at": None,
    }
    moved = [{**row, **what, "sent_at": row["sent_at"] or (row["doubted_at"] if arrived else None)} for row in rows]
    _write(tx, setup, "settle", moved, rows, by, done)
    return done


def cancel(tx: Connection, setup: Setup, meant: Meant, by: By, after: int = 0, *, limit: int = BATCH) -> Done:
    """Messages that wait, or are held, never leave."""
    rows = stored.take(tx, meant, after, limit)
    done, moved = _begun(rows, limit), list[dict[str, Any]]()
    for row in rows:
        if row["doubted_at"] is not None:  # an earlier try may have been taken: that is not to be undone
            done.left["may-have-left"] += 1
            continue
        gone = {"state": State.CANCELLED, "reason": None, "detail": f"cancelled {by.words}", "settled_at": by.now}
        moved.append({**row, **gone})
    _write(tx, setup, "cancel", moved, rows, by, done)
    return done


def taken_back(tx: Connection, setup: Setup, numbers: Sequence[int], by: By) -> Done:
    """Messages that their vendors took back are cancelled; of which a receipt came meanwhile, that holds."""
    rows = stored.take(tx, Meant(ids=numbers, states=(State.SENT,)), 0, max(1, len(numbers)))
    done = Done()
    gone = {"state": State.CANCELLED, "reason": None, "detail": f"taken back from its vendor {by.words}"}
    moved = [{**row, **gone, "settled_at": by.now} for row in rows]
    _write(tx, setup, "cancel", moved, rows, by, done)
    return done


def _write(
    tx: Connection,
    setup: Setup,
    action: str,
    moved: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    by: By,
    done: Done,
    *,
    composed: bool = False,
) -> None:
    """Write what was done, count it, and tell what became of messages; what is held as before is no news."""
    was = {row["id"]: row["state"] for row in rows}
    reason = None if by.reason is None else storable(by.reason)
    stored.write(tx, moved, action=action, actor=by.actor, reason=reason, now=by.now, was=was, composed=composed)
    news = [row for row in moved if (row["state"], was[row["id"]]) != (State.HELD, State.HELD)]
    done.states.update(str(row["state"]) for row in news)
    callback.tell(tx, [row for row in news if row["state"] != State.QUEUED], setup.listened, by.now)
