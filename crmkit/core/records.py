"""What comes in: canonical facts that adapters yield and ingest joins.

An adapter translates a vendor's payload into records and nothing more; the core derives every event from them.
Two rules hold everywhere. `None` says "the vendor says this is empty"; a field left unset says "not said", and
never overwrites what another record said. And an unknown vendor value is kept raw (`vendor_status`, `extras`) and
mapped to `unknown`, never guessed.

Amounts are `Decimal` in the record's `currency`; times are aware and stored in UTC; 1970-01-01 and earlier are empty.
"""

import hashlib
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from math import isfinite
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    model_validator,
)

_SENTINEL = datetime(1970, 1, 2, tzinfo=UTC)


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.year < 1970:
        return None
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{moment.isoformat()} is beyond the last moment there is") from None
    return None if moment < _SENTINEL else moment


def _known(moment: datetime) -> datetime:
    utc = _utc(moment)
    if utc is None:
        raise ValueError(f"{moment.isoformat()} is no time at which anything happened")
    return utc


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("holds a NUL character, which no database text may")
    text.encode("utf-8")  # a lone surrogate raises UnicodeEncodeError, a ValueError
    return text


def _storable_tree(value: Any) -> Any:
    if isinstance(value, str):
        _storable(value)
    elif isinstance(value, float) and not isfinite(value):
        raise ValueError(f"holds {value}, which no JSON document may")
    elif isinstance(value, dict):
        for key, item in value.items():
            _storable(str(key))
            _storable_tree(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _storable_tree(item)
    return value


#: A moment in UTC; sentinel dates (0001-01-01, 1970-01-01) read as None.
Moment = Annotated[AwareDatetime | None, AfterValidator(_utc)]
#: A moment that must be known, in UTC, so that its text sorts by time.
At = Annotated[AwareDatetime, AfterValidator(_known)]
#: Text both databases can hold.
Text = Annotated[str, StringConstraints(max_length=65_536), AfterValidator(_storable)]
#: A vendor's id: text, always.
ExternalId = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_storable)]
#: A short label: a name, a code, a carrier.
Label = Annotated[str, StringConstraints(max_length=1_000), AfterValidator(_storable)]
#: A decimal amount; the table holds 64-bit minor units.
Amount = Annotated[Decimal, Field(gt=Decimal("-1e14"), lt=Decimal("1e14"), allow_inf_nan=False)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Extras = Annotated[dict[str, Any], AfterValidator(_storable_tree)]
#: Sets are written sorted: the hash of a record is the same in every process.
_SORTED = PlainSerializer(sorted, return_type=list[str])
Purposes = Annotated[frozenset[Literal["transactional", "marketing"]], _SORTED]


class OrderStatus(StrEnum):
    """Where an order stands as its shop says; newest wins, and it may go back."""

    UNKNOWN = "unknown"
    PLACED = "placed"
    PAID = "paid"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class PaymentState(StrEnum):
    """What is known of an order's payment."""

    UNKNOWN = "unknown"
    PENDING = "pending"
    AUTHORIZED = "authorized"
    PARTIAL = "partial"
    PAID = "paid"
    FAILED = "failed"


class AmountBasis(StrEnum):
    """What an order's amounts are: what the buyer is charged, what the seller gets, or what is still owed."""

    BUYER_CHARGE = "buyer_charge"
    SELLER_PROCEEDS = "seller_proceeds"
    RECEIVABLE = "receivable"


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=False)


class Address(_Shape):
    """One way to reach a customer. An address of an order or a relay never says who somebody is.

    Attributes:
        kind: `email`, `phone`, `relay_email`, `virtual_phone`, `order_token` or a plugin's own.
        value: the address or the marketplace's token.
        purposes: what it may be used for.
        valid_until: after this moment it reaches nobody, or somebody else.
    """

    kind: Label
    value: Annotated[Label, StringConstraints(min_length=1, max_length=500)]
    purposes: Purposes = frozenset({"transactional", "marketing"})
    valid_until: Moment = None


