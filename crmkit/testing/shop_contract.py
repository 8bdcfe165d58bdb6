"""What a source is held to while the shop it reads changes: nothing is missed, and nothing is written twice."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

import httpx
import pytest

from crmkit.adapters.source import Source
from crmkit.adapters.stream import Page, Ref, Start
from crmkit.core.errors import CrmkitError, RetryableError
from crmkit.core.records import (
    OrderRecord,
    Record,
)
from crmkit.flow.ingest import Tally
from crmkit.flow.sync import pull
from crmkit.store.engine import Store
from crmkit.testing.contract import AdapterContract, runs, written
from crmkit.testing.database import Migrate, MigratedTemplates
from crmkit.testing.fake_shop import FakeShop
from crmkit.testing.reader import Reader

MINUTE = timedelta(minutes=1)
#: Who asks so often within one sync does not get on.
ENDLESS = 1000
#: More ids than any vendor takes at once.
MANY = 230


class ShopContract(AdapterContract):
    """A source loses nothing, whatever happens between two pages or two syncs.

    Class attributes:
        shop: what is read in the tests that change it meanwhile.
        shop_settings: changes to `settings` for these tests: small pages.
        shop_orders: how many orders there are in these tests: some pages.
    """

    adapter: ClassVar[type[Source]]
    shop: ClassVar[type[FakeShop] | None] = None
    shop_settings: ClassVar[Mapping[str, Any]] = {}
    shop_orders: ClassVar[int] = 7

    @pytest.fixture
    def readers(self, migrate: Migrate, migrated_templates: MigratedTemplates) -> Iterator[Callable[[], Reader]]:
        """Makes installations that read the account, each with a database of its own."""
        opened: list[Store] = []

        def make() -> Reader:
            folder = self.folder / f"reader-{len(opened)}"
            folder.mkdir()
            opened.append(Store(migrated_templates.sqlite(migrate, folder / "crm.db")))
            return Reader(opened[-1], self.adapter.name)

        yield make
        for store in opened:
            store.close()

    # --- reading it -------------------------------------------------------------------------------------------------

    def a_shop(self, reader: Reader | None = None, orders: int | None = None) -> FakeShop:
        """A shop with so many orders, a minute apart, the last an hour ago.

        Args:
            reader: who read it before any was there, so that what is read next are these.
            orders: how many; `shop_orders` where None.
        """
        kind = type(self).shop
        if kind is None:
            self.needs("shop", False, "say how its vendor lists orders: shop = ... in the contract, a FakeShop")
        assert kind is not None
        shop = kind()
        now, count = shop.now, orders or self.shop_orders
        if reader is not None:
            reader.now = now
            shop.now = now - timedelta(hours=2) - MINUTE * count
            self.syncs(reader, shop)
            shop.pages = 0
        for number in range(1, count + 1):
            shop.now = now - timedelta(hours=1) - MINUTE * (count - number)
            shop.put(number)
        shop.now = now
        return shop

    async def sync(
        self, reader: Reader, shop: FakeShop, now: datetime | None = None
    ) -> tuple[Tally, list[CrmkitError]]:
        """One sync, by our clock."""
        before = len(shop.asked)

        def answer(request: httpx.Request) -> httpx.Response:
            if len(shop.asked) - before >= ENDLESS:
                raise AssertionError("it does not get on")
            return shop.answer(request)

        transport = httpx.MockTransport(answer)
        async with self.opened(transport, settings={**self.shop_settings}) as adapter:
            came = await pull(adapter, reader.shop, reader.store.run, listened=frozenset(), now=now or shop.now)
        if len(shop.asked) - before >= ENDLESS:
            pytest.fail(f"{self.adapter.name}: asked {ENDLESS} pages in one sync; it does not get on")
        return came

    def syncs(self, reader: Reader, shop: FakeShop, now: datetime | None = None) -> Tally:
        """A sync that must end well."""
        tally, errors = asyncio.run(self.sync(reader, shop, now))
        assert errors == [], f"{self.adapter.name}: {errors[0]}"
        return tally

    def has_all(self, reader: Reader, shop: FakeShop, readers: Callable[[], Reader], when: str) -> None:
        """Fail unless what was read is what a shop that stands still reads as."""
        fresh = readers()
        shop.between = lambda pages: None
        self.patch.setattr("crmkit.flow.sync.SKEW", timedelta(days=1))
        self.syncs(fresh, shop, max(shop.now, reader.now) + timedelta(hours=2))
        expected, found = fresh.orders(), reader.orders()
        unread = {shop.external_id(number) for number in shop.orders} - set(expected)
        assert not unread, f"{self.adapter.name}: orders {', '.join(sorted(unread))} were never read, at a first sync"
        missing = sorted(set(expected) - set(found))
        assert not missing, f"{self.adapter.name}: {when}: orders {', '.join(missing)} were never read"
        stale = sorted(number for number in expected if expected[number] != found[number])
        assert not stale, f"{self.adapter.name}: {when}: what is known of orders {', '.join(stale)} is old"

    # --- while it changes -------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("what", ["changes", "comes", "comes and changes"])
    @pytest.mark.parametrize("page", [1, 2, 3, 4])
    def test_nothing_is_missed_while_a_list_shifts(self, page: int, what: str, readers: Callable[[], Reader]) -> None:
        """An order changes, or comes, between two pages: the others move up or down, and none is lost."""
        reader = readers()
        shop = self.a_shop(reader)

        def shift(pages: int) -> None:
            if pages != page:
                return
            shop.now += timedelta(seconds=20)
            if "changes" in what:
                for number in (1, 2, self.shop_orders - 1):
                    shop.change(number)
            if "comes" in what:
                shop.put(self.shop_orders + 1)
                shop.put(self.shop_orders + 2)

        shop.between = shift
        self.syncs(reader, shop, shop.now)
        shop.between = lambda pages: None
        shop.now += timedelta(minutes=10)
        self.syncs(reader, shop)
        self.has_all(reader, shop, readers, f"an order {what} before page {page}")

    @pytest.mark.parametrize("page", [1, 2, 3, 4, 5])
    def test_a_read_that_breaks_off_is_made_up_for(self, page: int, readers: Callable[[], Reader]) -> None:
        """Its watermark did not move, so the next sync reads what this one did not."""
        reader = readers()
        shop = self.a_shop(reader)
        self.patch.setattr("crmkit.adapters.http.READ_PAUSE", 0.0)

        def broken(pages: int) -> None:
            if pages >= page:
                raise httpx.ReadError("the connection was reset")

        shop.between = broken
        _, errors = asyncio.run(self.sync(reader, shop))
        if shop.pages < page:
            pytest.skip(f"{self.adapter.name} reads it in fewer pages")
        assert errors, f"{self.adapter.name}: page {page} cannot be read, and nothing is said of it"
        assert all(isinstance(one, RetryableError) for one in errors), errors
        known = reader.orders()
        unread = [kept.changed_at for kept in shop.orders.values() if shop.external_id(kept.number) not in known]
        for stream in self.adapter.streams():
            value = reader.cursors().get(stream)
            if unread and value is not None and self.adapter.window(stream) is not None:
                until = datetime.fromisoformat(value["until"])
                assert until <= min(unread), (
                    f"{self.adapter.name}: the watermark of {stream} moved past what was not read"
                )
        shop.between = lambda pages: None
        shop.now += timedelta(minutes=10)
        self.syncs(reader, shop)
        self.has_all(reader, shop, readers, f"page {page} could not be read")

    @pytest.mark.parametrize("minutes", [-10, 0, 10])
    def test_a_vendors_clock_that_is_wrong_loses_nothing(self, minutes: int, readers: Callable[[], Reader]) -> None:
        """Its clock is ahead of ours, or behind; orders change all the time, some at the moment of a sync.

        Its lists are behind what happens, as long as `behind` of the shop says: what the source says by `end_lag` and
        `overlap` must be enough for it.
        """
        shop = self.a_shop()
        why = (
            "its shop does not say how long lists are behind what happens: behind = timedelta(...), as its vendor says"
        )
        self.needs("lag", shop.behind is not None, why)
        shop.lag = shop.behind or timedelta(0)
        skew = MINUTE * minutes
        ours = shop.now
        shop.now = ours + skew
        reader = readers()
        for step in range(8):
            ours = ours + timedelta(minutes=3, seconds=20)
            shop.now = ours + skew - timedelta(seconds=step * 7 % 20)
            shop.change(1 + step % 7)
            shop.put(self.shop_orders + 20 + step)
            shop.now = ours + skew
            self.syncs(reader, shop, ours)
        for _ in range(3):
            ours += timedelta(minutes=15)
            shop.now = ours + skew
            self.syncs(reader, shop, ours)
        reader.now = ours
        shop.lag = timedelta(0)
        self.has_all(reader, shop, readers, f"its clock is {minutes} minutes from ours")

    def test_what_did_not_change_writes_nothing(self, readers: Callable[[], Reader]) -> None:
        """The overlap is read again, and is no news."""
        reader = readers()
        shop = self.a_shop(reader)
        shop.now -= MINUTE * 2
        for number in range(1, 4):
            shop.change(number)  # which the next sync reads again
        shop.now += MINUTE * 2
        first = self.syncs(reader, shop)
        assert first.news >= self.shop_orders, (
            f"{self.adapter.name}: {first.news} of {self.shop_orders} orders were read"
        )
        before = reader.orders()
        for minutes in (1, 10):
            shop.now += MINUTE * minutes
            again = self.syncs(reader, shop)
            assert again.news == 0, f"{self.adapter.name}: {again.records} is written again though nothing changed"
        assert reader.orders() == before

    def test_an_expired_cursor_is_begun_anew(self, readers: Callable[[], Reader]) -> None:
        """While a list is read, and between two syncs."""
        reader = readers()
        shop = self.a_shop(reader)
        shop.between = lambda pages: shop.expire() if pages == 2 else None
        asyncio.run(self.sync(reader, shop))
        shop.between = lambda pages: None
        shop.expire()
        shop.now += timedelta(minutes=10)
        shop.put(self.shop_orders + 30)
        asyncio.run(self.sync(reader, shop))
        shop.now += timedelta(minutes=10)
        self.syncs(reader, shop)
        self.has_all(reader, shop, readers, "its cursors expired")
        if not shop.expired:
            pytest.skip(f"{self.adapter.name}: nothing expired; its vendor lists without cursors")

    def test_a_change_that_moves_no_time_is_found(self, readers: Callable[[], Reader]) -> None:
        """By reading open orders again, where a vendor's changed-since misses changes."""
        kind = type(self).shop
        if self.adapter.rescans is None and kind is not None:
            why = "it does not read open orders again (rescans), and its shop does not say moves_times = True"
            self.needs("rescans", kind.moves_times, why)
            pytest.skip(f"{self.adapter.name}: its vendor moves the time of every change")
        reader = readers()
        shop = self.a_shop(reader)
        self.syncs(reader, shop)
        shop.now += timedelta(hours=1)
        shop.change(3, silently=True)
        for _ in range(2):
            shop.now += timedelta(minutes=10)
            self.syncs(reader, shop)
        self.has_all(reader, shop, readers, "a change moved no time")

    # --- by id ------------------------------------------------------------------------------------------------------

    def test_by_id_it_reads_the_same_as_by_stream(self) -> None:
        self.needs("read", self.adapter.read is not Source.read, "it does not read by id; write read, or say why not")
        shop = self.a_shop()
        unknown = [Ref("order", "987654321"), Ref("order", "no-such-id")]

        async def read() -> tuple[dict[str, Any], dict[str, Any], list[Record]]:
            transport = httpx.MockTransport(shop.answer)
            async with self.opened(transport, settings={**self.shop_settings}) as adapter:
                listed: list[Record] = []
                for name in self.adapter.streams():
                    if not any(isinstance(one, OrderRecord) for one in listed):
                        listed = [one async for page in self._listing(adapter, name, shop) for one in page.records]
                orders = [one for one in listed if isinstance(one, OrderRecord)]
                if not orders:
                    return {}, {}, []
                refs = [Ref("order", one.external_id) for one in orders]
                again = [one async for page in adapter.read(refs) for one in page.records]
                some = [one async for page in adapter.read([refs[0], *unknown]) for one in page.records]
            return _by_id(orders), _by_id(again), some

        listed, again, some = runs(read)
        if not listed:
            pytest.skip(f"{self.adapter.name} has no stream of orders")
        for number, record in listed.items():
            assert again.get(number) == record, f"{self.adapter.name}: order {number} by id is not what it is listed as"
        found = {one.external_id for one in some if isinstance(one, OrderRecord)}
        assert found == {next(iter(listed))}, (
            f"{self.adapter.name}: asked for one it knows and two it does not: {found}"
        )

    def _listing(self, adapter: Any, stream: str, shop: FakeShop) -> AsyncIterator[Page]:
        """The last hours of a stream of either kind."""
        since, method = shop.now - timedelta(hours=3), getattr(adapter, stream)
        found: AsyncIterator[Page]
        if self.adapter.window(stream) is not None:
            found = method(since, shop.now)
        else:
            found = method(Start(None, since, shop.now))
        return found

    def test_as_many_as_there_are_are_read_by_id(self) -> None:
        """More than a page, or than a vendor takes ids at once: none is left out."""
        self.needs("read", self.adapter.read is not Source.read, "it does not read by id; write read, or say why not")
        shop = self.a_shop(orders=MANY)
        wanted = [shop.external_id(number) for number in shop.orders]

        async def read() -> list[str]:
            transport = httpx.MockTransport(shop.answer)
            async with self.opened(transport, settings={**self.shop_settings}) as adapter:
                refs = [Ref("order", one) for one in wanted]
                records = [one async for page in adapter.read(refs) for one in page.records]
            return [one.external_id for one in records if isinstance(one, OrderRecord)]

        missing = sorted(set(wanted) - set(runs(read)))
        what = f"{self.adapter.name}: of {MANY} orders asked for by id {len(missing)} were left out"
        assert not missing, f"{what}: {', '.join(missing[:5])}"


def _by_id(orders: Sequence[Record]) -> dict[str, Any]:
    found = {one.ref: written(one) for one in orders if isinstance(one, OrderRecord)}
    for one in found.values():
        one.pop("observed_at", None)
        for parcel in one.get("parcels", ()):
            parcel.pop("observed_at", None)
    return found


__all__ = ["ShopContract"]
