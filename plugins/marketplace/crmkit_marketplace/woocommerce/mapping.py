"""From what the shop says to records. Functions of their arguments alone.

`failed` says that a payment failed, not that the order was cancelled. Whether an order is paid is told by
`date_paid_gmt` and nothing else: an order to be paid on delivery is `processing` long before.
"""

import html
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from crmkit import (
    Buyer,
    CustomerRecord,
    LineRecord,
    OrderRecord,
    OrderStatus,
    Page,
    PaymentState,
    Record,
    RefundRecord,
    Refused,
    ReviewRecord,
)

from .api import Answer
from .settings import WooSettings
from .shape import WooAddress, WooCustomer, WooLine, WooOrder, WooRefund, WooReview

#: What WooCommerce's own statuses mean; `processing` and `refunded` depend on the order.
_MEANING = {
    "pending": "placed",
    "on-hold": "placed",
    "failed": "placed",
    "completed": "completed",
    "cancelled": "cancelled",
    "checkout-draft": "ignored",
    "auto-draft": "ignored",
    "draft": "ignored",
}


def status_of(order: WooOrder, settings: WooSettings) -> OrderStatus | None:
    """Where an order stands; None: it is none yet (the draft of a checkout)."""
    meaning = settings.statuses.get(order.status) or _MEANING.get(order.status)
    if meaning == "ignored":
        return None
    if meaning is not None:
        return OrderStatus(meaning)
    if order.status == "processing":
        return OrderStatus.PAID if order.date_paid_gmt else OrderStatus.PLACED
    if order.status in {"refunded", "trash"}:
        # Money that goes back, and tidying up, do not undo what had arrived.
        if order.date_completed_gmt:
            return OrderStatus.COMPLETED
        return OrderStatus.SHIPPED if order.is_fulfilled else OrderStatus.CANCELLED
    return OrderStatus.UNKNOWN


def _payment_state(order: WooOrder) -> PaymentState:
    if order.date_paid_gmt is not None:
        return PaymentState.PAID
    if order.status == "failed":
        return PaymentState.FAILED
    return PaymentState.PENDING if order.status in {"pending", "on-hold", "processing"} else PaymentState.UNKNOWN


def to_order(order: WooOrder, settings: WooSettings, seen_at: datetime | None) -> OrderRecord | None:
    """An order; None for the draft of one.

    The totals are without tax, which is `tax_total`; what the buyer pays is `total`. A line's amounts hold their tax
    where the shop's prices do.
    """
    status = status_of(order, settings)
    if status is None:
        return None
    said: dict[str, Any] = {}
    if order.date_paid_gmt is not None:
        said["paid"] = order.total
    if settings.completed_means_shipped and order.date_completed_gmt is not None:
        said["shipped_at"] = order.date_completed_gmt
    ship_to = {name: value for name, value in order.shipping if value is not None}
    return OrderRecord(
        external_id=str(order.id),
        number=order.number,
        parent_external_id=str(order.parent_id) if order.parent_id else None,
        status=status,
        vendor_status=order.status,
        payment_state=_payment_state(order),
        placed_at=order.date_created_gmt,
        paid_at=order.date_paid_gmt,
        completed_at=order.date_completed_gmt,
        currency=order.currency.upper() if order.currency else None,
        items_total=_sum(line.subtotal for line in order.line_items),
        discount_total=order.discount_total,
        shipping_total=order.shipping_total,
        tax_total=order.total_tax,
        fee_total=_sum(fee.total for fee in order.fee_lines),
        total=order.total,
        buyer=_buyer(order),
        ship_to=ship_to or None,
        lines=tuple(_to_line(line, order.prices_include_tax) for line in order.line_items),
        note=order.customer_note,
        extras=_without_none(
            payment_method=order.payment_method,
            payment_method_title=order.payment_method_title,
            created_via=order.created_via,
            coupons=[one.code for one in order.coupon_lines if one.code] or None,
        ),
        updated_at=order.date_modified_gmt,
        observed_at=seen_at,
        **said,
    )


def _to_line(line: WooLine, gross: bool) -> LineRecord:
    tax = line.total_tax if gross and line.total_tax is not None else Decimal(0)
    total = None if line.total is None else line.total + tax
    discount = None if line.total is None or line.subtotal is None else line.subtotal - line.total
    return LineRecord(
        external_id=str(line.id),
        sku=line.sku,
        product_id=str(line.product_id) if line.product_id else None,
        variant_id=str(line.variation_id) if line.variation_id else None,
        title=line.name,
        quantity=line.quantity,
        unit_price=_piece(total, line.quantity) if gross and total is not None else line.price,
        discount=discount,
        tax=line.total_tax,
        total=total,
    )


