"""Silence: no order, webhook or receipt for longer than that shop's or gateway's own usual gap is itself an event.

Each account is looked at again and again, by whichever process comes first. What is usual is learnt anew once a day;
what is silent is told once, and once more when it has ended.

Nobody is called silent while nobody listened. Orders are placed at their shop, whether or not it is read: they count as
missing up to the last time it was read to its end, and beyond that only where it is not read as often as usual, while
somebody tried. Webhooks and receipts count as missing while crmkit ran; receipts only where messages left.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.account import Shop
from crmkit.core.events import SilenceEnded, SilenceNoticed
from crmkit.core.silence import SPAN, Rhythm, learn
from crmkit.flow.setup import Setup
from crmkit.store import accounts, log, silences
from crmkit.store.bulk import Row
from crmkit.store.silences import Series

#: So long after one look the next is due, and what is usual is learnt anew.
EVERY, LEARN_EVERY = timedelta(minutes=10), timedelta(days=1)
#: So much is learnt in one look: its transaction stays short.
MOST = 5
#: Who did not look for longer was away, and what came meanwhile is not missed.
AWAY = timedelta(hours=6)
#: An account is read late where it was not for twice the usual time, and for so long at the least.
UNREAD = timedelta(hours=1)
#: Receipts are missed once so many messages have waited for one so long.
UNANSWERED, ANSWER = 3, timedelta(hours=1)


def look(tx: Connection, setup: Setup, now: datetime) -> int:
    """Notice what has become silent, and what no longer is. Returns how many; 0 where it was looked a moment ago."""
    known = silences.known(tx)
    if _is_recent(known, now) or not silences.hold(tx):
        return 0
    known = silences.known(tx)
    if _is_recent(known, now):
        return 0
    last, named = silences.last(tx, now), {row["id"]: row for row in accounts.every(tx)}
    watched = [(account, kind) for account, kind in sorted(last) if _is_watched(setup, named[account], kind)]
    rows = [_row(known.get(one), one, last[one], now) for one in watched]
    told = [_ended(row, named) for row in rows if _has_ended(row)]
    for row in rows:
        if _has_ended(row):
            row["silent_since"] = row["noticed_at"] = None
    _learn(tx, setup, rows, named, now)
    patience = _patience(tx)
    for row in rows:
        if row["silent_since"] is None and row["rhythm"] is not None:
            expected = _missed(tx, setup, row, named[row["account_id"]], patience, now)
            if expected is not None:
                row["silent_since"], row["noticed_at"] = row["last_at"], now
                told.append(_noticed(row, named, expected))
    # what is switched off is not silent
    gone = [one for one in known if one not in watched and known[one]["silent_since"] is not None]
    rows += [{**known[one], "looked_at": now, "silent_since": None, "noticed_at": None} for one in gone]
    silences.save(tx, rows)
    return len(log.append(tx, [_interaction(setup, one, now) for one in told], setup.listened, now))


def _is_recent(known: Mapping[Series, Row], now: datetime) -> bool:
    """Whether somebody looked a moment ago; a look that is ahead of this clock was by another."""
    latest = max((row["looked_at"] for row in known.values()), default=None)
    return latest is not None and timedelta(0) <= now - latest < EVERY


def _is_watched(setup: Setup, account: Row, kind: str) -> bool:
    shop = setup.shops.get(account["id"])
    if kind == "orders":
        return shop is not None and "placed" in shop.reports
    if kind == "receipts":
        return setup.entry(account["name"]) is not None
    return shop is not None or setup.entry(account["name"]) is not None


def _row(known: Row | None, one: Series, last: datetime, now: datetime) -> dict[str, Any]:
    """What is known of one as it stands now."""
    account, kind = one
    row: dict[str, Any] = {"rhythm": None, "learnt_at": None, "silent_since": None, "noticed_at": None}
    row.update(known or {})
    was_away = known is None or now - known["looked_at"] > AWAY or known["watched_from"] > now
    watched_from = now if known is None or was_away else known["watched_from"]
    return {**row, "account_id": account, "kind": kind, "last_at": last, "looked_at": now, "watched_from": watched_from}


def _has_ended(row: Mapping[str, Any]) -> bool:
    return row["silent_since"] is not None and row["last_at"] > row["silent_since"]


# what is usual


def _learn(
    tx: Connection, setup: Setup, rows: Sequence[dict[str, Any]], named: Mapping[int, Row], now: datetime
) -> None:
    """Learn what is usual where that is not known, or was learnt long ago: those that waited longest first."""
    due = [row for row in rows if row["silent_since"] is None and _is_stale(row, now)]
    due.sort(key=lambda row: (row["learnt_at"] is not None, row["learnt_at"] or now))
    for row in due[:MOST]:
        row["learnt_at"], row["rhythm"] = now, None
        if row["last_at"] > now - SPAN:
            account, until = named[row["account_id"]], row["last_at"]
            counts = silences.counts(tx, account, row["kind"], until - SPAN, until)
            rhythm = learn(counts, setup.zone)
            row["rhythm"] = rhythm.document() if rhythm is not None else None


def _is_stale(row: Mapping[str, Any], now: datetime) -> bool:
    at = row["learnt_at"]
    return at is None or not timedelta(0) <= now - at < LEARN_EVERY


# what is missing


def _patience(tx: Connection) -> timedelta:
    """After how long an account is read late."""
    gaps = [after - before for before, after in pairwise(silences.reads(tx))]
    return max(UNREAD, 2 * max(gaps, default=timedelta(0)))


def _missed(
    tx: Connection, setup: Setup, row: Mapping[str, Any], account: Row, patience: timedelta, now: datetime
) -> float | None:
    """How much would have come since the last, if that is more than usual."""
    rhythm, expected = Rhythm.of(row["rhythm"]), 0.0
    for since, until in _listened(row, account, patience, now):
        expected += rhythm.expected(since, until, setup.zone)
    if not rhythm.is_broken(expected):
        return None
    if row["kind"] == "receipts" and silences.sent(tx, account["name"], row["last_at"], now - ANSWER) < UNANSWERED:
        return None
    return expected


def _listened(
    row: Mapping[str, Any], account: Row, patience: timedelta, now: datetime
) -> list[tuple[datetime, datetime]]:
    """The spans since the last in which another would have been heard."""
    last, watched_from = row["last_at"], row["watched_from"]
    if row["kind"] != "orders":
        return [(max(last, watched_from), now)]
    read_at = min(account["synced_at"] or last, now)
    spans = [(last, max(last, read_at))]
    if now - read_at > patience:
        spans.append((max(last, read_at, watched_from), now))
    return spans


# what is told


def _noticed(row: Mapping[str, Any], named: Mapping[int, Row], expected: float) -> tuple[Mapping[str, Any], Any]:
    name, kind = named[row["account_id"]]["name"], row["kind"]
    longest = Rhythm.of(row["rhythm"]).longest
    event = SilenceNoticed(
        what=f"{kind} of {name}",
        since=row["silent_since"],
        kind=kind,
        account=name,
        expected=round(expected, 1),
        usual_hours=round(longest / timedelta(hours=1), 1),
    )
    return row, event


def _ended(row: Mapping[str, Any], named: Mapping[int, Row]) -> tuple[Mapping[str, Any], Any]:
    name, kind = named[row["account_id"]]["name"], row["kind"]
    since, until = row["silent_since"], row["last_at"]
    return row, SilenceEnded(what=f"{kind} of {name}", since=since, until=until, kind=kind, account=name)


def _interaction(setup: Setup, told: tuple[Mapping[str, Any], Any], now: datetime) -> dict[str, Any]:
    """What is told, once for each silence whoever looks."""
    row, event = told
    shop: Shop | None = setup.shops.get(row["account_id"])
    return {
        "type": event.name,
        "profile_id": None,
        "shop_id": shop.id if shop is not None else None,
        "order_id": None,
        "actor": "crmkit",
        "occurred_at": now,
        "payload": event.payload(),
        "key": f"{event.name}:{row['account_id']}:{row['kind']}:{event.since.isoformat()}",
    }