class Buyer(_Shape):
    """Whom a record is about, as far as the vendor says.

    Attributes:
        external_id: the vendor's buyer id, a strong identity within `scope`; None or unset for guests.
        scope: within what the id is unique: `shop` (default) or a name shared by several shops of one vendor account.
        email, phone: plain contact data as written by the vendor. They are weak identities and addresses; what cannot
            be read is left out and reported, the record lands without it. Masked values (`a***@x.com`) are left out.
        region: two-letter country to read a phone number without a country code; the shop's own where unset.
        addresses: further ways to reach the buyer: relay addresses, order tokens.
        masked: names of fields here that the vendor has masked; they never replace a plain value.
        marketing_consent: True or False where the vendor says so; ingest writes the consent ledger.
    """

    external_id: ExternalId | None = None
    scope: Label = "shop"
    name: Label | None = None
    email: Label | None = None
    phone: Label | None = None
    region: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")] | None = None
    locale: Label | None = None
    timezone: Label | None = None
    city: Label | None = None
    birthday: date | None = None
    addresses: tuple[Address, ...] = ()
    masked: Annotated[frozenset[str], _SORTED] = frozenset()
    marketing_consent: bool | None = None
    extras: Extras = Field(default_factory=dict)


#: When it was seen, and its parcels were: nothing it says.
_SEEN: dict[str, Any] = {"observed_at": True, "parcels": {"__all__": {"observed_at"}}}


class Record(_Shape):
    """A canonical inbound fact.

    Attributes:
        updated_at: when the vendor last changed it.
        observed_at: when the source saw it in this state: an export's own time, a response's, a webhook's.
    """

    kind: ClassVar[str]

    updated_at: Moment = None
    observed_at: Moment = None

    def content_hash(self) -> str:
        """A hash of everything said but the moment it was seen; equal content has an equal hash."""
        if self.__pydantic_private__ is not None:
            return str(self.__pydantic_private__["content_hash"])
        said = self.model_dump_json(exclude=_SEEN, exclude_unset=True)
        return hashlib.blake2b(said.encode(), digest_size=12).hexdigest()

    def said_by_nobody(self, content_hash: str) -> Self:
        """The same without its buyer, as a version of what it was before something was taken from it."""
        left = self.model_copy(update={"buyer": None} if "buyer" in self.model_fields_set else None)
        left.__pydantic_fields_set__.discard("buyer")
        object.__setattr__(left, "__pydantic_private__", {"content_hash": content_hash})
        return left

    @property
    def ref(self) -> str:
        """The id this record is asked for again by."""
        return str(getattr(self, "external_id", ""))


class LineRecord(_Shape):
    """One line of an order. `unit_price` and the totals are in the order's currency and basis."""

    external_id: ExternalId
    sku: Label | None = None
    product_id: Label | None = None
    variant_id: Label | None = None
    title: Label | None = None
    quantity: Annotated[Decimal, Field(ge=0, lt=Decimal("1e9"), allow_inf_nan=False)] = Decimal(1)
    unit_price: Amount | None = None
    discount: Amount | None = None
    tax: Amount | None = None
    shipping: Amount | None = None
    total: Amount | None = None
    extras: Extras = Field(default_factory=dict)


class ParcelRecord(Record):
    """A parcel of an order.

    Its identity is the vendor's shipment id, else its `ordinal` in the order; never the tracking number.
    """

    kind: ClassVar[str] = "parcel"

    order_external_id: ExternalId
    external_id: ExternalId | None = None
    ordinal: Annotated[int, Field(ge=1, lt=100_000)] | None = None
    carrier: Label | None = None
    tracking_number: Label | None = None
    tracking_url: Label | None = None
    vendor_status: Label | None = None
    shipped_at: Moment = None
    delivered_at: Moment = None
    extras: Extras = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_identified(self) -> Self:
        if self.external_id is None and self.ordinal is None:
            raise ValueError("a parcel needs the vendor's shipment id or its ordinal in the order")
        return self

    @property
    def key(self) -> str:
        """What tells this parcel from the others of its order."""
        return self.external_id if self.external_id is not None else f"#{self.ordinal}"

    @property
    def ref(self) -> str:
        """Parcels are asked for again by their order."""
        return self.order_external_id


#: The amounts of an order, by the name a record has for them.
ORDER_AMOUNTS = ("items_total", "discount_total", "shipping_total", "tax_total", "fee_total", "total", "paid")


def _need_currency(currency: str | None, *amounts: Decimal | None) -> None:
    if currency is None and any(amount is not None for amount in amounts):
        raise ValueError("amounts without a currency: give the record, or the shop, a currency")


