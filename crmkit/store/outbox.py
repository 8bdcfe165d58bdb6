"""Messages on their way: due work, claims, the mark before the wire, attempts, receipts."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.log import MESSAGE_TRIED
from crmkit.core.message import KEPT, LEASED, OUTSIDE, WAITING, Reason, State
from crmkit.store import bulk, lines, pauses
from crmkit.store import tables as t
from crmkit.store.bulk import Row
from crmkit.store.engine import DELIVERED

_m = t.message.c
#: What a verdict moves.
_MOVED = ("state", "reason", "detail", "settled_at", "not_before", "gateway", "gateways", "look_ups", "doubted_at")
#: Not paused, as of the statement that asks.
_NOT_PAUSED = sa.not_(pauses.is_paused())
#: States in which it is still open what became of a try.
_UNDECIDED = frozenset({State.QUEUED, State.SENDING, State.IN_DOUBT})
#: Of a message that was sent again, when the vendor's late answer says that it has the first as well.
_TWICE = "an earlier try was accepted too, late: it may have gone out twice"


def keys_known(tx: Connection, keys: Iterable[str]) -> set[str]:
    """Those of these keys that a message has already."""
    return {row["key"] for row in bulk.select_in(tx, (_m.key,), _m.key, keys)}


def add(tx: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Add decided messages; they get their `id` here."""
    for number, row in zip(bulk.next_ids(tx, t.message, len(rows)), rows, strict=True):
        row["id"] = number
    bulk.insert(tx, t.message, rows)


