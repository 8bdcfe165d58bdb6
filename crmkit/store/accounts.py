"""Shops and sources with their cursors, what was refused, and the runs."""

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.account import Shop
from crmkit.core.columns import storable
from crmkit.core.errors import ConfigError
from crmkit.core.log import CURSOR_STAYS
from crmkit.store import bulk, lines
from crmkit.store import tables as t
from crmkit.store.bulk import Row

#: When a cursor moved that never gave anything.
NEVER = datetime(2000, 1, 1, tzinfo=UTC)


def find(tx: Connection, name: str) -> Row | None:
    """The account stored under this name."""
    return next(iter(bulk.rows(tx, sa.select(t.account).where(t.account.c.name == name))), None)


def every(tx: Connection) -> list[Row]:
    """Every account, oldest first."""
    return bulk.rows(tx, sa.select(t.account).order_by(t.account.c.id))


def installation(tx: Connection, now: datetime) -> str:
    """What tells this installation from every other: drawn when it is first asked for, and the same ever after."""
    statement = sa.select(t.secret.c.mark).where(t.secret.c.name == "installation")
    mark = tx.execute(statement).scalar()
    if mark is None:  # perhaps another process draws it at this moment
        bulk.lock(tx, "installation")
        mark = tx.execute(statement).scalar()
    if mark is None:
        mark = secrets.token_hex(16)
        bulk.insert(tx, t.secret, [{"name": "installation", "mark": mark, "value": None, "created_at": now}])
    return str(mark)


def meet(
    tx: Connection,
    *,
    name: str,
    kind: str,
    adapter: str,
    vendor_account: str | None,
    announce_from: datetime | None,
    now: datetime,
) -> tuple[int, datetime | None]:
    """The stored number and `announce_from` of an account, stored now if it is new.

    An `announce_from` once stored stays, unless the configuration names another; None leaves it to another time.

    Raises:
        ConfigError: another section already reads the same account of the vendor.
    """
    row = find(tx, name)
    if row is None:  # perhaps another process meets it at this moment
        bulk.lock(tx, f"account {name}")
        row = find(tx, name)
    if vendor_account is not None:
        same = (t.account.c.adapter == adapter, t.account.c.vendor_account == vendor_account, t.account.c.name != name)
        twin = next(iter(bulk.rows(tx, sa.select(t.account).where(*same))), None)
        if twin is not None:
            raise ConfigError(
                f"{name} and {twin['name']} read one and the same account ({vendor_account})",
                who=f"shops.{name}",
                do=f"remove one; where only the name changed, run `crmkit shops rename {twin['name']} {name}`",
            )
    if row is not None:
        if vendor_account is not None and row["vendor_account"] not in {None, vendor_account}:
            raise ConfigError(
                f"it reads {vendor_account} now, and read {row['vendor_account']} before",
                who=f"shops.{name}",
                do=f"give another shop a section of its own; where this one moved, run `crmkit shops moved {name}`",
            )
        if row["vendor_account"] is None and vendor_account is not None:
            c = t.account.c
            tx.execute(sa.update(t.account).where(c.id == row["id"]).values(vendor_account=vendor_account))
        if row["announce_from"] is None and announce_from is not None:
            set_announce_from(tx, row["id"], announce_from)
        return row["id"], row["announce_from"] or announce_from
    number = bulk.next_ids(tx, t.account, 1)[0]
    values = {
        "id": number,
        "name": name,
        "kind": kind,
        "adapter": adapter,
        "vendor_account": vendor_account,
        "announce_from": announce_from,
        "created_at": now,
    }
    bulk.insert(tx, t.account, [values])
    return number, announce_from


def rename(tx: Connection, old: str, new: str) -> int:
    """Give an account another name; all that is kept of it is kept by its number, which is returned.

    Raises:
        ConfigError: there is none of the old name, or there is one of the new.
    """
    row, taken = find(tx, old), find(tx, new)
    if row is None:
        known = ", ".join(one["name"] for one in every(tx) if one["kind"] != "gateway") or "none"
        raise ConfigError(f"no shop {old!r} was ever synced", who="shops", operation="rename", do=f"known are: {known}")
    if taken is not None:
        raise ConfigError(
            f"a shop {new!r} was synced already, and cannot take over what {old!r} is",
            who="shops",
            operation="rename",
            do="take another name",
        )
    tx.execute(sa.update(t.account).where(t.account.c.id == row["id"]).values(name=new))
    number: int = row["id"]
    return number


