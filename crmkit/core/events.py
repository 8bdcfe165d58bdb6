"""What is told: one class per event, registered by being a subclass. Class `OrderShipped`, wire name `order-shipped`.

Every event carries its context (`customer`, `order`, `shop`, `at`), which the core fills in from the facts as of the
run's clock, and its own fields, which are stored with the interaction as JSON. A plugin's event is a subclass:

```python
class VoucherGranted(Event):
    \"\"\"A voucher was put aside for the customer.\"\"\"

    code: str
```
"""

import inspect
import re
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, ClassVar, Self, dataclass_transform, get_type_hints

from pydantic import BaseModel, create_model

from crmkit.core.account import Shop
from crmkit.core.contact import Contact
from crmkit.core.customer import Customer
from crmkit.core.errors import PluginError
from crmkit.core.order import Order, Parcel, Refund, Review

#: Every event by its wire name.
EVENTS: dict[str, type["Event"]] = {}
#: What else an event may be about, by the name of its field: kept by its number, and shown as known at the run's clock.
SUBJECTS = {"parcel": Parcel, "refund": Refund, "review": Review, "contact": Contact}


@dataclass_transform(frozen_default=True, kw_only_default=True)
@dataclass(frozen=True, kw_only=True)
class Event:
    """A typed fact that handlers receive.

    Attributes:
        customer: whom it is about; None where it is about the shop as a whole.
        order: the order it is about, as known at the run's clock.
        shop: where it happened.
        at: when it happened.
        actor: who did it.
        id: the interaction's number; None until it is in the log.
    """

    name: ClassVar[str] = "event"

    customer: Customer | None = None
    order: Order | None = None
    shop: Shop | None = None
    at: datetime | None = None
    actor: str = "crmkit"
    id: int | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Register the event under its wire name."""
        super().__init_subclass__(**kwargs)
        for field, hint in inspect.get_annotations(cls).items():
            if field in CONTEXT and not _is_subject(field, hint):
                raise PluginError(
                    f"the event {cls.__name__} has a field {field}, which is the core's own",
                    who=cls.__module__,
                    operation="event",
                    do="give the field another name",
                )
        dataclass(frozen=True, kw_only=True)(cls)
        if "name" not in cls.__dict__:
            cls.name = re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()
        known = EVENTS.get(cls.name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise PluginError(
                f"the event {cls.name} is already {known.__module__}.{known.__qualname__}",
                who=cls.__module__,
                operation="event",
                do="name the class otherwise",
            )
        EVENTS[cls.name] = cls

    def payload(self) -> dict[str, Any] | None:
        """What is stored of the event beside its context: its own fields as JSON, the number of its subject."""
        told = self.own()
        for name in subjects_of(type(self)):
            subject = getattr(self, name)
            if subject is not None:
                told[name] = subject.id
        return told or None

    def own(self) -> dict[str, Any]:
        """The event's own fields as JSON, without what is not known."""
        model = _payload_model(type(self))
        if model is None:
            return {}
        values = {name: getattr(self, name) for name in model.model_fields}
        own: dict[str, Any] = model(**values).model_dump(mode="json", exclude_none=True)
        return own

    @classmethod
    def of(cls, payload: dict[str, Any] | None, **context: Any) -> Self:
        """The event stored as `payload`, in its context."""
        model = _payload_model(cls)
        own: dict[str, Any] = {}
        if model is not None:
            read = model.model_validate({k: v for k, v in (payload or {}).items() if k in model.model_fields})
            own = {name: getattr(read, name) for name in model.model_fields if getattr(read, name) is not None}
        return cls(**context, **own)


#: What the core fills in; the rest of an event is its payload.
CONTEXT = frozenset(item.name for item in fields(Event)) | frozenset(SUBJECTS)


def _is_subject(field: str, hint: Any) -> bool:
    """Whether a field of an event is what its name says: a `parcel: Parcel | None`."""
    return field in SUBJECTS and re.search(rf"\b{SUBJECTS[field].__name__}\b", str(hint)) is not None


_SUBJECTS_OF: dict[type[Event], tuple[str, ...]] = {}


def subjects_of(event: type[Event]) -> tuple[str, ...]:
    """The names of an event's fields that are a parcel, a refund or a review."""
    if event not in _SUBJECTS_OF:
        _SUBJECTS_OF[event] = tuple(item.name for item in fields(event) if item.name in SUBJECTS)
    return _SUBJECTS_OF[event]


_MODELS: dict[type[Event], type[BaseModel] | None] = {}


def _payload_model(event: type[Event]) -> type[BaseModel] | None:
    """A pydantic model of the event's own fields, all optional, made once per class."""
    if event not in _MODELS:
        hints = get_type_hints(event)
        own = {item.name: (hints[item.name] | None, None) for item in fields(event) if item.name not in CONTEXT}
        model: Any = create_model(f"{event.__name__}Payload", **own) if own else None  # type: ignore[call-overload]
        _MODELS[event] = model
    return _MODELS[event]


# --- customers --------------------------------------------------------------------------------------------------------


class CustomerCreated(Event):
    """A profile was seen for the first time: a buyer id, or a guest."""


