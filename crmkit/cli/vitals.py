"""How each shop and gateway is, as the doctor tells it: what came last, what is silent, what ends or runs out."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from crmkit.cli.call import Call, plural
from crmkit.cli.finding import Finding
from crmkit.cli.output import moment
from crmkit.core.errors import CrmkitError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from crmkit.engine.accounts import Accounts
    from crmkit.flow.setup import Entry
    from crmkit.host.opening import ShopEntry
    from crmkit.store.standing import Queue

#: Credentials that end within this are to be renewed.
ENDING = timedelta(days=7)
#: Of a budget, less than this share is little.
LITTLE = Decimal("0.2")
#: Work that is due waits no longer than this where somebody works.
LATE = timedelta(minutes=15)
#: Who works begins a run this often.
IDLE = timedelta(hours=1)
#: What one of each kind is called.
_ONE = {"orders": "order", "webhooks": "webhook", "receipts": "receipt"}


def accounts(call: Call, tx: "Connection") -> Iterator[Finding]:
    """A line for each shop and each gateway: what came last, until when it is let in; then what is not well with it."""
    from crmkit.engine.accounts import Accounts
    from crmkit.store import accounts as stored
    from crmkit.store import report, silences

    rows = {row["name"]: row for row in stored.every(tx)}
    last, known = silences.last(tx, call.now), silences.known(tx)
    moved, failed, sent = report.last_moved(tx), report.unread(tx), silences.last_sent(tx, call.now)
    with call.open_store() as store:
        own = Accounts(call.host, store)
        for name, entry in own.named().items():
            part = f"{getattr(entry, 'kind', 'gateway')} {name}"
            row = rows.get(name)
            if row is None and part.startswith("gateway "):
                row = {"id": None, "synced_at": None}
            if row is None:
                yield Finding(part, "note", "never synced")
                continue
            is_shop = not part.startswith("gateway ")
            kinds = ("orders", "webhooks") if is_shop else ("receipts", "webhooks")
            came = {_ONE[kind]: last.get((row["id"], kind)) for kind in kinds}
            ends = _ends(own, entry, tx)
            if is_shop:
                yield _of_shop(call, part, came, moved.get(row["id"]), row["synced_at"], ends)
            else:
                yield _line(call, part, {"sent": sent.get(name), **came}, ends)
            yield from _silent(call, part, {kind: known.get((row["id"], kind)) for kind in kinds})
            if name in failed:
                do = f"`crmkit sync {name}` says what, and what to do"
                yield Finding(part, "bad", f"could not be read when it was last tried ({failed[name]}); {do}")
            if ends is not None and ends - call.now <= ENDING:
                when = "ended" if ends <= call.now else "ends"
                text = f"what it is let in with {when} {moment(ends, call.zone)}; run `crmkit connect {name}`"
                yield Finding(part, "bad", text, {"ends_at": ends.isoformat()})


def _line(call: Call, part: str, came: Mapping[str, datetime | None], ends: datetime | None) -> Finding:
    """What came last, by what it is, and when the token ends."""
    texts = [f"last {what} {_told(call, at)}" for what, at in came.items()]
    texts.append("no token end known" if ends is None else f"token ends {_told(call, ends)}")
    facts: dict[str, Any] = {f"last_{what}_at": _iso(at) for what, at in came.items()}
    return Finding(part, "ok", ", ".join(texts), {**facts, "token_ends_at": _iso(ends)})


def _of_shop(
    call: Call,
    part: str,
    came: Mapping[str, datetime | None],
    moved_at: datetime | None,
    synced_at: datetime | None,
    ends: datetime | None,
) -> Finding:
    """The line of a shop or source, which is read."""
    line = _line(call, part, came, ends)
    first = "never gave anything" if moved_at is None else f"last gave something new {_told(call, moved_at)}"
    text = f"{first}, {line.text}, last read to its end {_told(call, synced_at)}"
    facts = {**line.facts, "moved_at": _iso(moved_at), "synced_at": _iso(synced_at)}
    return Finding(part, "note" if moved_at is None else "ok", text, facts)


def _told(call: Call, at: datetime | None) -> str:
    return moment(at, call.zone) if at is not None else "never"


def _silent(call: Call, part: str, known: Mapping[str, Any]) -> Iterator[Finding]:
    """What is silent for longer than usual."""
    for kind, row in known.items():
        since = row["silent_since"] if row is not None else None
        if since is None:
            continue
        hours = row["rhythm"]["longest"] / 3600 if row["rhythm"] else None
        usual = "" if hours is None else f"; in the weeks before it was silent for {_length(hours)} at the most"
        do = "look whether the shop sells, and its vendor calls" if kind != "receipts" else "look at the vendor's side"
        text = f"no {_ONE[kind]} since {moment(since, call.zone)}{usual}; {do}"
        yield Finding(part, "bad", text, {"silent": kind, "since": _iso(since), "usual_hours": hours})


def _length(hours: float) -> str:
    return f"{hours:.0f} hours" if hours >= 2 else f"{hours * 60:.0f} minutes"


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _ends(own: "Accounts", entry: "ShopEntry | Entry", tx: "Connection") -> datetime | None:
    """Until when an account is let in, as far as its adapter knows without asking its vendor."""
    try:
        adapter = own.made(entry)
    except CrmkitError:
        return None  # told by its own check
    try:
        own.reminded(adapter, entry.name, tx)
        return adapter.credentials_end()
    except Exception:  # an adapter's own code; its check tells what is wrong with it
        return None
    finally:
        asyncio.run(adapter.http.aclose())


# --- gateways ---------------------------------------------------------------------------------------------------------


def gateways(call: Call, tx: "Connection") -> Iterator[Finding]:
    """Gateways that do not answer, since when; and budgets that run out."""
    from crmkit.store import quotas

    limits = {entry.name: entry.limits for entries in call.host.channels.values() for entry in entries}
    for name, quota in quotas.every(tx).items():
        if quota.open_until is not None:
            since = "" if quota.down_since is None else f" since {moment(quota.down_since, call.zone)}"
            at, facts = moment(quota.open_until, call.zone), {"down_since": _iso(quota.down_since)}
            text = f"does not answer{since}: {quota.error}; it is tried again {at}"
            yield Finding(f"gateway {name}", "bad", text, facts if quota.down_since else {})
        limit = limits.get(name)
        if limit is None or limit.budget is None:
            continue
        quota.refill(limit, call.now, call.zone)
        left, whole = quota.left(limit), limit.budget.amount
        if left < whole * LITTLE:
            text = f"{max(left, Decimal(0))} of {whole} {limit.budget.currency} are left of this {limit.budget.period}"
            facts = {"left": str(left), "budget": str(whole), "currency": limit.budget.currency}
            do = "its messages wait for the next; raise `budget`" if left <= 0 else "raise `budget` if it is to last"
            yield Finding(f"gateway {name}", "bad" if left <= 0 else "note", f"{text}; {do}", facts)


# --- work -------------------------------------------------------------------------------------------------------------


def work(call: Call, tx: "Connection") -> Iterator[Finding]:
    """Work that is due, and nobody who does it."""
    from crmkit.store import presence, report
    from crmkit.store.standing import standing

    stands, now = standing(tx, call.now), call.now
    queues: dict[str, list[Queue]] = {
        "decision": [stands.pending],
        "message": [queue for name, queue in stands.messages.items() if _is_on(call, name)],
        "webhook": [queue for name, queue in stands.webhooks.items() if _is_on(call, name)],
    }
    late = {what: sum(queue.count for queue in found) for what, found in queues.items() if _is_late(found, now)}
    runs = [row["started_at"] for name, row in report.last_runs(tx).items() if name in {"dispatch", "sync"}]
    latest = max((at for at in runs if at <= now), default=None)
    if not late or (latest is not None and now - latest < IDLE) or presence.at_work(tx):
        return
    oldest = min(queue.since for found in queues.values() for queue in found if queue.since is not None)
    counted = ", ".join(plural(count, what) for what, count in late.items())
    run = "nothing ever ran" if latest is None else f"the last run began {moment(latest, call.zone)}"
    text = f"{counted} waiting since {moment(oldest, call.zone)}, and nobody at work: {run}; start `crmkit run`"
    yield Finding("work", "bad", text, {"waiting": late, "since": _iso(oldest), "last_run_at": _iso(latest)})


def _is_late(queues: "Sequence[Queue]", now: datetime) -> bool:
    return any(queue.count and queue.behind(now) > LATE.total_seconds() for queue in queues)


def _is_on(call: Call, name: str) -> bool:
    entries = [entry.name for found in call.host.channels.values() for entry in found]
    return name in call.host.shops or name in entries
