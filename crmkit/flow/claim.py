"""A claim takes due messages for one process: after a last look, and no more than their gateway's account allows."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.columns import storable
from crmkit.core.errors import ConfigError
from crmkit.core.hooks import Verdict
from crmkit.core.log import MESSAGE_KEPT
from crmkit.core.message import Message, Reason, State
from crmkit.core.quota import CLAIM_MOST, SKEW, Limits, Quota, Share, money
from crmkit.core.staging import HEADER
from crmkit.flow import callback, chain, form, pause, staging
from crmkit.flow.last_look import last_look
from crmkit.flow.pause import Pauses
from crmkit.flow.setup import Entry, Setup
from crmkit.flow.verdict import TRIES, still_doubted
from crmkit.store import bulk, chains, forgotten, lines, outbox, pauses, quotas

#: A claim lapses after this long, counted again from the mark.
LEASE = CLAIM_MOST
#: Why messages over a limit wait.
_OVER = {
    "daily": (Reason.CAPPED, "its messages of today are used up"),
    "budget": (Reason.BUDGET, "its budget is spent"),
}


@dataclass(slots=True)
class Claimed:
    """What a claim came to.

    Attributes:
        rows: messages that are ours to send now.
        kept: messages the last look kept back, as they were settled.
        moved: how many others were put off, or sent on their way by another gateway.
        again_at: when there is more to claim, where something is due and may not leave at this moment.
        is_trial: whether what came of these has to be known before more is claimed.
        is_unwell: whether the gateway's last tries came to nothing.
        reserved: {message: what was set aside for its cost}.
    """

    rows: list[Mapping[str, Any]] = field(default_factory=list)
    kept: list[dict[str, Any]] = field(default_factory=list)
    moved: int = 0
    again_at: datetime | None = None
    is_trial: bool = False
    is_unwell: bool = False
    reserved: dict[int, Decimal] = field(default_factory=dict)


def claim(
    tx: Connection,
    setup: Setup,
    gateway: str,
    claim_id: str,
    now: datetime,
    limit: int,
    *,
    is_paced: bool = True,
    is_rehearsed: bool = False,
    only: Collection[int] | None = None,
) -> Claimed:
    """Claim due messages of a gateway.

    Args:
        only: of these; all others stay as they are.
        limit: so many at the most.
        is_paced: whether its rate is kept; a plan that does not step through time leaves it out.
        is_rehearsed: whether this is a plan, in which every try would come to something.
    """
    entry, limits = setup.entry(gateway), setup.limits(gateway)
    quota = quotas.lock(tx, gateway) if limits.any else quotas.read(tx, gateway)
    if quota.may_probe(now) and not limits.any:
        quota = quotas.lock(tx, gateway)
    paused = Pauses.standing(tx)
    if entry is None or gateway in paused.gateways or quota.shut_until(now) is not None:
        return Claimed(moved=chain.move_on(tx, setup, gateway, now, only=only))
    if not outbox.is_due(tx, gateway, now, only):
        return Claimed()
    if only is None and any(row["scope"] != "gateway" for row in paused.rows):
        bulk.lock(tx, chains.LOCK)
        moved = pauses.label(tx, paused.rows, gateway=gateway, most=chains.SLICE)
        if moved:
            return Claimed(moved=moved)
    waits = quota.waits_until(now)
    if waits is not None:
        return Claimed(again_at=waits)
    probes = quota.may_probe(now) and not is_rehearsed
    room, why = (1 if probes else limit), None
    batch = entry.adapter.batch
    if limits.any:
        quota.refill(limits, now, setup.zone, batch)
        limits = limits if is_paced else replace(limits, rate=None)
        room, why = quota.room(limits, room)
    found = Claimed(is_trial=probes or (limits.budget is not None and quota.unit(limits) is None))
    if limits.budget is not None:
        bulk.lock(tx, chains.LOCK)  # before messages: the budget may turn out to pay for none of them
    if room > 0:
        forgotten.sweep(tx, now)  # what was on the wire then, and came back to be tried again
        rows, unformed = form.ready(tx, entry, outbox.due(tx, gateway, now, room, is_probe=probes, only=only))
        found.kept = _keep_back(tx, setup, rows, paused, now, unformed)
        kept = {row["id"] for row in found.kept}
        wanted = [row for row in rows if row["id"] not in kept]
        found.rows, found.reserved = _within(wanted, quota, limits, now)
        if wanted and not found.rows:
            why, room = "budget", 0
        if not is_rehearsed:  # where every try comes to something at once
            outbox.claim(tx, [row["id"] for row in found.rows], claim_id, now, now + LEASE, found.reserved)
    if room == 0 and why == "rate":
        found.again_at = quota.again_at(limits, why, now, setup.zone, batch)
    elif room == 0 and why is not None:
        reason, detail = _OVER[why]
        until = quota.again_at(limits, why, now, setup.zone, batch)
        bulk.lock(tx, chains.LOCK)
        detail = f"gateway {gateway}: {detail}"
        found.moved = chains.defer(tx, gateway, now, until, reason, detail, most=chains.SLICE, only=only)
    if limits.any:
        quota.take(limits, len(found.rows), sum(found.reserved.values(), Decimal(0)))
    if probes and found.rows:
        quota.probe(claim_id, now + LEASE)
    if limits.any or (probes and found.rows):
        quotas.save(tx, quota)
    found.is_unwell = quota.failures_in_a_row > 0 or probes
    return found


def _within(
    rows: Sequence[Mapping[str, Any]], quota: Quota, limits: Limits, now: datetime
) -> tuple[list[Mapping[str, Any]], dict[int, Decimal]]:
    """As many of these as the budget pays for, and what each will cost."""
    rows = [{**row, "claimed_at": now} for row in rows]
    if limits.budget is None:
        return rows, {}
    left = quota.left(limits)
    taken: list[Mapping[str, Any]] = []
    reserved: dict[int, Decimal] = {}
    for row in rows:
        price = quota.price(limits, row["segments"])
        if price > left:
            break
        left -= price
        taken.append(row)
        reserved[row["id"]] = price
    return taken, reserved


def _keep_back(
    tx: Connection,
    setup: Setup,
    rows: Sequence[Mapping[str, Any]],
    paused: Pauses,
    now: datetime,
    unformed: Mapping[int, Verdict],
) -> list[dict[str, Any]]:
    """Settle what the last look keeps from leaving, or has no form. Returns those rows as they are now."""
    verdicts = {**unformed, **last_look(tx, setup, rows, now, paused)}
    kept = []
    for row in rows:
        verdict = verdicts.get(row["id"])
        if verdict is None:
            continue
        leaves_later = verdict.action == "defer"
        if row["doubted_at"] is not None and not leaves_later:
            kept.append({**row, **still_doubted(str(verdict.reason), verdict.detail), "settled_at": None})
            continue
        settled = {
            "state": {"defer": State.QUEUED, "hold": State.HELD}.get(verdict.action, State.SUPPRESSED),
            "reason": verdict.reason,
            "detail": verdict.detail,
            "not_before": verdict.until if leaves_later and verdict.until is not None else row["not_before"],
            "settled_at": None if leaves_later else now,
        }
        kept.append({**row, **settled})
    outbox.settle(tx, kept)
    for row in kept:
        said = {"message": row["id"], "gateway": row["gateway"], "correlation": row["correlation_id"]}
        lines.later(tx, MESSAGE_KEPT, state=str(row["state"]), reason=str(row["reason"]), **said)
    callback.tell(tx, [row for row in kept if row["state"] != State.QUEUED], setup.listened, now)
    return kept


def give_back(
    tx: Connection,
    setup: Setup,
    gateway: str,
    claim_id: str,
    unsent: Sequence[int],
    reserved: Mapping[int, Decimal],
    now: datetime,
) -> int:
    """What was claimed and has not left is due again, and its share of the quota free. Returns how many."""
    entry, limits = setup.entry(gateway), setup.limits(gateway)
    quota = quotas.lock(tx, gateway) if limits.any else None
    released = outbox.release(tx, claim_id, unsent)
    if quota is not None and entry is not None and (released or quota.probing_by == claim_id):
        quota.give_back(limits, _shares(released), setup.zone, entry.adapter.batch)
        quota.end_probe({claim_id})
        quotas.save(tx, quota)
    standing = quota or quotas.read(tx, gateway)
    if quota is None and standing.probing_by == claim_id:
        standing = quotas.lock(tx, gateway)
        standing.end_probe({claim_id})
        quotas.save(tx, standing)
    paused = Pauses.standing(tx)
    if released and paused.rows:
        bulk.lock(tx, chains.LOCK)
        pauses.label(tx, paused.rows)
    if standing.shut_until(now) is not None or gateway in paused.gateways:
        chain.move_on(tx, setup, gateway, now)
    return len(released)


def _shares(rows: Sequence[Mapping[str, Any]]) -> list[Share]:
    return [Share(row["claimed_at"], money(row["reserved"])) for row in rows]


def sweep(tx: Connection, setup: Setup, now: datetime, real: datetime | None = None) -> tuple[int, int]:
    """What is put in order before a run: leases that lapsed, receipts that wait, pauses that have no reason any more.

    What was not started is due again; what was started is in doubt, or due again where its gateway tells repeats.

    Args:
        real: the wall clock, where `now` is a simulated run's: leases farther ahead of both than a lease is long were
            taken by a run ahead of time, and lapsed.

    Returns:
        How many of each.
    """
    latest = max(now, real or now) + LEASE + SKEW
    # Accounts before messages, as everywhere; what moves many messages at once before any single one.
    limited = [name for name in sorted(outbox.lapsed(tx, now, latest)) if setup.limits(name).any]
    accounts = {name: quotas.lock(tx, name) for name in limited}
    pause.lift_mended(tx, setup, now)
    staging.lift(tx, setup, now)
    chain.turn_back(tx, setup, now)
    forgotten.sweep(tx, now)
    again = outbox.lapse(tx, now, latest)
    for name, quota in accounts.items():
        entry, back = setup.entry(name), [row for row in again if row["gateway"] == name]
        quota.give_back(setup.limits(name), _shares(back), setup.zone, entry.adapter.batch if entry else 1)
        quotas.save(tx, quota)
    lost = outbox.lost(tx, now, latest)
    told = {
        "reason": Reason.NO_VERDICT,
        "detail": "the process that was sending it ended without a verdict",
        "finished_at": now,
        "outcome": "in-doubt",
    }
    rows = [
        {
            **row,
            **told,
            "state": State.QUEUED if row["gateway"] in setup.deduplicating else State.IN_DOUBT,
            "tries": row["tries"] + 1,
            "number": row["tries"] + 1,
            "attempted_at": row["started_at"],
            "tried_by": row["gateway"],
            "gateways": [row["gateway"]],
            # It may have left as late as its lease ended.
            "not_before": max(now, min(row["lease_until"], now) + _asked_after(setup.entry(row["gateway"]))),
            "look_ups": 0,
            "doubted_at": row["doubted_at"] or row["started_at"],
            "redirected_to": staging.redirected_to(setup, row),
        }
        for row in lost
    ]
    outbox.record(tx, rows)
    callback.sweep(tx, setup.listened, now)
    return len(again), len(lost)


def _asked_after(entry: Entry | None) -> timedelta:
    """How long after a try its vendor can be asked what became of it; nothing waits where it tells repeats."""
    return timedelta(0) if entry is None or entry.deduplicates else entry.adapter.look_up_after


def turned_away(
    tx: Connection, setup: Setup, gateway: str, now: datetime, only: Collection[int] | None = None
) -> int | None:
    """Whether a gateway takes nothing now: paused, down, or not configured any more; what is due is sent on its way.

    Args:
        only: of these messages.

    Returns:
        How many messages that moved; None if the gateway may be used.
    """
    is_there = setup.entry(gateway) is not None and gateway not in Pauses.standing(tx).gateways
    is_shut = quotas.read(tx, gateway).shut_until(now) is not None
    return None if is_there and not is_shut else chain.move_on(tx, setup, gateway, now, only=only)


def trip(
    tx: Connection, setup: Setup, gateway: str, error: str, now: datetime, only: Collection[int] | None = None
) -> int:
    """A gateway could not even be opened: it is left alone for a while. Returns how many messages that moved."""
    quota = quotas.lock(tx, gateway)
    quota.trip(now, storable(error))
    quotas.save(tx, quota)
    return chain.move_on(tx, setup, gateway, now, only=only)


def next_due(tx: Connection, setup: Setup, gateways: Collection[str], now: datetime | None = None) -> datetime | None:
    """When one of these gateways next has something to do: to send, or to ask what became of a message.

    Args:
        now: how far the run's clock has come; what was due before is due by then.
    """
    known, paused = quotas.every(tx), Pauses.standing(tx).gateways
    times = []
    for name, at in outbox.next_doubt(tx, (setup.looking_up & frozenset(gateways)).difference(paused), TRIES).items():
        times.append(_answers_at(known.get(name), max(at, now or at)))
    for name, at in outbox.next_due(tx, gateways).items():
        at = max(at, now or at)
        quota, limits, entry = known.get(name), setup.limits(name), setup.entry(name)
        if quota is not None and entry is not None:
            at = quota.waits_until(at) or at
            if limits.rate is not None and quota.tokens is not None and quota.refilled_at is not None:
                rate = Limits(rate=limits.rate)
                quota.refill(rate, at, setup.zone, entry.adapter.batch)
                if quota.room(rate, 1)[0] == 0:
                    at = max(at, quota.again_at(rate, "rate", at, setup.zone, entry.adapter.batch))
        times.append(at)
    return min(times, default=None)


def _answers_at(quota: Quota | None, at: datetime) -> datetime:
    """When a vendor may be asked that is to be asked at this time."""
    if quota is None:
        return at
    opens = quota.open_until if quota.is_open(at) else None
    return max(opens or at, quota.waits_until(at) or at)


def message_of(row: Mapping[str, Any], setup: Setup, now: datetime) -> Message:
    """The message a gateway is given, from its row with what `form.ready` adds.

    Raises:
        ConfigError: staging lets it go nowhere.
    """
    shop = setup.shops.get(row["shop_id"])
    target = staging.target_of(setup, row)
    if target is None:  # the last look kept it back, so nobody asks
        raise ConfigError("staging lets it go nowhere", who=row["gateway"], operation="deliver")
    told = {HEADER: f"message {row['id']}"} if target.is_redirected and row["channel"] == "email" else {}
    return Message(
        id=row["id"],
        key=row["key"],
        channel=row["channel"],
        address_kind=target.kind,
        address=target.address,
        purpose=row["purpose"],
        template=row["template"],
        locale=row["locale"],
        text=row["text"],
        subject=row["subject"],
        html=row["html"],
        headers={**(row["headers"] or {}), **told},
        params=row["params"] or {},
        form=row["form"],
        shop=shop.name if shop is not None else None,
        order=row["order"],
        decided_at=row["decided_at"],
        leaves_at=now,
        expires_at=row["expires_at"],
    )
