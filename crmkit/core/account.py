"""Accounts (shops, sources, gateways): how far each was read, what it was called with, what was refused, the runs."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from crmkit.core.columns import Json, UtcTime
from crmkit.core.reputation import Thresholds

#: From when a shop announces that was never synced.
NOT_YET = datetime(9999, 1, 1, tzinfo=UTC)


class AccountRow(SQLModel, table=True):
    """One configured use of an adapter. Its number outlives its name: keys use the number, so a section may be renamed.

    What happened at a shop before `announce_from` is history and announces nothing; its first sync decides it, and
    while it is None everything is history. `synced_at` is when it was last read to the end without an error.
    `opt_outs_known_at` is when it was said who wanted no marketing of a shop before, `opt_outs_told` by whom and how.
    """

    __tablename__ = "account"
    __table_args__ = (UniqueConstraint("adapter", "vendor_account"),)

    id: int = Field(primary_key=True)
    name: str = Field(unique=True)
    kind: str
    adapter: str
    vendor_account: str | None = None
    announce_from: datetime | None = Field(default=None, sa_type=UtcTime)
    created_at: datetime = Field(sa_type=UtcTime)
    synced_at: datetime | None = Field(default=None, sa_type=UtcTime)
    opt_outs_known_at: datetime | None = Field(default=None, sa_type=UtcTime)
    opt_outs_told: str | None = None


class CursorRow(SQLModel, table=True):
    """How far one stream of an account was read; moves only in the transaction that stores the records before it."""

    __tablename__ = "cursor"

    account_id: int = Field(primary_key=True)
    stream: str = Field(primary_key=True)
    value: dict[str, Any] = Field(sa_type=Json)
    moved_at: datetime = Field(sa_type=UtcTime)


class InboxRow(SQLModel, table=True):
    """A webhook that was verified and kept as it came; what it says is taken in later, and again on replay.

    `state` is `waiting`, `done`, or `failed` where its parser could not read it; `expired` once its body was let go.
    """

    __tablename__ = "inbox"
    __table_args__ = (
        UniqueConstraint("account_id", "dedupe_key"),
        Index(
            "inbox_waiting",
            "account_id",
            "id",
            sqlite_where=text("state = 'waiting'"),
            postgresql_where=text("state = 'waiting'"),
        ),
        Index("inbox_received", "account_id", "received_at"),
        Index(
            "inbox_settled",
            "settled_at",
            sqlite_where=text("state IN ('done', 'failed')"),
            postgresql_where=text("state IN ('done', 'failed')"),
        ),
    )

    id: int = Field(primary_key=True)
    account_id: int
    dedupe_key: str
    received_at: datetime = Field(sa_type=UtcTime)
    headers: dict[str, str] | None = Field(default=None, sa_type=Json)
    query: str = ""
    body: bytes
    #: tells this call, and what came of it, from others in logs: from webhook to receipt
    correlation_id: str | None = None
    #: what it was found to be about, `kind:id` each
    refs: list[str] | None = Field(default=None, sa_type=Json)
    state: str = "waiting"
    error: str | None = None
    tries: int = 0
    settled_at: datetime | None = Field(default=None, sa_type=UtcTime)


class HintRow(SQLModel, table=True):
    """A record that a webhook only hinted at: it is read again by id at the next sync."""

    __tablename__ = "hint"

    account_id: int = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    external_id: str = Field(primary_key=True)
    seen_at: datetime = Field(sa_type=UtcTime)
    tries: int = 0
    correlation_id: str | None = None


class StrangerRow(SQLModel, table=True):
    """How many calls to an account's door could not show, on a day, that they were its vendor's; no more is kept."""

    __tablename__ = "stranger"

    account_id: int = Field(primary_key=True)
    day: date = Field(primary_key=True)
    count: int = 0
    last_at: datetime = Field(sa_type=UtcTime)


class MemoryRow(SQLModel, table=True):
    """What an adapter remembers for one account: a name, and a value only the installation's key can read."""

    __tablename__ = "memory"

    account_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    value: str
    changed_at: datetime = Field(sa_type=UtcTime)


class QuarantineRow(SQLModel, table=True):
    """A record, or a field of one, that could not be taken: its place, its raw body and the reason.

    `scope` is `record` where nothing of it was stored and `field` where the record landed without that field.
    `inbox_id` is the webhook that it came by.
    """

    __tablename__ = "quarantine"
    __table_args__ = (
        UniqueConstraint("key"),
        Index(
            "quarantine_open",
            "account_id",
            "ref",
            sqlite_where=text("resolved_at IS NULL"),
            postgresql_where=text("resolved_at IS NULL"),
        ),
    )

    id: int = Field(primary_key=True)
    key: str
    account_id: int
    stream: str
    kind: str
    scope: str
    ref: str | None = None
    place: str
    reason: str
    raw: str | None = None
    inbox_id: int | None = None
    seen_at: datetime = Field(sa_type=UtcTime)
    tries: int = 1
    resolved_at: datetime | None = Field(default=None, sa_type=UtcTime)


class RunRow(SQLModel, table=True):
    """One run of a command: when, with what outcome, how much it did."""

    __tablename__ = "run"

    id: int = Field(primary_key=True)
    command: str
    started_at: datetime = Field(sa_type=UtcTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcTime)
    outcome: str | None = None
    counts: dict[str, Any] | None = Field(default=None, sa_type=Json)


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop as handlers and templates see it.

    Attributes:
        id: the stored account's number.
        name: its section in the configuration.
        title: what buyers know it by.
        reports: what its adapter can tell: of `placed`, `paid`, `shipped`, `delivered`, `completed`, `cancelled`,
            `parcels`, `payments`, `refunds`, `returns`, `reviews`, `customers`. What is not here did not *not* happen.
        announce_from: what happened before is history.
        kind: `shop`, `source` or `gateway`: what happens at a gateway happens at no shop of its own.
        run: the run that reads it now: what it alone writes can be undone; None where no run does.
        watch: of a gateway, how much of what it sends may go wrong before it pauses; None: it is not watched.
    """

    id: int
    name: str
    title: str
    reports: frozenset[str]
    announce_from: datetime
    locale: str
    zone: ZoneInfo
    region: str | None = None
    kind: str = "shop"
    watch: Thresholds | None = None
    run: int | None = None
