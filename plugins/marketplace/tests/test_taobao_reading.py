"""Taobao's lists: what moves while they are read, types that are not mentioned, the first three months, messages."""

import asyncio
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crmkit import Ref, RetryableError, Start
from crmkit_marketplace.taobao import listing
from crmkit_marketplace.taobao import source as source_module
from plugins.marketplace.tests.reading import gather
from plugins.marketplace.tests.taobao.desk import orders, source
from plugins.marketplace.tests.taobao.fake import DAY, HOUR, MINUTE, NOON, SECOND, Error, FakePlatform, written


def full(count: int) -> FakePlatform:
    """A platform with trades that changed a second after another."""
    platform = FakePlatform()
    platform.now = NOON - HOUR
    for number in range(1, count + 1):
        platform.now += SECOND
        platform.put(number)
    platform.now = NOON + HOUR
    return platform


async def test_a_list_of_one_page_is_one_call() -> None:
    platform = full(30)
    read = await orders(source(platform, details=False))
    assert sorted(read.ids()) == list(range(1, 31))
    assert platform.methods == {"trades.sold.increment.get": 1}


async def test_a_longer_list_is_counted_and_read_from_its_last_page() -> None:
    platform = full(95)
    read = await orders(source(platform, details=False, page_size=40))
    assert sorted(read.ids()) == list(range(1, 96))
    called = [(one["page_no"], one["page_size"], one["use_has_next"]) for one in platform.asked]
    pages = [("3", "32", "true"), ("2", "33", "true"), ("1", "40", "true")]
    assert called == [("1", "40", "true"), ("1", "1", "false"), *pages]


async def naively(shop: Any, start: Any, end: Any, size: int) -> set[int]:
    """The pages of a span from the first to the last, as nobody should read them."""
    found, number, span = set(), 1, {"start_modified": written(start), "end_modified": written(end)}
    while True:
        asked = {"fields": "tid", "page_no": number, "page_size": size, "use_has_next": True, **span}
        answer = await shop.top.ask("read", "taobao.trades.sold.increment.get", **asked)
        found |= {row["tid"] for row in answer.get("trades", {}).get("trade", [])}
        if not answer["has_next"]:
            return found
        number += 1


async def test_a_trade_that_changes_meanwhile_costs_the_first_page_first_a_trade_and_us_none() -> None:
    def platform_that_moves() -> FakePlatform:
        platform = full(40)

        def between(number: int) -> None:
            if number == 3:  # a trade of the first pages is paid while the list is read, and leaves the span
                platform.put(38, status="WAIT_SELLER_SEND_GOODS")

        platform.between = between
        return platform

    end = NOON + MINUTE
    lost = set(range(1, 41)) - await naively(source(platform_that_moves()), NOON - DAY / 2, end, 10) - {38}
    assert lost == {20}
    platform = platform_that_moves()
    read = await orders(source(platform, details=False, page_size=10), NOON - DAY / 2, end)
    assert set(read.ids()) >= set(range(1, 41)) - {38}
    after = await orders(source(platform, details=False), end, NOON + 2 * HOUR)
    assert after.ids() == [38]


# SEMANTICS 31
@settings(deadline=None, max_examples=100)
@given(
    count=st.integers(0, 60),
    leaving=st.lists(st.sets(st.integers(1, 60), max_size=20), max_size=12),
    late=st.lists(st.lists(st.integers(0, 61), max_size=4), max_size=8),
    size=st.integers(1, 20),
)
@example(count=40, leaving=[set(), set(), set(), {1}], late=[[], [], [], [61]], size=10)
@example(count=40, leaving=[], late=[[61] * 4] * 8, size=1)
def test_no_trade_that_stays_in_a_span_is_missed_whatever_leaves_and_comes_late(
    count: int, leaving: list[set[int]], late: list[list[int]], size: int
) -> None:
    platform, left, came = full(count), set[int](), iter(range(100, 200))

    def between(number: int) -> None:
        for tid in leaving[number - 1] & set(platform.trades) if number <= len(leaving) else ():
            left.add(tid)
            platform.put(tid)
        for second in late[number - 1] if number <= len(late) else ():
            platform.put(next(came), modified=written(NOON - HOUR + second * SECOND))

    platform.between = between
    read = asyncio.run(orders(source(platform, details=False, page_size=size)))
    if read.error is not None:
        assert str(read.error).startswith("flagship read orders: the list grows faster than it is read; ")
        assert any(late), read.error
        return
    assert set(range(1, count + 1)) - left <= set(read.ids())


async def test_a_trade_that_comes_late_while_another_leaves_costs_none() -> None:
    platform = full(40)

    def between(number: int) -> None:
        if number == 4:
            platform.put(1)  # leaves the span
            platform.put(100, modified=written(NOON - SECOND))  # as many as before, and all but the oldest moved down

    platform.between = between
    read = await orders(source(platform, details=False, page_size=10))
    assert set(range(2, 41)) <= set(read.ids())


