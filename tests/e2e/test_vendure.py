"""The Vendure source, by `crmkit sync` and `crmkit dispatch`, against a real Vendure: its server, its own SQLite.

What is read ends a minute before now, and begins five before what was read last; here it is no minute, and two seconds,
so that nobody waits.
"""

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crmkit import Account, Call, Reread, Verified
from crmkit.adapters.http import client
from crmkit.adapters.stream import Window
from crmkit.cli import cli
from crmkit_marketplace.vendure import VendureSource
from crmkit_marketplace.vendure.api import Answer, Api
from tests.docs.snippet import ROOT, fences
from tests.e2e.conftest import gathered
from tests.e2e.vendure import PASSWORD, USER, Vendure

pytestmark = pytest.mark.e2e

VERSION = "3.7.2"
PACKAGES = (f"@vendure/core@{VERSION}", "better-sqlite3@12.11.1", "typescript@5.9.3", "dotenv@17.4.2")
OVERLAP = timedelta(seconds=2)
SECRET = "d2ViaG9vay1zZWNyZXQtMDEyMzQ1Njc4OQ=="
CONFIG = """\
[crm]
database = "sqlite:///crm.db"
key = "env:CRMKIT_KEY"
title = "Tea House"

[plugins]
use = ["care"]

[shops.tea]
use = "vendure"
url = "{url}/admin-api"
username = "{user}"
password = "{password}"
marks_delivered = true
per_page = {per_page}

[[channels.email]]
use = "folder"
path = "outbox"
sender = "Tea House <shop@tea.example>"

[[care.rules]]
on = "order-shipped"
send = "order-shipped"
via = ["email"]
"""


class Place:
    """A folder with a configuration, and the program run in it."""

    def __init__(self, folder: Path, url: str, per_page: int = 50, password: str = PASSWORD) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        text = CONFIG.format(url=url, user=USER, password=password, per_page=per_page)
        (folder / "crmkit.toml").write_text(text)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["--config", str(self.folder / "crmkit.toml"), *arguments])

    def ok(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def sync(self) -> dict[str, Any]:
        """A sync that ends well: what it did at the shop."""
        (done,) = (json.loads(line) for line in self.ok("sync", "--json").splitlines())
        return dict(done)

    def news(self) -> int:
        """How many records a sync found to be news."""
        return sum(count["created"] + count["updated"] for count in self.sync()["records"].values())

    def rows(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "crm.db")) as database:
            return database.execute(statement, values).fetchall()

    def orders(self) -> dict[str, str]:
        """What is known of orders: {the shop's id: status}."""
        return dict(self.rows('select external_id, status from "orders"'))

    def told(self, order: str) -> list[str]:
        """What happened to an order."""
        of = 'select id from "orders" where external_id = ?'
        rows = self.rows(f"select type from interaction where order_id = ({of}) order by id", order)
        return [name for (name,) in rows if name.startswith("order-")]

    def mails(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "outbox").glob("*.eml"))


class Bell(HTTPServer):
    """Keeps what it is told, as a door does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Ring)
        self.calls: list[Call] = []


class _Ring(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        assert isinstance(self.server, Bell)
        self.server.calls.append(Call(body, headers, received_at=datetime.now(UTC)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing to tell."""


@pytest.fixture(scope="module")
def bell() -> Iterator[Bell]:
    """Where the plugin of docs/vendure.md sends its webhooks."""
    with Bell() as server:
        running = threading.Thread(target=server.serve_forever)
        running.start()
        yield server
        server.shutdown()
        running.join()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, bell: Bell) -> Iterator[Vendure]:
    """A shop with one order, that was placed before anybody read it."""
    packages, folder = gathered(f"vendure-{VERSION}", *PACKAGES), tmp_path_factory.mktemp("vendure")
    (plugin,) = [fence for fence in fences((ROOT / "docs/vendure.md").read_text("utf-8")) if fence.info == ["ts"]]
    (folder / "crmkit.ts").write_text("\n".join(plugin.lines))
    told = {"CRMKIT_WEBHOOK": f"http://127.0.0.1:{bell.server_port}", "CRMKIT_WEBHOOK_SECRET": SECRET}
    vendure = Vendure(packages, folder, environment={"PLUGIN": str(folder / "crmkit.ts"), **told})
    vendure.start()
    try:
        vendure.make_reader()
        vendure.buy("Early")
        yield vendure
    finally:
        vendure.kill()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRMKIT_KEY", "a key of this test that is long enough 0123456789")
    for name in ("orders", "customers"):
        monkeypatch.setattr(getattr(VendureSource, name), "__crmkit_stream__", Window(overlap=OVERLAP))


