from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from crmkit import (
    EVENTS,
    Action,
    Cancel,
    Customer,
    Emit,
    Event,
    Later,
    Money,
    Order,
    OrderCancelled,
    OrderCompleted,
    OrderDelivered,
    OrderPaid,
    OrderPlaced,
    OrderPromiseChanged,
    OrderReopened,
    OrderShipped,
    Parcel,
    ParcelShipped,
    Review,
    ReviewPosted,
    Send,
    ShipmentLate,
    Shop,
    staff,
)
from crmkit_care import RuleDue, Settings, ShipmentCheck, crmkit_handlers
from crmkit_care.condition import conditions

NOW = datetime(2018, 5, 7, 12, tzinfo=UTC)
PROMISED = NOW + timedelta(days=3)
SHOP = Shop(1, "flagship", "Tea", frozenset({"placed", "delivered"}), NOW, "en", ZoneInfo("UTC"))
ORDER = Order(
    7,
    1,
    "x-7",
    "7",
    "placed",
    currency="CNY",
    total=Money(Decimal("120.50"), "CNY"),
    placed_at=NOW,
    promised_at=PROMISED,
    extras={"gift": "yes", "weight": 2},
)
CUSTOMER = Customer(3, 3, name="Li Lei", country="CN", cycle=2)


@dataclass
class Clock:
    now: datetime = NOW
    settings: Any = None


def event(kind: type[Event], **fields: Any) -> Event:
    return kind(**{"customer": CUSTOMER, "order": ORDER, "shop": SHOP, "at": NOW, **fields})


def settings(*rules: dict[str, Any], **late: Any) -> Settings:
    return Settings.model_validate({"rules": list(rules), "late": late})


def told(chosen: Settings, happened: Event, now: datetime = NOW) -> list[Action]:
    """What the playbook asks for."""
    actions: list[Action] = []
    for handler in crmkit_handlers(chosen):
        if handler.event is type(happened):
            found: Iterable[Action] | None = handler(happened, Clock(now))
            actions.extend(found or ())
    return actions


SHIPPED = {"on": "order-shipped", "send": "order-shipped", "via": ["email"]}
QUIET = {"enabled": False}


# --- rules ------------------------------------------------------------------------------------------------------------


def test_a_rule_sends_its_template_on_its_event() -> None:
    chosen = settings(SHIPPED, **QUIET)
    assert told(chosen, event(OrderShipped)) == [Send("order-shipped", via=("email",))]
    assert told(chosen, event(OrderPaid)) == []
    assert [handler.name for handler in crmkit_handlers(chosen)] == ["rules_on_order_shipped", "send_code"]


def test_a_rule_may_tell_staff() -> None:
    chosen = settings({**SHIPPED, "to": "staff:shipping"}, **QUIET)
    assert told(chosen, event(OrderShipped)) == [Send("order-shipped", via=("email",), to=staff("shipping"))]


def test_a_rule_is_switched_off_or_for_some_shops_only() -> None:
    assert told(settings({**SHIPPED, "enabled": False}, **QUIET), event(OrderShipped)) == []
    assert told(settings({**SHIPPED, "shops": ["outlet"]}, **QUIET), event(OrderShipped)) == []
    assert told(settings({**SHIPPED, "shops": ["outlet"]}, **QUIET), event(OrderShipped, shop=None)) == []
    assert len(told(settings({**SHIPPED, "shops": ["outlet", "flagship"]}, **QUIET), event(OrderShipped))) == 1


def test_of_rules_that_say_the_same_to_the_same_reader_the_first_that_applies_does() -> None:
    chosen = settings(
        {**SHIPPED, "via": ["call"], "when": {"order.total": ">=1000"}},
        {**SHIPPED, "via": ["sms"]},
        {**SHIPPED, "via": ["email"]},
        {**SHIPPED, "to": "staff:shipping"},
        {**SHIPPED, "send": "thanks"},
        **QUIET,
    )
    sends = [action for action in told(chosen, event(OrderShipped)) if isinstance(action, Send)]
    assert [(send.template, send.via, send.to) for send in sends] == [
        ("order-shipped", ("sms",), None),
        ("order-shipped", ("email",), staff("shipping")),
        ("thanks", ("email",), None),
    ]


