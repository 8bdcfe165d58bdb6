"""Webhooks that were kept, what they hint at, and what adapters remember."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from crmkit.core.columns import storable
from crmkit.store import bulk
from crmkit.store import tables as t
from crmkit.store.bulk import Row

_i, _h, _m = t.inbox.c, t.hint.c, t.memory.c
#: What is left of a webhook whose body was let go.
_EMPTY: Mapping[str, Any] = {"body": b"", "query": "", "headers": None}
#: Why a webhook is let go that was not taken in.
_NEVER = "never read"
#: What nothing is known of any more, or never was; and what does not wait.
_LOST = ("failed", "expired")
_SETTLED = ("done", *_LOST)


def keep(tx: Connection, calls: Sequence[Row]) -> list[bool]:
    """Keep verified webhooks; of each, whether it is to be taken in: it was not kept before, or is not known any more.

    Args:
        calls: rows of the table, without numbers; where `is_fingerprint` is set, the key is only what the call says.
    """
    numbers = bulk.next_ids(tx, t.inbox, len(calls))
    rows = [{**call, **_storable(call), "id": number} for call, number in zip(calls, numbers, strict=True)]
    asked = [row.pop("is_fingerprint", False) for row in rows]
    kept = bulk.insert_at_once(tx, t.inbox, rows, skip_known=("account_id", "dedupe_key"))
    known = [(row, is_fingerprint) for row, is_fingerprint in zip(rows, asked, strict=True) if row["id"] not in kept]
    reopened = _reopen(tx, known) if known else set()
    return [row["id"] in kept or row["id"] in reopened for row in rows]


def _reopen(tx: Connection, calls: Sequence[tuple[dict[str, Any], bool]]) -> set[int]:
    """Calls that came again wait again, as they came now, where the first one is no longer good for them.

    Returns:
        The numbers they came with, of those that do.
    """
    keys, of = [call["dedupe_key"] for call, _ in calls], sorted({call["account_id"] for call, _ in calls})
    found = bulk.select_in(
        tx, (_i.id, _i.account_id, _i.dedupe_key, _i.state), _i.dedupe_key, keys, bulk.one_of(tx, _i.account_id, of)
    )
    first = {(row["account_id"], row["dedupe_key"]): row for row in found}
    rows, reopened = [], set()
    for call, is_fingerprint in calls:
        row = first.pop((call["account_id"], call["dedupe_key"]), None)
        if row is not None and row["state"] in (_SETTLED if is_fingerprint else _LOST):
            rows.append({**call, "id": row["id"], "state": "waiting", "error": None, "settled_at": None, "refs": None})
            reopened.add(call["id"])
    columns = [name for name in rows[0] if name not in ("id", "account_id", "dedupe_key")] if rows else []
    bulk.update(tx, t.inbox, ("id",), columns, rows)
    return reopened


def _storable(call: Row) -> Row:
    return {
        "dedupe_key": storable(call["dedupe_key"]),
        "headers": {name: storable(value) for name, value in call["headers"].items()},
        "query": storable(call["query"]),
    }


def accounts_waiting(tx: Connection) -> list[int]:
    """Accounts with webhooks that were not taken in yet."""
    statement = sa.select(_i.account_id).distinct().where(_i.state == "waiting").order_by(_i.account_id)
    return list(tx.execute(statement).scalars())


def waiting(tx: Connection, account: int, limit: int, largest: int) -> list[Row]:
    """Webhooks of an account that were not taken in yet, oldest first.

    Args:
        limit: so many at the most.
        largest: bytes of their bodies at the most, unless the first alone is larger.
    """
    sizes = sa.select(_i.id, sa.func.length(_i.body)).where(_i.account_id == account, _i.state == "waiting")
    ids: list[int] = []
    held = 0
    for number, size in tx.execute(sizes.order_by(_i.id).limit(limit)):
        held += size
        if ids and held > largest:
            break
        ids.append(number)
    return bulk.rows(tx, sa.select(t.inbox).where(bulk.one_of(tx, _i.id, ids)).order_by(_i.id)) if ids else []


def settle(
    tx: Connection, errors: Mapping[int, str | None], now: datetime, refs: Mapping[int, Sequence[str]] | None = None
) -> set[int]:
    """Webhooks are taken in, or could not be read for the error given. Returns those that were still waiting.

    Args:
        refs: what each was found to be about.
    """
    about = refs or {}
    still = sa.select(_i.id).where(bulk.one_of(tx, _i.id, errors), _i.state == "waiting")
    if tx.dialect.name != "sqlite":
        still = still.with_for_update(skip_locked=True)
    mine = set(tx.execute(still).scalars())
    rows = [
        {
            "id": number,
            "state": "done" if error is None else "failed",
            "error": None if error is None else storable(error),
            "settled_at": now,
            "refs": [storable(ref) for ref in about[number]] if number in about else None,
        }
        for number, error in errors.items()
        if number in mine
    ]
    bulk.update(tx, t.inbox, ("id",), ("state", "error", "settled_at", "refs"), rows)
    tx.execute(sa.update(t.inbox).where(bulk.one_of(tx, _i.id, mine)).values(tries=_i.tries + 1))
    return mine


def again(tx: Connection, ids: Sequence[int]) -> int:
    """These webhooks are taken in once more, by the parser there is now. Returns how many: none that expired."""
    wait = sa.update(t.inbox).where(bulk.one_of(tx, _i.id, ids), _i.state != "expired")
    return tx.execute(wait.values(state="waiting", error=None, settled_at=None)).rowcount


def expire(tx: Connection, before: datetime, limit: int) -> int:
    """Let the bodies go of some webhooks that were settled before then; their rows stay, to know repeats by.

    So are those that came before then and still wait: their account is switched off, or cannot be read.

    Returns:
        Of how many.
    """
    unread = sa.select(_i.id).where(sa.text("state = 'waiting'"), _i.received_at < before).limit(limit)
    never = list(tx.execute(unread).scalars())
    tx.execute(sa.update(t.inbox).where(bulk.one_of(tx, _i.id, never)).values(**_EMPTY, state="expired", error=_NEVER))
    old = sa.select(_i.id).where(sa.text("state IN ('done', 'failed')"), _i.settled_at < before)  # as the index says it
    ids = list(tx.execute(old.order_by(_i.settled_at).limit(limit)).scalars())
    tx.execute(sa.update(t.inbox).where(bulk.one_of(tx, _i.id, ids)).values(**_EMPTY, state="expired"))
    return max(len(ids), len(never))


def expire_refused(tx: Connection, before: datetime) -> None:
    """Let the bodies go of refused records that were settled before then."""
    q = t.quarantine.c
    tx.execute(sa.update(t.quarantine).where(q.resolved_at < before, q.raw.is_not(None)).values(raw=None))


def find(tx: Connection, number: int) -> Row | None:
    """One webhook."""
    return next(iter(bulk.rows(tx, sa.select(t.inbox).where(_i.id == number))), None)


def listed(tx: Connection, accounts: Sequence[int] | None, state: str | None, limit: int | None) -> list[Row]:
    """The newest webhooks of these accounts (None: all), oldest first, without their bodies but for `size` in bytes."""
    kept = [column for column in t.inbox.columns if column.name != "body"]
    statement = sa.select(*kept, sa.func.length(_i.body).label("size")).order_by(_i.id.desc()).limit(limit)
    if accounts is not None:
        statement = statement.where(bulk.one_of(tx, _i.account_id, accounts))
    if state is not None:
        statement = statement.where(_i.state == state)
    return bulk.rows(tx, statement)[::-1]


# --- strangers --------------------------------------------------------------------------------------------------------


def add_strangers(tx: Connection, rows: Sequence[Row]) -> None:
    """So many more calls of a day could not show that they were an account's vendor's."""
    insert = (sqlite if tx.dialect.name == "sqlite" else postgresql).insert(t.stranger)
    more = {"count": t.stranger.c.count + insert.excluded.count, "last_at": insert.excluded.last_at}
    tx.execute(insert.on_conflict_do_update(index_elements=["account_id", "day"], set_=more), list(rows))


def strangers(tx: Connection, since: date) -> list[Row]:
    """How many there were by account, from a day on, and when the last one was."""
    s = t.stranger.c
    counted = sa.select(s.account_id, sa.func.sum(s.count).label("count"), sa.func.max(s.last_at).label("last_at"))
    return bulk.rows(tx, counted.where(s.day >= since).group_by(s.account_id).order_by(s.account_id))


# --- hints ------------------------------------------------------------------------------------------------------------


def hint(
    tx: Connection,
    account: int,
    refs: Sequence[tuple[str, str]],
    now: datetime,
    correlations: Mapping[tuple[str, str], str | None] = {},
) -> None:
    """These records, as (kind, id), are to be read again.

    Args:
        correlations: what each came of, in logs.
    """
    rows = [
        {
            "account_id": account,
            "kind": kind,
            "external_id": storable(external_id),
            "seen_at": now,
            "correlation_id": correlations.get((kind, external_id)),
        }
        for kind, external_id in sorted(set(refs))
    ]
    bulk.upsert(tx, t.hint, ("account_id", "kind", "external_id"), rows)


def hints(tx: Connection, account: int, limit: int, *, only_new: bool = False) -> list[Row]:
    """What is to be read again, the longest known first; what was never tried only, if so asked."""
    statement = sa.select(t.hint).where(_h.account_id == account).order_by(_h.seen_at).limit(limit)
    return bulk.rows(tx, statement.where(_h.tries == 0) if only_new else statement)


def accounts_hinted(tx: Connection) -> list[int]:
    """Accounts of which something is to be read again that was not tried yet."""
    return list(tx.execute(sa.select(_h.account_id).distinct().where(_h.tries == 0)).scalars())


def blank(tx: Connection, ids: Sequence[int]) -> None:
    """Empty the bodies of these webhooks: they were about somebody who was forgotten."""
    tx.execute(sa.update(t.inbox).where(bulk.one_of(tx, _i.id, ids)).values(**_EMPTY))


def tried_hints(tx: Connection, rows: Sequence[Row]) -> None:
    """These could not be read."""
    tried = [{**row, "tries": row["tries"] + 1} for row in rows]
    bulk.update(tx, t.hint, ("account_id", "kind", "external_id"), ("tries",), tried)


def drop_hints(tx: Connection, rows: Sequence[Row]) -> None:
    """These were read; one that came again in the meantime stays."""
    bulk.delete(tx, t.hint, ("account_id", "kind", "external_id", "seen_at"), rows)


# --- memory -----------------------------------------------------------------------------------------------------------


def remembered(tx: Connection, account: int) -> dict[str, str]:
    """What an account's adapter remembers, as it was encrypted."""
    rows = bulk.rows(tx, sa.select(_m.name, _m.value).where(_m.account_id == account))
    return {row["name"]: row["value"] for row in rows}


def remember(tx: Connection, account: int, values: Mapping[str, str | None], now: datetime) -> None:
    """Keep values under their names; None forgets one."""
    kept: list[dict[str, Any]] = [
        {"account_id": account, "name": name, "value": value, "changed_at": now}
        for name, value in values.items()
        if value is not None
    ]
    bulk.upsert(tx, t.memory, ("account_id", "name"), kept)
    gone = [{"account_id": account, "name": name} for name, value in values.items() if value is None]
    bulk.delete(tx, t.memory, ("account_id", "name"), gone)
