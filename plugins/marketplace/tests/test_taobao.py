"""Taobao: signatures, what an error in HTTP 200 is, the token, and what a trade comes to."""

import asyncio
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from crmkit import (
    AuthError,
    Call,
    ConfigError,
    OrderStatus,
    PayloadError,
    PaymentState,
    RefusedError,
    Reply,
    Reread,
    RetryableError,
    Verified,
)
from crmkit_marketplace.taobao.mapping import STATUSES, to_order, to_refund, to_review
from crmkit_marketplace.taobao.shape import TaobaoRate, TaobaoRefund, TaobaoTrade
from crmkit_marketplace.taobao.signing import Signed, signature
from plugins.marketplace.tests.taobao.desk import orders, remembering, source
from plugins.marketplace.tests.taobao.fake import HOUR, KEY, NOON, SECRET, Error, FakePlatform

# signatures


def test_the_official_vector_of_the_platforms_document() -> None:
    params = {
        "method": "taobao.item.seller.get",
        "app_key": "12345678",
        "session": "test",
        "timestamp": "2016-01-01 12:00:00",
        "format": "json",
        "v": "2.0",
        "sign_method": "md5",
        "fields": "num_iid,title,nick,price,num",
        "num_iid": "11223344",
    }
    made = signature({**params, "empty": "", "sign": "of another"}, "helloworld", "md5")
    assert made == "66987CB115214E59E6EC978214934FB8"


@pytest.mark.parametrize(
    ("way", "made"),
    [
        ("md5", "FAC38E8D7E1D434D2AAE8C1C56636186"),
        ("hmac", "489F8D0BA7799230F4DE4D137C954170"),
        ("hmac-sha256", "3691EE2A512754E5060FBE45F33A72E54AD7C0D4D32BE433747522EFC6B52127"),
    ],
)
def test_each_way_to_sign(way: Any, made: str) -> None:
    params = {
        "method": "taobao.trades.sold.increment.get",
        "app_key": "23000001",
        "session": "6100ffee",
        "timestamp": "2026-11-01 09:30:00",
        "format": "json",
        "v": "2.0",
        "fields": "tid,status,modified",
        "start_modified": "2026-11-01 09:00:00",
        "end_modified": "2026-11-01 09:30:00",
        "page_no": "1",
        "page_size": "40",
        "use_has_next": "true",
    }
    assert signature({**params, "sign_method": way}, "s3cr3tTOP", way) == made


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "Pacific/Apia"])
def test_a_request_is_stamped_and_signed_as_it_leaves_in_the_time_of_china(zone: str) -> None:
    before, session = os.environ.get("TZ"), ["old"]
    os.environ["TZ"] = zone
    time.tzset()
    try:
        now = [datetime(2026, 11, 1, 1, 30, 0, 900_000, tzinfo=UTC)]
        auth = Signed("23000001", "s3cr3tTOP", "md5", lambda: session[0], lambda: now[0])
        request = httpx.Request(
            "POST", "https://t.example/rest", data={"method": "m", "title": "绿茶 & 1+1=2", "x": ""}
        )
        first = dict(httpx.QueryParams(next(auth.auth_flow(request)).content.decode()))
        session[0], now[0] = "new", now[0] + timedelta(seconds=1)
        second = dict(httpx.QueryParams(next(auth.auth_flow(request)).content.decode()))
    finally:
        os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
        time.tzset()
    assert (first["timestamp"], second["timestamp"]) == ("2026-11-01 09:30:00", "2026-11-01 09:30:01")
    assert (first["session"], second["session"]) == ("old", "new")
    assert "x" not in first and first["title"] == "绿茶 & 1+1=2"
    assert first["sign"] == signature(first, "s3cr3tTOP", "md5") != second["sign"]


@pytest.mark.parametrize("way", ["md5", "hmac", "hmac-sha256"])
async def test_the_platform_takes_what_is_signed_in_each_way(way: str) -> None:
    platform = FakePlatform()
    assert list(await source(platform, sign_method=way).check()) == []


# pushes

STAMP = "2026-11-01 09:30:00"
AT = datetime(2026, 11, 1, 1, 31, tzinfo=UTC)


def push(body: bytes, sign: str, content_type: str = "application/json", **headers: str) -> Call:
    query = urlencode({"app_key": "23000001", "timestamp": STAMP, "v": "2.0", "sign": sign})
    return Call(body, {"content-type": content_type, **headers}, query=query, received_at=AT)