# --- delays -----------------------------------------------------------------------------------------------------------

ASK = {"on": "order-delivered", "send": "ask", "delay": "2h", "when": {"order.status": "delivered"}}


def test_a_delayed_rule_looks_at_the_facts_again_when_it_is_due() -> None:
    chosen = settings(ASK, **QUIET)
    (later,) = told(chosen, event(OrderDelivered))
    assert isinstance(later, Later)
    assert (later.at, later.key) == (NOW + timedelta(hours=2), "rule:order-delivered:ask:order:1:x-7")
    due = later.event
    assert isinstance(due, RuleDue)
    again = RuleDue.of(due.payload(), customer=CUSTOMER, shop=SHOP, order=replace(ORDER, status="delivered"))
    assert told(chosen, again) == [Send("ask", via=("sms", "email"))]
    assert told(chosen, replace(again, order=ORDER)) == [], "the condition does not hold any more"
    assert told(settings({**ASK, "name": "other"}, **QUIET), again) == [], "the rule is gone"


def test_a_delayed_rule_is_given_up_if_the_order_was_cancelled_meanwhile() -> None:
    chosen = settings({**ASK, "when": {}}, {"on": "order-cancelled", "send": "sorry", "delay": "1d"}, **QUIET)
    cancelled = replace(ORDER, status="cancelled", cancelled_at=NOW)
    (later,) = told(chosen, event(OrderDelivered))
    assert isinstance(later, Later)
    assert told(chosen, replace(later.event, order=cancelled, shop=SHOP)) == []
    (later,) = told(chosen, event(OrderCancelled, order=cancelled))
    assert isinstance(later, Later)
    assert told(chosen, replace(later.event, order=cancelled, shop=SHOP)) == [Send("sorry", via=("sms", "email"))]


def test_what_is_the_events_own_is_looked_at_when_it_happens() -> None:
    chosen = settings(
        {"on": "review-posted", "send": "sorry", "delay": "1h", "when": {"review.rating": "<=2"}}, **QUIET
    )
    bad, good = (event(ReviewPosted, review=Review(1, "r", rating=Decimal(stars))) for stars in (2, 5))
    assert told(chosen, good) == []
    (later,) = told(chosen, bad)
    assert isinstance(later, Later)
    assert len(told(chosen, replace(later.event, order=ORDER, customer=CUSTOMER, shop=SHOP))) == 1


def test_history_has_no_afterlife() -> None:
    chosen = settings(ASK, **QUIET)
    assert told(chosen, event(OrderDelivered, at=NOW - timedelta(hours=1))) == []


def test_delayed_rules_with_one_name_are_refused() -> None:
    settings(ASK, {**ASK, "name": "again", "delay": "3d"})
    with pytest.raises(ValidationError, match="2 delayed rules are called order-delivered:ask"):
        settings(ASK, {**ASK, "delay": "3d"})


