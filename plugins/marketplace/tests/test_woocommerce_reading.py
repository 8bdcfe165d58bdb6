"""WooCommerce's lists: paging, rows that move meanwhile, filters that are ignored, and what a bad day brings."""

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st

from crmkit import AuthError, PayloadError, RefusedError, RetryableError, Start
from crmkit.adapters import http
from crmkit_marketplace.woocommerce import WooCommerceSource
from crmkit_marketplace.woocommerce.settings import WooSettings
from crmkit_marketplace.woocommerce.signing import OneLegged, signature
from plugins.marketplace.tests.reading import gather
from plugins.marketplace.tests.woocommerce.desk import orders, source
from plugins.marketplace.tests.woocommerce.fake import (
    DAY,
    HOUR,
    KEY,
    MINUTE,
    NOON,
    SECOND,
    SECRET,
    FakeShop,
    error,
    written,
)


def full(count: int) -> FakeShop:
    shop = FakeShop()
    for number in range(1, count + 1):
        shop.put(number)
    return shop


async def test_a_shop_of_250_orders_is_read_in_three_pages() -> None:
    shop = full(250)
    read = await orders(source(shop))
    assert read.ids() == list(range(1, 251))
    assert [len(page.records) for page in read.pages] == [100, 99, 51, 0]
    assert read.pages[0].total == 250
    assert all(record.observed_at == NOON for record in read.records)
    assert ["offset=99" in path for path in shop.asked] == [False, True, False, False]


async def test_the_span_is_asked_for_in_utc_and_its_first_second_belongs_to_it() -> None:
    shop = FakeShop()
    for number, at in enumerate((NOON - HOUR - SECOND, NOON - HOUR, NOON, NOON + 9 * SECOND), start=1):
        shop.put(number, date_modified_gmt=written(at))
    read = await orders(source(shop), NOON - HOUR, NOON)
    assert read.ids() == [2, 3]


# SEMANTICS 31
async def test_what_changes_while_pages_are_read_is_found_by_this_span_or_the_next() -> None:
    shop = full(40)
    shop.now = NOON + HOUR

    def between(number: int) -> None:
        shop.now += SECOND
        if number < 6:  # as the first pages are read, rows of them change: they leave the span, and the rest moves up
            for order in range(4 * number - 3, 4 * number + 1):
                shop.put(order, status="processing")
                shop.put(100 + order)

    shop.between = between
    woo = source(shop, per_page=10)
    end = NOON + HOUR
    first = await orders(woo, NOON - HOUR, end)
    assert first.error is None
    second = await orders(woo, end - 5 * MINUTE, shop.now + MINUTE)
    assert sorted({*first.ids(), *second.ids()}) == [*range(1, 41), *range(101, 121)]
    assert {one.external_id for one in second.of("order")} >= {str(number) for number in range(1, 21)}


@given(
    count=st.integers(0, 60),
    leaving=st.lists(st.sets(st.integers(1, 60), max_size=30), max_size=9),
    hidden=st.sets(st.integers(1, 60), max_size=5),
)
def test_no_row_that_stays_in_a_list_is_missed_whatever_the_others_do(
    count: int, leaving: list[set[int]], hidden: set[int]
) -> None:
    shop = full(count)
    shop.hidden = hidden
    left: set[int] = set()

    def between(number: int) -> None:
        for order in leaving[number - 1] & set(shop.orders) if number <= len(leaving) else ():
            left.add(order)
            shop.orders[order]["status"] = "checkout-draft"

    shop.between = between
    read = asyncio.run(orders(source(shop, per_page=10)))
    assert read.error is None
    assert set(shop.orders) - left - hidden <= set(read.ids())
    assert read.ids() == sorted(set(read.ids()))
    assert len(shop.asked) < 60


async def test_orders_that_may_not_be_seen_do_not_end_a_list() -> None:
    shop = full(100)
    shop.hidden = {1, 10, *range(35, 81), 100}
    read = await orders(source(shop, per_page=10))
    assert read.error is None
    assert read.ids() == sorted(set(range(1, 101)) - shop.hidden)
    assert len(shop.asked) < 20


async def test_orders_in_the_trash_are_found_without_a_webhook() -> None:
    shop = full(2)
    shop.put(1, status="trash")
    read = await orders(source(shop))
    assert [(one.external_id, one.vendor_status, one.status) for one in read.of("order")] == [
        ("2", "pending", "placed"),
        ("1", "trash", "cancelled"),
    ]


