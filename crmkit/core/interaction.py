"""The append-only log, the work pending on it, and timers.

An interaction is a row of the log that carries an event. The log is only ever inserted into; what still has to be
decided stands in the narrow `pending` table, which decide empties. A timer is not yet an interaction: it can be moved
and removed, and becomes one, dated at its due time, when it fires.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from crmkit.core.columns import Json, UtcTime

#: A chain of effects (an event that causes an event ...) deeper than this is parked: somebody wrote a loop.
DEPTH_LIMIT = 8
#: A failed (interaction, plugin) pair is retried this often before it is parked.
TRIES_LIMIT = 5

CUSTOMER = "customer"
CRMKIT = "crmkit"


class InteractionRow(SQLModel, table=True):
    """Something that happened between a shop and a customer.

    `actor` is `customer`, `crmkit`, `shop`, `staff:NAME` or `plugin:NAME`. `key` is set where only the log itself can
    tell whether something is new (a message received, an event emitted with a key).
    """

    __tablename__ = "interaction"
    __table_args__ = (
        Index("interaction_profile", "profile_id", "occurred_at"),
        Index(
            "interaction_order",
            "order_id",
            sqlite_where=text("order_id IS NOT NULL"),
            postgresql_where=text("order_id IS NOT NULL"),
        ),
        Index(
            "interaction_key",
            "key",
            unique=True,
            sqlite_where=text("key IS NOT NULL"),
            postgresql_where=text("key IS NOT NULL"),
        ),
    )

    id: int = Field(primary_key=True)
    type: str
    profile_id: int | None = None
    shop_id: int | None = None
    order_id: int | None = None
    actor: str
    occurred_at: datetime = Field(sa_type=UtcTime)
    recorded_at: datetime = Field(sa_type=UtcTime)
    payload: dict[str, Any] | None = Field(default=None, sa_type=Json)
    cause_id: int | None = None
    depth: int = 0
    key: str | None = None
    #: what it came of, in logs: a webhook, or one page of a pull
    correlation_id: str | None = None
    #: True where it tells of history although its own shop announces since earlier; else its time and shop say so
    is_quiet: bool | None = None
    #: the run that brought it, a sync or an import; what came of it later has none
    run_id: int | None = None


class PendingRow(SQLModel, table=True):
    """An interaction that still has to be decided: by every plugin, or by the one that failed.

    Parked (`parked_at` set) once it failed too often; a parked pair blocks nobody.
    """

    __tablename__ = "pending"
    __table_args__ = (
        Index(
            "pending_due",
            "due_at",
            "interaction_id",
            sqlite_where=text("parked_at IS NULL"),
            postgresql_where=text("parked_at IS NULL"),
        ),
        Index("pending_profile", "profile_id"),
    )

    id: int = Field(primary_key=True)
    interaction_id: int
    profile_id: int | None = None
    plugin: str | None = None
    due_at: datetime = Field(sa_type=UtcTime)
    tries: int = 0
    error: str | None = None
    parked_at: datetime | None = Field(default=None, sa_type=UtcTime)


class TimerRow(SQLModel, table=True):
    """An event that will happen: one per plugin and key; asking again moves it."""

    __tablename__ = "timer"
    __table_args__ = (Index("timer_due", "due_at"),)

    plugin: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    type: str
    due_at: datetime = Field(sa_type=UtcTime)
    profile_id: int | None = None
    shop_id: int | None = None
    order_id: int | None = None
    payload: dict[str, Any] | None = Field(default=None, sa_type=Json)
    cause_id: int | None = None
    depth: int = 0
    correlation_id: str | None = None


class QuietRow(SQLModel, table=True):
    """How many sends history would have caused, per template: counted, neither rendered nor stored.

    `recorded_at` is when one was counted last.
    """

    __tablename__ = "quiet"

    shop_id: int = Field(primary_key=True)
    plugin: str = Field(primary_key=True)
    template: str = Field(primary_key=True)
    count: int
    recorded_at: datetime = Field(sa_type=UtcTime)
