"""The page of an order: what it shows, what it leaves out, and to whom."""

import re
from datetime import timedelta
from decimal import Decimal
from itertools import product
from typing import Any

import pytest

from crmkit.core.records import (
    Buyer,
    LineRecord,
    OrderRecord,
    ParcelRecord,
    PaymentRecord,
    PaymentState,
    RefundRecord,
)
from crmkit.store import tables as t
from tests.web.conftest import NOON, Town

DAY = timedelta(days=1)
LINES = (
    LineRecord(external_id="1", title="Green tea", quantity=Decimal("2.0"), total=Decimal("48.00")),
    LineRecord(external_id="2", sku="CUP-1", total=Decimal("24.40")),
)


def bought(town: Town, number: str = "1001", **fields: Any) -> int:
    said = {"currency": "EUR", "total": Decimal("72.40"), "lines": LINES, "placed_at": NOON - 10 * DAY}
    return town.order(number, **{**said, **fields})


@pytest.fixture
def few_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.web.stall.Stall.reports", {"placed"})


@pytest.fixture
def bare_town(few_reports: None, town: Town) -> Town:
    """A town whose shop tells of nothing but that something was ordered."""
    return town


async def page(town: Town, order: int, **query: str) -> str:
    answer = await town.client.get(town.path("order", town.profile(), subject=order), params=query)
    assert answer.status_code == 200
    return answer.text


async def test_it_shows_what_was_bought_paid_sent_and_promised(town: Town):
    parcels = (
        ParcelRecord(
            order_external_id="1001",
            external_id="p1",
            carrier="DHL",
            tracking_number="JJD1",
            tracking_url="https://carrier.example/?n=JJD1&x",
            shipped_at=NOON - 4 * DAY,
            delivered_at=NOON - DAY,
        ),
        ParcelRecord(order_external_id="1001", external_id="p2", tracking_number="JJD2", shipped_at=NOON - 3 * DAY),
    )
    order = bought(town, paid_at=NOON - 9 * DAY, parcels=parcels, promised_at=NOON + 2 * DAY, parcel_total=2)
    text = await page(town, order)
    for said in (
        "Order 1001",
        "Part of your order has arrived.",
        "Delivery is promised by 4 March 2026.",
        "20 February 2026",
        "Parcel 1 of 2",
        "JJD2",
        'href="https://carrier.example/?n=JJD1&amp;x"',
        "Green tea",
        "× 2<",
        "CUP-1",
        "€48.00",
        "€72.40",
        "Everything is paid.",
    ):
        assert said in text, said


async def test_parcels_that_nothing_is_known_of_are_counted(town: Town):
    parcel = ParcelRecord(order_external_id="1001", external_id="p1", shipped_at=NOON - DAY, delivered_at=NOON)
    text = await page(town, bought(town, parcels=(parcel,), parcel_total=3))
    assert "Parcel 1 of 3" in text
    assert "Parcels of which nothing was reported yet: 2." in text
    assert "Part of your order has arrived" in text


async def test_it_speaks_chinese_with_its_dates(town: Town):
    text = await page(town, bought(town, promised_at=NOON + 2 * DAY), lang="zh-CN")
    assert '<html lang="zh-CN">' in text
    assert "承诺最晚2026年3月4日送达。" in text


async def test_days_are_those_of_the_customers_zone(town: Town):
    ann = Buyer(external_id="ann", name="Ann", timezone="Asia/Shanghai")
    text = await page(town, bought(town, buyer=ann, paid_at=NOON - DAY + timedelta(hours=10)))
    assert "2 March 2026" in text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "Still to be paid: €72.40."),
        ({"paid": Decimal("30.00"), "payment_state": "partial"}, "Still to be paid: €42.40."),
        ({"paid_at": NOON}, "Everything is paid."),
        ({"paid_at": NOON, "paid": Decimal("80.00")}, "You have paid €7.60 more than the order costs."),
        ({"cancelled_at": NOON, "status": "cancelled"}, "There is nothing to pay."),
        ({"cancelled_at": NOON, "status": "cancelled", "paid_at": NOON}, "€72.40 is to go back to you."),
        ({"total": None, "paid_at": NOON}, "The shop says this order is paid."),
        ({"total": None}, "What you were charged is not reported here."),
        ({"payment_state": "paid"}, "Everything is paid."),
        ({"payment_state": "partial", "paid_at": NOON}, "this page cannot say what is still open."),
        ({"payment_state": "authorized"}, "The payment is authorized;"),
        ({"payment_state": "authorized", "status": "cancelled", "cancelled_at": NOON}, "There is nothing to pay."),
        ({"payment_state": "failed", "paid_at": NOON}, "Still to be paid: €72.40."),
    ],
)
async def test_it_says_what_is_paid_and_what_is_open(town: Town, fields: dict[str, Any], said: str):
    assert said in await page(town, bought(town, **fields))