def keep_templates(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep versions of templates; those that are kept already are left alone."""
    unique = {row["hash"]: row for row in rows}
    bulk.insert(tx, t.template, [unique[version] for version in sorted(unique)], skip_known=("hash",))


def templates_of(tx: Connection, hashes: Iterable[str]) -> list[Row]:
    """Kept versions of templates, by their hashes."""
    return bulk.select_in(tx, t.template, t.template.c.hash, hashes)


def order_ids(tx: Connection, orders: Iterable[int]) -> dict[int, str]:
    """Their vendors' ids of these orders."""
    columns = (t.orders.c.id, t.orders.c.external_id)
    return {row["id"]: row["external_id"] for row in bulk.select_in(tx, columns, t.orders.c.id, orders)}


def next_due(tx: Connection, gateways: Collection[str]) -> dict[str, datetime]:
    """When the next queued message of each of these gateways may leave; those without any are left out."""
    return _first(tx, gateways, sa.text(WAITING))


def next_doubt(tx: Connection, gateways: Collection[str], most: int) -> dict[str, datetime]:
    """When each of these gateways may next be asked about a message in doubt that was asked about less than `most`."""
    return _first(tx, gateways, sa.text("state = 'in-doubt'"), _m.look_ups < most)


def _first(tx: Connection, gateways: Collection[str], *where: sa.ColumnElement[bool] | sa.TextClause) -> dict[str, Any]:
    names = sorted(gateways)
    if not names:
        return {}
    first = [
        sa.select(sa.func.min(_m.not_before)).where(_m.gateway == name, *where).scalar_subquery().label(f"at{number}")
        for number, name in enumerate(names)
    ]
    found = tx.execute(sa.select(*first)).one()
    return {name: at for name, at in zip(names, found, strict=True) if at is not None}


def queued(tx: Connection) -> list[Row]:
    """Everything that waits to leave, soonest first."""
    return bulk.rows(tx, sa.select(t.message).where(_m.state == "queued").order_by(_m.not_before, _m.id))


def count_queued(tx: Connection, scope: str, name: str) -> int:
    """How many queued messages a pause is about: of `all`, or of a channel, template or gateway."""
    about = sa.true() if scope == "all" else _m[scope] == name
    count = sa.select(sa.func.count()).select_from(t.message)
    return sum(int(tx.execute(count.where(sa.text(part), about)).scalar_one()) for part in (WAITING, KEPT))


def free_of(tx: Connection, reason: Reason, shops: Collection[int], *, with_rest: bool) -> int:
    """Queued messages of these shops wait for this reason no more. Returns how many did.

    Args:
        with_rest: those of all other shops, and of none, too.
    """
    statement = sa.update(t.message).where(sa.text(KEPT), _m.reason == reason).values(reason=None, detail=None)
    if not with_rest:
        statement = statement.where(bulk.one_of(tx, _m.shop_id, sorted(shops)))
    return tx.execute(statement).rowcount


def count_kept(tx: Connection, reason: Reason) -> int:
    """How many queued messages wait for this reason, which a person lifts."""
    statement = sa.select(sa.func.count()).select_from(t.message).where(sa.text(KEPT), _m.reason == reason)
    return int(tx.execute(statement).scalar_one())


def unfence(tx: Connection, mark: str, unless: str | None, now: datetime) -> int:
    """Messages that staging kept may leave again, but for those with this detail. Returns how many did wait.

    Args:
        mark: what their detail begins with.
    """
    about = (sa.text(OUTSIDE), _m.detail.startswith(mark, autoescape=True))
    statement = sa.update(t.message).where(*about).values(reason=None, detail=None, not_before=now)
    if unless is not None:
        statement = statement.where(_m.detail != unless)
    return tx.execute(statement).rowcount


def retrying(tx: Connection) -> int:
    """How many messages wait for another try."""
    statement = sa.select(sa.func.count()).where(sa.text(WAITING), _m.reason == Reason.RETRY)
    count: int = tx.execute(statement).scalar_one()
    return count


def gateways_waiting(tx: Connection) -> set[str]:
    """Gateways with messages that wait to leave, now or later."""
    found = tx.execute(sa.select(_m.gateway).distinct().where(sa.text(WAITING)))
    return {name for name in found.scalars() if name is not None}


def among(tx: Connection, only: Collection[int] | None) -> sa.ColumnElement[bool]:
    """The condition that a message is one of these, where that is asked."""
    return sa.true() if only is None else bulk.one_of(tx, _m.id, only)


def gateways_due(tx: Connection, now: datetime, only: Collection[int] | None = None) -> list[str]:
    """Gateways with messages, of these, that may leave now."""
    statement = sa.select(_m.gateway).distinct().where(sa.text(WAITING), _m.not_before <= now, among(tx, only))
    return sorted(name for name in tx.execute(statement).scalars() if name is not None)


def gateways_doubted(tx: Connection, gateways: Collection[str], now: datetime, most: int) -> list[str]:
    """Those of these gateways that may be asked now about a message in doubt."""
    return sorted(name for name, at in next_doubt(tx, gateways, most).items() if at <= now)


def is_due(tx: Connection, gateway: str, now: datetime, only: Collection[int] | None = None) -> bool:
    """Whether any message of a gateway, of these, may leave now."""
    about = (sa.text(WAITING), _m.gateway == gateway, _m.not_before <= now, among(tx, only))
    statement = sa.select(sa.literal(1)).where(*about)
    return tx.execute(statement.select_from(t.message).limit(1)).first() is not None


def has_more_due(tx: Connection, gateway: str, now: datetime, count: int) -> bool:
    """Whether more than so many messages of a gateway may leave now."""
    statement = sa.select(sa.literal(1)).where(sa.text(WAITING), _m.gateway == gateway, _m.not_before <= now)
    return tx.execute(statement.select_from(t.message).offset(count).limit(1)).first() is not None


def due(
    tx: Connection,
    gateway: str,
    now: datetime,
    limit: int,
    *,
    is_probe: bool = False,
    only: Collection[int] | None = None,
) -> list[Row]:
    """Queued messages of a gateway that may leave now, oldest first, locked; what another worker holds is left out.

    Args:
        is_probe: those that were tried least come first: one message does not use up its tries for all.
        only: of these.
    """
    first = (_m.tries, _m.not_before, _m.id) if is_probe else (_m.not_before, _m.id)
    statement = (
        sa.select(t.message)
        .where(sa.text(WAITING), _m.gateway == gateway, _m.not_before <= now, among(tx, only))
        .order_by(*first)
        .limit(limit)
    )
    return bulk.rows(tx, _locked(tx, statement))


def claim(
    tx: Connection,
    ids: Sequence[int],
    claim_id: str,
    now: datetime,
    lease_until: datetime,
    reserved: Mapping[int, Decimal],
) -> None:
    """These messages are ours until the lease ends; `reserved` is set aside for what some of them will cost."""
    ours = {"state": State.SENDING, "claim_id": claim_id, "lease_until": lease_until, "claimed_at": now}
    kept = {number: str(cost) for number, cost in reserved.items()}
    bulk.update(
        tx,
        t.message,
        ("id",),
        ("state", "reason", "detail", "claim_id", "lease_until", "started_at", "claimed_at", "reserved"),
        [{**ours, "id": number, "reserved": kept.get(number)} for number in ids],
    )


def settle(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Suppress, hold or defer messages that were due: `state`, `reason`, `detail`, `not_before`, `settled_at`."""
    bulk.update(tx, t.message, ("id",), ("state", "reason", "detail", "not_before", "settled_at"), rows)


def mark(
    tx: Connection,
    ids: Sequence[int],
    claim_id: str,
    now: datetime,
    lease_until: datetime,
    holder: tuple[str, datetime] | None = None,
) -> set[int]:
    """Mark messages as started, and renew their lease.

    Only what is returned may be sent: whose lease has lapsed is somebody else's by now, what was paused since it was
    claimed stays, and of what was emptied nothing is left to send.

    Args:
        holder: who alone may use their gateway, where it is exclusive, by the wall clock; if that is not so any more,
            nothing is marked.
    """
    statement = (
        sa.update(t.message)
        .where(bulk.one_of(tx, _m.id, ids), _m.claim_id == claim_id, _m.state == "sending", _m.lease_until > now)
        .where(_m.started_at.is_(None), _m.address.is_not(None), _m.text.is_not(None), _NOT_PAUSED)
        .values(started_at=now, lease_until=lease_until)
        .returning(_m.id)
    )
    if holder is not None:
        q = t.quota.c
        holds = (q.name == _m.gateway, q.leased_by == holder[0], q.lease_until > holder[1])
        statement = statement.where(sa.exists(sa.select(sa.literal(1)).where(*holds).correlate(t.message)))
    return set(tx.execute(statement).scalars())


def release(tx: Connection, claim_id: str, unsent: Sequence[int]) -> list[Row]:
    """Give back what was claimed and not started, and what was marked and known not to have been sent.

    Returns:
        `claimed_at` and `reserved` of the messages that are due again.
    """
    untouched = sa.or_(_m.started_at.is_(None), bulk.one_of(tx, _m.id, unsent))
    statement = (
        sa.update(t.message)
        .where(_m.claim_id == claim_id, _m.state == "sending", untouched)
        .values(state=State.QUEUED, claim_id=None, lease_until=None, started_at=None)
        .returning(_m.claimed_at, _m.reserved)
    )
    return [dict(row) for row in tx.execute(statement).mappings()]


def lapsed(tx: Connection, now: datetime, latest: datetime) -> set[str]:
    """Gateways at which leases lapsed before anything was started."""
    found = tx.execute(sa.select(_m.gateway).distinct().where(*_lapsed(now, latest), _m.started_at.is_(None)))
    return {name for name in found.scalars() if name is not None}


def lapse(tx: Connection, now: datetime, latest: datetime) -> list[Row]:
    """Leases that lapsed before anything was started: due again.

    Args:
        latest: when the last lease that anybody can have taken by now ends: what ends later lapsed too.

    Returns:
        `gateway`, `claimed_at` and `reserved` of each.
    """
    statement = (
        sa.update(t.message)
        .where(*_lapsed(now, latest), _m.state == "sending", _m.started_at.is_(None))
        .values(state=State.QUEUED, claim_id=None, lease_until=None)
        .returning(_m.gateway, _m.claimed_at, _m.reserved)
    )
    return [dict(row) for row in tx.execute(statement).mappings()]


def lost(tx: Connection, now: datetime, latest: datetime) -> list[Row]:
    """Messages whose lease lapsed after they were started, locked; those a receipt has moved on meanwhile too."""
    statement = sa.select(t.message).where(*_lapsed(now, latest), _m.started_at.is_not(None))
    return bulk.rows(tx, _locked(tx, statement))


def _lapsed(now: datetime, latest: datetime) -> tuple[sa.TextClause, sa.ColumnElement[bool]]:
    return sa.text(LEASED), sa.or_(_m.lease_until <= now, _m.lease_until > latest)


def doubted(tx: Connection, gateway: str, now: datetime, most: int, limit: int) -> list[Row]:
    """Messages in doubt that a gateway may be asked about now, locked."""
    statement = (
        sa.select(t.message)
        .where(sa.text("state = 'in-doubt'"), _m.gateway == gateway, _m.not_before <= now, _m.look_ups < most)
        .order_by(_m.not_before, _m.id)
        .limit(limit)
    )
    return bulk.rows(tx, _locked(tx, statement))


def begin_look_ups(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """These (`id`) are being asked about under `claim_id`; nobody else asks before `not_before`. `look_ups` counts."""
    bulk.update(tx, t.message, ("id",), ("claim_id", "not_before", "look_ups"), rows)


def _locked(tx: Connection, statement: sa.Select[Any]) -> sa.Select[Any]:
    """Hold these rows to the end of the transaction, leaving out those somebody else holds; SQLite has one writer."""
    return statement if tx.dialect.name == "sqlite" else statement.with_for_update(skip_locked=True)


def record(tx: Connection, results: Sequence[Mapping[str, Any]]) -> set[int]:
    """Store what came of tries: an attempt each, the end of the lease, and the state where it is still this claim's.

    A message that a receipt has moved on in the meantime keeps its state. One that others took over since counts as
    accepted late, where nobody has sent it again; where somebody has, it may have gone out twice, and says so.

    Returns:
        The messages whose state is now the one given.
    """
    if not results:
        return set()
    known = held(tx, [result["id"] for result in results], ("id", "claim_id", "started_at", "tries", *_MOVED))
    results = [_late(result, known[result["id"]]) for result in results]
    claims = {result["id"]: result["claim_id"] for result in results}
    taken = {n for n, row in known.items() if row["claim_id"] == claims[n] and row["state"] in _UNDECIDED}
    twice = [result for result in results if result["detail"] == _TWICE]
    told = {result["id"] for result in twice}
    results = [
        result
        if result["id"] in taken
        else {
            **result,
            **{name: known[result["id"]][name] for name in _MOVED if name != "detail" or result["id"] not in told},
        }
        for result in results
    ]
    bulk.update(tx, t.message, ("id",), ("detail",), twice)
    results = [{**result, "lease_until": None} for result in results]
    columns = (*_MOVED, "tries", "vendor_id", "batch_id", "cost", "cost_currency", "sent_at", "lease_until")
    bulk.update(tx, t.message, ("id", "claim_id"), columns, results)
    attempts = [
        {
            "id": number,
            "message_id": result["id"],
            "number": result["number"],
            "gateway": result["tried_by"],
            "started_at": result["attempted_at"],
            "finished_at": result["finished_at"],
            "outcome": result["outcome"],
            "reason": result["reason"],
            "vendor_id": result["vendor_id"],
            "detail": result["detail"],
            "redirected_to": result.get("redirected_to"),
        }
        for number, result in zip(bulk.next_ids(tx, t.attempt, len(results)), results, strict=True)
    ]
    bulk.insert(tx, t.attempt, attempts)
    tx.info[DELIVERED] = attempts[-1]["id"]
    if MESSAGE_TRIED.is_wanted:
        for result in results:
            _say(tx, result)
    return taken


def _say(tx: Connection, result: Mapping[str, Any]) -> None:
    lines.later(
        tx,
        MESSAGE_TRIED,
        message=result["id"],
        gateway=result["tried_by"],
        number=result["number"],
        outcome=str(result["outcome"]),
        state=str(result["state"]),
        reason=str(result["reason"]) if result["reason"] is not None else None,
        error=result.get("error"),
        seconds=round((result["finished_at"] - result["attempted_at"]).total_seconds(), 3),
        correlation=result["correlation_id"],
    )


def _late(result: Mapping[str, Any], row: Row) -> Mapping[str, Any]:
    """A result as it counts for its message as that is now: an accept may come when others have taken it over."""
    if result["outcome"] != "accepted" or row["claim_id"] is None:
        return result
    if result["claim_id"] == row["claim_id"]:
        return {**result, "detail": _TWICE} if row["detail"] == _TWICE else result
    sent_again = row["started_at"] is not None and row["started_at"] > result["attempted_at"]
    if row["state"] in _UNDECIDED and not (sent_again and row["state"] == State.SENDING):
        return {**result, "claim_id": row["claim_id"], "tries": max(result["tries"], row["tries"])}
    return {**result, "detail": _TWICE} if sent_again else result


def redirected(tx: Connection, ids: Collection[int]) -> set[int]:
    """Those of these messages that went to another address than their own."""
    c = t.attempt.c
    rows = bulk.select_in(tx, (c.message_id,), c.message_id, ids, c.redirected_to.is_not(None))
    return {row["message_id"] for row in rows}


def last_to(tx: Connection, gateway: str, profiles: Collection[int]) -> list[Row]:
    """The last message of a gateway to each of these profiles: `profile_id` and `shop_id`, where it was of a shop."""
    if not profiles:
        return []
    newest = (
        sa.select(sa.func.max(_m.id))
        .where(bulk.one_of(tx, _m.profile_id, profiles), _m.gateway == gateway, _m.shop_id.is_not(None))
        .group_by(_m.profile_id)
    )
    return bulk.rows(tx, sa.select(_m.profile_id, _m.shop_id).where(_m.id.in_(newest)))


# --- receipts ---------------------------------------------------------------------------------------------------------


def held(tx: Connection, ids: Iterable[int], columns: Sequence[str] = ()) -> dict[int, Row]:
    """Messages by number, locked to the end of the transaction: who moves them next waits.

    Args:
        columns: those that are wanted; all by default.
    """
    chosen = [_m[name] for name in columns] if columns else list(_m)
    statement = sa.select(*chosen).where(bulk.one_of(tx, _m.id, sorted(set(ids)))).order_by(_m.id)
    if tx.dialect.name != "sqlite":
        statement = statement.with_for_update()
    return {row["id"]: row for row in bulk.rows(tx, statement)}


def messages_meant(
    tx: Connection, keys: Collection[str], vendor_ids: Collection[str], batch_ids: Collection[str] = ()
) -> list[Row]:
    """Messages with one of these keys, or one of these vendor's ids, or handed over in one of these calls."""
    found = {row["id"]: row for row in bulk.select_in(tx, t.message, _m.key, keys)}
    found.update({row["id"]: row for row in bulk.select_in(tx, t.message, _m.vendor_id, vendor_ids)})
    found.update({row["id"]: row for row in bulk.select_in(tx, t.message, _m.batch_id, batch_ids)})
    return list(found.values())


def add_receipts(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Keep receipts; those that were kept before (by account and the vendor's id) are left alone. Returns the new."""
    c = t.receipt.c
    known: set[tuple[str, str]] = set()
    for row in bulk.select_in(tx, (c.account, c.external_id), c.external_id, [row["external_id"] for row in rows]):
        known.add((row["account"], row["external_id"]))
    unique = {(row["account"], row["external_id"]): row for row in rows}
    fresh: list[Mapping[str, Any]] = [row for key, row in unique.items() if key not in known]
    ids = bulk.next_ids(tx, t.receipt, len(fresh))
    bulk.insert(tx, t.receipt, [{**row, "id": number} for number, row in zip(ids, fresh, strict=True)])
    return fresh


def waiting_receipts(
    tx: Connection, keys: Collection[str], vendor_ids: Collection[str], batch_ids: Collection[str] = ()
) -> list[Row]:
    """Receipts that came before their message was known under these keys, vendor's ids or calls."""
    c = t.receipt.c
    waits = (c.message_id.is_(None), c.given_up_at.is_(None))
    found: dict[int, Row] = {}
    for column, values in ((c.message_key, keys), (c.vendor_id, vendor_ids), (c.batch_id, batch_ids)):
        found.update({row["id"]: row for row in bulk.select_in(tx, t.receipt, column, values, *waits)})
    return list(found.values())


def orphans(tx: Connection, after: int, limit: int) -> list[Row]:
    """Receipts that wait for their message, from this number on."""
    c = t.receipt.c
    statement = sa.select(t.receipt).where(c.message_id.is_(None), c.given_up_at.is_(None), c.id > after)
    return bulk.rows(tx, statement.order_by(c.id).limit(limit))


def give_up_receipts(tx: Connection, came_before: datetime, now: datetime) -> int:
    """Receipts whose message did not turn up in time are kept, and wait no longer. Returns how many."""
    c = t.receipt.c
    waits = (c.message_id.is_(None), c.given_up_at.is_(None), c.received_at <= came_before)
    return tx.execute(sa.update(t.receipt).where(*waits).values(given_up_at=now)).rowcount


def given_up(tx: Connection) -> int:
    """How many receipts found no message in time."""
    statement = sa.select(sa.func.count()).select_from(t.receipt).where(t.receipt.c.given_up_at.is_not(None))
    return int(tx.execute(statement).scalar_one())


def match_receipts(tx: Connection, pairs: Sequence[Mapping[str, Any]]) -> None:
    """These receipts (`id`) are about these messages (`message_id`)."""
    bulk.update(tx, t.receipt, ("id",), ("message_id",), pairs)


def move(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Move messages to the state a receipt names: `state`, `reason`, `detail`, `sent_at`, `settled_at`."""
    bulk.update(tx, t.message, ("id",), ("state", "reason", "detail", "sent_at", "settled_at"), rows)