async def test_a_list_that_grows_faster_than_it_is_read_is_no_silence() -> None:
    platform, came = full(40), iter(range(100, 10_000))

    def between(number: int) -> None:
        for _ in range(30):
            platform.put(next(came), modified=written(NOON - SECOND))

    platform.between = between
    read = await orders(source(platform, details=False, page_size=10))
    assert isinstance(read.error, RetryableError)
    assert str(read.error).startswith("flagship read orders: the list grows faster than it is read; ")


@given(behind=st.integers(1, 3_000), size=st.integers(1, 50))
def test_a_page_has_the_row_behind_it_and_some_before(behind: int, size: int) -> None:
    width = listing._width(behind, size)
    assert 0 < behind % width < width <= max(size, 20)


async def test_a_span_with_too_many_trades_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "Listing", lambda *args: listing.Listing(*args, most=50))  # type: ignore[misc]
    platform = FakePlatform()
    for number in range(1, 121):
        platform.now = NOON - 12 * HOUR + number * 5 * MINUTE
        platform.put(number)
    platform.now = NOON + HOUR
    read = await orders(source(platform, details=False, page_size=20))
    assert sorted(set(read.ids())) == list(range(1, 121))
    assert max(int(one["page_no"]) for one in platform.asked) <= math.ceil(50 / 20)


async def test_the_second_at_either_end_belongs_to_a_span_and_no_span_is_longer_than_a_day() -> None:
    platform = FakePlatform()
    for number, moment in enumerate((NOON - HOUR, NOON), start=1):
        platform.put(number, modified=written(moment))
    read = await orders(source(platform), NOON - HOUR, NOON)
    assert sorted(read.ids()) == [1, 2]
    window = source(platform).window("orders")
    assert window is not None and window.max_span is not None and window.max_span + 2 * SECOND <= DAY
    assert (window.end_lag, window.overlap) == (2 * MINUTE, 10 * MINUTE)


async def test_types_the_platform_is_silent_about_are_asked_for() -> None:
    platform = FakePlatform()
    platform.put(1)
    platform.put(2, type="b2c_cod")
    platform.put(3, type="tmall_i18n")
    assert sorted((await orders(source(platform))).ids()) == [1, 2, 3]
    assert (await orders(source(platform, types=["guarantee_trade"]))).ids() == [1]


async def test_what_a_list_leaves_out_is_read_of_each_trade() -> None:
    platform = FakePlatform()
    platform.put(1, buyer_message="快点")
    platform.ship(1)
    [order] = (await orders(source(platform))).of("order")
    assert (order.note, order.buyer.external_id, order.buyer.addresses[0].value) == ("快点", "AAH1", "OAID-1")
    assert order.parcels[0].tracking_number == "SF100"
    assert order.observed_at == NOON
    assert platform.methods == {"trades.sold.increment.get": 1, "trade.fullinfo.get": 1}


async def test_one_trade_that_cannot_be_read_harms_only_itself() -> None:
    platform = FakePlatform()
    for number in (1, 2):
        platform.put(number)
    platform.put(3, created="then")
    shop = source(platform)
    read = await orders(shop)
    assert sorted(read.ids()) == [1, 2]
    assert [(one.kind, one.ref) for one in read.refused] == [("order", "3")]
    platform.troubles = [Error(15, "isv.something-odd")]
    read = await gather(shop.read([Ref("order", "1")]))
    assert [(one.place, one.ref) for one in read.refused] == [("order 1", "1")]
    assert "flagship read an order: refused (code 15 isv.something-odd)" in read.refused[0].reason


# the first three months


async def test_the_last_three_months_are_read_once_and_go_on_where_they_were_stopped() -> None:
    platform = FakePlatform()
    for days in range(100):
        platform.put(days + 1, created=written(NOON - days * DAY), modified=written(NOON - 99 * DAY))
    shop = source(platform, details=False)
    first = await gather(shop.past(Start(now=NOON)))
    assert first.error is None
    assert set(first.ids()) == set(range(1, 91))
    platform.asked.clear()
    again = await gather(shop.past(Start(first.cursor)))
    assert (again.ids(), platform.asked) == ([], [])

    platform.troubles = [None] * 8 + [Error(41)]
    killed = await gather(shop.past(Start(now=NOON)))
    assert killed.error is not None and 0 < len(killed.ids()) < 60
    rest = await gather(shop.past(Start(killed.cursor)))
    assert {*killed.ids(), *rest.ids()} == set(range(1, 91))
    assert len(set(rest.ids())) < 60


async def test_reading_again_since_a_day_leaves_past_and_messages_alone() -> None:
    platform = FakePlatform()
    platform.tell("taobao_trade_TradeBuyerPay", tid=1)
    shop = source(platform, messages="default")
    for stream in (shop.past, shop.messages):
        assert (await gather(stream(Start(since=NOON - DAY)))).pages == []
    assert platform.asked == []


# refunds, reviews, by id


