"""From what the platform says to records. Functions of their arguments alone.

A buyer is known by `buyer_open_uid`, which is one for all shops an application sees, and another for each application.
Everything else of a person is masked, or is the receiver's, who may be anybody: none of it says who the buyer is.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from crmkit import (
    Address,
    Buyer,
    LineRecord,
    OrderRecord,
    OrderStatus,
    ParcelRecord,
    PayloadError,
    PaymentState,
    Record,
    RefundRecord,
    Refused,
    ReturnRecord,
    ReviewRecord,
)

from .shape import TaobaoOrder, TaobaoRate, TaobaoRefund, TaobaoTrade

CURRENCY = "CNY"
STATUSES = {
    "TRADE_NO_CREATE_PAY": OrderStatus.PLACED,
    "WAIT_BUYER_PAY": OrderStatus.PLACED,
    "PAY_PENDING": OrderStatus.PLACED,
    "WAIT_PRE_AUTH_CONFIRM": OrderStatus.PLACED,
    "WAIT_SELLER_SEND_GOODS": OrderStatus.PAID,
    "PAID_FORBID_CONSIGN": OrderStatus.PAID,
    "SELLER_CONSIGNED_PART": OrderStatus.SHIPPED,
    "WAIT_BUYER_CONFIRM_GOODS": OrderStatus.SHIPPED,
    "TRADE_BUYER_SIGNED": OrderStatus.DELIVERED,
    "TRADE_FINISHED": OrderStatus.COMPLETED,
    "TRADE_CLOSED": OrderStatus.CANCELLED,
    "TRADE_CLOSED_BY_TAOBAO": OrderStatus.CANCELLED,
}
#: Types of trades that are paid to whoever brings them.
ON_DELIVERY = frozenset({"cod", "b2c_cod", "super_market_cod_trade"})
RATINGS = {"good": Decimal(5), "neutral": Decimal(3), "bad": Decimal(1)}
#: What the platform writes where a buyer did not rate in time: it counts as good, and nobody said so.
NOBODY = "系统默认好评"


def status_of(trade: TaobaoTrade) -> OrderStatus:
    """Where a trade stands. One that is paid on delivery waits to be sent long before it is paid."""
    status = STATUSES.get(trade.status or "", OrderStatus.UNKNOWN)
    if status is OrderStatus.PAID and _paid_at(trade) is None:
        return OrderStatus.PLACED
    return status


def _paid_at(trade: TaobaoTrade) -> datetime | None:
    """When all of it was paid: a deposit has a time of payment too."""
    step = trade.step_trade_status or ""
    return None if step.endswith("FINAL_NOPAID") else trade.pay_time


def _payment(trade: TaobaoTrade) -> dict[str, Any]:
    if _paid_at(trade) is not None:
        return {"payment_state": PaymentState.PAID, "paid": trade.payment}
    if trade.step_trade_status == "FRONT_PAID_FINAL_NOPAID":
        return {"payment_state": PaymentState.PARTIAL, "paid": trade.step_paid_fee}
    is_open = status_of(trade) is not OrderStatus.CANCELLED
    return {"payment_state": PaymentState.PENDING if is_open else PaymentState.UNKNOWN}


def to_order(trade: TaobaoTrade, app_key: str, seen_at: datetime | None) -> OrderRecord:
    """A trade with its child orders and parcels. What an answer leaves out is not said: lists leave out much.

    Args:
        trade: it.
        app_key: the application that sees it.
        seen_at: when the platform answered.

    Raises:
        PayloadError: it has no number.
        ValueError: it has no time, or what no record takes.
    """
    if trade.id is None:
        raise PayloadError("a trade without a number (tid)")
    status = status_of(trade)
    parcels = tuple(_parcels(trade, seen_at))
    said: dict[str, Any] = {
        **_payment(trade),
        "vendor_status": trade.status,
        "placed_at": trade.created,
        "paid_at": _paid_at(trade),
        "items_total": trade.total_fee,
        "discount_total": trade.discount_fee,
        "shipping_total": trade.post_fee,
        "fee_total": trade.adjust_fee,
        "total": trade.payment,
        "delivered_at": trade.sign_time,
        "order_kind": "preorder" if trade.type == "step" else None,
        "note": trade.buyer_message,
        "ship_to": _address(trade) or None,
        "updated_at": trade.modified,
        "observed_at": seen_at,
    }
    shipped = [at for at in (trade.consign_time, *(one.shipped_at for one in parcels)) if at is not None]
    if shipped:
        said["shipped_at"] = min(shipped)
    if trade.end_time is not None and status in {OrderStatus.COMPLETED, OrderStatus.CANCELLED}:
        said["completed_at" if status is OrderStatus.COMPLETED else "cancelled_at"] = trade.end_time
    return OrderRecord(
        external_id=trade.id,
        number=trade.id,
        status=status,
        currency=CURRENCY,
        buyer=_buyer(trade, app_key),
        lines=tuple(_line(one, trade) for one in trade.orders if one.id is not None),
        parcels=parcels,
        extras=_plain(
            type=trade.type,
            trade_from=trade.trade_from,
            step=trade.step_trade_status,
            hold="shipping forbidden" if trade.status == "PAID_FORBID_CONSIGN" else None,
            is_partly_shipped="yes" if trade.status == "SELLER_CONSIGNED_PART" else None,
        ),
        **{name: value for name, value in said.items() if value is not None},
    )


def _address(trade: TaobaoTrade) -> dict[str, Any]:
    return _plain(
        country=trade.receiver_country,
        state=trade.receiver_state,
        city=trade.receiver_city or trade.receiver_district,
        district=trade.receiver_district,
        postcode=trade.receiver_zip,
    )


def _buyer(trade: TaobaoTrade, app_key: str) -> Buyer:
    said: dict[str, Any] = {}
    if trade.buyer_open_uid is not None:
        said |= {"external_id": trade.buyer_open_uid, "scope": f"taobao:{app_key}"}
    if trade.receiver_name is not None:
        said["name"] = trade.receiver_name
        if "*" in trade.receiver_name:
            said["masked"] = frozenset({"name"})
    if city := _address(trade).get("city"):
        said["city"] = city
    if trade.oaid is not None:
        token = Address(kind="order_token", value=trade.oaid, purposes=frozenset({"transactional"}))
        said["addresses"] = (token,)
    return Buyer(**said)


def _line(order: TaobaoOrder, trade: TaobaoTrade) -> LineRecord:
    """A child order. If it is the only one, what was paid for it holds the freight."""
    total = order.divide_order_fee
    if total is None and order.payment is not None:
        is_alone = len(trade.orders) == 1
        total = order.payment - (trade.post_fee or 0) if is_alone else order.payment
    discounts = [one for one in (order.discount_fee, order.part_mjz_discount) if one is not None]
    has_refund = order.refund_status not in (None, "NO_REFUND")
    return LineRecord(
        external_id=order.id or "",
        sku=order.outer_sku_id or order.outer_iid,
        product_id=order.num_iid,
        variant_id=order.sku_id,
        title=order.title,
        quantity=order.num,
        unit_price=order.price,
        discount=sum(discounts, Decimal(0)) if discounts else None,
        total=total,
        extras=_plain(
            status=order.status,
            variant=order.sku_properties_name,
            refund_status=order.refund_status if has_refund else None,
            refund_id=order.refund_id if has_refund else None,
        ),
    )


def _parcels(trade: TaobaoTrade, seen_at: datetime | None) -> Iterator[ParcelRecord]:
    """Child orders with one number that left together are one parcel; it goes by the first of them.

    The number itself is corrected at times, and then the parcel is the same.
    """
    together: dict[tuple[Any, ...], list[TaobaoOrder]] = {}
    for one in trade.orders:
        if one.invoice_no is not None and one.id is not None:
            together.setdefault((one.logistics_company, one.invoice_no, one.consign_time), []).append(one)
    for (company, number, at), orders in together.items():
        yield ParcelRecord(
            order_external_id=trade.id or "",
            external_id=min(one.id or "" for one in orders),
            carrier=company,
            tracking_number=number,
            shipped_at=at or trade.consign_time,
            extras={"lines": sorted(one.id or "" for one in orders)},
            updated_at=trade.modified,
            observed_at=seen_at,
        )


def to_refund(refund: TaobaoRefund, seen_at: datetime | None) -> Iterator[Record]:
    """A refund; and the return, where goods go back.

    Money has gone only with SUCCESS, which says no time of its own: the first time it is seen to have changed with it.

    Raises:
        PayloadError: it has no number, or no trade's.
    """
    if refund.refund_id is None or refund.tid is None:
        raise PayloadError("a refund without its number or its trade's (refund_id, tid)")
    is_done = refund.status == "SUCCESS"
    yield RefundRecord(
        external_id=refund.refund_id,
        order_external_id=refund.tid,
        vendor_status=refund.status,
        requested=refund.refund_fee,
        refunded=refund.refund_fee if is_done else None,
        currency=CURRENCY,
        requested_at=refund.created,
        refunded_at=refund.modified if is_done else None,
        reason=refund.reason,
        extras=_plain(line=refund.oid, phase=refund.refund_phase, type=refund.dispute_type),
        updated_at=refund.modified,
        observed_at=seen_at,
    )
    if refund.has_good_return:
        is_back = refund.good_status == "BUYER_RETURNED_GOODS" and is_done
        yield ReturnRecord(
            external_id=refund.refund_id,
            order_external_id=refund.tid,
            vendor_status=refund.good_status or refund.status,
            tracking_number=refund.sid,
            requested_at=refund.created,
            received_at=refund.modified if is_back else None,
            reason=refund.reason,
            extras=_plain(line=refund.oid, carrier=refund.company_name),
            updated_at=refund.modified,
            observed_at=seen_at,
        )


def to_review(rate: TaobaoRate, seen_at: datetime | None) -> ReviewRecord:
    """What a buyer said of a child order, which is rated once. Nobody rated what the platform rated for them.

    Raises:
        PayloadError: it has no number.
        ValueError: it has no time, or what no record takes.
    """
    number = rate.oid or rate.tid
    if number is None:
        raise PayloadError("a review without the number of what it is of (oid, tid)")
    is_nobodys = rate.content is not None and NOBODY in rate.content
    return ReviewRecord(
        external_id=number,
        order_external_id=rate.tid,
        product_id=rate.num_iid,
        rating=None if is_nobodys else RATINGS.get(rate.result or ""),
        vendor_rating=rate.result,
        text=None if is_nobodys else rate.content,
        posted_at=rate.created,
        extras=_plain(item=rate.item_title, reply=rate.reply, by="the platform" if is_nobodys else None),
        updated_at=rate.created,
        observed_at=seen_at,
    )


def _plain(**values: str | None) -> dict[str, Any]:
    """What is said, and not masked."""
    return {name: value for name, value in values.items() if value is not None and "*" not in value}


# --- one at a time ----------------------------------------------------------------------------------------------------


def each(
    kind: str, rows: Iterable[Any], make: Callable[[Any], Iterable[Record]], key: str, ref: str | None = None
) -> Iterator[Record | Refused]:
    """What `make` makes of each raw record; one that it cannot read harms only itself.

    Args:
        key: the field with its own id.
        ref: the field with the id it is asked for again by; its own where None.
    """
    for row in rows:
        try:
            yield from list(make(row))
        except (ValueError, ArithmeticError, PayloadError) as error:  # pydantic's are ValueErrors
            yield refused(kind, row, error, key, ref)


def refused(kind: str, row: Any, error: Exception, key: str, ref: str | None = None) -> Refused:
    """A raw record that could not be read."""
    return Refused.of(error, kind, f"{kind} {_id(row, key) or '?'}", row, _id(row, ref or key))


def _id(row: Any, name: str) -> str | None:
    value = row.get(name) if isinstance(row, dict) else None
    written = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return written if written.isascii() and written.isdigit() else None
