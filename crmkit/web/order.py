"""The state of an order: what was bought, what was paid, where the parcels are, what is promised."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlalchemy.engine import Connection

from crmkit.core.account import Shop
from crmkit.core.bill import Bill
from crmkit.core.order import MILESTONES, Order, Parcel
from crmkit.core.records import AmountBasis
from crmkit.flow import statement
from crmkit.flow.compose import zone_of
from crmkit.web.page import show
from crmkit.web.site import PageError, Site, Visit, site_of

router = APIRouter()


@router.api_route("/o/{token}", methods=["GET", "HEAD"])
async def state(request: Request, token: str) -> HTMLResponse:
    """The state of one order of the customer the link was made for."""
    site = site_of(request)
    visit, bill = await site.read(_read, site, token)
    order, shop = bill.order, visit.setup.shops[bill.order.shop_id]
    parcels = max(len(order.parcels), bill.parcel_total or 0)
    return show(
        request,
        "order.html",
        customer=visit.customer,
        title=shop.title,
        shop={"zone": str(shop.zone)},
        zone=str(zone_of(visit.customer.timezone, shop, visit.setup)),
        order=order,
        state=_state(bill, shop, parcels),
        promise=_promise(order, shop, visit.now),
        reached=[(name, at) for name in MILESTONES if (at := _reached(bill, name)) is not None],
        parcels=[_parcel(parcel) for parcel in sorted(order.parcels, key=_turn)],
        parcel_total=parcels,
        no_parcel=_no_parcel(order, shop),
        lines=list(_lines(order)),
        shipping=order.shipping if order.basis == AmountBasis.BUYER_CHARGE else None,
        bill=bill,
        returning=[one for one in bill.returns if one.at is None and not order.is_cancelled],
        **_settled(bill),
    )


def _read(tx: Connection, site: Site, token: str) -> tuple[Visit, Bill]:
    visit = site.visit(tx, "o", token)
    bill = statement.bill(tx, visit.link.subject, visit.customer, visit.setup.shops, visit.now)
    if bill is None:
        raise PageError(404, "unknown")
    return visit, bill


def _reached(bill: Bill, milestone: str) -> datetime | None:
    """When the order reached a milestone. What was paid in part, or failed later, was not paid."""
    return None if milestone == "paid" and not bill.is_paid else bill.order.reached(milestone)


def _state(bill: Bill, shop: Shop, parcels: int) -> str:
    """Where the order, which consists of so many parcels, stands: by the words of `[order]`."""
    order = bill.order
    if order.is_cancelled:
        return "cancelled"
    arrived = [parcel for parcel in order.parcels if parcel.delivered_at is not None]
    if order.shipped_at is not None and not order.is_delivered and 0 < len(arrived) < parcels:
        return "partly"
    last = next((name for name in MILESTONES[-2::-1] if _reached(bill, name) is not None), "unknown")
    if last in ("placed", "unknown") and bill.is_paid:
        last = "paid"
    if last == "completed" and order.delivered_at is not None:
        return "delivered"
    return "preparing" if last == "paid" and "shipped" in shop.reports else last


def _promise(order: Order, shop: Shop, now: datetime) -> str | None:
    """What to say of the promise; a shop that tells of no arrival does not thereby say that nothing arrived."""
    if order.promised_at is None or order.is_cancelled:
        return None
    if order.delivered_at is not None:
        return "kept" if order.delivered_at < order.promised_at else "broken"
    if order.is_delivered:
        return None
    if now < order.promised_at:
        return "stands"
    return "passed" if "delivered" in shop.reports else "unreported"


def _turn(parcel: Parcel) -> tuple[bool, str, int, str]:
    """Parcels in the order in which they left, else as they are numbered."""
    left = parcel.shipped_at
    return left is None, left.isoformat() if left is not None else "", len(parcel.key), parcel.key


def _parcel(parcel: Parcel) -> dict[str, Any]:
    return {
        "carrier": parcel.carrier,
        "number": parcel.tracking_number,
        "url": _web_address(parcel.tracking_url),
        "shipped_at": parcel.shipped_at,
        "delivered_at": parcel.delivered_at,
    }


def _web_address(written: str | None) -> str | None:
    """An address a browser may be sent to, None where it is none."""
    try:
        parts = urlsplit((written or "").strip())
        return parts.geturl() if parts.scheme in ("http", "https") and parts.hostname else None
    except ValueError:
        return None


def _no_parcel(order: Order, shop: Shop) -> str:
    """What to say where no parcel is known."""
    if order.is_cancelled:
        return "none-cancelled"
    if order.is_delivered or order.shipped_at is not None:
        return "none-told"
    return "none-yet" if "shipped" in shop.reports else "unreported"


def _lines(order: Order) -> Iterator[Mapping[str, Any]]:
    is_buyers = order.basis == AmountBasis.BUYER_CHARGE
    for line in order.lines:
        amount = line.total if is_buyers else None
        yield {"title": line.title or line.sku, "quantity": plain(line.quantity), "amount": amount}


def plain(quantity: Decimal) -> str:
    """`2` rather than `2.000`."""
    return format(quantity.normalize(), "f")


def _settled(bill: Bill) -> dict[str, Any]:
    """What to say of what is paid and what is open: the words of `[order]`, and the amount in them."""
    left = bill.open
    if left is None:
        return {"settled": _untold(bill), "left": None}
    if left.amount > 0:
        return {"settled": "open", "left": left}
    if left.amount < 0:
        named = {"amount": -left.amount, "currency": left.currency}
        return {"settled": "to-return" if bill.order.is_cancelled else "overpaid", "left": named}
    if bill.order.is_cancelled and bill.returned is not None:
        return {"settled": "returned", "left": None}
    return {"settled": "settled" if bill.payments else "nothing", "left": None}


def _untold(bill: Bill) -> str:
    """What to say where it cannot be told what is open: never that something is to be paid."""
    if bill.doubt == "authorized" and not bill.order.is_cancelled:
        return "authorized"
    if bill.charged is None:
        return "said-paid" if bill.is_paid else "amount-unreported"
    if bill.order.is_cancelled:
        back = bill.returned
        if back is not None and back.currency == bill.charged.currency and back.amount >= bill.charged.amount:
            return "returned"
        return "returns-unreported" if bill.payments and not bill.is_told else "cancelled"
    if bill.doubt is not None:
        return "partial" if bill.doubt == "partial" else "unclear"
    if bill.is_told:
        return "said-paid" if bill.is_paid else "unclear"
    return "payments-unreported"
