"""Vendure's lists, which move while they are read, its sessions, and its settings; what its orders come to is shown by
the fixtures of the contract.
"""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from crmkit import Account, AuthError, Ref, RetryableError
from crmkit.adapters.http import client
from crmkit.adapters.memory import Memory
from crmkit_marketplace.vendure import VendureSource, api
from crmkit_marketplace.vendure.settings import VendureSettings
from plugins.marketplace.tests.vendure.fake import PASSWORD, USER, VendureShop, ids

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
SETTINGS = {"url": "https://shop.example.com/admin-api", "username": USER, "password": PASSWORD}


def source(shop: VendureShop, memory: dict[str, Any] | None = None, **settings: Any) -> VendureSource:
    told = VendureSettings.model_validate({**SETTINGS, **settings})
    http = client(transport=httpx.MockTransport(shop.answer))
    made = VendureSource(told, Account("flagship", "UTC", None, None, Path()), http)
    if memory is not None:

        async def keep(values: Mapping[str, Any]) -> None:
            memory.update(values)

        made.memory = Memory(memory, keep)
    return made


async def read(vendure: VendureSource, shop: VendureShop) -> list[int]:
    """The orders of the last day, as often as they are read."""
    pages = [page async for page in vendure.orders(shop.now - 24 * HOUR, shop.now)]
    return ids(record for page in pages for record in page.records if record.kind == "order")


def old_orders(count: int) -> VendureShop:
    """A shop with orders of last week, all of which changed an hour ago, in one second."""
    shop = VendureShop()
    now = shop.now
    shop.now = now - timedelta(days=7)
    for number in range(1, count + 1):
        shop.put(number)
    shop.now = now - HOUR
    for number in shop.orders:
        shop.put(number)
    shop.now = now
    return shop


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_a_list_by_offset_would_lose_what_this_one_does_not() -> None:
    """The second of seven orders changes after the first page: by offset the fourth slips onto the page before."""

    def shop() -> VendureShop:
        made = VendureShop()
        for number in range(1, 8):
            made.now += MINUTE
            made.put(number)
        made.now += HOUR
        return made

    def change(made: VendureShop, pages: int) -> None:
        if pages == 2:
            made.change(2)

    naive, found = shop(), []
    await read(opened := source(naive), naive)
    naive.pages, naive.between = 0, lambda pages: change(naive, pages)
    for skip in range(0, 8, 3):
        options = {"take": 3, "skip": skip, "sort": {"updatedAt": "ASC"}, "filter": {"active": {"eq": False}}}
        data, _ = await opened.api.ask("read", "query Orders", o=options)
        found += [int(row["id"]) for row in data["orders"]["items"]]
    assert 4 not in found

    ours = shop()
    ours.between = lambda pages: change(ours, pages)
    assert sorted(set(await read(source(ours, per_page=3), ours))) == list(range(1, 8))


async def test_an_order_that_changed_earlier_has_another_place_than_its_id() -> None:
    """Vendure sorts by `id` first where it is named at all, and what follows the last of a page would be lost."""
    shop = VendureShop()
    for number in range(1, 8):
        shop.put(number)
    for number in (7, 5, 6, 3, 1, 2, 4):
        shop.now += MINUTE
        shop.change(number)
    shop.now += HOUR
    for order in shop.orders.values():
        order.payload["orderPlacedAt"] = "2026-01-01T00:00:00.000Z"
    assert await read(source(shop, per_page=2), shop) == [7, 5, 6, 3, 1, 2, 4]


@pytest.mark.parametrize("count", [7, 40, api.BULK + 30])
async def test_orders_that_changed_in_one_second_are_read_once_each(count: int) -> None:
    """Some times of that second are written with milliseconds and some without, which sorts one before the other."""
    shop = old_orders(count)
    found = await read(source(shop, per_page=3 if count < 50 else 40), shop)
    assert sorted(set(found)) == list(range(1, count + 1))
    assert len(found) <= count + api.BULK + 40


async def test_a_change_of_the_whole_shop_is_read_with_questions_the_shop_takes() -> None:
    """It is read to its end though orders leave that second meanwhile, and no question is longer than allowed."""
    count = 3 * api.BULK
    shop = old_orders(count)
    left = {number * 7 for number in range(1, 100)}

    def leave(pages: int) -> None:
        for number in sorted(left)[pages * 3 : pages * 3 + 3]:
            shop.change(number)

    shop.between = leave
    vendure = source(shop, per_page=50)
    found = set(await read(vendure, shop))
    assert set(range(1, count + 1)) - left <= found
    assert max(len(request.content) for request in shop.asked) < 20_000
    shop.now += MINUTE
    assert left <= found | set(await read(vendure, shop))


async def test_a_first_sync_reads_each_order_once() -> None:
    shop = VendureShop()
    for number in range(1, 30):
        shop.put(number)
        shop.now += SECOND
    assert await read(source(shop, per_page=10), shop) == list(range(1, 30))
    assert shop.pages == 4


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crmkit.adapters.http.READ_PAUSE", 0.0)


@pytest.mark.parametrize("field", ["payments", "lines"])
@pytest.mark.parametrize("per_page", [4, 50])
async def test_an_order_at_which_the_shop_fails_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, field: str, per_page: int
) -> None:
    quick(monkeypatch)
    shop = VendureShop()
    for number in range(1, 12):
        shop.put(number)
        shop.now += MINUTE
    shop.broken = {3: field, 8: field}
    vendure = source(shop, per_page=per_page)
    pages = [page async for page in vendure.orders(shop.now - 24 * HOUR, shop.now)]
    assert ids(one for page in pages for one in page.records if one.kind == "order") == [1, 2, 4, 5, 6, 7, 9, 10, 11]
    refused = [one for page in pages for one in page.refused]
    assert [(one.kind, one.place, one.ref) for one in refused] == [("order", f"orders/{n}", n) for n in ("3", "8")]
    assert {"the shop fail" in one.reason and "INTERNAL_SERVER_ERROR" in one.reason for one in refused} == {True}

    shop.broken = {}
    pages = [page async for page in vendure.read([Ref("order", one.ref or "") for one in refused])]
    assert ids(one for page in pages for one in page.records if one.kind == "order") == [3, 8]