def moved(tx: Connection, name: str) -> int:
    """The vendor calls an account otherwise from now on; what it is called is learnt when it is next read.

    Raises:
        ConfigError: there is no such shop.
    """
    row = find(tx, name)
    if row is None:
        raise ConfigError(f"no shop {name!r} was ever synced", who="shops", operation="moved", do="see `shops list`")
    tx.execute(sa.update(t.account).where(t.account.c.id == row["id"]).values(vendor_account=None))
    number: int = row["id"]
    return number


def set_announce_from(tx: Connection, account: int, announce_from: datetime) -> None:
    """Move the moment before which all is history."""
    tx.execute(sa.update(t.account).where(t.account.c.id == account).values(announce_from=announce_from))


def opt_outs(tx: Connection) -> dict[int, bool]:
    """Of every shop, whether it is known who wanted no marketing before."""
    c = t.account.c
    rows = tx.execute(sa.select(c.id, c.opt_outs_known_at).where(c.kind == "shop"))
    return {number: known_at is not None for number, known_at in rows}


def know_opt_outs(tx: Connection, shops: Iterable[int], now: datetime, told: str) -> None:
    """It is known of these shops who wanted no marketing before; `told` is by whom, and how."""
    c = t.account.c
    statement = sa.update(t.account).where(bulk.one_of(tx, c.id, sorted(shops)), c.kind == "shop")
    tx.execute(statement.values(opt_outs_known_at=now, opt_outs_told=told))


def set_synced(tx: Connection, account: int, now: datetime) -> None:
    """An account was read to the end, without an error."""
    tx.execute(sa.update(t.account).where(t.account.c.id == account).values(synced_at=now))


@dataclass(frozen=True, slots=True)
class Stood:
    """Where a stream's cursor stood when a reading last knew: that moves it on from there alone.

    Attributes:
        at: None where it had none yet.
    """

    at: Mapping[str, Any] | None


def cursor(tx: Connection, account: int, stream: str) -> dict[str, Any] | None:
    """How far a stream was read."""
    found = tx.execute(
        sa.select(t.cursor.c.value).where(t.cursor.c.account_id == account, t.cursor.c.stream == stream)
    ).scalar()
    return dict(found) if found is not None else None


def move_cursor(
    tx: Connection,
    shop: Shop,
    stream: str,
    value: Mapping[str, Any],
    now: datetime,
    *,
    stood: Stood,
    is_news: bool = True,
) -> None:
    """Note how far a stream was read.

    Args:
        stood: where this reading knows it to stand. Where it is elsewhere by now, another reads the account too, and it
            stays: whoever was frozen meanwhile does not put it back. That is told in the log.
        is_news: whether it gave anything; else only time has passed, and `moved_at` stays as it is.
    """
    c = t.cursor.c
    bulk.lock(tx, f"cursor {shop.id}")
    found = bulk.rows(tx, sa.select(c.value, c.moved_at).where(c.account_id == shop.id, c.stream == stream))
    stands = found[0]["value"] if found else None
    if stands == dict(value):
        return
    if stood.at != stands:
        lines.later(tx, CURSOR_STAYS, account=shop.name, stream=stream)
        return
    moved_at = now if is_news else found[0]["moved_at"] if found else NEVER
    row = {"account_id": shop.id, "stream": stream, "value": dict(value), "moved_at": moved_at}
    bulk.upsert(tx, t.cursor, ("account_id", "stream"), [row])


# --- quarantine -------------------------------------------------------------------------------------------------------


