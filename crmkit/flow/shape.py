"""How each kind of record is kept: the columns it says, and its milestones."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from crmkit.core.money import to_minor
from crmkit.core.records import (
    LineRecord,
    OrderRecord,
    ParcelRecord,
    PaymentRecord,
    Record,
    RefundRecord,
    ReturnRecord,
    ReviewRecord,
)
from crmkit.store import tables as t

ORDER_FIELDS = (
    "profile_id",
    "number",
    "parent_external_id",
    "order_kind",
    "status",
    "vendor_status",
    "payment_state",
    "promised_at",
    "currency",
    "basis",
    "items_minor",
    "discount_minor",
    "shipping_minor",
    "tax_minor",
    "fee_minor",
    "total_minor",
    "paid_minor",
    "lines_hash",
    "ship_to",
    "note",
    "tags",
    "extras",
)
_ORDER_PLAIN = frozenset(
    "number parent_external_id order_kind vendor_status promised_at currency ship_to note extras".split()
)
_ORDER_NAMES = frozenset({"status", "payment_state", "basis"})
_ORDER_AMOUNTS = {
    "items_total": "items_minor",
    "discount_total": "discount_minor",
    "shipping_total": "shipping_minor",
    "tax_total": "tax_minor",
    "fee_total": "fee_minor",
    "total": "total_minor",
    "paid": "paid_minor",
}


def order_columns(record: OrderRecord) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for name in record.model_fields_set:
        value = getattr(record, name)
        if name in _ORDER_PLAIN:
            said[name] = value
        elif name in _ORDER_NAMES:
            if value != "unknown":  # a value nobody mapped says nothing; the vendor's word is in vendor_status
                said[name] = str(value)
        elif name in _ORDER_AMOUNTS:
            said[_ORDER_AMOUNTS[name]] = _minor(value, record.currency)
        elif name == "tags":
            said["tags"] = list(value)
        elif name == "lines":
            told = [line.model_dump_json(exclude_unset=True) for line in value]
            said["lines_hash"] = "|".join([record.currency or "", *told])  # amounts are kept in minor units of it
    if "lines_hash" in said:
        said["lines_hash"] = _digest(said["lines_hash"])
    return said


def _digest(content: str) -> str:
    return hashlib.blake2b(content.encode(), digest_size=12).hexdigest()


def _minor(amount: Decimal | None, currency: str | None) -> int | None:
    return None if amount is None or currency is None else to_minor(amount, currency)


def line_row(order: int, position: int, line: LineRecord, currency: str | None) -> dict[str, Any]:
    return {
        "order_id": order,
        "external_id": line.external_id,
        "position": position,
        "sku": line.sku,
        "product_id": line.product_id,
        "variant_id": line.variant_id,
        "title": line.title,
        "quantity": str(line.quantity),
        "unit_price": None if line.unit_price is None else str(line.unit_price),
        "discount_minor": _minor(line.discount, currency),
        "tax_minor": _minor(line.tax, currency),
        "shipping_minor": _minor(line.shipping, currency),
        "total_minor": _minor(line.total, currency),
        "extras": line.extras or None,
    }


@dataclass(frozen=True, slots=True)
class Child:
    """How a record that belongs to an order is kept.

    Attributes:
        table: where.
        fields: the columns it says, newest wins.
        milestones: {column: the event its first filling tells, None if none}.
        columns: from the record to the fields it says.
    """

    table: sa.Table
    fields: tuple[str, ...]
    milestones: Mapping[str, str | None]
    columns: Callable[[Any], dict[str, Any]]


def _plain(*names: str) -> Callable[[Any], dict[str, Any]]:
    def columns(record: Record) -> dict[str, Any]:
        return {name: getattr(record, name) for name in names if name in record.model_fields_set}

    return columns


def _payment(record: PaymentRecord) -> dict[str, Any]:
    said = _plain("method", "vendor_status", "currency", "paid_at", "extras")(record)
    if "amount" in record.model_fields_set:
        said["amount_minor"] = _minor(record.amount, record.currency)
    return said


def _refund(record: RefundRecord) -> dict[str, Any]:
    said = _plain("vendor_status", "currency", "reason", "extras")(record)
    for name in {"requested", "refunded"} & record.model_fields_set:
        said[f"{name}_minor"] = _minor(getattr(record, name), record.currency)
    return said


def _review(record: ReviewRecord) -> dict[str, Any]:
    said = _plain("product_id", "vendor_rating", "title", "text", "extras")(record)
    if "rating" in record.model_fields_set:
        said["rating"] = None if record.rating is None else str(record.rating)
    return said


_PARCEL = ("carrier", "tracking_number", "tracking_url", "vendor_status", "extras")
_RETURN = ("vendor_status", "tracking_number", "reason", "extras")

CHILDREN: dict[type[Record], Child] = {
    ParcelRecord: Child(
        t.parcel, _PARCEL, {"shipped_at": "parcel-shipped", "delivered_at": "parcel-delivered"}, _plain(*_PARCEL)
    ),
    PaymentRecord: Child(
        t.payment, ("method", "vendor_status", "currency", "amount_minor", "paid_at", "extras"), {}, _payment
    ),
    RefundRecord: Child(
        t.refund,
        ("vendor_status", "currency", "requested_minor", "refunded_minor", "reason", "extras"),
        {"requested_at": "refund-requested", "refunded_at": "order-refunded"},
        _refund,
    ),
    ReturnRecord: Child(t.goods_return, _RETURN, {"requested_at": None, "received_at": None}, _plain(*_RETURN)),
    ReviewRecord: Child(
        t.review,
        ("profile_id", "product_id", "rating", "vendor_rating", "title", "text", "extras"),
        {"posted_at": "review-posted"},
        _review,
    ),
}