@pytest.fixture
def place(shop: Vendure, tmp_path: Path) -> Place:
    """Somewhere the shop was read once."""
    made = Place(tmp_path / "crm", shop.url)
    made.sync()
    time.sleep(1.1)  # what is of the same second, as SQLite writes it, was before
    return made


@pytest.fixture
def before_list(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], None]], None]:
    """Have something done before a list is asked for, told how many were."""
    asks, asked = Api._list, 0

    def between(step: Callable[[int], None]) -> None:
        async def ask(self: Api, *given: Any) -> Answer:
            nonlocal asked
            asked += 1
            step(asked)
            return await asks(self, *given)

        monkeypatch.setattr(Api, "_list", ask)

    return between


def test_what_becomes_of_an_order_is_found_and_told_once(shop: Vendure, place: Place) -> None:
    assert place.news() == 0
    cart = shop.fill_cart("Ann")
    time.sleep(OVERLAP.total_seconds() + 2)
    assert place.news() == 0, "a cart is no order"
    changed_at = shop.order(cart.number)["updatedAt"]
    cart.place()
    place.sync()
    assert place.orders()[cart.number] == "paid"
    time.sleep(OVERLAP.total_seconds() + 2)

    parcel = shop.ship(cart.number)
    place.sync()
    assert place.orders()[cart.number] == "shipped"
    assert json.loads(place.ok("dispatch", "--json"))["handed_over"] == {"sent": 1}
    assert len(place.mails()) == 1

    shop.move_parcel(parcel, "Delivered")
    place.sync()
    assert place.orders()[cart.number] == "delivered"
    assert shop.order(cart.number)["updatedAt"] == changed_at, "then it need not be read again by its id"
    assert place.told(cart.number) == ["order-placed", "order-paid", "order-shipped", "order-delivered"]
    assert place.news() == 0
    assert json.loads(place.ok("dispatch", "--json"))["handed_over"] == {}
    assert len(place.mails()) == 1


def test_a_partial_refund_is_found(shop: Vendure, place: Place) -> None:
    number = shop.buy("Bo")
    place.sync()
    time.sleep(OVERLAP.total_seconds() + 2)
    shop.refund(number, 300)
    assert place.sync()["records"]["refund"]["created"] == 1
    assert place.rows("select refunded_minor, refunded_at is not null from refund") == [(300, 1)]
    assert place.orders()[number] == "paid"