def went_back(order: str, amount: str) -> RefundRecord:
    said = {"refunded": Decimal(amount), "currency": "EUR", "refunded_at": NOON}
    return RefundRecord(external_id=f"r{order}", order_external_id=order, **said)


async def test_a_cancelled_order_that_was_refunded_asks_for_nothing_though_no_payment_is_known(town: Town):
    order = bought(town, status="cancelled", cancelled_at=NOON)
    town.take(went_back("1001", "72.40"))
    text = await page(town, order)
    assert "What you paid has gone back to you." in text
    assert "Still to be paid" not in text
    answer = await town.client.get(town.path("statement", town.profile(), subject=town.shop_id))
    assert "Still to be paid" not in answer.text
    assert "Not all payments are known here." in answer.text


async def test_what_went_back_beyond_what_was_paid_is_said_and_no_debt(town: Town):
    order = bought(town, payment_state="paid", paid_at=NOON)
    town.take(went_back("1001", "80.00"))
    text = await page(town, order)
    assert "Everything is paid." in text
    assert "€7.60 is beyond what you paid" in text
    answer = await town.client.get(town.path("statement", town.profile(), subject=town.shop_id))
    assert "Of this, €7.60 is beyond what you paid" in answer.text
    assert "Nothing is open" in answer.text


async def test_no_page_says_of_money_what_it_does_not_know(town: Town):
    """Every state of payment, with amounts, times, cancellation and refunds that agree with it or do not."""
    amounts, backs = (None, "40", "100", "120"), (None, "30", "100", "110")
    cases = list(product(PaymentState, (None, NOON - DAY), amounts, ("placed", "cancelled"), backs))
    said = {"currency": "EUR", "total": Decimal(100), "placed_at": NOON - 2 * DAY, "buyer": Buyer(external_id="ann")}
    for number, (state, at, amount, status, back) in enumerate(cases):
        paid = {"payment_state": state, "paid_at": at, "paid": Decimal(amount) if amount else None}
        gone = {"status": status, "cancelled_at": NOON - DAY if status == "cancelled" else None}
        name = f"{number:03}"
        town.take(
            OrderRecord(external_id=name, updated_at=NOON, **said, **paid, **gone),
            *([went_back(name, back)] if back else []),
        )
    balance = Decimal(0)
    for row, case in zip(town.rows(t.orders), cases, strict=True):
        state, at, amount, status, _ = case
        text = await page(town, row["id"])
        says_paid = "Everything is paid." in text or "order is paid" in text or "<span>Paid</span>" in text
        asks = re.search(r"Still to be paid: €([\d.]+)\.<", text)
        more = re.search(r"€([\d.]+) more than the order costs|€([\d.]+) is to go back to you", text)
        balance += Decimal(asks[1]) if asks else -Decimal(more[1] or more[2]) if more else 0
        assert len(re.findall('class="verdict"', text)) == 1
        assert not (says_paid and asks), case
        assert not (asks and status == "cancelled"), case
        assert not (asks and state == "paid"), case
        assert not (asks and Decimal(asks[1]) > 100), case
        assert not (says_paid and state in ("failed", "authorized")), case
        if state == "authorized" and status == "placed":
            assert "The payment is authorized;" in text, case
            assert not asks, case
        if state == "partial" and amount is None:
            assert not asks, case
            assert not says_paid, case
        if state == "partial" and amount is None and status == "placed":
            assert "this page cannot say what is still open" in text, case
    answer = await town.client.get(town.path("statement", town.profile(), subject=town.shop_id))
    [shown] = re.findall(r"<p><span>([^<]+)</span>\s*<strong>€([\d.,]+)</strong>", answer.text)
    told = Decimal(shown[1].replace(",", "")) * (-1 if shown[0] == "In your favour" else 1)
    assert told == balance


