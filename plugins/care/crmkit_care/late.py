"""The late-shipment watch: the promise has passed and nothing arrived.

It is armed when an order is placed or paid, not when it ships: the order that never ships is the one buyers hate most.
It speaks only where the shop reports deliveries; elsewhere an order that did not arrive looks like one that did.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from crmkit import (
    Action,
    Cancel,
    Crm,
    Duration,
    Emit,
    Event,
    Handler,
    Later,
    Order,
    OrderCancelled,
    OrderCompleted,
    OrderDelivered,
    OrderPaid,
    OrderPlaced,
    OrderPromiseChanged,
    OrderReopened,
    Send,
    ShipmentLate,
    on,
    staff,
)

from .rules import Name, Rule


class ShipmentCheck(Event):
    """The moment to look whether an order came as promised."""


class Late(BaseModel):
    """`[care.late]`: the watch and whom it tells.

    A rule on `shipment-late` takes the place of the watch's own message to the same reader (buyer or staff).
    """

    model_config = ConfigDict(extra="forbid")

    #: `false` switches it off
    enabled: bool = True
    #: whom to tell; staff only if there is a `team`
    tell: list[Literal["buyer", "staff"]] = ["buyer", "staff"]
    #: channels to the buyer by preference
    via: Annotated[list[Name], Field(min_length=1)] = ["sms", "email"]
    #: who is told at the shop
    team: Name | None = None
    #: channels to the team by preference
    staff_via: Annotated[list[Name], Field(min_length=1)] = ["email"]
    #: wait this much longer than promised
    grace: Duration = timedelta(0)
    #: only these shops
    shops: list[Name] = []

    def watches(self, event: Event) -> bool:
        """Whether the event is about an order of a shop that is watched."""
        shop = event.shop
        if shop is None or event.order is None or "delivered" not in shop.reports:
            return False
        return not self.shops or shop.name in self.shops

    def check_at(self, order: Order) -> datetime | None:
        """When to look at an order that is still awaited; None if there is nothing to await."""
        if order.promised_at is None or order.is_delivered or order.is_cancelled:
            return None
        return order.promised_at + self.grace


def handlers(late: Late, rules: Sequence[Rule] = ()) -> Iterator[Handler]:
    """The watch, and the telling of whom no rule on `shipment-late` tells."""
    if not late.enabled:
        return

    def arm(event: Event, crm: Crm) -> Iterator[Action]:
        """Set the moment to look at an order, or move it."""
        if late.watches(event) and event.order is not None:
            at = late.check_at(event.order)
            if at is not None:
                yield Later(ShipmentCheck(), at=at, key=_key(event.order))
            elif isinstance(event, OrderPromiseChanged):
                yield Cancel(_key(event.order))

    def disarm(event: Event, crm: Crm) -> Iterator[Action]:
        """Look no more at an order that nobody waits for."""
        if late.watches(event) and event.order is not None and event.order.promised_at is not None:
            yield Cancel(_key(event.order))

    begins: tuple[type[Event], ...] = (OrderPlaced, OrderPaid, OrderPromiseChanged, OrderReopened)
    ends: tuple[type[Event], ...] = (OrderDelivered, OrderCompleted, OrderCancelled)
    yield from (Handler(event, arm) for event in begins)
    yield from (Handler(event, disarm) for event in ends)

    @on(ShipmentCheck)
    def check(event: ShipmentCheck, crm: Crm) -> Iterator[Action]:
        """Say that an order is late, or look again when it would be."""
        order = event.order
        if order is None or not late.watches(event):
            return
        at = late.check_at(order)
        if at is None or order.promised_at is None:
            return
        if at > crm.now:
            yield Later(ShipmentCheck(), at=at, key=_key(order))
        else:
            yield Emit(ShipmentLate(promised_at=order.promised_at), key=_key(order))

    yield check

    @on(ShipmentLate)
    def tell_of_it(event: ShipmentLate, crm: Crm) -> Iterator[Action]:
        """Tell the buyer and the team, but for whom a rule tells."""
        order = event.order
        if order is None or late.check_at(order) is None or not late.watches(event):
            return
        promised = {"promised_at": event.promised_at}
        by_rule = {"staff" if rule.to else "buyer" for rule in rules if rule.is_for(event.shop)}
        tell = set(late.tell) - by_rule
        if "buyer" in tell:
            yield Send("shipment-late", via=tuple(late.via), key=f"{_key(order)}:buyer", context=promised)
        if "staff" in tell and late.team is not None:
            yield Send(
                "shipment-late-staff",
                via=tuple(late.staff_via),
                to=staff(late.team),
                key=f"{_key(order)}:staff",
                context=promised,
            )

    yield tell_of_it


def _key(order: Order) -> str:
    return f"late:{order.shop_id}:{order.external_id}"