def test_a_push_is_taken_by_the_vector_and_no_other() -> None:
    shop, good = source(FakePlatform()), push(b'{"tid":"1"}', "498497FEA6DAD439085E645B7D8E4371")
    assert isinstance(shop.verify(good), Verified)
    assert list(shop.records(good)) == [Reread("order", "1")]
    for bad in (
        replace(good, body=b'{"tid":"2"}'),
        replace(good, query=good.query.replace("v=2.0", "v=2.1")),
        replace(good, query=good.query[:-1] + "0"),
        replace(good, query=""),
        replace(good, received_at=AT + timedelta(minutes=12)),
        replace(good, headers={**good.headers, "top-sign-list": "x-more", "x-more": "1"}),
    ):
        refused = shop.verify(bad)
        assert isinstance(refused, Reply) and refused.status == 401


@pytest.mark.parametrize("signs_form_twice", [False, True])
def test_a_pushed_form_is_signed_by_its_fields_and_the_headers_it_names(signs_form_twice: bool) -> None:
    shop, body = source(FakePlatform(), app_secret=["new", SECRET]), urlencode({"tid": "7", "名": "茶"}).encode()
    params = {"app_key": "23000001", "timestamp": STAMP, "v": "2.0", "tid": "7", "名": "茶", "X-One": "1"}
    made = signature(params, SECRET, "md5", body if signs_form_twice else b"")
    more = {"top-sign-list": "X-One", "x-one": "1"}
    call = push(body, made, "application/x-www-form-urlencoded;charset=utf-8", **more)
    assert isinstance(shop.verify(call), Verified)
    assert list(shop.records(call)) == [Reread("order", "7")]


def test_a_push_of_something_else_is_kept_and_named() -> None:
    with pytest.raises(PayloadError, match="flagship read webhook: a push that names no trade"):
        list(source(FakePlatform()).records(push(b'{"item":1}', "x")))


# errors in HTTP 200


@pytest.mark.parametrize(
    ("told", "kind", "says"),
    [
        (Error(25), AuthError, "signs wrongly (code 25); check app_key, app_secret"),
        (Error(27, "invalid-sessionkey"), AuthError, "ended (code 27 invalid-sessionkey); run crmkit connect flagship"),
        (Error(31), AuthError, "set the clock of this machine"),
        (Error(11, "isv.permission-api-package-limit"), RefusedError, "apply for its permission package"),
        (Error(15, "isp.remote-service-error"), RetryableError, "is not available (code 15 isp.remote-service-error)"),
        (Error(10), RetryableError, "is not available (code 10)"),
        (
            Error(15, "isv.invalid-parameter", "手机 13800138000"),
            RefusedError,
            "refused (code 15 isv.invalid-parameter)",
        ),
        (Error(41), RefusedError, "refused (code 41)"),
        (Error(999, "<b>13800138000</b>", "13800138000"), RefusedError, "refused (code 999)"),
    ],
)
async def test_an_error_in_a_body_is_what_its_code_says(told: Error, kind: type[Exception], says: str) -> None:
    platform = FakePlatform()
    platform.troubles = [told] * 9
    found = (await orders(source(platform))).error
    assert type(found) is kind
    assert str(found).startswith("flagship read orders: ") and says in str(found)
    assert "13800138000" not in str(found) and SECRET not in str(found)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"error_response": {"code": "what"}}, RetryableError),
        ({"error_response": []}, RetryableError),
        ({"time_get_response": {}}, PayloadError),
        ({}, PayloadError),
    ],
)
async def test_what_answers_something_else_is_no_empty_list(said: Any, kind: type[Exception]) -> None:
    platform = FakePlatform()
    platform.troubles = [httpx.Response(200, json=said)] * 3
    assert type((await orders(source(platform))).error) is kind


async def test_a_short_ban_is_waited_for_and_a_long_one_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    platform = FakePlatform()
    platform.put(1)
    ban = "This ban will last for {} more seconds"
    platform.troubles = [Error(7, "accesscontrol.limited-by-app-access-count", ban.format(2))]
    assert (await orders(source(platform))).ids() == [1]
    assert waited == [2]
    platform.troubles = [Error(7, "accesscontrol.limited-by-app-access-count", ban.format(3600))]
    found = (await orders(source(platform))).error
    assert isinstance(found, RetryableError) and found.retry_after == HOUR