async def test_a_shop_that_ignores_the_filter_is_read_whole_and_what_did_not_change_is_dropped() -> None:
    shop = full(30)
    shop.old = True
    for number in range(1, 26):
        fulfilled = [{"key": "_fulfillment_status", "value": "fulfilled"}]
        shop.put(number, date_modified_gmt=written(NOON - 9 * DAY), meta_data=fulfilled)
    woo = source(shop, per_page=10)
    read = await orders(woo)
    assert read.ids() == list(range(26, 31))
    assert not any("fulfillments" in path for path in shop.asked)
    assert "does not know modified_after" in next(iter(await woo.check()))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda query: query.pop("offset", None), "the same page again and again"),
        (lambda query: query.update(order="desc"), "not sorted by id"),
    ],
)
async def test_a_list_that_goes_in_circles_ends_with_an_error(
    spoil: Callable[[dict[str, str]], Any], said: str
) -> None:
    shop = full(50)

    def cached(request: httpx.Request) -> httpx.Response:
        query = dict(request.url.params)
        spoil(query)
        return shop.answer(httpx.Request("GET", request.url.copy_with(params=query), headers=request.headers))

    woo = source(client=http.client(transport=httpx.MockTransport(cached)), per_page=10)
    read = await orders(woo)
    assert isinstance(read.error, PayloadError)
    assert said in str(read.error)
    assert len(shop.asked) < 10


async def test_a_list_without_a_count_ends_with_a_short_page() -> None:
    shop = full(25)

    def bare(request: httpx.Request) -> httpx.Response:
        said = shop.answer(request)
        for name in ("x-wp-total", "x-wp-totalpages", "date"):
            said.headers.pop(name, None)
        return said

    woo = source(client=http.client(transport=httpx.MockTransport(bare)), per_page=10)
    read = await orders(woo)
    assert read.ids() == list(range(1, 26))
    assert read.records[0].observed_at is None


# customers, reviews


async def test_new_customers_each_time_and_all_of_them_in_a_while() -> None:
    shop = FakeShop()
    for number in range(1, 26):
        shop.customer(number)
    woo = source(shop, per_page=10, customers_every="7d")
    first = await gather(woo.customers(Start()))
    cursor = first.pages[-1].cursor
    assert first.ids("customer") == list(range(1, 26))
    assert cursor == {"newest": 25, "scanned_at": NOON.isoformat()}

    shop.now, shop.asked = NOON + DAY, []
    shop.customer(30)
    shop.customer(3, first_name="Changed")
    second = await gather(woo.customers(Start(cursor)))
    assert second.ids("customer") == [30]
    assert len(shop.asked) == 1

    shop.now = NOON + 8 * DAY
    third = await gather(woo.customers(Start(second.pages[-1].cursor)))
    assert next(one for one in third.of("customer") if one.external_id == "3").buyer.name == "Changed"
    assert third.pages[-1].cursor == {"newest": 30, "scanned_at": shop.now.isoformat()}


async def test_a_scan_of_customers_that_was_killed_goes_on_where_it_was() -> None:
    shop = FakeShop()
    for number in range(1, 46):
        shop.customer(number)
    woo = source(shop, per_page=10)
    part = (await gather(woo.customers(Start()))).pages[:2]
    for number in range(1, 12):  # what was read is deleted meanwhile, so the rest moves up
        del shop.customers[number]
    rest = await gather(woo.customers(Start(part[-1].cursor)))
    seen = [*(int(one.external_id) for page in part for one in page.records), *rest.ids("customer")]
    assert sorted(set(seen)) == list(range(1, 46))


async def test_customers_since_a_moment_are_found_by_reading_all_and_move_no_cursor() -> None:
    shop = FakeShop()
    shop.customer(1)
    shop.now += DAY
    shop.customer(2)
    read = await gather(source(shop).customers(Start(None, NOON + HOUR)))
    assert read.ids("customer") == [2]
    assert [page.cursor for page in read.pages] == [None]


async def test_reviews_are_asked_for_in_a_time_that_holds_in_every_zone() -> None:
    shop = FakeShop()
    shop.zone = timedelta(hours=-11)
    shop.review(1)
    shop.review(2, status="hold")
    shop.review(3, date_created="2026-10-01T00:00:00", date_created_gmt="2026-10-01T11:00:00")
    read = await gather(source(shop).reviews(NOON - HOUR, NOON))
    assert read.ids("review") == [1]
    window = WooCommerceSource.window("reviews")
    assert window is not None and window.overlap == 14 * DAY