def quarantine_key(
    account: int, kind: str, scope: str, place: str, raw: str | None, reason: str, *, is_placed: bool = False
) -> str:
    """What makes a refusal the same one when it is met again: what was refused and why, not where in a grown file.

    Args:
        is_placed: its place tells it from others that read alike.
    """
    what = place if raw is None else f"{place} {raw}" if is_placed or scope != "record" else raw
    told = "\x1f".join((str(account), kind, scope, what, reason))
    return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def quarantine(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Keep what was refused; what is kept already is left alone. Returns how many are new.

    Whatever made it unfit for the database (a NUL, half a character) is shown escaped.
    """
    if not rows:
        return 0
    rows = [{name: storable(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows]
    known = {
        row["key"]: row["resolved_at"]
        for row in bulk.select_in(
            tx, (t.quarantine.c.key, t.quarantine.c.resolved_at), t.quarantine.c.key, [row["key"] for row in rows]
        )
    }
    again = [row["key"] for row in rows if known.get(row["key"]) is not None]
    if again:
        tx.execute(sa.update(t.quarantine).where(t.quarantine.c.key.in_(again)).values(resolved_at=None))
    fresh = list({row["key"]: row for row in rows if row["key"] not in known}.values())
    ids = bulk.next_ids(tx, t.quarantine, len(fresh))
    bulk.insert(tx, t.quarantine, [{**row, "id": number} for number, row in zip(ids, fresh, strict=True)])
    return len(fresh) + len(again)


def open_quarantine(tx: Connection, account: int | None = None) -> list[Row]:
    """What is in quarantine, oldest first."""
    statement = sa.select(t.quarantine).where(t.quarantine.c.resolved_at.is_(None)).order_by(t.quarantine.c.id)
    if account is not None:
        statement = statement.where(t.quarantine.c.account_id == account)
    return bulk.rows(tx, statement)


def resolve(
    tx: Connection, account: int, landed: Iterable[tuple[str, str]], now: datetime, still: Iterable[str] = ()
) -> int:
    """Close what has landed since, as (kind, ref); `still` are keys of refusals that stand all the same."""
    wanted, stands = set(landed), set(still)
    q = t.quarantine.c
    open_ones = bulk.select_in(
        tx,
        (q.id, q.kind, q.ref, q.key),
        q.ref,
        {ref for _, ref in wanted},
        q.account_id == account,
        q.resolved_at.is_(None),
    )
    closed = [row["id"] for row in open_ones if (row["kind"], row["ref"]) in wanted and row["key"] not in stands]
    if closed:
        tx.execute(sa.update(t.quarantine).where(t.quarantine.c.id.in_(closed)).values(resolved_at=now))
    return len(closed)


def read_from(tx: Connection, account: int, told: Mapping[int, Sequence[str]], now: datetime) -> None:
    """What webhooks of an account, by number, were found to hold that is refused, by key.

    What an earlier reading of them refused, and this one did not, is settled.
    """
    q = t.quarantine.c
    of = {key: number for number, keys in told.items() for key in keys}
    bulk.update(tx, t.quarantine, ("key",), ("inbox_id",), [{"key": key, "inbox_id": of[key]} for key in sorted(of)])
    before = bulk.select_in(tx, (q.id, q.key), q.inbox_id, told, q.account_id == account, q.resolved_at.is_(None))
    closed = [row["id"] for row in before if row["key"] not in of]
    if closed:
        tx.execute(sa.update(t.quarantine).where(bulk.one_of(tx, q.id, closed)).values(resolved_at=now))


def tried(tx: Connection, ids: Sequence[int]) -> None:
    """Count one more try for what could not be taken again."""
    if ids:
        tx.execute(sa.update(t.quarantine).where(t.quarantine.c.id.in_(ids)).values(tries=t.quarantine.c.tries + 1))


# --- runs -------------------------------------------------------------------------------------------------------------


def begin_run(tx: Connection, command: str, now: datetime) -> int:
    """Note that a command began."""
    number = bulk.next_ids(tx, t.run, 1)[0]
    bulk.insert(tx, t.run, [{"id": number, "command": command, "started_at": now}])
    return number


def end_run(tx: Connection, number: int, outcome: str, counts: Mapping[str, Any], now: datetime) -> None:
    """Note how a command ended."""
    tx.execute(
        sa.update(t.run).where(t.run.c.id == number).values(finished_at=now, outcome=outcome, counts=dict(counts))
    )