# the token


async def test_connecting_exchanges_the_code_and_the_token_is_renewed_when_it_ends() -> None:
    platform = FakePlatform()
    shop = source(platform, session=None)
    assert "run crmkit connect flagship" in str((await orders(shop)).error)
    asked: list[str] = []

    async def ask(question: str, *, secret: bool = False) -> str:
        asked.append(question)
        state = parse_qs(urlsplit(question.split()[1]).query)["state"][0]
        return f"https://shop.example/landing?code=good-code&state={state}"

    await shop.connect(ask)
    address = urlsplit(asked[0].split()[1])
    query = {name: values[0] for name, values in parse_qs(address.query).items()}
    assert (address.netloc, query["client_id"], query["response_type"]) == ("oauth.taobao.com", KEY, "code")
    platform.put(1)
    assert (await orders(shop)).ids() == [1]
    assert (shop.memory["session"], await shop.vendor_account()) == ("6100aaaa", "2200000001")
    platform.session = "ended"
    assert (await orders(shop)).ids() == [1]
    assert shop.memory["session"] == "6100bbbb"


@pytest.mark.parametrize(
    "said", ["https://shop.example/?code=good-code&state=forged", "https://shop.example/", "", "a b"]
)
async def test_what_answers_another_question_connects_nothing(said: str) -> None:
    platform = FakePlatform()

    async def ask(question: str, *, secret: bool = False) -> str:
        return said

    with pytest.raises(ConfigError, match="flagship connect: that is no answer"):
        await source(platform, session=None).connect(ask)
    assert platform.asked == []


async def test_a_token_that_cannot_be_renewed_is_told_to_end() -> None:
    platform = FakePlatform()
    platform.renewable = False
    shop = source(platform, session=None)

    async def ask(question: str, *, secret: bool = False) -> str:
        return "good-code"

    await shop.connect(ask)
    assert "refresh_token" not in shop.memory
    [problem] = await shop.check()
    assert problem == (
        "flagship check: the seller's authorization ends in 1 days and cannot be renewed; run crmkit connect flagship"
    )
    platform.session = "ended"
    found = (await orders(shop)).error
    assert isinstance(found, AuthError) and "run crmkit connect flagship" in str(found)


async def test_a_renewal_that_is_refused_leaves_the_first_error() -> None:
    platform = FakePlatform()
    shop = remembering(source(platform, session=None), session="old", refresh_token="spent")
    found = (await orders(shop)).error
    assert isinstance(found, AuthError) and "code 27" in str(found)
    assert platform.methods["top.auth.token.refresh"] == 1


async def test_a_token_that_is_set_by_hand_is_not_replaced() -> None:
    async def ask(question: str, *, secret: bool = False) -> str:
        raise AssertionError

    with pytest.raises(ConfigError, match="remove session from"):
        await source(FakePlatform()).connect(ask)


# trades


def trade(**changed: Any) -> TaobaoTrade:
    """The trade of the vendor's own example."""
    order = {"oid": 2231958349012346, "num": 2, "price": "110.00", "payment": "208.00", "outer_sku_id": "TEA-2"}
    order |= {"title": "绿茶", "refund_status": "NO_REFUND", "status": "WAIT_SELLER_SEND_GOODS"}
    told = {"tid": 2231958349012345, "tid_str": "2231958349012345", "status": "WAIT_SELLER_SEND_GOODS", "type": "fixed"}
    told |= {"created": "2026-11-01 09:01:00", "pay_time": "2026-11-01 09:02:10", "modified": "2026-11-01 09:02:11"}
    told |= {"payment": "208.00", "total_fee": "220.00", "discount_fee": "20.00", "post_fee": "8.00"}
    told |= {"buyer_open_uid": "AAHexample01", "buyer_nick": "t**1", "oaid": "OAIDexample==", "receiver_name": "张**"}
    told |= {
        "receiver_state": "浙江省",
        "receiver_city": "杭州市",
        "receiver_address": "***",
        "receiver_mobile": "***8000",
    }
    return TaobaoTrade.model_validate(told | {"orders": {"order": [order]}} | changed)


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+08:00")


