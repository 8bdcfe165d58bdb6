"""Results of tries are stored: attempts, states, what the account has used up, whether it answers."""

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection

from crmkit.adapters.gateway import Gateway
from crmkit.core.columns import storable
from crmkit.core.duration import backoff
from crmkit.core.errors import AdapterError, AuthError, RetryableError
from crmkit.core.message import Receipt, State
from crmkit.core.quota import Limits, Quota, Share
from crmkit.flow import callback, chain, pause, reputation
from crmkit.flow.setup import Setup
from crmkit.flow.staging import redirected_to
from crmkit.flow.verdict import Ruling, speaks, still_doubted, verdict_of
from crmkit.store import outbox, quotas

#: Tries after which it is asked whether too much goes wrong.
_TROUBLES = frozenset({"rejected", "refused", "in-doubt"})


@dataclass(slots=True)
class Result:
    """What came of one try: a receipt, or what was raised. `reserved` was set aside for its cost."""

    row: Mapping[str, Any]
    outcome: Receipt | BaseException
    attempted_at: datetime
    finished_at: datetime
    reserved: Decimal = Decimal(0)


def looks_up(adapter: type[Gateway]) -> bool:
    """Whether a gateway's vendor can be asked what became of a message."""
    return adapter.look_up is not Gateway.look_up


def record(
    tx: Connection, results: Sequence[Result], setup: Setup, gateway: Gateway, name: str, *, is_unwell: bool = False
) -> Counter[str]:
    """Store what came of tries over one gateway.

    Args:
        is_unwell: whether its last tries came to nothing, so that an answer is news.

    Returns:
        Tries by the state the message ended in (`retry`: put off).
    """
    now = max(result.finished_at for result in results)
    limits = setup.limits(name)
    quota = _account(tx, results, limits, name, is_unwell)
    is_down = quota is not None and quota.is_open(now)
    refused = next((result for result in results if isinstance(result.outcome, AuthError)), None)
    if refused is not None:
        pause.refuse(tx, setup, name, str(refused.outcome), now)
    ruled = [(result, _rule(result, setup, gateway, name, is_down)) for result in results]
    counts = Counter("retry" if ruling.state is State.QUEUED else str(ruling.state) for _, ruling in ruled)
    rows = [
        {**_row(result, ruling, gateway, name), "redirected_to": redirected_to(setup, result.row)}
        for result, ruling in ruled
    ]
    taken = outbox.record(tx, rows)
    moved = [{**result.row, **row} for (result, _), row in zip(ruled, rows, strict=True)]
    callback.suppress_bounced(tx, moved, {row["id"]: row["finished_at"] for row in moved})
    if quota is not None:
        _settle(quota, ruled, limits, setup.zone)
        quotas.save(tx, quota)
    if is_down or refused is not None or (quota is not None and quota.shut_until(now) is not None):
        chain.move_on(tx, setup, name, now)
    news = [row for row in moved if row["id"] in taken and row["state"] is not State.QUEUED]
    callback.tell(tx, news, setup.listened, now)
    callback.catch_up(tx, [row for row in moved if row["outcome"] == "accepted"], setup.listened, now)
    if any(row["outcome"] in _TROUBLES for row in moved):
        reputation.judge(tx, name, setup.rules.pause, now, listened=setup.listened)
    return counts


def _account(tx: Connection, results: Sequence[Result], limits: Limits, name: str, is_unwell: bool) -> Quota | None:
    """The account's row with what these tries say of its vendor, locked; None where they say nothing new."""
    fails = any(speaks(result.outcome) is False for result in results)
    asked = [r for r in results if isinstance(r.outcome, RetryableError) and r.outcome.retry_after is not None]
    if not (limits.any or is_unwell or fails or asked):
        return None
    quota = quotas.lock(tx, name)
    for result in results:
        spoke = speaks(result.outcome)
        if spoke is False:
            quota.failed(result.finished_at, storable(_trouble(result.outcome)))
        elif spoke:
            quota.answered()
    for result in asked:
        until = result.finished_at + (result.outcome.retry_after or timedelta(0))  # type: ignore[union-attr]
        quota.block(until, result.finished_at)
    quota.end_probe({result.row["claim_id"] for result in results})
    return quota


