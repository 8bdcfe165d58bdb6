"""What the shop answers: the parts of it that are read. Amounts are integers, in its smallest unit; times are UTC."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class VendureUser(_Shape):
    """Somebody who can log in."""

    verified: bool = False


class VendureCustomer(_Shape):
    """A customer; one without a user is a guest, and whoever writes this address is the same guest."""

    id: str
    created_at: datetime | None = None
    updated_at: datetime | None = None
    email_address: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    phone_number: str | None = None
    user: VendureUser | None = None


class VendureProduct(_Shape):
    id: str


class VendureVariant(_Shape):
    id: str
    sku: str | None = None
    name: str | None = None
    product: VendureProduct | None = None


class VendureLine(_Shape):
    id: str
    quantity: int
    order_placed_quantity: int = 0
    unit_price_with_tax: int
    line_price: int
    line_price_with_tax: int
    prorated_line_price: int
    prorated_line_price_with_tax: int
    product_variant: VendureVariant | None = None


class VendureSurcharge(_Shape):
    price: int


class VendureRefund(_Shape):
    id: str
    state: str
    total: int
    reason: str | None = None
    created_at: datetime
    updated_at: datetime


class VendurePayment(_Shape):
    id: str
    state: str
    method: str | None = None
    amount: int
    transaction_id: str | None = None
    created_at: datetime
    updated_at: datetime
    refunds: list[VendureRefund] = Field(default_factory=list)


class VendureFulfillment(_Shape):
    id: str
    state: str
    method: str | None = None
    tracking_code: str | None = None
    created_at: datetime
    updated_at: datetime


class VendureEntry(_Shape):
    """A line of an order's history; `data` says what went from which state to which."""

    type: str
    created_at: datetime
    data: dict[str, Any] = Field(default_factory=dict)


class VendureHistory(_Shape):
    items: list[VendureEntry] = Field(default_factory=list)


class VendureSellerOrder(_Shape):
    """A seller's part of what a buyer ordered of several."""

    id: str
    fulfillments: list[VendureFulfillment] | None = None
    history: VendureHistory = VendureHistory()


class VendureReference(_Shape):
    id: str


class VendureOrder(_Shape):
    """An order; a cart is one too, with `active` and without `order_placed_at`."""

    id: str
    code: str
    state: str
    type: str = "Regular"
    active: bool = False
    created_at: datetime
    updated_at: datetime
    order_placed_at: datetime | None = None
    currency_code: str
    sub_total: int
    sub_total_with_tax: int
    shipping: int
    shipping_with_tax: int
    total: int
    total_with_tax: int
    coupon_codes: list[str] = Field(default_factory=list)
    customer: VendureCustomer | None = None
    shipping_address: dict[str, Any] | None = None
    lines: list[VendureLine] = Field(default_factory=list)
    surcharges: list[VendureSurcharge] = Field(default_factory=list)
    payments: list[VendurePayment] | None = None
    fulfillments: list[VendureFulfillment] | None = None
    history: VendureHistory = VendureHistory()
    aggregate_order: VendureReference | None = None
    seller_orders: list[VendureSellerOrder] | None = None