class OrderRecord(Record):
    """An order as its shop knows it.

    Attributes:
        placed_at ... cancelled_at: milestones. Left unset where the vendor gives no time: the milestone that `status`
            names then takes `updated_at` (or the latest time in the record), never the time of reading.
        promised_at: the moment by which delivery was promised. A promised *day* is promised until it ends, in the
            shop's zone.
        parcel_total: of how many parcels the order consists, where the vendor says; only then can the last parcel's
            delivery deliver the order.
        *_total, total, paid: amounts, and `basis` says whose view they are.
    """

    kind: ClassVar[str] = "order"

    external_id: ExternalId
    number: Label | None = None
    parent_external_id: ExternalId | None = None
    order_kind: Label | None = None
    status: OrderStatus = OrderStatus.UNKNOWN
    vendor_status: Label | None = None
    payment_state: PaymentState = PaymentState.UNKNOWN
    placed_at: Moment = None
    paid_at: Moment = None
    shipped_at: Moment = None
    delivered_at: Moment = None
    completed_at: Moment = None
    cancelled_at: Moment = None
    promised_at: Moment = None
    currency: Currency | None = None
    basis: AmountBasis = AmountBasis.BUYER_CHARGE
    items_total: Amount | None = None
    discount_total: Amount | None = None
    shipping_total: Amount | None = None
    tax_total: Amount | None = None
    fee_total: Amount | None = None
    total: Amount | None = None
    paid: Amount | None = None
    buyer: Buyer | None = None
    ship_to: Extras | None = None
    lines: tuple[LineRecord, ...] = ()
    parcels: tuple[ParcelRecord, ...] = ()
    parcel_total: Annotated[int, Field(ge=1, lt=100_000)] | None = None
    note: Text | None = None
    tags: tuple[Label, ...] = ()
    extras: Extras = Field(default_factory=dict)

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.changed_at is None:
            raise ValueError("an order needs placed_at, updated_at or another time")
        amounts = [getattr(self, name) for name in ORDER_AMOUNTS]
        amounts += [getattr(line, name) for line in self.lines for name in ("discount", "tax", "shipping", "total")]
        _need_currency(self.currency, *amounts)
        ids = [line.external_id for line in self.lines]
        if len(set(ids)) != len(ids):
            twice = sorted({item for item in ids if ids.count(item) > 1})
            raise ValueError(f"two lines with one id: {', '.join(twice)}")
        keys = [parcel.key for parcel in self.parcels]
        if len(set(keys)) != len(keys):
            raise ValueError("two parcels with one id")
        if any(parcel.order_external_id != self.external_id for parcel in self.parcels):
            raise ValueError("a parcel of another order")
        return self

    @property
    def changed_at(self) -> datetime | None:
        """The vendor's last change, else the latest time the record holds (the promise is none of them)."""
        if self.updated_at is not None:
            return self.updated_at
        return max(self._times(), default=None)

    @property
    def first_at(self) -> datetime | None:
        """The earliest time the record holds."""
        return min(self._times(), default=self.updated_at)

    def _times(self) -> list[datetime]:
        times = (self.placed_at, self.paid_at, self.shipped_at, self.delivered_at, self.completed_at, self.cancelled_at)
        return [time for time in times if time is not None]


class CustomerRecord(Record):
    """A customer as a shop's own customer list knows them."""

    kind: ClassVar[str] = "customer"

    external_id: ExternalId
    buyer: Buyer
    created_at: Moment = None


class PaymentRecord(Record):
    """A payment towards an order. `amount` is what the buyer paid this way."""

    kind: ClassVar[str] = "payment"

    external_id: ExternalId
    order_external_id: ExternalId
    method: Label | None = None
    vendor_status: Label | None = None
    amount: Amount | None = None
    currency: Currency | None = None
    paid_at: Moment = None
    extras: Extras = Field(default_factory=dict)

    @model_validator(mode="after")
    def _says_what_it_is(self) -> Self:
        _need_currency(self.currency, self.amount)
        return self

    @property
    def ref(self) -> str:
        """Payments are asked for again by their order."""
        return self.order_external_id


class RefundRecord(Record):
    """Money going back. `refunded` only from a field that means it really went; then `refunded_at` is set."""

    kind: ClassVar[str] = "refund"

    external_id: ExternalId
    order_external_id: ExternalId
    vendor_status: Label | None = None
    requested: Amount | None = None
    refunded: Amount | None = None
    currency: Currency | None = None
    requested_at: Moment = None
    refunded_at: Moment = None
    reason: Text | None = None
    extras: Extras = Field(default_factory=dict)

    @model_validator(mode="after")
    def _says_what_it_is(self) -> Self:
        _need_currency(self.currency, self.requested, self.refunded)
        return self

    @property
    def ref(self) -> str:
        """Refunds are asked for again by their order."""
        return self.order_external_id