async def test_a_shop_that_fails_at_all_orders_is_down_and_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    shop = VendureShop()
    for number in range(1, 30):
        shop.put(number)
    shop.broken = dict.fromkeys(shop.orders, "lines")
    with pytest.raises(RetryableError, match=r"flagship read orders: the shop failed \(INTERNAL_SERVER_ERROR\)"):
        await read(source(shop), shop)
    assert len(shop.asked) < 60


async def test_the_doctor_names_the_account() -> None:
    shop = VendureShop()
    shop.rights = ("Authenticated", "ReadOrder")
    what = "flagship check: its role may not ReadCustomer in this channel; add that to the role"
    assert list(await source(shop).check()) == [what]
    shop.rights = ("SuperAdmin",)
    [said] = await source(shop).check()
    assert said.startswith("flagship check: it logs in as a super administrator; ")


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_a_session_that_ends_while_a_list_is_read_is_begun_anew_once() -> None:
    shop = VendureShop()
    for number in range(1, 8):
        shop.put(number)
        shop.now += MINUTE
    shop.between = lambda pages: shop.sessions.clear() if pages == 2 else None
    assert await read(source(shop, per_page=2), shop) == list(range(1, 8))
    assert shop.logins == 2


@pytest.mark.parametrize("by_cookie", [False, True])
async def test_a_session_is_kept_from_run_to_run(by_cookie: bool) -> None:
    shop, memory = VendureShop(), dict[str, Any]()
    shop.by_cookie = by_cookie
    for _ in range(3):
        vendure = source(shop, memory)
        await vendure.open()
        assert await vendure.vendor_account() == "shop.example.com:1"
    assert shop.logins == 1
    shop.sessions.clear()
    await vendure.vendor_account()
    assert shop.logins == 2


@pytest.mark.parametrize("other", [{"url": "https://other.example.com/admin-api"}, {"username": "b@shop.example"}])
async def test_a_session_is_given_to_no_other_shop_and_no_other_user(other: dict[str, str]) -> None:
    shop, memory = VendureShop(), dict[str, Any]()
    await source(shop, memory).vendor_account()
    stranger = source(shop, memory, **other)
    await stranger.open()
    assert "authorization" not in stranger.http.headers


async def test_a_wrong_password_says_what_to_check() -> None:
    shop = VendureShop()
    with pytest.raises(AuthError, match=r"FORBIDDEN.*check username and password, and that the role may ReadOrder"):
        await read(source(shop, password="another"), shop)
    assert [json.loads(request.content)["query"][:9] for request in shop.asked] == ["query Ord", "mutation "]


async def test_an_api_key_and_a_channel_go_into_their_headers() -> None:
    shop = VendureShop()
    told = {"username": None, "password": None, "api_key": "k-0123456789", "channel": "c-0123456789"}
    with pytest.raises(AuthError, match="check api_key or session"):
        await read(source(shop, **told), shop)
    sent = shop.asked[0].headers
    assert (sent["vendure-api-key"], sent["vendure-token"]) == ("k-0123456789", "c-0123456789")


# --- settings ---------------------------------------------------------------------------------------------------------


async def test_customers_are_read_only_where_they_are_wanted() -> None:
    shop = VendureShop()
    vendure = source(shop, customers=False)
    assert [page async for page in vendure.customers(shop.now - HOUR, shop.now)] == []
    assert shop.asked == []
    assert "customers" not in vendure.reports


def test_what_a_shop_reports_is_what_it_says_of_itself() -> None:
    shop = VendureShop()
    assert not source(shop).reports & {"delivered", "completed"}
    assert "delivered" in source(shop, marks_delivered=True).reports
    assert {"delivered", "completed"} <= source(shop, states={"A": "delivered", "B": "completed"}).reports


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"url": "shop.example.com"}, "begins with neither"),
        ({"url": "https://me:pw@shop.example.com"}, "credentials belong into"),
        ({"url": "https://shop.example.com/admin-api?a=b"}, "more than host and path"),
        ({"password": None}, "go together"),
        ({"username": None, "password": None}, "one of them"),
        ({"api_key": "k"}, "one of them"),
        ({"states": {"A": "lost"}}, "Input should be"),
        ({"url": "http://shop.example.com"}, "would send the password in the clear; use https"),
        ({"url": "http://93.184.216.34"}, "in the clear"),
        ({"webhook_secret": "x"}, "is no key, so every webhook would be turned away"),
        ({"webhook_secret": ["d2hhdCBpcyBzYWlk", ""]}, "is no key"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        VendureSettings.model_validate({**SETTINGS, **said})


@pytest.mark.parametrize("host", ["127.0.0.1:3000", "localhost", "vendure:3000", "10.0.0.7", "[::1]:3000"])
def test_a_shop_nearby_may_be_asked_in_the_clear(host: str) -> None:
    assert VendureSettings.model_validate({**SETTINGS, "url": f"http://{host}"}).url == f"http://{host}/admin-api"


def test_the_address_may_be_the_shops() -> None:
    assert (
        VendureSettings.model_validate({**SETTINGS, "url": "https://a.example/"}).url == "https://a.example/admin-api"
    )
    assert VendureSettings.model_validate({**SETTINGS, "url": "https://a.example/x/"}).url == "https://a.example/x"
