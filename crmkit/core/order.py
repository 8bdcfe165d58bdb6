"""Orders and what belongs to them: tables, the rules of their milestones, and the views handlers are given.

A milestone happens once. An order is shipped with its first parcel; it is delivered when its vendor says so, or with
its last parcel where the vendor says of how many parcels it consists. Both only ever become known earlier, so the
order in which records arrive cannot matter. `status` is what the vendor said last, and may go back.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from crmkit.core.columns import Json, UtcTime
from crmkit.core.money import Money
from crmkit.core.records import OrderRecord, OrderStatus

#: An order's milestones in the order of their rank.
MILESTONES = ("placed", "paid", "shipped", "delivered", "completed", "cancelled")
RANK = {name: rank for rank, name in enumerate(MILESTONES)}


class Versioned(SQLModel):
    """The columns in which `version.join` keeps what was said when."""

    version_updated: str
    version_observed: str
    version_hash: str
    said: int
    older: dict[str, Any] | None = Field(default=None, sa_type=Json)
    #: the run that wrote it, while no other did
    run_id: int | None = None


_OPEN = text("delivered_at IS NULL AND completed_at IS NULL AND cancelled_at IS NULL")


class OrderRow(Versioned, table=True):
    """An order. Amounts are minor units of `currency`, and `basis` says whose view they are."""

    __tablename__ = "orders"
    __table_args__ = (
        UniqueConstraint("shop_id", "external_id"),
        Index("orders_profile", "profile_id"),
        Index("orders_placed", "shop_id", "placed_at"),
        Index("orders_open", "shop_id", "id", sqlite_where=_OPEN, postgresql_where=_OPEN),
    )

    id: int = Field(primary_key=True)
    shop_id: int
    external_id: str
    #: None until some record says who bought
    profile_id: int | None = None
    number: str | None = None
    parent_external_id: str | None = None
    order_kind: str | None = None
    status: str = "unknown"
    vendor_status: str | None = None
    payment_state: str = "unknown"
    placed_at: datetime | None = Field(default=None, sa_type=UtcTime)
    paid_at: datetime | None = Field(default=None, sa_type=UtcTime)
    shipped_at: datetime | None = Field(default=None, sa_type=UtcTime)
    delivered_at: datetime | None = Field(default=None, sa_type=UtcTime)
    completed_at: datetime | None = Field(default=None, sa_type=UtcTime)
    cancelled_at: datetime | None = Field(default=None, sa_type=UtcTime)
    promised_at: datetime | None = Field(default=None, sa_type=UtcTime)
    parcel_total: int | None = None
    currency: str | None = None
    basis: str = "buyer_charge"
    items_minor: int | None = None
    discount_minor: int | None = None
    shipping_minor: int | None = None
    tax_minor: int | None = None
    fee_minor: int | None = None
    total_minor: int | None = None
    paid_minor: int | None = None
    #: tells whether the lines changed without reading them
    lines_hash: str | None = None
    ship_to: dict[str, Any] | None = Field(default=None, sa_type=Json)
    note: str | None = None
    tags: list[str] | None = Field(default=None, sa_type=Json)
    extras: dict[str, Any] | None = Field(default=None, sa_type=Json)


class LineRow(SQLModel, table=True):
    """One line of an order, as the newest version of the order that says its lines has it."""

    __tablename__ = "order_line"

    order_id: int = Field(primary_key=True)
    external_id: str = Field(primary_key=True)
    position: int
    sku: str | None = None
    product_id: str | None = None
    variant_id: str | None = None
    title: str | None = None
    quantity: str = "1"
    #: the unit price as written, since it may be finer than a minor unit
    unit_price: str | None = None
    discount_minor: int | None = None
    tax_minor: int | None = None
    shipping_minor: int | None = None
    total_minor: int | None = None
    extras: dict[str, Any] | None = Field(default=None, sa_type=Json)


def _waiting(table: str) -> Index:
    """Children whose order has not arrived."""
    return Index(
        f"{table}_waiting",
        "shop_id",
        "order_external_id",
        sqlite_where=text("is_waiting"),
        postgresql_where=text("is_waiting"),
    )


def _of_an_order(table: str) -> tuple[UniqueConstraint, Index, Index]:
    """What is told by the vendor's id, and found by its order, which it may have to wait for."""
    by_order = Index(f"{table}_order", "shop_id", "order_external_id")
    return UniqueConstraint("shop_id", "external_id"), by_order, _waiting(table)