# --- conditions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ({}, True),
        ({"order.total": ">=100"}, True),
        ({"order.total": ">= 120.50"}, True),
        ({"order.total": "<100"}, False),
        ({"order.total": 120.5}, True),
        ({"order.total": [1, "120.50"]}, True),
        ({"order.total": "!=120.5"}, False),
        ({"order": {"total": ">100"}}, True),
        ({"order.shipping": ">=0"}, False),
        ({"order.shipping": "!=5"}, False),
        ({"shop": ["outlet", "flagship"]}, True),
        ({"shop": "outlet"}, False),
        ({"shop.name": "flagship"}, True),
        ({"customer.country": "CN"}, True),
        ({"customer.country": "!=CN"}, False),
        ({"customer.city": "!=Paris"}, False),
        ({"customer.cycle": ">1"}, True),
        ({"order.is_cancelled": False}, True),
        ({"order.is_delivered": True}, False),
        ({"order.extras.gift": "yes"}, True),
        ({"order.extras.weight": 2}, True),
        ({"order.extras.weight": ">1"}, True),
        ({"order.extras.gift": ">1"}, False),
        ({"order.extras.none": "yes"}, False),
        ({"parcel.carrier": ["SF", "YTO"]}, True),
        ({"order.total": ">=100", "customer.country": "DE"}, False),
    ],
)
def test_every_condition_must_hold_and_what_is_not_known_holds_for_none(when: dict[str, Any], holds: bool) -> None:
    happened = event(ParcelShipped, parcel=Parcel(1, "p", carrier="SF"))
    assert all(item.holds(happened) for item in conditions(when, ParcelShipped)) is holds
    assert not any(item.holds(ParcelShipped()) for item in conditions(when, ParcelShipped))


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ({"order.totl": ">=1"}, "did you mean order.total?"),
        ({"ordr.total": ">=1"}, "did you mean order?"),
        ({"parcel.carrier": "SF"}, "order-shipped has no field parcel"),
        ({"order": "x"}, "name a field of it"),
        ({"order.lines": "x"}, "cannot be compared"),
        ({"order.lines.title": "x"}, "cannot be looked into"),
        ({"order.promised_at": ">2018"}, "is a time"),
        ({"order.total": ">=lots"}, "give a number"),
        ({"order.total": "nan"}, "give a number"),
        ({"order.total": True}, "no yes-or-no"),
        ({"order.number": 7}, "in quotes"),
        ({"order.status": ">paid"}, "only numbers and amounts"),
        ({"order.is_cancelled": "yes"}, "true or false"),
        ({"order.is_cancelled": "!=true"}, "true or false"),
        ({"customer.country": []}, "empty list"),
    ],
)
def test_a_condition_that_cannot_be_is_refused(when: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match="when: ") as caught:
        settings({**SHIPPED, "when": when})
    (error,) = caught.value.errors()
    assert error["loc"][:2] == ("rules", 0)
    assert said in error["msg"]


@given(
    st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.integers() | st.booleans() | st.none(), max_size=2)
)
def test_whatever_is_written_is_read_or_refused(when: dict[str, Any]) -> None:
    for written in (when, {"order": when}, {"order.extras": when}):
        try:
            found = conditions(written, OrderShipped)
        except ValueError:
            continue
        assert all(item.holds(event(OrderShipped)) in (True, False) for item in found)


