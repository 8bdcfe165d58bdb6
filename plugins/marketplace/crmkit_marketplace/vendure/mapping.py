"""From what the shop says to records. Functions of their arguments alone.

An order's `updatedAt` stands still while its parcels, payments and refunds move, so a record's version is the latest of
all of them. When something came about is told by the order's history; where that is silent, the milestone takes the
time of the last change, as everywhere.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from crmkit import (
    Buyer,
    CustomerRecord,
    LineRecord,
    OrderRecord,
    OrderStatus,
    ParcelRecord,
    PaymentRecord,
    PaymentState,
    Record,
    RefundRecord,
)

from .settings import VendureSettings
from .shape import (
    VendureCustomer,
    VendureEntry,
    VendureFulfillment,
    VendureLine,
    VendureOrder,
    VendurePayment,
    VendureRefund,
)

#: What the states of Vendure's own order process mean.
_MEANING = {
    "Created": "ignored",
    "Draft": "ignored",
    "AddingItems": "ignored",
    "ArrangingPayment": "ignored",
    "PaymentAuthorized": "placed",
    "PaymentSettled": "paid",
    "PartiallyShipped": "shipped",
    "Shipped": "shipped",
    "PartiallyDelivered": "shipped",
    "Delivered": "delivered",
    "Cancelled": "cancelled",
}
#: While somebody changes an order, it stays what it was before.
_BETWEEN = frozenset({"Modifying", "ArrangingAdditionalPayment"})
#: What an order may come to.
_REACHED = frozenset({"paid", "shipped", "delivered", "completed", "cancelled"})
#: Parcels that left, and those of them that arrived.
_LEFT, _ARRIVED = frozenset({"Shipped", "Delivered"}), frozenset({"Delivered"})


def status_of(order: VendureOrder, settings: VendureSettings) -> OrderStatus | None:
    """Where an order stands; None: it is none yet (a cart)."""
    meaning = _meaning_of(_settled_state(order, settings), settings)
    if meaning == "ignored":
        return OrderStatus.PLACED if order.order_placed_at is not None and not order.active else None
    return OrderStatus(meaning)


def _meaning_of(state: str, settings: VendureSettings) -> str:
    return settings.states.get(state) or _MEANING.get(state, "unknown")


def _settled_state(order: VendureOrder, settings: VendureSettings) -> str:
    """Its state, or that from which somebody began to change it, as its history tells."""
    state = order.state
    for entry in reversed(_moves(order)):
        if state not in _BETWEEN or state in settings.states:
            break
        state = str(entry.data.get("from")) if entry.data.get("to") == state else state
    return state


def _moves(order: VendureOrder) -> list[VendureEntry]:
    """How it went from state to state, oldest first."""
    moves = [entry for entry in order.history.items if entry.type == "ORDER_STATE_TRANSITION"]
    return sorted(moves, key=lambda entry: entry.created_at)


def _milestones(order: VendureOrder, status: OrderStatus, settings: VendureSettings) -> Iterator[tuple[str, datetime]]:
    """What an order came to, and when first, as its history tells; one that was cancelled and is open again was not.

    A history whose times have no milliseconds, as on SQLite, would have an order paid before it was placed.
    """
    placed_at = order.order_placed_at or order.created_at
    for entry in reversed(_moves(order)):
        meaning = _meaning_of(str(entry.data.get("to")), settings)
        if meaning in _REACHED and (meaning != "cancelled" or status is OrderStatus.CANCELLED):
            yield f"{meaning}_at", max(entry.created_at, placed_at)


def counts(order: VendureOrder, settings: VendureSettings) -> bool:
    """Whether it is the buyer's order, or a seller's, as the shop is read: never both."""
    return order.type != ("Aggregate" if settings.seller_orders else "Seller")


def to_records(order: VendureOrder, settings: VendureSettings, seen_at: datetime | None) -> list[Record]:
    """An order with its payments and refunds; none of a cart, or of what is counted elsewhere."""
    status = status_of(order, settings)
    if status is None or order.order_placed_at is None or not counts(order, settings):
        return []
    payments = order.payments or []
    return [
        to_order(order, status, settings, seen_at),
        *(to_payment(order, payment, settings, seen_at) for payment in payments),
        *(to_refund(order, refund, settings, seen_at) for payment in payments for refund in payment.refunds),
    ]


def to_order(
    order: VendureOrder, status: OrderStatus, settings: VendureSettings, seen_at: datetime | None
) -> OrderRecord:
    """An order. The totals are without tax, which is `tax_total`; a line's amounts hold it."""
    amount = partial(_amount, settings=settings)
    payments = order.payments or []
    settled = [payment for payment in payments if payment.state == "Settled"]
    fees = sum(surcharge.price for surcharge in order.surcharges)
    items = sum(line.line_price for line in order.lines)
    parcels = list(_parcels(order, seen_at))
    said: dict[str, Any] = dict(_milestones(order, status, settings))  # the first of each is the last that is yielded
    if settled:
        said["paid"] = amount(sum(payment.amount for payment in settled))
    return OrderRecord(
        external_id=order.id,
        number=order.code,
        parent_external_id=order.aggregate_order.id if order.aggregate_order else None,
        status=status,
        vendor_status=order.state,
        payment_state=_payment_state(order, settled),
        placed_at=order.order_placed_at,
        currency=order.currency_code.upper(),
        items_total=amount(items),
        discount_total=amount(items + fees - order.sub_total),
        shipping_total=amount(order.shipping),
        tax_total=amount(order.total_with_tax - order.total),
        fee_total=amount(fees),
        total=amount(order.total_with_tax),
        buyer=to_buyer(order.customer, order.shipping_address or {}) if order.customer is not None else None,
        ship_to={key: value for key, value in (order.shipping_address or {}).items() if value} or None,
        lines=tuple(_to_line(line, settings) for line in order.lines),
        parcels=tuple(parcels),
        extras={"coupons": order.coupon_codes} if order.coupon_codes else {},
        updated_at=_changed_at(order),
        observed_at=seen_at,
        **said,
    )


