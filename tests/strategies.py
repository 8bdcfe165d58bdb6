"""Small worlds of records: two shops, few orders and people, so that everything meets everything."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from crmkit.core.account import Shop
from crmkit.core.records import (
    Address,
    Buyer,
    CustomerRecord,
    LineRecord,
    OrderRecord,
    OrderStatus,
    ParcelRecord,
    PaymentRecord,
    PaymentState,
    Record,
    RefundRecord,
    ReturnRecord,
    ReviewRecord,
    SuppressionRecord,
)

START = datetime(2026, 3, 1, tzinfo=UTC)
NOW = START + timedelta(days=30)

#: A record of a shop, by the shop's number.
Said = tuple[int, Record]


def a_shop(number: int = 1, announce_from: datetime = START, **other: Any) -> Shop:
    values = {"locale": "en", "zone": ZoneInfo("UTC"), "region": "US", "reports": frozenset(), **other}
    return Shop(id=number, name=f"shop{number}", title=f"Shop {number}", announce_from=announce_from, **values)


SHOPS = {number: a_shop(number) for number in (1, 2)}

times = st.integers(0, 6).map(lambda hours: START + timedelta(hours=hours))
maybe_times = st.none() | times
orders = st.sampled_from(["o1", "o2", "o3"])


def said(model: Any, required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Records that say some of the optional fields and leave the others unset."""
    return st.fixed_dictionaries(required, optional=optional).map(lambda fields: model(**fields))


addresses = st.builds(
    Address,
    kind=st.sampled_from(["relay_email", "order_token", "virtual_phone"]),
    value=st.sampled_from(["r1@relay.example", "r2@relay.example"]),
    purposes=st.sampled_from([frozenset({"transactional"}), frozenset({"transactional", "marketing"})]),
    valid_until=maybe_times,
)
buyers = said(
    Buyer,
    {},
    {
        "external_id": st.sampled_from([None, "b1", "b2", "b3"]),
        "scope": st.sampled_from(["shop", "vendor"]),
        "name": st.sampled_from([None, "Ada", "Bob", "B**"]),
        "email": st.sampled_from([None, "a@example.com", "A@Example.com", "b@example.com", "a@@b", "a***@example.com"]),
        "phone": st.sampled_from([None, "+1 202 555 0123", "(202) 555-0123", "+1 202 555 0199", "12"]),
        "locale": st.sampled_from([None, "en", "zh-CN"]),
        "city": st.sampled_from([None, "Rome", "Oslo"]),
        "region": st.sampled_from([None, "US", "DE"]),
        "addresses": st.lists(addresses, max_size=2).map(tuple),
        "masked": st.sampled_from([frozenset(), frozenset({"name"}), frozenset({"email", "name"})]),
        "marketing_consent": st.sampled_from([None, True, False]),
    },
)


def lines(**amounts: Any) -> st.SearchStrategy[tuple[LineRecord, ...]]:
    optional = {"title": st.sampled_from(["Tea", "Cup"]), **amounts}
    line = said(LineRecord, {"external_id": st.sampled_from(["l1", "l2"])}, optional)
    return st.lists(line, max_size=2, unique_by=lambda line: line.external_id).map(tuple)


stamps = {"updated_at": maybe_times, "observed_at": maybe_times}


def parcels(of: st.SearchStrategy[str]) -> st.SearchStrategy[ParcelRecord]:
    return said(
        ParcelRecord,
        {"order_external_id": of, "external_id": st.sampled_from(["p1", "p2"])},
        {
            **stamps,
            "carrier": st.sampled_from([None, "DHL", "UPS"]),
            "tracking_number": st.sampled_from(["t1", "t2"]),
            "shipped_at": maybe_times,
            "delivered_at": maybe_times,
        },
    )