@pytest.mark.parametrize(
    ("rule", "key", "said"),
    [
        ({**SHIPPED, "on": "order-shiped"}, "on", "did you mean order-shipped?"),
        ({**SHIPPED, "on": "xyz"}, "on", "known are"),
        ({**SHIPPED, "via": []}, "via", "at least 1"),
        ({**SHIPPED, "to": "shipping"}, "to", "staff:"),
        ({**SHIPPED, "delay": "2 hours"}, "delay", "30m, 36h or 7d"),
        ({**SHIPPED, "sned": "x"}, "sned", "not permitted"),
        ({"on": "order-shipped"}, "send", "required"),
    ],
)
def test_a_mistake_in_a_rule_is_named_by_its_key(rule: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(rule)
    (error,) = caught.value.errors()
    assert error["loc"] == ("rules", 0, key)
    assert said in error["msg"]


# --- the late watch ---------------------------------------------------------------------------------------------------

KEY = "late:1:x-7"
WATCH = [OrderPlaced, OrderPaid, OrderPromiseChanged, OrderReopened]


@pytest.mark.parametrize("kind", WATCH)
def test_an_awaited_order_is_watched_from_its_beginning(kind: type[Event]) -> None:
    assert told(settings(), event(kind)) == [Later(ShipmentCheck(), at=PROMISED, key=KEY)]
    assert told(settings(grace="12h"), event(kind)) == [
        Later(ShipmentCheck(), at=PROMISED + timedelta(hours=12), key=KEY)
    ]


@pytest.mark.parametrize("kind", [*WATCH, ShipmentCheck])
def test_nothing_is_watched_where_nothing_could_be_known(kind: type[Event]) -> None:
    after = PROMISED + timedelta(days=1)
    silent = replace(SHOP, reports=frozenset({"placed", "shipped"}))
    assert told(settings(), event(kind, shop=silent), after) == []
    assert told(settings(shops=["outlet"]), event(kind), after) == []
    assert told(settings(enabled=False), event(kind), after) == []
    assert told(settings(), event(kind, order=None), after) == []


@pytest.mark.parametrize(
    "order",
    [
        replace(ORDER, promised_at=None),
        replace(ORDER, delivered_at=NOW),
        replace(ORDER, completed_at=NOW),
        replace(ORDER, status="cancelled"),
    ],
)
def test_what_is_not_awaited_is_not_late(order: Order) -> None:
    after = PROMISED + timedelta(days=1)
    for kind in (OrderPlaced, OrderPaid, OrderReopened, ShipmentCheck):
        assert told(settings(), event(kind, order=order), after) == []
    assert told(settings(), event(OrderPromiseChanged, order=order)) == [Cancel(KEY)]
    assert told(settings(team="shipping"), event(ShipmentLate, order=order, promised_at=PROMISED), after) == []


@pytest.mark.parametrize("kind", [OrderDelivered, OrderCompleted, OrderCancelled])
def test_the_watch_ends_with_the_waiting(kind: type[Event]) -> None:
    assert told(settings(), event(kind)) == [Cancel(KEY)]
    assert told(settings(), event(kind, order=replace(ORDER, promised_at=None))) == []


def test_a_broken_promise_is_told_once_and_a_moved_one_is_awaited() -> None:
    assert told(settings(), event(ShipmentCheck), PROMISED) == [Emit(ShipmentLate(promised_at=PROMISED), key=KEY)]
    moved = PROMISED + timedelta(days=2)
    assert told(settings(), event(ShipmentCheck, order=replace(ORDER, promised_at=moved)), PROMISED) == [
        Later(ShipmentCheck(), at=moved, key=KEY)
    ]


def _late(chosen: Settings) -> list[tuple[str, Any, Any, str | None]]:
    sends = told(chosen, event(ShipmentLate, promised_at=PROMISED), PROMISED)
    assert all(isinstance(send, Send) and send.context == {"promised_at": PROMISED} for send in sends)
    return [(send.template, tuple(send.via), send.to, send.key) for send in sends if isinstance(send, Send)]


def test_buyer_and_staff_are_told() -> None:
    buyer = ("shipment-late", ("sms", "email"), None, f"{KEY}:buyer")
    team = ("shipment-late-staff", ("email",), staff("shipping"), f"{KEY}:staff")
    assert _late(settings()) == [buyer]
    assert _late(settings(team="shipping")) == [buyer, team]
    assert _late(settings(team="shipping", tell=["staff"])) == [team]
    assert _late(settings(via=["email"], tell=["buyer"])) == [("shipment-late", ("email",), None, f"{KEY}:buyer")]
    assert _late(settings(tell=[])) == []


def test_a_rule_on_late_shipments_takes_the_place_of_the_watchs_own_message() -> None:
    rule = {"on": "shipment-late", "send": "shipment-late", "via": ["email"]}
    happened = event(ShipmentLate, promised_at=PROMISED)
    assert told(settings(rule), happened, PROMISED) == [Send("shipment-late", via=("email",))]
    assert len(told(settings({**rule, "shops": ["outlet"]}), happened, PROMISED)) == 1
    assert len(told(settings({**rule, "to": "staff:boss"}, team="shipping"), happened, PROMISED)) == 2
    assert len(told(settings({**rule, "enabled": False}), happened, PROMISED)) == 1


def test_the_watchs_mistakes_are_named() -> None:
    for wrong, key in (({"tel": []}, "tel"), ({"tell": ["all"]}, "tell"), ({"grace": "1"}, "grace")):
        with pytest.raises(ValidationError) as caught:
            settings(**wrong)
        assert caught.value.errors()[0]["loc"][:2] == ("late", key)


def test_the_playbooks_events_are_known_by_name() -> None:
    assert EVENTS["rule-due"] is RuleDue
    assert EVENTS["shipment-check"] is ShipmentCheck
    assert ShipmentCheck().payload() is None


# --- bursts -----------------------------------------------------------------------------------------------------------


# SEMANTICS 40
def test_a_rule_may_tell_a_burst_in_one_message() -> None:
    chosen = settings({**SHIPPED, "on": "parcel-shipped", "combine": "60m"}, **QUIET)
    shipped = event(ParcelShipped, parcel=Parcel(1, "p1"))
    assert told(chosen, shipped) == [Send("order-shipped", via=("email",), combine=timedelta(hours=1))]