def _changed_at(order: VendureOrder) -> datetime:
    payments = order.payments or []
    return max(
        order.updated_at,
        *(payment.updated_at for payment in payments),
        *(refund.updated_at for payment in payments for refund in payment.refunds),
        *(fulfillment.updated_at for fulfillment, _ in _fulfillments(order)),
        *(entry.created_at for entry in order.history.items),
        order.created_at,
    )


def _payment_state(order: VendureOrder, settled: list[VendurePayment]) -> PaymentState:
    paid = sum(payment.amount for payment in settled)
    if settled and paid >= order.total_with_tax:
        return PaymentState.PAID
    if settled:
        return PaymentState.PARTIAL
    states = {payment.state for payment in order.payments or []}
    if "Authorized" in states:
        return PaymentState.AUTHORIZED
    if states and states <= {"Declined", "Error", "Cancelled"}:
        return PaymentState.FAILED
    if not states and order.total_with_tax == 0:
        return PaymentState.PAID
    return PaymentState.PENDING if not states or "Created" in states else PaymentState.UNKNOWN


def _to_line(line: VendureLine, settings: VendureSettings) -> LineRecord:
    """A line; of one that was taken out again, what was ordered is told, and no more of its price is owed."""
    amount, variant = partial(_amount, settings=settings), line.product_variant
    return LineRecord(
        external_id=line.id,
        sku=variant.sku if variant else None,
        product_id=variant.product.id if variant and variant.product else None,
        variant_id=variant.id if variant else None,
        title=variant.name if variant else None,
        quantity=Decimal(line.quantity),
        unit_price=amount(line.unit_price_with_tax),
        discount=amount(line.line_price_with_tax - line.prorated_line_price_with_tax),
        tax=amount(line.prorated_line_price_with_tax - line.prorated_line_price),
        total=amount(line.prorated_line_price_with_tax),
        extras={"ordered": line.order_placed_quantity} if line.order_placed_quantity != line.quantity else {},
    )


def _fulfillments(order: VendureOrder) -> Iterator[tuple[VendureFulfillment, list[VendureEntry]]]:
    """The order's parcels, and the histories that tell of them; of an order from several sellers, all of theirs."""
    for fulfillment in order.fulfillments or []:
        yield fulfillment, order.history.items
    for part in order.seller_orders or []:
        for fulfillment in part.fulfillments or []:
            yield fulfillment, part.history.items