@pytest.mark.parametrize("basis", ["seller_proceeds", "receivable"])
async def test_amounts_that_are_not_the_buyers_are_not_shown(town: Town, basis: str):
    text = await page(town, bought(town, basis=basis, paid_at=NOON, shipping_total=Decimal("4.90")))
    assert "€" not in text
    assert "The shop says this order is paid." in text


async def test_payments_and_refunds_are_shown_with_what_they_come_to(town: Town):
    order = bought(town)
    town.take(
        PaymentRecord(external_id="a", order_external_id="1001", amount=Decimal("50"), currency="EUR", paid_at=NOON),
        PaymentRecord(external_id="b", order_external_id="1001", amount=Decimal("99"), currency="EUR"),
        RefundRecord(
            external_id="r", order_external_id="1001", refunded=Decimal("10"), currency="EUR", refunded_at=NOON
        ),
        RefundRecord(
            external_id="s", order_external_id="1001", requested=Decimal("5"), currency="EUR", requested_at=NOON
        ),
    )
    text = await page(town, order)
    assert "€50.00" in text
    assert "€99.00" not in text  # nobody says that it came
    assert "€10.00" in text
    assert "Still to be paid: €22.40." in text  # the refund lowered the price by what went back
    assert "You asked for €5.00 back on 2 March 2026" in text


async def test_what_the_shop_does_not_report_is_not_said_to_be_missing(bare_town: Town):
    order = bought(bare_town, promised_at=NOON - DAY)
    text = await page(bare_town, order)
    assert "Arrivals are not reported here, so it may have come." in text
    assert "Parcels are not reported here." in text
    assert "Payments are not reported here" in text
    assert "Still to be paid" not in text
    assert "No parcel has left" not in text


async def test_a_promise_that_passed_is_told_where_arrivals_are(town: Town):
    text = await page(town, bought(town, promised_at=NOON - DAY))
    assert "No arrival was reported yet." in text


async def test_a_reopened_order_is_not_cancelled(town: Town):
    bought(town, cancelled_at=NOON - 2 * DAY, status="cancelled", updated_at=NOON - 2 * DAY)
    order = bought(town, status="placed", updated_at=NOON - DAY)
    text = await page(town, order)
    assert "ancelled" not in text
    assert "We have your order." in text


async def test_without_lines_amounts_or_milestones_there_is_still_a_page(town: Town):
    order = town.order("bare", placed_at=None, updated_at=NOON, status="unknown")
    text = await page(town, order)
    assert "where it stands was not reported yet" in text
    assert "The items were not reported." in text


async def test_nothing_on_it_is_for_the_shop_only(town: Town):
    order = bought(
        town,
        note="is rude on the phone",
        tags=("blacklist",),
        extras={"margin": "secret-margin"},
        ship_to={"street": "Elm Street 5"},
        fee_total=Decimal("3.33"),
        vendor_status="fraud-check",
    )
    text = await page(town, order)
    for secret in ("rude", "blacklist", "secret-margin", "Elm Street", "3.33", "fraud", "ann@buyers.example", "Ann"):
        assert secret not in text


async def test_an_order_of_somebody_else_is_not_there(town: Town):
    bought(town)
    other = bought(town, "2002", buyer=Buyer(external_id="bob", email="bob@buyers.example"))
    for subject in (other, 0, 10**12):
        answer = await town.client.get(town.path("order", town.profile(), subject=subject))
        assert answer.status_code == 404
        assert "2002" not in answer.text


async def test_an_order_of_another_profile_of_the_same_customer_is(town: Town):
    bought(town)
    mine = bought(town, "2002", buyer=Buyer(email="ann@buyers.example"))
    assert "Order 2002" in await page(town, mine)


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "//evil.example/x", "https://", "http://[", " JavaScript:x"]
)
async def test_only_an_address_of_the_web_becomes_a_link(town: Town, url: str):
    parcel = ParcelRecord(order_external_id="1001", external_id="p", tracking_url=url, shipped_at=NOON)
    text = await page(town, bought(town, parcels=(parcel,)))
    assert "Follow it" not in text
    assert url.strip() not in text
