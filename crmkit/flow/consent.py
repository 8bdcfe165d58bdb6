"""Consent that comes by hand or from a file: entered into the ledger, and told as an interaction where it is news."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.customer import consent_news
from crmkit.store import customers, log

STATES = ("granted", "withdrawn")

_Subject = tuple[int | None, str, str]


def enter(
    tx: Connection, entries: Sequence[Mapping[str, Any]], *, listened: Collection[str], now: datetime
) -> list[Mapping[str, Any]]:
    """Enter consent into the ledger; an entry that was made before is left alone.

    Args:
        entries: each with `profile_id` or `address`, and `channel`, `purpose`, `state`, `source`, `actor`,
            `occurred_at`, `wording`; `correlation_id` where it came of something that has one.
        listened: wire names of the events somebody handles.
        now: the run's clock.

    Returns:
        The entries that are new.
    """
    rows = [{**entry, "key": _key(entry), "recorded_at": now} for entry in entries]
    entered, turned = record(tx, rows)
    log.append(tx, [told(row) for row in turned], listened, now)
    return entered


def record(
    tx: Connection, rows: Sequence[Mapping[str, Any]]
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Add rows to the ledger.

    Returns:
        Those that are new, and of these the ones that turned what a customer allows.
    """
    profiles = {row["profile_id"] for row in rows if row.get("profile_id") is not None}
    before = _latest(customers.consent_of(tx, profiles))
    entered = customers.enter_consent(tx, rows)
    after = _latest(customers.consent_of(tx, profiles))
    turned = [
        row
        for row in entered
        if row.get("profile_id") is not None
        and after.get(_subject(row)) == (row["state"], row["occurred_at"])
        and before.get(_subject(row), ("", None))[0] != row["state"]
    ]
    return entered, turned


def told(row: Mapping[str, Any]) -> dict[str, Any]:
    """The interaction that tells of an entry."""
    return {
        "type": "consent-changed",
        "profile_id": row["profile_id"],
        "actor": row["actor"],
        "occurred_at": row["occurred_at"],
        "payload": {name: row[name] for name in ("channel", "purpose", "state", "source")},
        "correlation_id": row.get("correlation_id"),
        "run_id": row.get("run_id"),
    }


def _key(entry: Mapping[str, Any]) -> str:
    """What makes an entry the same one when it is made again."""
    names = ("profile_id", "address", "channel", "purpose", "state", "source")
    parts = [str(entry.get(name)) for name in names] + [entry["occurred_at"].isoformat()]
    return f"entered:{hashlib.blake2b('|'.join(parts).encode(), digest_size=16).hexdigest()}"


def _subject(row: Mapping[str, Any]) -> _Subject:
    return row["profile_id"], row["channel"], row["purpose"]


def _latest(rows: Iterable[Mapping[str, Any]]) -> dict[_Subject, tuple[str, datetime]]:
    return {_subject(row): (row["state"], row["occurred_at"]) for row in consent_news(rows)}