def _parcels(order: VendureOrder, seen_at: datetime | None) -> Iterator[ParcelRecord]:
    for parcel, history in _fulfillments(order):
        if parcel.state == "Cancelled":
            continue
        moves = [entry for entry in history if str(entry.data.get("fulfillmentId")) == parcel.id]
        said: dict[str, Any] = {}
        for name, states in (("shipped_at", _LEFT), ("delivered_at", _ARRIVED)):
            at = _first(moves, "ORDER_FULFILLMENT_TRANSITION", states)
            if at is not None or parcel.state in states:
                said[name] = at or parcel.updated_at
        yield ParcelRecord(
            order_external_id=order.id,
            external_id=parcel.id,
            carrier=parcel.method,
            tracking_number=parcel.tracking_code or None,
            vendor_status=parcel.state,
            updated_at=parcel.updated_at,
            observed_at=seen_at,
            **said,
        )


def to_payment(
    order: VendureOrder, payment: VendurePayment, settings: VendureSettings, seen_at: datetime | None
) -> PaymentRecord:
    """A payment; it counts once it is settled."""
    moves = [entry for entry in order.history.items if str(entry.data.get("paymentId")) == payment.id]
    at = _first(moves, "ORDER_PAYMENT_TRANSITION", frozenset({"Settled"}))
    said: dict[str, Any] = {"paid_at": at or payment.updated_at} if payment.state == "Settled" else {}
    return PaymentRecord(
        external_id=payment.id,
        order_external_id=order.id,
        method=payment.method,
        vendor_status=payment.state,
        amount=_amount(payment.amount, settings),
        currency=order.currency_code.upper(),
        extras={"transaction": payment.transaction_id} if payment.transaction_id else {},
        updated_at=payment.updated_at,
        observed_at=seen_at,
        **said,
    )


def to_refund(
    order: VendureOrder, refund: VendureRefund, settings: VendureSettings, seen_at: datetime | None
) -> RefundRecord:
    """Money that goes back; it went once the refund is settled."""
    amount = _amount(refund.total, settings)
    said: dict[str, Any] = {}
    if refund.state == "Settled":
        moves = [entry for entry in order.history.items if str(entry.data.get("refundId")) == refund.id]
        at = _first(moves, "ORDER_REFUND_TRANSITION", frozenset({"Settled"}))
        said = {"refunded": amount, "refunded_at": at or refund.updated_at}
    return RefundRecord(
        external_id=refund.id,
        order_external_id=order.id,
        vendor_status=refund.state,
        requested=amount,
        currency=order.currency_code.upper(),
        requested_at=refund.created_at,
        reason=refund.reason,
        updated_at=refund.updated_at,
        observed_at=seen_at,
        **said,
    )


def to_buyer(customer: VendureCustomer, address: dict[str, Any]) -> Buyer:
    """Who bought. A guest's row is anybody's who writes that address, so only a user's id says who somebody is."""
    name = " ".join(part.strip() for part in (customer.first_name, customer.last_name) if part)
    country = str(address.get("countryCode") or "").strip().upper()
    said = {
        "external_id": customer.id if customer.user is not None else None,
        "name": name or address.get("fullName"),
        "email": customer.email_address,
        "phone": customer.phone_number or address.get("phoneNumber"),
        "city": address.get("city"),
        "region": country if re.fullmatch("[A-Z]{2}", country) else None,
    }
    return Buyer(**{key: value for key, value in said.items() if value})


def to_customer(customer: VendureCustomer, seen_at: datetime | None) -> CustomerRecord | None:
    """A registered customer; None for a guest."""
    if customer.user is None:
        return None
    return CustomerRecord(
        external_id=customer.id,
        buyer=to_buyer(customer, {}),
        created_at=customer.created_at,
        updated_at=customer.updated_at or customer.created_at,
        observed_at=seen_at,
    )


def _first(entries: Iterable[VendureEntry], kind: str, states: frozenset[str]) -> datetime | None:
    """When one of these states was first come to."""
    return min((one.created_at for one in entries if one.type == kind and one.data.get("to") in states), default=None)


def _amount(units: int, settings: VendureSettings) -> Decimal:
    return Decimal(units).scaleb(-settings.money_digits)