def test_a_trade_is_an_order_whose_buyer_is_masked_and_has_a_token() -> None:
    order = to_order(trade(), KEY, NOON)
    assert (order.external_id, order.status, order.payment_state) == ("2231958349012345", "paid", PaymentState.PAID)
    assert (order.placed_at, order.paid_at) == (at("2026-11-01T09:01"), at("2026-11-01T09:02:10"))
    assert (order.currency, order.total, order.paid) == ("CNY", Decimal("208.00"), Decimal("208.00"))
    assert (order.items_total, order.discount_total, order.shipping_total) == (220, 20, 8)
    assert order.buyer is not None
    assert (order.buyer.external_id, order.buyer.scope) == ("AAHexample01", f"taobao:{KEY}")
    assert (order.buyer.name, order.buyer.masked, order.buyer.city) == ("张**", {"name"}, "杭州市")
    assert (order.buyer.phone, order.buyer.email) == (None, None)
    [token] = order.buyer.addresses
    assert (token.kind, token.value, token.purposes) == ("order_token", "OAIDexample==", {"transactional"})
    assert order.ship_to == {"state": "浙江省", "city": "杭州市"}
    [line] = order.lines
    assert (line.external_id, line.sku, line.quantity, line.total) == ("2231958349012346", "TEA-2", 2, 200)
    assert not {"delivered_at", "cancelled_at", "note", "order_kind"} & order.model_fields_set


def test_a_buyer_of_two_applications_is_not_taken_for_one() -> None:
    one, other = (to_order(trade(), key, None).buyer for key in (KEY, "23000002"))
    assert one is not None and other is not None and one.scope != other.scope


@pytest.mark.parametrize(("written", "status"), STATUSES.items())
def test_every_status_is_known(written: str, status: OrderStatus) -> None:
    order = to_order(trade(status=written, end_time="2026-11-03 00:00:00"), KEY, None)
    assert (order.status, order.vendor_status) == (status, written)
    ended = order.completed_at or order.cancelled_at
    assert (ended is not None) == (status in {"completed", "cancelled"})


def test_a_status_nobody_knows_is_unknown_and_kept() -> None:
    order = to_order(trade(status="WAIT_SOMETHING_NEW"), KEY, None)
    assert (order.status, order.vendor_status) == ("unknown", "WAIT_SOMETHING_NEW")


def test_a_deposit_pays_a_part_and_the_rest_pays_the_order() -> None:
    step = {"type": "step", "status": "WAIT_BUYER_PAY", "step_paid_fee": "50.00"}
    order = to_order(trade(**step, step_trade_status="FRONT_PAID_FINAL_NOPAID"), KEY, None)
    assert (order.status, order.payment_state, order.paid, order.paid_at) == ("placed", "partial", 50, None)
    assert order.order_kind == "preorder"
    unpaid = to_order(trade(**step, step_trade_status="FRONT_NOPAID_FINAL_NOPAID", pay_time=None), KEY, None)
    assert (unpaid.status, unpaid.payment_state) == ("placed", "pending")
    whole = {"type": "step", "step_trade_status": "FRONT_PAID_FINAL_PAID", "step_paid_fee": "208.00"}
    paid = to_order(trade(**whole), KEY, None)
    assert (paid.status, paid.payment_state, paid.paid) == ("paid", "paid", 208)


def test_what_is_paid_on_delivery_is_not_paid_while_it_waits() -> None:
    order = to_order(trade(type="cod", pay_time=""), KEY, None)
    assert (order.status, order.payment_state, order.paid_at) == ("placed", "pending", None)


def test_what_leaves_together_is_one_parcel_and_a_corrected_number_makes_no_other() -> None:
    def shipped(first: str, second: str | None, status: str) -> Any:
        rows = [
            {"oid": 11, "num": 1, "logistics_company": "顺丰", "consign_time": "2026-11-02 10:00:00"}
            | {"invoice_no": first}
        ]
        rows += [dict(rows[0], oid=12)]
        rows += [{"oid": 13, "num": 1, "invoice_no": second, "consign_time": "2026-11-03 10:00:00" if second else ""}]
        return to_order(trade(orders={"order": rows}, status=status, consign_time="2026-11-02 10:00:00"), KEY, None)

    partly = shipped("SF1", None, "SELLER_CONSIGNED_PART")
    [parcel] = partly.parcels
    assert (parcel.external_id, parcel.tracking_number, parcel.carrier) == ("11", "SF1", "顺丰")
    assert (partly.status, partly.shipped_at, partly.extras["is_partly_shipped"]) == (
        "shipped",
        at("2026-11-02T10:00"),
        "yes",
    )
    whole = shipped("SF1-corrected", "YT9", "WAIT_BUYER_CONFIRM_GOODS")
    assert [(one.external_id, one.tracking_number) for one in whole.parcels] == [("11", "SF1-corrected"), ("13", "YT9")]
    assert [line.total for line in whole.lines] == [None] * 3