async def test_what_is_switched_off_is_not_asked_for() -> None:
    shop = FakeShop()
    woo = source(shop, customers=False, reviews=False)
    assert (await gather(woo.reviews(NOON - HOUR, NOON))).pages == []
    assert (await gather(woo.customers(Start()))).pages == []
    assert shop.asked == []


# a bad day


async def test_too_many_requests_amid_the_pages_leave_what_was_read_and_say_when_to_come_again() -> None:
    shop = full(25)
    shop.troubles = [None, httpx.Response(429, headers={"retry-after": "120"})]
    read = await orders(source(shop, per_page=10))
    assert read.ids() == list(range(1, 11))
    assert isinstance(read.error, RetryableError)
    assert read.error.retry_after == 120 * SECOND


async def test_a_short_pause_is_waited_for() -> None:
    shop = full(25)
    shop.troubles = [None, httpx.Response(503, headers={"retry-after": "0"}), None]
    assert (await orders(source(shop, per_page=10))).ids() == list(range(1, 26))


async def test_keys_that_expire_amid_the_pages_end_it_with_what_to_do() -> None:
    shop = full(25)
    shop.troubles = [None, error(401, "woocommerce_rest_authentication_error")]
    read = await orders(source(shop, per_page=10))
    assert len(read.ids()) == 10
    assert isinstance(read.error, AuthError)
    assert str(read.error) == (
        "flagship read orders: credentials refused (HTTP 401 woocommerce_rest_authentication_error);"
        " check consumer_key and consumer_secret"
    )


@pytest.mark.parametrize(
    ("url", "said", "trouble", "kind", "text"),
    [
        ("https", {}, httpx.Response(200, text="<html>Back soon"), RetryableError, "a page for people instead of data"),
        ("https", {}, httpx.Response(200, text='[{"id": 1, "na'), RetryableError, "half an answer, or none"),
        ("https", {}, httpx.Response(200, text=""), RetryableError, "half an answer, or none"),
        ("https", {}, httpx.Response(403, text="<html>Blocked"), RetryableError, "something before the shop refused"),
        ("https", {}, httpx.Response(404, text="<html>Nothing"), RefusedError, "set rest_route = true"),
        ("https", {}, error(404, "rest_no_route"), RefusedError, "switch on permalinks"),
        ("https", {}, error(400, "rest_invalid_param"), RefusedError, "refused (HTTP 400 rest_invalid_param)"),
        ("https", {}, error(401, "woocommerce_rest_cannot_view"), AuthError, 'set auth = "query"'),
        ("http", {"auth": "basic"}, error(401, "woocommerce_rest_cannot_view"), AuthError, 'set auth = "oauth"'),
        ("http", {}, error(401, "woocommerce_rest_authentication_error"), AuthError, "both clocks are right"),
        ("https", {}, httpx.Response(401, json={"code": "<b>Ann"}), RetryableError, "refused (HTTP 401)"),
        (
            "http",
            {},
            httpx.Response(301, headers={"location": "https://www.shop.example.com/?consumer_secret=cs_1"}),
            RetryableError,
            "it answers over https: begin url with https://www.shop.example.com",
        ),
    ],
)
async def test_a_refusal_says_what_to_do(
    url: str, said: dict[str, str], trouble: httpx.Response, kind: type[Exception], text: str
) -> None:
    router = respx.Router()
    router.get(path="/wp-json/wc/v3/orders").mock(return_value=trouble)
    client = http.client(transport=httpx.MockTransport(router.async_handler))
    read = await orders(source(client=client, url=f"{url}://shop.example.com", **said))
    assert type(read.error) is kind
    assert text in str(read.error)
    assert not any(secret in f"{read.error!r} {read.error}" for secret in (KEY, SECRET, "cs_1", "Ann"))


async def test_a_byte_order_mark_before_the_data_is_passed_over() -> None:
    shop = full(1)
    body = b"\xef\xbb\xbf" + json.dumps([shop.put(1)]).encode()
    shop.troubles = [httpx.Response(200, content=body, headers={"x-wp-total": "1"})]
    assert (await orders(source(shop))).ids() == [1]


# whose requests they are


