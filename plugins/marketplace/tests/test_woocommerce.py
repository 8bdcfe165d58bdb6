"""From what WooCommerce says to records: raw bodies beside what they come to, statuses, money, parcels."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit import Ref, Refused
from crmkit_marketplace.woocommerce.mapping import to_customer, to_order, to_review
from crmkit_marketplace.woocommerce.settings import WooSettings
from crmkit_marketplace.woocommerce.shape import WooCustomer, WooOrder, WooReview
from crmkit_marketplace.woocommerce.tracking import in_fields
from plugins.marketplace.tests.reading import gather
from plugins.marketplace.tests.woocommerce.desk import FOLDER, dumped, orders, source
from plugins.marketplace.tests.woocommerce.fake import DAY, HOUR, NOON, FakeShop, written


def settings(**said: Any) -> WooSettings:
    keys = {"url": "https://shop.example.com", "consumer_key": "ck", "consumer_secret": "cs"}
    return WooSettings.model_validate({**keys, **said})


def raw(**said: Any) -> dict[str, Any]:
    times = {"date_created_gmt": "2026-11-01T01:00:00", "date_modified_gmt": "2026-11-01T02:00:00"}
    return {"id": 7, "status": "pending", "currency": "USD", "total": "10.00", **times, **said}


def order(**said: Any) -> Any:
    chosen = said.pop("settings", settings())
    return to_order(WooOrder.model_validate(raw(**said)), chosen, NOON)


def fixture(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


@pytest.mark.parametrize("name", ["order_paid", "order_fulfilled_refunded", "order_tracked_gross"])
async def test_a_raw_order_comes_to_its_records(name: str) -> None:
    shop = FakeShop()
    body = fixture(name)
    shop.orders[body["id"]] = body
    for kind, rows in (("refunds", shop.refunds), ("fulfillments", shop.fulfillments)):
        if (FOLDER / f"{name}.{kind}.json").exists():
            rows[body["id"]] = fixture(f"{name}.{kind}")
    woo = source(shop, statuses={"wc-partial-shipped": "shipped"})
    read = await orders(woo, NOON - 9 * DAY)
    assert dumped(read.records) == fixture(f"{name}.records")
    assert read.refused == []


@pytest.mark.parametrize(
    ("status", "said", "meant", "payment"),
    [
        ("pending", {}, "placed", "pending"),
        ("on-hold", {}, "placed", "pending"),
        ("processing", {"date_paid_gmt": "2026-11-01T01:30:00"}, "paid", "paid"),
        ("processing", {"payment_method": "cod"}, "placed", "pending"),
        ("completed", {"date_completed_gmt": "2026-11-01T01:40:00"}, "completed", "unknown"),
        ("cancelled", {}, "cancelled", "unknown"),
        ("refunded", {"date_paid_gmt": "2026-11-01T01:30:00"}, "cancelled", "paid"),
        ("refunded", {"date_completed_gmt": "2026-11-01T01:40:00"}, "completed", "unknown"),
        ("failed", {}, "placed", "failed"),
        ("trash", {}, "cancelled", "unknown"),
        ("trash", {"date_completed_gmt": "2026-11-01T01:40:00"}, "completed", "unknown"),
        ("awaiting-pickup", {}, "unknown", "unknown"),
    ],
)
# SEMANTICS 4
def test_a_status_means(status: str, said: dict[str, str], meant: str, payment: str) -> None:
    record = order(status=status, **said)
    assert (record.status, record.payment_state, record.vendor_status) == (meant, payment, status)


def test_the_draft_of_a_checkout_is_no_order() -> None:
    assert order(status="checkout-draft") is None


def test_a_fulfilled_order_that_is_refunded_was_not_cancelled() -> None:
    meta = [{"key": "_fulfillment_status", "value": "fulfilled"}]
    assert order(status="refunded", meta_data=meta).status == "shipped"


def test_the_shop_says_what_its_own_statuses_mean() -> None:
    chosen = settings(statuses={"wc-Shipped": "shipped", "on-hold": "ignored"})
    assert order(status="shipped", settings=chosen).status == "shipped"
    assert order(status="on-hold", settings=chosen) is None


@pytest.mark.parametrize(
    ("said", "more"),
    [
        ({}, set()),
        ({"tracking": ["fulfillments"]}, {"shipped", "parcels"}),
        ({"tracking": []}, set()),
        ({"completed_means_shipped": True}, {"shipped"}),
        ({"statuses": {"sent": "shipped", "arrived": "delivered", "test": "ignored"}}, {"shipped", "delivered"}),
    ],
)
# SEMANTICS 39
def test_a_shop_reports_what_it_was_said_to_know(said: dict[str, Any], more: set[str]) -> None:
    always = {"placed", "paid", "completed", "cancelled", "refunds", "reviews", "customers"}
    assert source(**said).reports == always | more
    assert source(reviews=False, customers=False).reports == always - {"reviews", "customers"}


def test_completed_is_shipped_only_where_the_shop_says_so() -> None:
    said = {"status": "completed", "date_completed_gmt": "2026-11-01T01:40:00"}
    assert "shipped_at" not in order(**said).model_fields_set
    told = order(**said, settings=settings(completed_means_shipped=True))
    assert told.shipped_at == told.completed_at


AMOUNTS = st.decimals(0, 10_000, places=2)


@given(
    lines=st.lists(st.tuples(AMOUNTS, st.decimals(0, 1, places=2), AMOUNTS, st.integers(1, 9)), max_size=4),
    shipping=AMOUNTS,
    fees=st.lists(st.decimals(-50, 50, places=2), max_size=2),
    gross=st.booleans(),
)
def test_the_amounts_of_an_order_add_up(lines: list[Any], shipping: Decimal, fees: list[Decimal], gross: bool) -> None:
    items = []
    for number, (subtotal, share, tax, count) in enumerate(lines):
        total = round(subtotal * share, 2)
        row = {"id": number, "subtotal": str(subtotal), "total": str(total), "total_tax": str(tax), "quantity": count}
        items.append({**row, "price": float(total / count)})
    discount = sum((Decimal(row["subtotal"]) - Decimal(row["total"]) for row in items), Decimal(0))
    tax = sum((Decimal(row["total_tax"]) for row in items), Decimal(0))
    paid = sum((Decimal(row["total"]) for row in items), Decimal(0)) + tax + shipping + sum(fees)
    record = order(
        line_items=items,
        fee_lines=[{"total": str(fee)} for fee in fees],
        shipping_total=str(shipping),
        discount_total=str(discount),
        total_tax=str(tax),
        total=str(paid),
        prices_include_tax=gross,
    )
    parts = (record.items_total or 0) + record.shipping_total + record.tax_total + (record.fee_total or 0)
    assert parts - record.discount_total == record.total
    assert sum((line.discount for line in record.lines), Decimal(0)) == record.discount_total
    whole = sum((line.total for line in record.lines), Decimal(0)) + (0 if gross else tax)
    assert whole == paid - shipping - sum(fees)


def test_an_order_with_one_bad_field_harms_only_itself() -> None:
    bad = [
        {"total": "ten"},
        {"billing": {"first_name": "A\x00B"}},
        {"currency": "dollars"},
        {"date_created_gmt": "soon"},
    ]
    good = {"id": 9, "quantity": "1", "total": "", "price": ""}
    assert order(line_items=[good], billing=[], shipping=None, refunds=None).lines[0].total is None
    for said in bad:
        with pytest.raises(ValueError):
            order(**said)


async def test_the_rest_of_a_page_lands_with_a_bad_order_and_says_where_it_is() -> None:
    shop = FakeShop()
    shop.put(1)
    shop.put(2, total="ann@buyers.example")
    shop.put(3)
    read = await orders(source(shop))
    assert read.ids() == [1, 3]
    (bad,) = read.refused
    assert (bad.kind, bad.place, bad.ref) == ("order", "orders/2", "2")
    assert bad.reason == "total: Input should be a valid decimal"
    assert json.loads(bad.raw)["number"] == "2"


def parcels(meta: dict[str, Any], **said: Any) -> list[Any]:
    chosen = said.pop("settings", settings())
    place = said.pop("place", "shipment-tracking")
    fields = [{"key": key, "value": value} for key, value in meta.items()]
    return in_fields(WooOrder.model_validate(raw(meta_data=fields, **said)), place, chosen, NOON)


def midnight(day: int) -> str:
    return str(int((NOON.replace(hour=0) + timedelta(days=day)).timestamp()))


@pytest.mark.parametrize(
    ("day", "changed", "shipped"),
    [
        (0, NOON + 3 * HOUR, NOON + 3 * HOUR),  # within the day: when it was written
        (0, NOON + 2 * DAY, NOON.replace(hour=23, minute=59, second=59)),  # later: by the end of that day
        (1, NOON, NOON.replace(hour=0) + DAY),  # a label for tomorrow
        (-9, NOON, NOON - 5 * DAY),  # never before the order
    ],
)
def test_a_parcel_shipped_on_a_day_left_by_its_end(day: int, changed: Any, shipped: Any) -> None:
    item = {"tracking_number": "X1", "date_shipped": midnight(day), "tracking_provider": "ups"}
    times = {"date_created_gmt": written(NOON - 5 * DAY), "date_modified_gmt": written(changed)}
    (parcel,) = parcels({"_wc_shipment_tracking_items": [item]}, **times)
    assert parcel.shipped_at == shipped


# SEMANTICS 5
def test_a_corrected_tracking_number_is_the_same_parcel() -> None:
    def of(number: str) -> Any:
        item = {"tracking_number": number, "tracking_id": f"hash-{number}", "tracking_provider": "ups"}
        return parcels({"_wc_shipment_tracking_items": [item]})[0]

    assert of("X1").key == of("X2").key


def test_aftership_writes_the_sites_time_as_if_it_were_utc() -> None:
    item = {"slug": "dhl", "tracking_number": "X1", "metrics": {"created_at": "2026-11-01T09:30:00Z"}}
    (parcel,) = parcels({"_aftership_tracking_items": [item]}, place="aftership")
    assert parcel.carrier == "dhl"
    assert written(parcel.shipped_at) == "2026-11-01T02:00:00"  # not after the order's last change


def test_a_parcel_in_the_fields_of_any_plugin() -> None:
    keys = {"number": "ywot_tracking_code", "carrier": "ywot_carrier_name", "url": "track_url"}
    chosen = settings(tracking=["meta"], tracking_meta=keys)
    meta = {"ywot_tracking_code": "Y1", "ywot_carrier_name": "DPD", "track_url": "https://t.example.com/Y1"}
    (parcel,) = parcels(meta, place="meta", settings=chosen)
    assert (parcel.tracking_number, parcel.carrier, parcel.tracking_url) == ("Y1", "DPD", "https://t.example.com/Y1")
    assert parcels({"ywot_tracking_code": ""}, place="meta", settings=chosen) == []


@pytest.mark.parametrize(
    "meta", ["", None, "a:1:{}", [], ["X"], [{"tracking_number": ""}], {"0": 1}, [{"date_shipped": "x"}]]
)
def test_a_field_that_holds_no_parcel_holds_none(meta: Any) -> None:
    assert parcels({"_wc_shipment_tracking_items": meta}) == []
    assert parcels({"_aftership_tracking_items": meta}, place="aftership") == []


async def test_the_first_place_with_parcels_counts_and_only_fulfilled_orders_are_asked_about() -> None:
    shop = FakeShop()
    item = [{"tracking_number": "X1", "date_shipped": midnight(0)}]
    both = [{"key": "_wc_shipment_tracking_items", "value": item}, {"key": "_fulfillment_status", "value": "fulfilled"}]
    shop.put(1, meta_data=both)
    shop.fulfillments[1] = [{"id": 5, "is_fulfilled": True, "status": "fulfilled", "meta_data": []}]
    shop.put(2, meta_data=both[:1])
    shop.put(3)
    read = await orders(source(shop))
    assert [(one.order_external_id, one.key) for one in read.of("parcel")] == [("1", "5"), ("2", "#1")]
    assert [path for path in shop.asked if "fulfillments" in path] == ["/wc/v3/orders/1/fulfillments?"]


async def test_a_shop_without_fulfillments_is_asked_once() -> None:
    shop = FakeShop()
    shop.without = {"fulfillments"}
    for number in range(1, 30):
        shop.put(number, meta_data=[{"key": "_fulfillment_status", "value": "fulfilled"}])
    read = await orders(source(shop))
    assert len(read.ids()) == 29
    assert len([path for path in shop.asked if "fulfillments" in path]) <= 4  # those under way at once


def test_a_registered_customer_has_a_strong_identity() -> None:
    body = {"id": 2, "date_created_gmt": "2026-11-01T01:00:00", "date_modified_gmt": None, "email": "ann@example.com"}
    names = {"first_name": "Ann", "last_name": "Lee", "role": "customer", "username": "ann"}
    billing = {"first_name": "", "phone": "+14155550101", "country": "US", "city": "Reno"}
    record = to_customer(WooCustomer.model_validate({**body, **names, "billing": billing}), NOON)
    assert (record.external_id, record.buyer.external_id, record.buyer.name) == ("2", "2", "Ann Lee")
    assert (record.buyer.email, record.buyer.phone, record.buyer.region) == ("ann@example.com", "+14155550101", "US")
    assert record.updated_at == record.created_at


def test_a_guest_is_known_by_what_the_order_says() -> None:
    record = order(customer_id=0, billing={"email": "a@example.com", "company": "Tea Ltd"})
    assert record.buyer.external_id is None
    assert (record.buyer.email, record.buyer.name) == ("a@example.com", "Tea Ltd")


def test_a_review_is_plain_text_and_no_stars_are_no_rating() -> None:
    body = {"id": 7, "date_created_gmt": "2026-11-01T01:00:00", "product_id": 10, "status": "approved", "rating": 0}
    text = "<p>Lovely &amp; <b>hot</b><br />\nagain</p>\n"
    record = to_review(WooReview.model_validate({**body, "review": text, "reviewer_email": "ann@example.com"}), NOON)
    assert record is not None
    assert (record.text, record.rating, record.buyer.email) == ("Lovely & hot\nagain", None, "ann@example.com")
    assert to_review(WooReview.model_validate({**body, "status": "hold"}), NOON) is None


async def test_records_are_read_by_id_in_the_trash_too_and_what_is_gone_is_left_out() -> None:
    shop = FakeShop()
    shop.put(1)
    shop.put(2, status="trash")
    shop.put(3, status="checkout-draft")
    shop.put(4, date_modified_gmt=written(NOON - 900 * DAY), refunds=[{"id": 5, "total": "-1.00"}])
    shop.refunds[4] = [{"id": 5, "amount": "1.00", "date_created_gmt": written(NOON)}]
    shop.customer(6)
    shop.review(8)
    kinds = [("order", "1"), ("order", "2"), ("order", "3"), ("refund", "4"), ("parcel", "4"), ("order", "99")]
    asked = [Ref(kind, number) for kind, number in [*kinds, ("customer", "6"), ("review", "8"), ("order", "x")]]
    read = await gather(source(shop).read(asked))
    assert [(one.kind, one.external_id) for one in read.records] == [
        ("order", "1"),
        ("order", "4"),
        ("refund", "5"),
        ("order", "2"),
        ("customer", "6"),
        ("review", "8"),
    ]
    assert read.of("order")[2].vendor_status == "trash"
    assert len(shop.asked) == 7  # any, trash, the draft, the missing one; the refunds; a customer; a review


async def test_many_are_read_by_id_in_few_calls() -> None:
    shop = FakeShop()
    for number in range(1, 251):
        shop.put(number)
    read = await gather(source(shop).read([Ref("order", str(number)) for number in range(1, 251)]))
    assert read.ids() == list(range(1, 251))
    assert len(shop.asked) == 3


async def test_a_refund_that_the_shop_refuses_to_show_harms_only_its_order() -> None:
    shop = FakeShop()
    shop.put(1, refunds=[{"id": 5, "total": "-1.00"}])
    shop.put(2)
    shop.troubles = [None, httpx.Response(400, json={"code": "broken"})]
    read = await orders(source(shop))
    assert read.ids() == [1, 2]
    assert read.refused == [
        Refused(
            "order",
            "orders/1/refunds",
            "flagship read refunds: refused (HTTP 400 broken)",
            '{"code":"broken"}',
            "1",
        )
    ]


async def test_one_shop_is_known_however_its_address_is_written() -> None:
    names = [
        await source(url=url).vendor_account()
        for url in ("https://Shop.example.com/de/", "http://shop.example.com:80/de")
    ]
    assert names == ["shop.example.com/de"] * 2