def test_a_county_is_the_city_where_there_is_none() -> None:
    order = to_order(trade(receiver_city="", receiver_district="义乌市"), KEY, None)
    assert order.ship_to == {"state": "浙江省", "city": "义乌市", "district": "义乌市"}


@pytest.mark.parametrize(
    "bad", [{"tid": 1.5, "tid_str": None}, {"tid": None, "tid_str": None}, {"created": "yesterday"}]
)
def test_a_trade_that_cannot_be_read_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises((ValueError, PayloadError)):
        to_order(trade(**bad), KEY, None)


def test_money_has_gone_back_only_with_success_and_goods_are_a_return() -> None:
    told = {"refund_id": "900", "tid": 7, "oid": 8, "status": "WAIT_BUYER_RETURN_GOODS", "refund_fee": "4.00"}
    told |= {"created": "2026-11-02 10:00:00", "modified": "2026-11-02 11:00:00", "has_good_return": True, "sid": "YT1"}
    refund, back = to_refund(TaobaoRefund.model_validate(told), NOON)
    assert (refund.order_external_id, refund.requested, refund.refunded, refund.refunded_at) == ("7", 4, None, None)
    assert (back.kind, back.tracking_number, back.received_at) == ("return", "YT1", None)
    done = told | {"status": "SUCCESS", "good_status": "BUYER_RETURNED_GOODS", "modified": "2026-11-05 10:00:00"}
    refund, back = to_refund(TaobaoRefund.model_validate(done), NOON)
    assert (refund.refunded, refund.refunded_at) == (4, at("2026-11-05T10:00"))
    assert back.received_at == at("2026-11-05T10:00")


@pytest.mark.parametrize(("said", "rating"), [("good", 5), ("neutral", 3), ("bad", 1), ("new", None)])
def test_a_review_has_its_rating_and_the_vendors(said: str, rating: int | None) -> None:
    told = {"oid": 8, "tid": 7, "result": said, "content": "好茶", "created": "2026-11-05 10:00:00", "num_iid": 5}
    review = to_review(TaobaoRate.model_validate(told), None)
    assert (review.external_id, review.order_external_id) == ("8", "7")
    assert (review.rating, review.vendor_rating, review.text) == (rating, said, "好茶")


def test_what_the_platform_rated_for_a_buyer_is_nobodys_rating() -> None:
    told = {"oid": 8, "tid": 7, "result": "good", "created": "2026-11-05 10:00:00"}
    review = to_review(TaobaoRate.model_validate(told | {"content": "评价方未及时做出评价,系统默认好评!"}), None)
    assert (review.rating, review.text, review.vendor_rating, review.extras) == (
        None,
        None,
        "good",
        {"by": "the platform"},
    )


# what may be said, and what is looked after


def test_only_news_of_the_order_may_be_said() -> None:
    assert source(FakePlatform()).may_say(None, "transactional", "order-shipped") is None
    assert "not for marketing" in (source(FakePlatform()).may_say(None, "marketing", "spring-sale") or "")
    assert source(FakePlatform(), marketing=True).may_say(None, "marketing", "spring-sale") is None


async def test_the_doctor_names_each_permission_that_is_missing() -> None:
    platform = FakePlatform()
    platform.forbidden = {"taobao.traderates.get", "taobao.refunds.receive.get"}
    problems = list(await source(platform, messages="mine").check())
    assert [one.split(":")[0] for one in problems] == [
        "flagship check refunds",
        "flagship check reviews",
        "flagship check messages",
    ]
    assert "apply for its permission package" in problems[0] and "'default'" in problems[2]
    platform.session = "ended"
    [problem] = await source(platform).check()
    assert "the seller's authorization ended" in problem


async def test_a_seller_whose_token_is_set_by_hand_is_asked_for() -> None:
    platform = FakePlatform()
    assert await source(platform).vendor_account() == "2200000001"
    platform.forbidden = {"taobao.user.seller.get"}
    assert await source(platform).vendor_account() is None