def test_orders_that_change_while_lists_are_read_are_not_lost(
    shop: Vendure, tmp_path: Path, before_list: Callable[[Callable[[int], None]], None]
) -> None:
    numbers = [shop.buy(name) for name in ("Cy", "Di", "Ed", "Flo")]
    place = Place(tmp_path / "crm", shop.url, per_page=2)
    (first, *_) = shop.staff("{ customers { items { id } } }")["customers"]["items"]
    meanwhile: list[str] = []

    def change(lists: int) -> None:
        if lists in {2, 4}:
            shop.hand_over(numbers[lists // 2 - 1], first["id"])
            meanwhile.append(shop.buy(f"Gus{lists}"))

    before_list(change)
    place.sync()
    assert len(meanwhile) == 2
    place.sync()
    there = shop.staff("{ orders(options: {filter: {active: {eq: false}}}) { items { id } } }")["orders"]["items"]
    assert sorted(place.orders()) == sorted(one["id"] for one in there)
    changed = dict(place.rows('select external_id, version_updated from "orders"'))
    for number in numbers[:2]:
        assert changed[number][:19] == shop.order(number)["updatedAt"][:19]


def test_orders_that_changed_in_one_second_are_all_read(shop: Vendure) -> None:
    """More than a page of them, as SQLite writes times: some with milliseconds, some without."""
    while len(numbers := {one["id"] for one in shop.staff("{ orders { items { id } } }")["orders"]["items"]}) < 5:
        shop.buy("Hal")
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    for number in numbers:
        ending = ".000" if int(number) % 2 else ""
        shop.write('update "order" set updatedAt = ? where id = ?', f"{at:%Y-%m-%d %H:%M:%S}{ending}", number)

    async def read() -> list[str]:
        async with client() as http:
            told = {"url": shop.url, "username": USER, "password": PASSWORD, "per_page": 2}
            account = Account("tea", "UTC", None, None, Path())
            source = VendureSource(VendureSource.Settings.model_validate(told), account, http)
            minute = timedelta(minutes=1)
            pages = [page async for page in source.orders(at - minute, at + minute)]
            return [record.ref for page in pages for record in page.records if record.kind == "order"]

    found = asyncio.run(read())
    placed = {number for number in numbers if shop.order(number)["orderPlacedAt"]}
    assert sorted(found) == sorted(placed)


def test_a_role_that_may_read_is_enough_and_a_wrong_password_is_told(
    shop: Vendure, place: Place, tmp_path: Path
) -> None:
    assert "its role" not in place.run("doctor").output
    stranger = Place(tmp_path / "stranger", shop.url, password="another")
    result = stranger.run("sync")
    assert result.exit_code == 1
    assert "check username and password" in result.stderr
    assert "another" not in result.output


async def test_the_plugin_on_the_page_says_what_changed_and_signs_it(shop: Vendure, bell: Bell) -> None:
    number = shop.buy("Ida")
    shop.move_parcel(shop.ship(number), "Delivered")
    shop.refund(number, 300)
    told = {"url": shop.url, "username": USER, "password": PASSWORD, "webhook_secret": f"whsec_{SECRET}"}
    settings, account = VendureSource.Settings.model_validate(told), Account("tea", "UTC", None, None, Path())
    async with client() as http:
        source = VendureSource(settings, account, http)
    hints: list[Any] = []
    for _ in range(100):
        hints = [hint for call in list(bell.calls) for hint in source.records(call)]
        if hints.count(Reread("order", number)) >= 5:
            break
        await asyncio.sleep(0.1)
    assert hints.count(Reread("order", number)) >= 5, "placed, its payment, shipped, delivered, paid back"
    assert any(hint.kind == "customer" for hint in hints)
    doors = [source.verify(call) for call in bell.calls]
    assert len({door.dedupe_key for door in doors if isinstance(door, Verified)}) == len(bell.calls)


def test_a_sync_asks_little_where_nothing_changed(shop: Vendure, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    calls = VendureSource.call

    async def call(self: VendureSource, operation: str, *given: Any, **more: Any) -> Any:
        asked.append(operation)
        return await calls(self, operation, *given, **more)

    place.sync()
    monkeypatch.setattr(VendureSource, "call", call)
    assert place.news() == 0
    assert asked == ["read the channel", "read orders", "read orders", "read customers", "read by id"]


def test_a_server_that_was_killed_while_it_was_read_is_read_to_its_end_by_the_next_sync(
    shop: Vendure, tmp_path: Path, before_list: Callable[[Callable[[int], None]], None]
) -> None:
    place = Place(tmp_path / "crm", shop.url, per_page=2)
    before_list(lambda lists: shop.kill() if lists == 2 else None)
    result = place.run("sync")
    assert result.exit_code == 1
    assert "tea read orders" in result.stderr
    assert 0 < len(place.orders()) < 5
    shop.start()
    place.sync()
    there = shop.staff("{ orders(options: {filter: {active: {eq: false}}}) { items { id } } }")["orders"]["items"]
    assert sorted(place.orders()) == sorted(one["id"] for one in there)
