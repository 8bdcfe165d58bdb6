"""WooCommerce's webhooks: who sent one, and what it says."""

import json
from typing import Any

import pytest

from crmkit import Call, OrderRecord, PayloadError, Refused, Reply, Reread, Verified
from plugins.marketplace.tests.woocommerce.desk import FOLDER, dumped, source
from plugins.marketplace.tests.woocommerce.fake import NOON, FakeShop, signed, written

SECRET = "woo-secret-1"


def call(body: Any, topic: str = "order.updated", secret: str = SECRET, delivery: str = "d1") -> Call:
    raw, headers = signed(body, secret, topic, delivery)
    return Call(raw, headers, received_at=NOON)


def said(body: Any, topic: str = "order.updated", **settings: Any) -> list[Any]:
    return list(source(webhook_secret=SECRET, **settings).records(call(body, topic)))


def body(**more: Any) -> dict[str, Any]:
    return FakeShop().put(7, **more)


def test_a_signature_is_that_of_the_worked_example() -> None:
    headers = {"x-wc-webhook-signature": "9Z3PUCvq6aGqRPjECVcDW5htuwOkGiTK4dcn2vLJB5c="}
    woo = source(webhook_secret=SECRET)
    assert isinstance(woo.verify(Call(b'{"id":727,"status":"processing"}', headers)), Verified)
    assert woo.verify(Call(b'{"id":727,"status":"completed"}', headers)) == Reply(401, b"unverified")


# SEMANTICS 30
def test_the_ping_is_answered_and_kept_nowhere() -> None:
    woo = source(webhook_secret=SECRET)
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert woo.verify(Call(b"webhook_id=17", form)) == Reply(200)
    assert woo.verify(Call(b"webhook_id=17&id=7", form)) == Reply(401, b"unverified")
    assert woo.verify(Call(b"webhook_id=17", {"x-wc-webhook-signature": "AAAA"})) == Reply(401, b"unverified")


def test_while_a_secret_changes_both_hold_and_without_one_none() -> None:
    woo = source(webhook_secret=["new", "old"])
    assert isinstance(woo.verify(call(body(), secret="old")), Verified)
    assert isinstance(woo.verify(call(body(), secret="new")), Verified)
    assert isinstance(woo.verify(call(body(), secret="other")), Reply)
    assert isinstance(source().verify(call(body(), secret="")), Reply)


def test_two_updates_within_a_second_are_two_though_they_share_their_delivery_id() -> None:
    woo = source(webhook_secret=SECRET)
    one, again = (woo.verify(call(body(status="pending"))) for _ in range(2))
    other = woo.verify(call(body(status="processing")))
    third = woo.verify(call(body(status="pending"), topic="order.created"))
    assert isinstance(one, Verified) and one == again
    assert len({each.dedupe_key for each in (one, other, third) if isinstance(each, Verified)}) == 3


def test_the_topic_is_kept_for_the_parser() -> None:
    assert "x-wc-webhook-topic" in source().keeps_headers


@pytest.mark.parametrize("topic", ["order.created", "order.updated", "order.restored"])
def test_an_order_comes_whole(topic: str) -> None:
    raw = json.loads((FOLDER / "order_paid.json").read_text("utf-8"))
    expected = json.loads((FOLDER / "order_paid.records.json").read_text("utf-8"))
    assert dumped(said(raw, topic)) == expected


def test_a_body_newer_than_its_topic_is_taken_as_it_is() -> None:
    (order,) = said(body(status="completed", date_completed_gmt=written(NOON)), "order.created")
    assert (order.status, order.observed_at) == ("completed", NOON)


def test_what_an_order_only_hints_at_is_read_again() -> None:
    fulfilled = [{"key": "_fulfillment_status", "value": "partially_fulfilled"}]
    for hint in ({"refunds": [{"id": 12, "total": "-3.00"}]}, {"meta_data": fulfilled}):
        order, again = said(body(**hint))
        assert isinstance(order, OrderRecord)
        assert again == Reread("order", "7")
    (order,) = said(body(meta_data=fulfilled), tracking=[])
    assert isinstance(order, OrderRecord)


def test_a_parcel_in_the_orders_own_fields_comes_with_it() -> None:
    items = [{"tracking_number": "X1", "date_shipped": "1793404800"}]
    order, parcel = said(body(meta_data=[{"key": "_wc_shipment_tracking_items", "value": items}]))
    assert (order.kind, parcel.kind, parcel.key) == ("order", "parcel", "#1")


def test_a_deleted_order_is_read_again() -> None:
    assert said({"id": 7}, "order.deleted") == [Reread("order", "7")]


def test_customers_come_whole_and_what_nobody_asked_for_says_nothing() -> None:
    (customer,) = said({"id": 2, "email": "ann@example.com", "date_created_gmt": written(NOON)}, "customer.updated")
    assert (customer.kind, customer.external_id) == ("customer", "2")
    for topic in ("customer.deleted", "product.updated", "coupon.created", "action.woocommerce_add_to_cart", ""):
        assert said({"id": 2}, topic) == []
    assert said(body(status="checkout-draft"), "order.created") == []


def test_an_order_that_cannot_be_read_is_refused_with_its_id() -> None:
    (bad,) = said(body(total="ten"))
    assert isinstance(bad, Refused)
    assert (bad.place, bad.ref) == ("orders/7", "7")


@pytest.mark.parametrize("raw", [b"not json", b'{"order": {"id": 7}}', b"[]", b'"x"'])
def test_what_is_not_woocommerces_is_said_so(raw: bytes) -> None:
    with pytest.raises(PayloadError, match=r"flagship read webhook order\.updated"):
        said(raw)


def test_a_body_that_is_nested_without_end_is_refused() -> None:
    with pytest.raises(PayloadError, match="not JSON"):
        list(source().records(Call(b"[" * 50_000, {"x-wc-webhook-topic": "order.updated"})))