@st.composite
def _orders(draw: st.DrawFn) -> OrderRecord:
    number = draw(orders)
    optional = {
        "observed_at": maybe_times,
        "placed_at": maybe_times,
        "paid_at": maybe_times,
        "shipped_at": maybe_times,
        "delivered_at": maybe_times,
        "completed_at": maybe_times,
        "cancelled_at": maybe_times,
        "promised_at": maybe_times,
        "status": st.sampled_from(OrderStatus),
        "payment_state": st.sampled_from(PaymentState),
        "vendor_status": st.sampled_from([None, "x", "y"]),
        "lines": lines(),
        "parcels": st.lists(parcels(st.just(number)), max_size=2, unique_by=lambda one: one.key).map(tuple),
        "parcel_total": st.sampled_from([None, 1, 2]),
        "note": st.sampled_from([None, "n1"]),
        "tags": st.sampled_from([(), ("a",), ("a", "b")]),
        "extras": st.sampled_from([{}, {"k": [1, None, "v"]}]),
        "ship_to": st.sampled_from([None, {"city": "Rome"}]),
        "buyer": st.none() | buyers,
    }
    if draw(st.booleans()):
        optional["currency"] = st.sampled_from(["USD", "JPY"])
    fields = draw(st.fixed_dictionaries({"updated_at": times}, optional=optional))
    if "currency" in fields:  # amounts are of a currency
        amounts = {
            "total": st.sampled_from([None, Decimal("12.34"), Decimal("7")]),
            "lines": lines(total=st.sampled_from([Decimal("1.50"), Decimal("20")])),
        }
        fields.update(draw(st.fixed_dictionaries({}, optional=amounts)))
    return OrderRecord(external_id=number, **fields)


customers = said(
    CustomerRecord,
    {"external_id": st.sampled_from(["b1", "b2", "b3"]), "buyer": buyers},
    {**stamps, "created_at": maybe_times},
)
payments = said(
    PaymentRecord,
    {
        "external_id": st.sampled_from(["pay1", "pay2"]),
        "order_external_id": st.just("o1"),
        "currency": st.just("USD"),
    },
    {
        **stamps,
        "method": st.sampled_from([None, "card"]),
        "amount": st.sampled_from([None, Decimal("5")]),
        "paid_at": maybe_times,
    },
)
refunds = said(
    RefundRecord,
    {
        "external_id": st.sampled_from(["r1", "r2"]),
        "order_external_id": st.just("o2"),
        "currency": st.just("USD"),
    },
    {
        **stamps,
        "requested": st.sampled_from([None, Decimal("5")]),
        "refunded": st.sampled_from([None, Decimal("4")]),
        "requested_at": maybe_times,
        "refunded_at": maybe_times,
        "reason": st.sampled_from([None, "late"]),
    },
)
returns = said(
    ReturnRecord,
    {"external_id": st.just("ret1"), "order_external_id": st.just("o2")},
    {**stamps, "requested_at": maybe_times, "received_at": maybe_times},
)


@st.composite
def _reviews(draw: st.DrawFn) -> ReviewRecord:
    number = draw(st.sampled_from(["rev1", "rev2", "rev3"]))
    optional = {
        "observed_at": maybe_times,
        "buyer": st.none() | buyers,
        "rating": st.sampled_from([None, Decimal(1), Decimal(5)]),
        "text": st.sampled_from([None, "good"]),
        "posted_at": maybe_times,
    }
    fields = draw(st.fixed_dictionaries({"updated_at": times}, optional=optional))
    parent = {"rev1": "o1", "rev2": "o3"}.get(number)  # a review is of one order, or of none
    return ReviewRecord(external_id=number, order_external_id=parent, **fields)


suppressions = st.builds(
    SuppressionRecord,
    address=st.sampled_from(["ann@example.com", "Ann@Example.com", "bob@example.com"]).map(
        lambda written: Address(kind="email", value=written)
    ),
    channel=st.sampled_from(["email", "chat"]),
    reason=st.sampled_from(["bad-address", "not-capable"]),
    since=times,
)

records: st.SearchStrategy[Record] = st.one_of(
    _orders(), _orders(), _orders(), customers, parcels(orders), payments, refunds, returns, _reviews(), suppressions
)
#: What both shops say, in some order.
worlds = st.lists(st.tuples(st.sampled_from([1, 1, 2]), records), min_size=1, max_size=12)


@st.composite
def retold(draw: st.DrawFn, world: list[Said]) -> list[list[Said]]:
    """The same facts in another order, some of them twice, split into pages of one shop each."""
    again = [world[index] for index in draw(st.lists(st.integers(0, len(world) - 1), max_size=4))]
    pages: list[list[Said]] = []
    for one in draw(st.permutations([*world, *again])):
        if pages and pages[-1][-1][0] == one[0] and draw(st.booleans()):
            pages[-1].append(one)
        else:
            pages.append([one])
    return pages