class ParcelRow(Versioned, table=True):
    """A parcel. `is_waiting` until its order has landed; it tells nothing before."""

    __tablename__ = "parcel"
    __table_args__ = (UniqueConstraint("shop_id", "order_external_id", "key"), _waiting("parcel"))

    id: int = Field(primary_key=True)
    shop_id: int
    order_external_id: str
    key: str
    is_waiting: bool
    carrier: str | None = None
    tracking_number: str | None = None
    tracking_url: str | None = None
    vendor_status: str | None = None
    shipped_at: datetime | None = Field(default=None, sa_type=UtcTime)
    delivered_at: datetime | None = Field(default=None, sa_type=UtcTime)
    extras: dict[str, Any] | None = Field(default=None, sa_type=Json)


class PaymentRow(Versioned, table=True):
    """A payment towards an order."""

    __tablename__ = "payment"
    __table_args__ = _of_an_order("payment")

    id: int = Field(primary_key=True)
    shop_id: int
    external_id: str
    order_external_id: str
    is_waiting: bool
    method: str | None = None
    vendor_status: str | None = None
    currency: str | None = None
    amount_minor: int | None = None
    paid_at: datetime | None = Field(default=None, sa_type=UtcTime)
    extras: dict[str, Any] | None = Field(default=None, sa_type=Json)


class RefundRow(Versioned, table=True):
    """Money going back to the buyer."""

    __tablename__ = "refund"
    __table_args__ = _of_an_order("refund")

    id: int = Field(primary_key=True)
    shop_id: int
    external_id: str
    order_external_id: str
    is_waiting: bool
    vendor_status: str | None = None
    currency: str | None = None
    requested_minor: int | None = None
    refunded_minor: int | None = None
    requested_at: datetime | None = Field(default=None, sa_type=UtcTime)
    refunded_at: datetime | None = Field(default=None, sa_type=UtcTime)
    reason: str | None = None
    extras: dict[str, Any] | None = Field(default=None, sa_type=Json)


class ReturnRow(Versioned, table=True):
    """Goods going back to the shop."""

    __tablename__ = "goods_return"
    __table_args__ = _of_an_order("goods_return")

    id: int = Field(primary_key=True)
    shop_id: int
    external_id: str
    order_external_id: str
    is_waiting: bool
    vendor_status: str | None = None
    tracking_number: str | None = None
    requested_at: datetime | None = Field(default=None, sa_type=UtcTime)
    received_at: datetime | None = Field(default=None, sa_type=UtcTime)
    reason: str | None = None
    extras: dict[str, Any] | None = Field(default=None, sa_type=Json)


class ReviewRow(Versioned, table=True):
    """What a buyer wrote. `rating` is 1 to 5 as text, since it may have a fraction."""

    __tablename__ = "review"
    __table_args__ = _of_an_order("review")

    id: int = Field(primary_key=True)
    shop_id: int
    external_id: str
    order_external_id: str | None = None
    profile_id: int | None = None
    is_waiting: bool
    product_id: str | None = None
    rating: str | None = None
    vendor_rating: str | None = None
    title: str | None = None
    text: str | None = None
    posted_at: datetime | None = Field(default=None, sa_type=UtcTime)
    extras: dict[str, Any] | None = Field(default=None, sa_type=Json)


# --- rules ------------------------------------------------------------------------------------------------------------


def milestones_of(record: OrderRecord) -> dict[str, datetime | None]:
    """The milestones one version of an order gives, by column.

    The milestone its status names takes the time of the vendor's last change where the vendor gives no time of its own.
    """
    times = {f"{name}_at": getattr(record, f"{name}_at") for name in MILESTONES}
    status = str(record.status)
    if status in RANK and times[f"{status}_at"] is None:
        times[f"{status}_at"] = record.changed_at
    return times