class StageChanged(Event):
    """The customer moved on in the lifecycle."""

    before: str
    after: str
    cycle: int


class ConsentChanged(Event):
    """The customer allowed or forbade something: `state` is `granted` or `withdrawn`."""

    channel: str
    purpose: str
    state: str
    source: str


class ContactLeft(Event):
    """The customer left an address on a page; the code that proves it is to be sent there. None once it has expired."""

    contact: Contact | None = None


class ContactProven(Event):
    """Who left an address is reached there; it does not say who that is. `kind` is `email` or `phone`."""

    kind: str
    address: str | None = None


# --- orders -----------------------------------------------------------------------------------------------------------


class OrderPlaced(Event):
    """The order was placed."""


class OrderPaid(Event):
    """The order was paid."""


class OrderShipped(Event):
    """The first parcel of the order was handed over, or the order as a whole."""


class OrderDelivered(Event):
    """The order arrived: its vendor says so, or its last parcel did."""


class OrderCompleted(Event):
    """The shop considers the order concluded."""


class OrderCancelled(Event):
    """The order was cancelled."""


class OrderReopened(Event):
    """A cancelled order is alive again."""


class OrderPromiseChanged(Event):
    """Delivery is now promised for another moment (`order.promised_at`); it was `before`."""

    before: datetime | None = None


class ParcelShipped(Event):
    """A parcel was handed over."""

    parcel: Parcel | None = None


class ParcelDelivered(Event):
    """A parcel arrived."""

    parcel: Parcel | None = None


class RefundRequested(Event):
    """The buyer wants money back."""

    refund: Refund | None = None


class OrderRefunded(Event):
    """Money went back to the buyer."""

    refund: Refund | None = None


class ReviewPosted(Event):
    """The buyer wrote a review."""

    review: Review | None = None


class ShipmentLate(Event):
    """The promised delivery has passed and nothing arrived; `promised_at` is the promise that was broken."""

    promised_at: datetime


# --- messages ---------------------------------------------------------------------------------------------------------


class MessageReceived(Event):
    """The customer wrote to the shop."""

    channel: str
    sender: str
    text: str


class MessageSent(Event):
    """A message was accepted by its gateway."""

    message: int
    template: str
    channel: str


class MessageDelivered(Event):
    """The vendor says a message arrived."""

    message: int
    template: str
    channel: str


class MessageBounced(Event):
    """A message came back: the address does not exist or takes nothing."""

    message: int
    template: str
    channel: str
    reason: str


class MessageFailed(Event):
    """The vendor refused a message, or every try was used up."""

    message: int
    template: str
    channel: str
    reason: str


class MessageHeld(Event):
    """A message waits for a person."""

    message: int
    template: str
    channel: str
    reason: str


class MessageSuppressed(Event):
    """A message was not sent, and this is why."""

    message: int
    template: str
    channel: str
    reason: str


# --- service ----------------------------------------------------------------------------------------------------------


class ComplaintFiled(Event):
    """The customer complained; `complaint` is the complaint's own key, `about` what of the order it is about."""

    complaint: str
    text: str
    source: str
    about: str | None = None


class ComplaintEscalated(Event):
    """A complaint went a level up."""

    complaint: str
    level: int


class ComplaintResolved(Event):
    """A complaint was resolved."""

    complaint: str
    resolution: str


class ComplaintReopened(Event):
    """A resolved complaint is open again."""

    complaint: str
    text: str


class ComplaintClosed(Event):
    """A complaint is closed for good."""

    complaint: str


class StatementConfirmed(Event):
    """The customer confirmed an entry of their statement as it was shown: `seen` is a fingerprint of that."""

    kind: str
    entry: str
    amount: str | None = None
    seen: str | None = None


class SurveyAnswered(Event):
    """The customer answered a survey; `score` is on the survey's own scale."""

    survey: str
    score: float | None = None
    answers: dict[str, Any] | None = None


class SilenceNoticed(Event):
    """Nothing came from where something usually comes: `what` has been silent since `since`.

    Of a silence that crmkit notices, `kind` is `orders`, `webhooks` or `receipts`, `account` the shop's or the
    gateway's name, `expected` how many would usually have come, and `usual_hours` how long it was silent at the most
    before.
    """

    what: str
    since: datetime
    kind: str | None = None
    account: str | None = None
    expected: float | None = None
    usual_hours: float | None = None


class SilenceEnded(Event):
    """Something came again from where a silence was noticed; it lasted from `since` to `until`."""

    what: str
    since: datetime
    until: datetime
    kind: str | None = None
    account: str | None = None


class GatewayPaused(Event):
    """Crmkit paused a gateway: too much of what it sent went wrong, or its credentials were refused."""

    gateway: str
    reason: str


# --- schedules --------------------------------------------------------------------------------------------------------


class ScheduleDue(Event):
    """A function marked with `@every` is due: `schedule` is its name, `at` the slot. It is told to this function only,
    and is about no customer and no shop.
    """

    schedule: str


# --- remarks ----------------------------------------------------------------------------------------------------------


class Noted(Event):
    """A remark on the customer's timeline."""

    name: ClassVar[str] = "note"

    text: str
