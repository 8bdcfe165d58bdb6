"""What WooCommerce's REST API v3 answers, as far as it is read: https://woocommerce.github.io/woocommerce-rest-api-docs.

Only `*_gmt` times are read: the others are the site's and say no zone. PHP writes an empty object as `[]`, and shops'
plugins turn numbers into text and text into numbers.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _gmt(value: Any) -> Any:
    if value is None or value is False or value == "" or str(value).startswith("0000"):
        return None
    if isinstance(value, str):
        moment = datetime.fromisoformat(value.strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return value


def _blank_is_none(value: Any) -> Any:
    return None if value is None or value is False or (isinstance(value, str) and not value.strip()) else value


def _blank_is_zero(value: Any) -> Any:
    return 0 if value is None or value == "" else value


def _no_list(value: Any) -> Any:
    return {} if value is None or value == [] else value


def _rows(value: Any) -> Any:
    if isinstance(value, dict):
        return list(value.values())
    return [] if value is None or value == "" else value


Gmt = Annotated[datetime | None, BeforeValidator(_gmt)]
Money = Annotated[Decimal | None, BeforeValidator(_blank_is_none)]
Word = Annotated[str | None, BeforeValidator(_blank_is_none)]
Id = Annotated[int, BeforeValidator(_blank_is_zero)]


class _Woo(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, frozen=True)


class WooMeta(_Woo):
    """A field some plugin added."""

    key: Word = None
    value: Any = None


Metas = Annotated[tuple[WooMeta, ...], BeforeValidator(_rows)]


class WooAddress(_Woo):
    """A billing or shipping address."""

    first_name: Word = None
    last_name: Word = None
    company: Word = None
    address_1: Word = None
    address_2: Word = None
    city: Word = None
    state: Word = None
    postcode: Word = None
    country: Word = None
    email: Word = None
    phone: Word = None

    @property
    def name(self) -> str | None:
        """The person's name."""
        return " ".join(part.strip() for part in (self.first_name, self.last_name) if part) or None


AddressOrNone = Annotated[WooAddress, BeforeValidator(_no_list)]


class WooLine(_Woo):
    """A line; `subtotal` is before discounts, `price` one piece after them. All without tax."""

    id: int
    name: Word = None
    product_id: Id = 0
    variation_id: Id = 0
    quantity: Decimal = Decimal(1)
    subtotal: Money = None
    total: Money = None
    total_tax: Money = None
    sku: Word = None
    price: Money = None


class WooTotal(_Woo):
    """A fee."""

    total: Money = None


class WooCoupon(_Woo):
    """A coupon that was used."""

    code: Word = None


class WooOrder(_Woo):
    """An order."""

    id: int
    number: Word = None
    parent_id: Id = 0
    status: str
    currency: Word = None
    prices_include_tax: bool = False
    date_created_gmt: Gmt = None
    date_modified_gmt: Gmt = None
    date_paid_gmt: Gmt = None
    date_completed_gmt: Gmt = None
    discount_total: Money = None
    shipping_total: Money = None
    total: Money = None
    total_tax: Money = None
    customer_id: Id = 0
    billing: AddressOrNone = WooAddress()
    shipping: AddressOrNone = WooAddress()
    payment_method: Word = None
    payment_method_title: Word = None
    created_via: Word = None
    customer_note: Word = None
    line_items: Annotated[tuple[WooLine, ...], BeforeValidator(_rows)] = ()
    fee_lines: Annotated[tuple[WooTotal, ...], BeforeValidator(_rows)] = ()
    coupon_lines: Annotated[tuple[WooCoupon, ...], BeforeValidator(_rows)] = ()
    refunds: Annotated[tuple[Any, ...], BeforeValidator(_rows)] = ()
    meta_data: Metas = ()

    def meta(self, key: str) -> Any:
        """The value of a field some plugin added; the last, where there are several."""
        return next((one.value for one in reversed(self.meta_data) if one.key == key), None)

    @property
    def is_fulfilled(self) -> bool:
        """Whether something of it left, as WooCommerce's own fulfillments know."""
        return self.meta("_fulfillment_status") in ("fulfilled", "partially_fulfilled")


class WooRefund(_Woo):
    """A refund, as `/orders/ID/refunds` lists it."""

    id: int
    amount: Money = None
    total: Money = None
    reason: Word = None
    date_created_gmt: Gmt = None
    refunded_payment: bool | None = None


class WooFulfillment(_Woo):
    """A shipment; `is_fulfilled` is `"1"` when it is read and `true` when it was just written."""

    id: int
    status: Word = None
    is_fulfilled: Annotated[bool, BeforeValidator(lambda value: value in (True, 1, "1", "true"))] = False
    date_updated: Gmt = None
    date_deleted: Gmt = None
    meta_data: Metas = ()

    def meta(self, *keys: str) -> Any:
        """The value of the first of these fields that is there."""
        found = {one.key: one.value for one in self.meta_data}
        return next((found[key] for key in keys if found.get(key)), None)


class WooCustomer(_Woo):
    """A registered customer; guests are not among them."""

    id: int
    date_created_gmt: Gmt = None
    date_modified_gmt: Gmt = None
    email: Word = None
    first_name: Word = None
    last_name: Word = None
    role: Word = None
    billing: AddressOrNone = WooAddress()


class WooReview(_Woo):
    """A product's review; `rating` 0 is none."""

    id: int
    date_created_gmt: Gmt = None
    product_id: Id = 0
    status: Word = None
    reviewer: Word = None
    reviewer_email: Word = None
    review: Word = None
    rating: Id = 0
    verified: bool | None = None