def parcel_milestones(
    parcels: Iterable[tuple[datetime | None, datetime | None]], parcel_total: int | None
) -> dict[str, datetime | None]:
    """What an order's parcels, as (shipped_at, delivered_at), say of the order.

    Delivered with the last of `parcel_total`, None where the vendor never said how many there are.
    """
    known = list(parcels)
    shipped = [at for at, _ in known if at is not None]
    delivered = sorted(at for _, at in known if at is not None)
    complete = parcel_total is not None and len(delivered) >= parcel_total
    return {
        "shipped_at": min(shipped, default=None),
        "delivered_at": delivered[parcel_total - 1] if complete and parcel_total else None,
    }


# --- views ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an order as handlers and templates see it."""

    title: str | None
    quantity: Decimal
    sku: str | None = None
    product_id: str | None = None
    total: Money | None = None


@dataclass(frozen=True, slots=True)
class Parcel:
    """A parcel as known at a moment."""

    id: int
    key: str
    carrier: str | None = None
    tracking_number: str | None = None
    tracking_url: str | None = None
    shipped_at: datetime | None = None
    delivered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Refund:
    """Money going back, as known at a moment."""

    id: int
    external_id: str
    amount: Money | None = None
    requested_at: datetime | None = None
    refunded_at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """A review."""

    id: int
    external_id: str
    rating: Decimal | None = None
    title: str | None = None
    text: str | None = None
    posted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """An order as known at a moment: milestones that come later are not there yet.

    Attributes:
        id: the stored order's number; `external_id` is the shop's, `number` what the buyer knows it by.
        basis: whose view the amounts are: `buyer_charge`, `seller_proceeds` or `receivable`.
        status: the vendor's last word, or the latest milestone of the moment.
        promised_at: delivery was promised before this moment.
    """

    id: int
    shop_id: int
    external_id: str
    number: str
    status: str
    currency: str | None = None
    basis: str = "buyer_charge"
    total: Money | None = None
    shipping: Money | None = None
    placed_at: datetime | None = None
    paid_at: datetime | None = None
    shipped_at: datetime | None = None
    delivered_at: datetime | None = None
    completed_at: datetime | None = None
    cancelled_at: datetime | None = None
    promised_at: datetime | None = None
    lines: tuple[Line, ...] = ()
    parcels: tuple[Parcel, ...] = ()
    note: str | None = None
    extras: Mapping[str, Any] | None = None

    @property
    def is_cancelled(self) -> bool:
        """Cancelled, and not reopened since."""
        return self.status == OrderStatus.CANCELLED

    @property
    def is_delivered(self) -> bool:
        """Known to have arrived: delivered, or completed."""
        return self.delivered_at is not None or self.completed_at is not None

    def reached(self, milestone: str) -> datetime | None:
        """When the order reached `milestone`, None if it has not; a cancellation that was taken back does not count."""
        if milestone == "cancelled" and not self.is_cancelled:
            return None
        moment: datetime | None = getattr(self, f"{milestone}_at")
        return moment


def order_at(
    row: Mapping[str, Any], now: datetime, lines: Iterable[Line] = (), parcels: Iterable[Parcel] = ()
) -> Order:
    """The order a row holds, as it was known at `now`."""
    times = {name: (at if (at := row[f"{name}_at"]) is not None and at <= now else None) for name in MILESTONES}
    hidden = any(row[f"{name}_at"] is not None and times[name] is None for name in MILESTONES)
    status = row["status"]
    if hidden and (status not in times or times[status] is None):
        status = max((name for name in MILESTONES if times[name] is not None), key=RANK.__getitem__, default="unknown")
    currency = row["currency"]
    return Order(
        id=row["id"],
        shop_id=row["shop_id"],
        external_id=row["external_id"],
        number=row["number"] or row["external_id"],
        status=status,
        currency=currency,
        basis=row["basis"],
        total=Money.of_minor(row["total_minor"], currency),
        shipping=Money.of_minor(row["shipping_minor"], currency),
        promised_at=row["promised_at"],
        lines=tuple(lines),
        parcels=tuple(parcels),
        note=row["note"],
        extras=row["extras"],
        **{f"{name}_at": at for name, at in times.items()},
    )
