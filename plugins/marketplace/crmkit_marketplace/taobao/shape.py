"""What the platform answers, as far as it is read.

Times are China's and say no zone; amounts are text, in yuan. Numbers of trades have more digits than a float holds, and
lists are wrapped twice. A child order is what ships and is refunded.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from .signing import read


def _time(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value.strip() or value.startswith("0"):
        return None
    moment = read(value)
    return moment if moment.year > 1970 else None


def _blank(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _number(value: Any) -> Any:
    if isinstance(value, float):
        raise PydanticCustomError("digits_lost", "a number with a point, which may have lost digits")
    return None if value in (None, "", 0, "0") else str(value)


def _rows(value: Any) -> Any:
    if isinstance(value, dict):
        value = next(iter(value.values()), None)
    return [] if value is None or value == "" else value


China = Annotated[datetime | None, BeforeValidator(_time)]
Yuan = Annotated[Decimal | None, BeforeValidator(_blank)]
Word = Annotated[str | None, BeforeValidator(_blank)]
#: An id: text, however it is written.
Id = Annotated[str | None, BeforeValidator(_number)]


class _Taobao(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, frozen=True)


class TaobaoOrder(_Taobao):
    """A child order: one article of a trade."""

    oid: Id = None
    oid_str: Id = None
    num: Decimal = Decimal(1)
    price: Yuan = None
    payment: Yuan = None
    divide_order_fee: Yuan = None
    discount_fee: Yuan = None
    part_mjz_discount: Yuan = None
    title: Word = None
    num_iid: Id = None
    sku_id: Id = None
    outer_iid: Word = None
    outer_sku_id: Word = None
    sku_properties_name: Word = None
    status: Word = None
    refund_status: Word = None
    refund_id: Id = None
    logistics_company: Word = None
    invoice_no: Word = None
    consign_time: China = None

    @property
    def id(self) -> str | None:
        """Its number."""
        return self.oid_str or self.oid


class TaobaoTrade(_Taobao):
    """A trade: what a buyer paid at once."""

    tid: Id = None
    tid_str: Id = None
    type: Word = None
    status: Word = None
    trade_from: Word = None
    created: China = None
    pay_time: China = None
    consign_time: China = None
    sign_time: China = None
    end_time: China = None
    modified: China = None
    payment: Yuan = None
    total_fee: Yuan = None
    post_fee: Yuan = None
    discount_fee: Yuan = None
    adjust_fee: Yuan = None
    step_trade_status: Word = None
    step_paid_fee: Yuan = None
    buyer_open_uid: Word = None
    buyer_nick: Word = None
    buyer_message: Word = None
    oaid: Word = None
    receiver_name: Word = None
    receiver_country: Word = None
    receiver_state: Word = None
    receiver_city: Word = None
    receiver_district: Word = None
    receiver_zip: Word = None
    orders: Annotated[tuple[TaobaoOrder, ...], BeforeValidator(_rows)] = ()

    @property
    def id(self) -> str | None:
        """Its number."""
        return self.tid_str or self.tid


class TaobaoRefund(_Taobao):
    """A claim of a buyer for money, or for goods to go back."""

    refund_id: Id = None
    tid: Id = None
    oid: Id = None
    status: Word = None
    created: China = None
    modified: China = None
    refund_fee: Yuan = None
    reason: Word = None
    has_good_return: bool | None = None
    good_status: Word = None
    refund_phase: Word = None
    dispute_type: Word = None
    company_name: Word = None
    sid: Word = None


class TaobaoRate(_Taobao):
    """What a buyer said of a child order."""

    tid: Id = None
    oid: Id = None
    nick: Word = None
    result: Word = None
    created: China = None
    content: Word = None
    reply: Word = None
    item_title: Word = None
    num_iid: Id = None


class TaobaoMessage(_Taobao):
    """A message of the message service: what it is about stands in `content`, JSON in a text."""

    id: Id = None
    topic: str = ""
    user_id: Id = None
    content: str = ""


#: What is asked for of a trade. `oaid` is given only with the name, both numbers, the address and the time beside it;
#: they come masked and are not kept. `buyer_open_uid` is given only with `buyer_nick`.
TRADE_FIELDS = ",".join(
    [
        *(name for name in TaobaoTrade.model_fields if name != "orders"),
        *("receiver_mobile", "receiver_phone", "receiver_address", "receiver_town"),
        *(f"orders.{name}" for name in TaobaoOrder.model_fields),
    ]
)
REFUND_FIELDS = ",".join(TaobaoRefund.model_fields)
RATE_FIELDS = ",".join(TaobaoRate.model_fields)