def _trouble(outcome: Any) -> str:
    """What a gateway's trouble is called where others' messages wait for it: nothing of this one."""
    return str(outcome) if isinstance(outcome, AdapterError) else type(outcome).__name__


def _rule(result: Result, setup: Setup, gateway: Gateway, name: str, is_down: bool) -> Ruling:
    others = [other for other in result.row["gateways"] if other != name and setup.entry(other) is not None]
    ruling = verdict_of(
        result.outcome,
        tries=result.row["tries"] + 1,
        deduplicates=gateway.deduplicates,
        is_down=is_down,
        has_next=bool(others),
    )
    if result.row["doubted_at"] is not None and ruling.state in {State.FAILED, State.BOUNCED}:
        return replace(ruling, **still_doubted(str(ruling.reason), ruling.detail))
    return ruling


def _row(result: Result, ruling: Ruling, gateway: Gateway, name: str) -> dict[str, Any]:
    """The columns of a message, and of its attempt, after a try."""
    row, at = result.row, result.finished_at
    receipt = result.outcome if isinstance(result.outcome, Receipt) else None
    cost = receipt.cost if receipt is not None else None
    tries = row["tries"] + ruling.counts
    waits = ruling.state is State.QUEUED and ruling.wait is not None
    not_before, chain_of, turn = row["not_before"], row["gateways"], name
    if ruling.doubts:
        chain_of = [name]
    elif ruling.strikes:
        chain_of = [other for other in chain_of if other != name]
        turn = chain_of[0]
    elif waits and chain_of:
        turn = chain_of[0]
    if waits and ruling.wait is not None:
        not_before = at + max(ruling.wait, backoff(max(tries, 1), secrets.randbelow(1000) / 1000))
    elif ruling.state is State.IN_DOUBT:
        not_before = at + gateway.look_up_after
    return {
        "id": row["id"],
        "claim_id": row["claim_id"],
        "state": ruling.state,
        "reason": ruling.reason,
        "detail": None if ruling.detail is None else storable(ruling.detail),
        "tries": tries,
        "number": row["tries"] + 1,
        "not_before": not_before,
        "gateway": turn,
        "gateways": chain_of,
        "tried_by": name,
        "look_ups": 0 if ruling.doubts else row["look_ups"],
        "doubted_at": None if ruling.state is State.SENT else row["doubted_at"] or (at if ruling.doubts else None),
        "vendor_id": _given(receipt.vendor_id if receipt else None, row["vendor_id"]),
        "batch_id": _given(receipt.batch_id if receipt else None, row["batch_id"]),
        "cost": str(cost.amount) if cost is not None else row["cost"],
        "cost_currency": cost.currency if cost is not None else row["cost_currency"],
        "sent_at": at if ruling.state is State.SENT else row["sent_at"],
        "settled_at": at if ruling.state in {State.BOUNCED, State.FAILED} else None,
        "attempted_at": result.attempted_at,
        "finished_at": at,
        "outcome": ruling.outcome,
        "error": None if receipt is not None else type(result.outcome).__name__,
        "correlation_id": row["correlation_id"],
    }


def _given(said: str | None, known: str | None) -> str | None:
    return storable(said) if said else known


def _settle(quota: Quota, ruled: Sequence[tuple[Result, Ruling]], limits: Limits, zone: ZoneInfo) -> None:
    """What was set aside for these tries is what they cost, so far as the vendor says; what did not leave is free."""
    for result, ruling in ruled:
        cost = result.outcome.cost if isinstance(result.outcome, Receipt) else None
        share = Share(result.row["claimed_at"], result.reserved)
        if cost is not None and quota.settle(limits, share, cost, result.row["segments"], zone):
            continue
        if ruling.outcome in {"refused", "deferred", "rejected"}:
            quota.free(limits, share, zone, counts=ruling.outcome == "rejected")