class ReturnRecord(Record):
    """Goods going back."""

    kind: ClassVar[str] = "return"

    external_id: ExternalId
    order_external_id: ExternalId
    vendor_status: Label | None = None
    tracking_number: Label | None = None
    requested_at: Moment = None
    received_at: Moment = None
    reason: Text | None = None
    extras: Extras = Field(default_factory=dict)

    @property
    def ref(self) -> str:
        """Returns are asked for again by their order."""
        return self.order_external_id


class ReviewRecord(Record):
    """What a buyer wrote about an order or a product. `rating` is 1 to 5, `vendor_rating` as the vendor wrote it."""

    kind: ClassVar[str] = "review"

    external_id: ExternalId
    order_external_id: ExternalId | None = None
    buyer: Buyer | None = None
    product_id: Label | None = None
    rating: Annotated[Decimal, Field(ge=1, le=5)] | None = None
    vendor_rating: Label | None = None
    title: Text | None = None
    text: Text | None = None
    posted_at: Moment = None
    extras: Extras = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_a_time(self) -> Self:
        if self.posted_at is None and self.updated_at is None:
            raise ValueError("a review needs posted_at or updated_at")
        return self


class InboundRecord(Record):
    """A message a customer wrote to the shop."""

    kind: ClassVar[str] = "inbound"

    external_id: ExternalId
    channel: Label
    sender: Address
    text: Text
    received_at: At
    order_external_id: ExternalId | None = None
    extras: Extras = Field(default_factory=dict)


class AnswerRecord(Record):
    """An answer to a survey: `score` as the survey's own scale has it, `answers` by question."""

    kind: ClassVar[str] = "answer"

    external_id: ExternalId
    survey: Label
    buyer: Buyer | None = None
    order_external_id: ExternalId | None = None
    score: Amount | None = None
    answers: Extras = Field(default_factory=dict)
    answered_at: At


class ConsentRecord(Record):
    """What a customer allowed or forbade by a vendor's means: a STOP in reply, an unsubscribe, a form.

    It is said by an `address`, and holds for it and for the customer it is known to belong to; or by a `buyer`.
    `channel` and `purpose` (`transactional`, `marketing`) may be `*`: all of them. `is_complaint` where it was said to
    the vendor that a message is spam.
    """

    kind: ClassVar[str] = "consent"

    external_id: ExternalId
    address: Address | None = None
    buyer: Buyer | None = None
    channel: Label = "*"
    purpose: Literal["transactional", "marketing", "*"] = "*"
    state: Literal["granted", "withdrawn"]
    wording: Text | None = None
    is_complaint: bool = False
    said_at: At

    @model_validator(mode="after")
    def _is_somebodys(self) -> Self:
        if self.address is None and self.buyer is None:
            raise ValueError("consent needs the address or the buyer it is of")
        return self


class ReceiptRecord(Record):
    """What a vendor says became of a message, found by our `key`, by the vendor's id for it, or by batch and recipient.

    `batch_id` and `recipient` (the address as the message has it) are for vendors that number calls, not messages.

    `external_id` tells one receipt from another where the vendor gives them ids; else its content does.
    """

    kind: ClassVar[str] = "receipt"

    external_id: ExternalId | None = None
    state: Literal["sent", "delivered", "bounced", "failed"]
    key: Label | None = None
    vendor_id: Label | None = None
    batch_id: Label | None = None
    recipient: Label | None = None
    reason: Label | None = None
    detail: Text | None = None
    occurred_at: At

    @property
    def ref(self) -> str:
        """The receipt's own id, else a hash of what it says."""
        return self.external_id or self.content_hash()


class SuppressionRecord(Record):
    """An address that nothing should go to any more, as another system knows: it bounced there, or is on its list.

    What came of a message of ours is a receipt's to tell, and who wants nothing a consent's. It holds for a channel,
    whoever's mail it was and by whichever gateway, from `since` on; `reason` is one of ours where it is known.
    """

    kind: ClassVar[str] = "suppression"

    external_id: ExternalId | None = None
    address: Address
    channel: Label
    reason: Label
    since: At

    @property
    def ref(self) -> str:
        """The suppression's own id, else a hash of what it says."""
        return self.external_id or self.content_hash()


RECORDS: tuple[type[Record], ...] = (
    CustomerRecord,
    OrderRecord,
    ParcelRecord,
    PaymentRecord,
    RefundRecord,
    ReturnRecord,
    ReviewRecord,
    InboundRecord,
    AnswerRecord,
    ConsentRecord,
    ReceiptRecord,
    SuppressionRecord,
)