def test_a_signature_is_that_of_the_worked_example() -> None:
    params = {"modified_after": "2026-11-01T00:00:00", "per_page": "100", "oauth_consumer_key": "ck_demo"}
    params |= {"oauth_nonce": "nonce123", "oauth_signature_method": "HMAC-SHA256", "oauth_timestamp": "1793496600"}
    url = "http://shop.example.com/wp-json/wc/v3/orders"
    assert signature("GET", url, params.items(), "cs_demo") == "7HneiY2c1RSMb3ZJTbLRbaf1N8pL8z+ziMSbnpPtank="
    request = httpx.Request("GET", f"{url}?per_page=100&modified_after=2026-11-01T00:00:00")
    at = datetime.fromtimestamp(1793496600.9, UTC)
    sent = next(OneLegged("ck_demo", "cs_demo", lambda: at, lambda: "nonce123").auth_flow(request))
    assert sent.url.params["oauth_signature"] == "7HneiY2c1RSMb3ZJTbLRbaf1N8pL8z+ziMSbnpPtank="


@pytest.mark.parametrize("rest_route", [False, True])
async def test_over_a_plain_socket_requests_are_signed_each_try_anew(rest_route: bool) -> None:
    shop = full(25)
    shop.ways = {"oauth"}
    shop.put(1, refunds=[{"id": 9, "total": "-1.00"}])
    shop.refunds[1] = [{"id": 9, "amount": "1.00", "date_created_gmt": written(NOON)}]
    shop.troubles = [None, httpx.Response(500), None]
    async with shop.serving() as url, http.client() as client:
        read = await orders(source(client=client, url=url, per_page=10, rest_route=rest_route))
        basic = await orders(source(client=client, url=url, auth="basic"))
        query = await orders(source(client=client, url=url, auth="query"))
    assert read.error is None
    assert read.ids() == list(range(1, 26))
    assert read.ids("refund") == [9]
    assert isinstance(basic.error, AuthError) and isinstance(query.error, AuthError)


@pytest.mark.parametrize("way", ["basic", "query", "oauth"])
async def test_no_secret_is_logged(way: str, caplog: pytest.LogCaptureFixture) -> None:
    shop = FakeShop(way)
    shop.put(1)
    caplog.set_level(logging.DEBUG)
    assert (await orders(source(shop, auth=way))).ids() == [1]
    assert "shop.example.com/..." in caplog.text
    assert SECRET not in caplog.text and httpx.QueryParams({"s": SECRET}).__str__()[2:] not in caplog.text
    assert KEY not in caplog.text


def test_an_address_is_written_in_one_way() -> None:
    def said(url: str) -> str:
        return WooSettings(url=url, consumer_key="ck", consumer_secret="cs").url  # type: ignore[arg-type]

    assert said(" https://shop.example.com/wp-json/wc/v3/ ") == "https://shop.example.com"
    assert said("http://shop.example.com:8080/de/") == "http://shop.example.com:8080/de"
    for wrong in ("shop.example.com", "ftp://shop.example.com", "https://", "https://ck:cs@shop.example.com"):
        with pytest.raises(ValueError):
            said(wrong)
    with pytest.raises(ValueError):
        said("https://shop.example.com?consumer_secret=cs")


# what to look after


async def test_a_webhook_that_the_shop_gave_up_is_named() -> None:
    shop = FakeShop()
    here = "https://crm.example.com/webhooks/flagship"
    topics = ["order.created", "order.updated", "order.deleted", "order.restored"]
    for number, topic in enumerate(topics, start=1):
        shop.webhooks[number] = {"id": number, "topic": topic, "status": "active", "delivery_url": here}
    woo = source(shop, webhook_secret="s")
    assert list(await woo.check()) == []
    shop.webhooks[2]["status"] = "disabled"
    shop.webhooks[3]["delivery_url"] = "https://elsewhere.example.com/"
    given_up, missing = await woo.check()
    assert "webhook 2 (order.updated) is disabled" in given_up and "set it to Active" in given_up
    assert f"tells {here} of order.deleted" in missing
    assert list(await source(shop).check()) == []  # no secret, no webhooks


async def test_a_check_says_why_the_shop_cannot_be_read() -> None:
    shop = FakeShop("oauth")
    (problem,) = await source(shop).check()
    assert "credentials refused" in problem


def test_windows_are_the_cores() -> None:
    window = WooCommerceSource.window("orders")
    assert window is not None
    now = datetime.fromisoformat("2026-11-01T12:00:00+00:00")
    ((start, end),) = window.spans(now - HOUR, now)
    assert (start, end) == (now - HOUR - 5 * MINUTE, now - MINUTE)
    assert WooCommerceSource.streams() == ["orders", "customers", "reviews"]
