"""Doubt is resolved by asking the vendor, where it can be asked: before anything else leaves by its gateway."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection

from crmkit.adapters.gateway import Gateway
from crmkit.core.columns import storable
from crmkit.core.duration import backoff
from crmkit.core.errors import AdapterError, AuthError, DoubtError, PluginError, RetryableError
from crmkit.core.message import Reason, Receipt, State
from crmkit.core.quota import Limits, Quota, Share, money
from crmkit.flow import callback, form, pause, staging
from crmkit.flow.claim import LEASE, message_of
from crmkit.flow.setup import Setup
from crmkit.flow.sync import Run, is_interrupted
from crmkit.flow.verdict import TRIES, checked, verdict_of
from crmkit.store import outbox, quotas

#: Messages asked about together, and how long an answer may take, in seconds.
ASK, LONGEST = 100, 60


@dataclass(frozen=True, slots=True)
class Answer:
    """What a vendor said of a message: a receipt, None (it surely does not have it), or what was raised instead."""

    row: Mapping[str, Any]
    said: Receipt | BaseException | None
    asked_at: datetime
    at: datetime
    #: it was tried in this simulated run: that its vendor does not have it yet says nothing
    is_early: bool = False


@dataclass(slots=True)
class Fresh:
    """What was tried in a simulated run: only its clock says that time has passed since.

    That a vendor has such a message is believed; that it does not have it is asked again in a later run.
    """

    until: datetime
    ids: set[int] = field(default_factory=set)


async def resolve(
    run: Run,
    setup: Setup,
    name: str,
    gateway: Gateway,
    claim_id: str,
    clock: Callable[[], datetime],
    fresh: "Fresh | None" = None,
) -> tuple[Counter[str], AuthError | None]:
    """Ask about everything in doubt at a gateway that may be asked about now.

    Args:
        fresh: messages of a simulated run.

    Returns:
        Messages by the state they are in now, and the refusal of the credentials, if they were.
    """
    counts: Counter[str] = Counter()
    while rows := await run(_begin, setup, name, claim_id, clock()):
        slots = asyncio.Semaphore(max(1, gateway.settings.concurrency))

        async def ask(row: Mapping[str, Any], slots: asyncio.Semaphore = slots) -> Answer:
            async with slots:
                began = clock()
                said, is_early = await _ask(gateway, row, setup, began), False
                if said is None and fresh is not None and row["id"] in fresh.ids:
                    said = RetryableError("the vendor does not have it yet", retry_after=fresh.until - began)
                    is_early = True
                return Answer(row, said, began, clock(), is_early)

        answers = await asyncio.gather(*(ask(row) for row in rows))
        counts += await run(_record, answers, setup, name)
        refused = next((answer.said for answer in answers if isinstance(answer.said, AuthError)), None)
        if refused is not None:
            return counts, refused
    return counts, None


async def _ask(gateway: Gateway, row: Mapping[str, Any], setup: Setup, now: datetime) -> Receipt | BaseException | None:
    try:
        async with asyncio.timeout(LONGEST):
            said: Any = await gateway.look_up(message_of(row, setup, now))
    except asyncio.CancelledError as error:
        if is_interrupted():
            raise
        return error  # nobody cancelled us: it is the plugin's own
    except (Exception, SystemExit) as error:  # a plugin's code: what it breaks is this answer only
        return error if not isinstance(error, RetryableError) else checked(error, gateway.account.name)
    found: Receipt | BaseException | None = None if said is None else checked(said, gateway.account.name)
    if isinstance(found, Receipt) and found.outcome == "unsupported":
        what = "it says of what may have been sent that it cannot be expressed"
        return PluginError(what, who=gateway.account.name, operation="look up", do="return what the vendor says of it")
    return found


def _begin(tx: Connection, setup: Setup, name: str, claim_id: str, now: datetime) -> list[Mapping[str, Any]]:
    """Take messages to ask about: nobody else asks while we do, and a late verdict on them counts no more."""
    entry = setup.entry(name)
    if entry is None:
        return []
    doubted = outbox.doubted(tx, name, now, TRIES, ASK)
    fenced = [row for row in doubted if staging.target_of(setup, row) is None]  # tried before staging was on
    outbox.begin_look_ups(tx, [{**row, "not_before": now + staging.LATER} for row in fenced])
    kept = {row["id"] for row in fenced}
    rows, _ = form.ready(tx, entry, [row for row in doubted if row["id"] not in kept])
    taken: list[Mapping[str, Any]] = [
        {**row, "claim_id": claim_id, "not_before": now + LEASE, "look_ups": row["look_ups"] + 1} for row in rows
    ]
    outbox.begin_look_ups(tx, taken)
    return taken


def _record(tx: Connection, answers: Sequence[Answer], setup: Setup, name: str) -> Counter[str]:
    refused = next((answer for answer in answers if isinstance(answer.said, AuthError)), None)
    if refused is not None:
        pause.refuse(tx, setup, name, str(refused.said), refused.at)
    answers = _apart(tx, answers, name)
    rows = [{**_row(answer, name), "redirected_to": staging.redirected_to(setup, answer.row)} for answer in answers]
    quota = quotas.lock(tx, name) if setup.limits(name).any else None  # before messages, as everywhere
    taken = outbox.record(tx, rows)
    if quota is not None:
        for answer in answers:
            if answer.row["id"] in taken:
                _book(quota, answer, setup.limits(name), setup.zone)
        quotas.save(tx, quota)
    moved = [{**answer.row, **row} for answer, row in zip(answers, rows, strict=True) if row["id"] in taken]
    now = max(answer.at for answer in answers)
    callback.suppress_bounced(tx, moved, {row["id"]: now for row in moved})
    news = [row for row in moved if row["state"] not in {State.QUEUED, State.IN_DOUBT}]
    callback.tell(tx, news, setup.listened, now)
    callback.catch_up(tx, [row for row in moved if row["state"] is State.SENT], setup.listened, now)
    return Counter("retry" if row["state"] is State.QUEUED else str(row["state"]) for row in moved)


def _book(quota: Quota, answer: Answer, limits: Limits, zone: ZoneInfo) -> None:
    """What was set aside for a message is what it cost, so far as its vendor says; what it does not have is free."""
    row, said = answer.row, answer.said
    share = Share(row["claimed_at"], money(row["reserved"]))
    cost = said.cost if isinstance(said, Receipt) else None
    if cost is not None and quota.settle(limits, share, cost, row["segments"], zone):
        return
    if said is None or (isinstance(said, Receipt) and said.outcome != "accepted"):
        quota.free(limits, share, zone, counts=said is not None and said.outcome == "rejected")


def _apart(tx: Connection, answers: Sequence[Answer], name: str) -> list[Answer]:
    """The answers, without those that name what another message is known to be: two may read alike."""
    said = {a.row["id"]: a.said.vendor_id for a in answers if isinstance(a.said, Receipt) and a.said.vendor_id}
    others = outbox.messages_meant(tx, (), list(said.values()))
    taken = {row["vendor_id"] for row in others if row["gateway"] == name and said.get(row["id"]) != row["vendor_id"]}
    twice = {vendor_id for vendor_id, count in Counter(said.values()).items() if count > 1}
    mixed = DoubtError("the vendor named what another message is", who=name, operation="look up")
    return [replace(a, said=mixed) if said.get(a.row["id"]) in taken | twice else a for a in answers]


def _row(answer: Answer, name: str) -> dict[str, Any]:
    """The columns of a message, and of its attempt, after its vendor was asked."""
    row, said, at = answer.row, answer.said, answer.at
    state, reason, detail, not_before = State.IN_DOUBT, row["reason"], row["detail"], at
    receipt = said if isinstance(said, Receipt) else None
    look_ups = row["look_ups"]
    if receipt is not None:
        ruling = verdict_of(receipt, tries=row["tries"], deduplicates=False)
        state, reason, detail = ruling.state, ruling.reason, ruling.detail
    elif said is None and row["tries"] < TRIES:
        state, reason, detail = State.QUEUED, Reason.RETRY, "the vendor does not have it"
    elif said is None:
        state, reason, detail = State.FAILED, Reason.TRIES_USED_UP, "the vendor does not have it"
    else:
        detail = str(said) if isinstance(said, AdapterError) else f"{type(said).__name__}: {said}"
        asked = said.retry_after if isinstance(said, RetryableError) else None
        look_ups -= answer.is_early
        not_before = at + max(asked or timedelta(0), backoff(look_ups, secrets.randbelow(1000) / 1000))
        look_ups -= isinstance(said, AuthError)
    cost = receipt.cost if receipt is not None else None
    return {
        "id": row["id"],
        "claim_id": row["claim_id"],
        "state": state,
        "reason": reason,
        "detail": None if detail is None else storable(detail),
        "tries": row["tries"],
        "number": row["tries"],
        "not_before": not_before,
        "gateway": name,
        "gateways": [name],
        "tried_by": name,
        "look_ups": look_ups,
        "doubted_at": row["doubted_at"] if state is State.IN_DOUBT else None,
        "vendor_id": storable(receipt.vendor_id) if receipt and receipt.vendor_id else row["vendor_id"],
        "batch_id": storable(receipt.batch_id) if receipt and receipt.batch_id else row["batch_id"],
        "cost": str(cost.amount) if cost is not None else row["cost"],
        "cost_currency": cost.currency if cost is not None else row["cost_currency"],
        "sent_at": at if state is State.SENT else row["sent_at"],
        "settled_at": at if state in {State.BOUNCED, State.FAILED} else None,
        "attempted_at": answer.asked_at,
        "finished_at": at,
        "outcome": "looked-up",
        "error": type(said).__name__ if isinstance(said, BaseException) else None,
        "correlation_id": row["correlation_id"],
    }
