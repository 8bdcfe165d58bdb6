"""One message to many: whom it is for, and the members it was frozen to.

An audience is a description, not a query: the store turns it into one SELECT over customers. It is frozen before
anybody is told, so that who comes to fit it later is not in it, and nobody is in it twice.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from crmkit.core.columns import Json, UtcTime


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Customers of whom all of this is true; every customer there is where nothing is said.

    Orders are counted as far as they were placed by the run's clock and are not cancelled; with `shops`, those of these
    shops.

    Attributes:
        shops: names of shops: who ordered at one of them.
        stages: lifecycle stages: who is in one of them.
        countries: two-letter countries.
        locales: `pt` takes `pt-BR` too.
        ordered_since: who placed an order at or after this moment.
        not_ordered_since: who placed none at or after this moment.
        orders: who placed at least so many.
        customers: customers' numbers (`event.customer.id`): who is among them.
        table, where: a table of the plugin's own whose `__customer__` names its column of customers' numbers: who has a
            row there whose columns equal `where`.
    """

    shops: Collection[str] = ()
    stages: Collection[str] = ()
    countries: Collection[str] = ()
    locales: Collection[str] = ()
    ordered_since: datetime | None = None
    not_ordered_since: datetime | None = None
    orders: int = 0
    customers: Collection[int] | None = None
    table: type[SQLModel] | None = None
    where: Mapping[str, Any] = field(default_factory=dict)


def customer_column(model: type[SQLModel]) -> str | None:
    """The column of a plugin's table that holds customers' numbers, as its model names it; None if it names none."""
    named: str | None = getattr(model, "__customer__", None)
    return named


class BroadcastRow(SQLModel, table=True):
    """A broadcast: what is said, and by what it is one of a kind."""

    __tablename__ = "broadcast"
    __table_args__ = (UniqueConstraint("key"),)

    id: int = Field(primary_key=True)
    key: str
    plugin: str
    template: str
    via: list[str] = Field(sa_type=Json)
    context: dict[str, Any] | None = Field(default=None, sa_type=Json)
    not_before: datetime | None = Field(default=None, sa_type=UtcTime)
    #: the share of members who are held out, in millionths
    hold_out: int = 0
    #: what caused it
    interaction_id: int
    frozen_at: datetime = Field(sa_type=UtcTime)


class BroadcastMemberRow(SQLModel, table=True):
    """A customer a broadcast is for. `address` and `message_id` are there once it is decided: of one address, one."""

    __tablename__ = "broadcast_member"
    __table_args__ = (UniqueConstraint("broadcast_id", "address"),)

    broadcast_id: int = Field(primary_key=True)
    profile_id: int = Field(primary_key=True)
    #: what tells the member's turn
    interaction_id: int
    address: str | None = None
    message_id: int | None = None