async def test_refunds_and_reviews_are_read_by_their_own_time() -> None:
    platform = FakePlatform()
    platform.refund(900, 7, has_good_return=True)
    platform.rate(8, 7)
    shop = source(platform)
    refunds = await gather(shop.refunds(NOON - HOUR, NOON))
    assert [(one.kind, one.external_id) for one in refunds.records] == [("refund", "900"), ("return", "900")]
    assert (await gather(shop.reviews(NOON - HOUR, NOON))).ids("review") == [8]
    assert {one.get("rate_type") for one in platform.asked} == {None, "get"}
    none = source(platform, refunds=False, reviews=False)
    assert not {"refunds", "returns", "reviews"} & set(none.reports)
    assert (await gather(none.refunds(NOON - HOUR, NOON))).pages == []
    assert (await gather(none.reviews(NOON - HOUR, NOON))).pages == []


async def test_a_trade_is_read_by_number_with_its_refunds_and_unknown_ones_are_left_out() -> None:
    platform = FakePlatform()
    order = {"oid": 71, "num": 1, "price": "10.00", "refund_id": 900, "refund_status": "WAIT_SELLER_AGREE"}
    platform.put(7, orders={"order": [order]})
    platform.refund(900, 7)
    platform.rate(71, 7)
    refs = [Ref("order", "7"), Ref("order", "404"), Ref("refund", "7"), Ref("review", "71"), Ref("order", "x")]
    read = await gather(source(platform).read(refs))
    assert [(one.kind, one.external_id) for one in read.records] == [
        ("order", "7"),
        ("refund", "900"),
        ("review", "71"),
    ]
    assert read.of("order")[0].lines[0].extras == {"refund_status": "WAIT_SELLER_AGREE", "refund_id": "900"}
    assert read.refused == []


# messages


async def test_messages_are_confirmed_only_once_what_they_told_of_is_stored() -> None:
    platform = FakePlatform()
    platform.put(7, status="WAIT_SELLER_SEND_GOODS", pay_time=written(NOON))
    platform.put(8)
    platform.rate(81, 8)
    platform.tell("taobao_trade_TradeBuyerPay", tid=7)
    platform.tell("taobao_trade_TradeMemoModified", tid=7)
    platform.tell("taobao_trade_TradeRated", tid=8, oid=81)
    platform.tell("taobao_item_ItemUpdate", num_iid=5)
    platform.tell("taobao_trade_TradeBuyerPay", seller=999, tid=9)
    shop = source(platform, messages="default")
    first = await gather(shop.messages(Start()))
    assert [(one.kind, one.external_id) for one in first.hints] == [("order", "7"), ("order", "8"), ("review", "81")]
    assert first.records == [] and {one["method"].split(".")[1] for one in platform.asked} <= {"tmc", "user"}
    assert first.cursor == {"taken": ["1", "2", "3", "4"]}
    assert platform.confirmed == []

    # the page was not stored: they come again, and are taken again
    platform.now += 11 * MINUTE
    second = await gather(shop.messages(Start()))
    assert (second.hints, second.cursor) == (first.hints, first.cursor)

    platform.now += MINUTE
    third = await gather(shop.messages(Start(second.cursor)))
    assert (sorted(platform.confirmed), third.hints, third.cursor) == ([1, 2, 3, 4], [], {"taken": []})
    assert list(platform.queue) == [5]
    assert "group_name" not in platform.asked[-1]
    assert (await gather(shop.messages(Start(third.cursor)))).pages == []


async def test_a_confirmation_that_is_refused_keeps_no_message_from_being_read() -> None:
    platform = FakePlatform()
    platform.put(7)
    platform.tell("taobao_trade_TradeBuyerPay", tid=7)
    shop = source(platform, messages="default")
    first = await gather(shop.messages(Start()))
    platform.tell("taobao_trade_TradeSellerShip", tid=8)
    platform.troubles = [Error(15, "isv.invalid-parameter")]
    again = await gather(shop.messages(Start(first.cursor)))
    assert again.error is None
    assert [one.external_id for one in again.hints] == ["8"]
    platform.now += 11 * MINUTE
    platform.troubles = [Error(15, "isv.invalid-parameter")]
    assert {one.external_id for one in (await gather(shop.messages(Start(again.cursor)))).hints} == {"7", "8"}


async def test_many_messages_are_taken_in_rounds() -> None:
    platform = FakePlatform()
    for number in range(1, 451):
        platform.put(number % 20 + 1)
        platform.tell("taobao_trade_TradeModifyFee", tid=number % 20 + 1)
    shop = source(platform, messages="tea")
    read = await gather(shop.messages(Start()))
    assert [len(page.cursor["taken"]) for page in read.pages if page.cursor] == [200, 400, 450]
    assert {one.get("group_name") for one in platform.asked if "tmc" in one["method"]} == {"tea"}
    await gather(shop.messages(Start(read.cursor)))
    assert len(platform.confirmed) == 450


async def test_a_trade_that_cannot_be_read_is_refused_without_what_it_says() -> None:
    platform = FakePlatform()
    platform.put(7, payment="13800138000 x")
    platform.put(8, created="13800138000")
    platform.put(9)
    read = await orders(source(platform))
    assert read.ids() == [9]
    assert [(one.place, one.ref) for one in read.refused] == [("order 7", "7"), ("order 8", "8")]
    assert [one.reason for one in read.refused] == ["payment: Input should be a valid decimal", "created: value_error"]
    assert all("13800138000" in one.raw and "13800138000" not in one.reason for one in read.refused)