def _piece(total: Decimal, quantity: Decimal) -> Decimal | None:
    if not quantity:
        return None
    price = total / quantity
    return price if price == round(price, 2) else round(price, 6)


def _buyer(order: WooOrder) -> Buyer:
    said: dict[str, Any] = {"external_id": str(order.customer_id)} if order.customer_id else {}
    return Buyer(**said, **_contact(order.billing, order.billing.email))


def _contact(billing: WooAddress, email: str | None) -> dict[str, Any]:
    """Who is behind an address, where it says anything."""
    country = (billing.country or "").strip().upper()
    found: dict[str, Any] = {"name": billing.name or billing.company, "email": email, "phone": billing.phone}
    found["city"] = billing.city
    if re.fullmatch("[A-Z]{2}", country):
        found["region"] = country
    return _without_none(**found)


def to_refund(refund: WooRefund, order: WooOrder, seen_at: datetime | None) -> RefundRecord:
    """Money that went back; its order lists the amount as negative, its own list as positive."""
    amount = refund.amount if refund.amount is not None else refund.total
    return RefundRecord(
        external_id=str(refund.id),
        order_external_id=str(order.id),
        refunded=None if amount is None else abs(amount),
        currency=order.currency.upper() if order.currency else None,
        refunded_at=refund.date_created_gmt,
        reason=refund.reason,
        extras=_without_none(through_gateway=refund.refunded_payment),
        updated_at=refund.date_created_gmt,
        observed_at=seen_at,
    )


def to_customer(customer: WooCustomer, seen_at: datetime | None) -> CustomerRecord:
    """A registered customer."""
    said = _contact(customer.billing, customer.email or customer.billing.email)
    own = " ".join(part.strip() for part in (customer.first_name, customer.last_name) if part)
    if own:
        said["name"] = own
    return CustomerRecord(
        external_id=str(customer.id),
        buyer=Buyer(external_id=str(customer.id), **said),
        created_at=customer.date_created_gmt,
        updated_at=customer.date_modified_gmt or customer.date_created_gmt,
        observed_at=seen_at,
    )


def to_review(review: WooReview, seen_at: datetime | None) -> ReviewRecord | None:
    """A review that the shop shows; None for one that it does not."""
    if review.status not in (None, "approved"):
        return None
    return ReviewRecord(
        external_id=str(review.id),
        buyer=Buyer(**_without_none(name=review.reviewer, email=review.reviewer_email)),
        product_id=str(review.product_id) if review.product_id else None,
        rating=Decimal(review.rating) if review.rating else None,
        vendor_rating=str(review.rating) if review.rating else None,
        text=_plain(review.review),
        posted_at=review.date_created_gmt,
        extras=_without_none(verified=review.verified),
        observed_at=seen_at,
    )


def _plain(written: str | None) -> str | None:
    """Text without its markup."""
    if written is None:
        return None
    lines = re.sub(r"<br\s*/?>\s*|</p>\s*", "\n", written)
    return html.unescape(re.sub(r"<[^>]*>", "", lines)).strip() or None


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if known else None


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


# --- one at a time ----------------------------------------------------------------------------------------------------


def each(
    kind: str, path: str, rows: Iterable[Any], make: Callable[[Any], Record | None], ref: str | None = None
) -> Iterator[Record | Refused]:
    """What `make` makes of each raw record; one that it cannot read harms only itself.

    Args:
        path: where they are from, as the shop's API calls it.
        ref: the id they are asked for again by; their own where None.
    """
    for row in rows:
        try:
            record = make(row)
        except (ValueError, ArithmeticError) as error:  # pydantic's are ValueErrors
            yield refused(kind, path, row, error, ref)
        else:
            if record is not None:
                yield record


def refused(kind: str, path: str, row: Any, error: Exception, ref: str | None = None) -> Refused:
    """A raw record that could not be read."""
    number = row.get("id") if isinstance(row, dict) else None
    own = str(number) if isinstance(number, int | str) and str(number).isascii() and str(number).isdigit() else None
    return Refused.of(error, kind, f"{path}/{own or '?'}", row, ref or own)


def page_of(found: Iterable[Record | Refused], answer: Answer) -> Page:
    """A page of what was read."""
    every = list(found)
    return Page(
        [one for one in every if isinstance(one, Record)],
        [one for one in every if isinstance(one, Refused)],
        total=answer.total,
    )
