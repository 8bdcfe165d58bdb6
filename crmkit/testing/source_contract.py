"""What every source is held to. A test file inherits it in ten lines, and brings a shop that changes while it is read:

```python
class TestAcme(SourceContract):
    adapter = AcmeSource
    settings = {"token": "t-0123456789"}
    fixtures = Path(__file__).parent / "acme"
    shop = AcmeShop         # a `FakeShop`
```

Of its fixtures `unknown-status` is an order with a status nobody knows, `sentinel-dates` one with a time that stands
for none (or any that has one in what is answered), `one-is-broken` a page of which one cannot be read (or any that
expects both records and refusals). Who has none, no shop that can be played, does not read by id, or does not know
which account it reads says so in `lacks`: `unknown-status`, `sentinel-dates`, `one-is-broken`, `shop`, `faults`,
`read`, `vendor-account`. What only the vendor can say is said by the shop: how long its lists are `behind`, and where
`rescans` is None that no time stands still while an order changes, `moves_times`.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import httpx
import pytest
from pydantic import BaseModel, TypeAdapter

from crmkit.adapters.source import REPORTABLE, Source
from crmkit.adapters.stream import BEGINNING, Page, Ref, Start
from crmkit.core.account import Shop
from crmkit.core.errors import AdapterError, AuthError, CrmkitError, PayloadError, RefusedError, RetryableError
from crmkit.core.order import MILESTONES, Order, milestones_of
from crmkit.core.records import (
    CustomerRecord,
    OrderRecord,
    OrderStatus,
    ParcelRecord,
    PaymentRecord,
    Record,
    RefundRecord,
    ReturnRecord,
    ReviewRecord,
)
from crmkit.flow.ingest import Tally, ingest
from crmkit.flow.sync import pull
from crmkit.store import accounts
from crmkit.store.engine import Store
from crmkit.testing.contract import runs, written
from crmkit.testing.database import Migrate, MigratedTemplates
from crmkit.testing.dump import Dump, canonical
from crmkit.testing.exchange import Fixture
from crmkit.testing.fake_shop import FakeShop
from crmkit.testing.fault import FAULTS, Fault, Verdict
from crmkit.testing.memory_contract import MemoryContract
from crmkit.testing.playback import PlaybackVendor
from crmkit.testing.reading import facing, pages_of, reading_streams
from crmkit.testing.secrecy import secrets_in, told
from crmkit.testing.webhook_contract import WebhookContract

MINUTE = timedelta(minutes=1)
#: Who asks so often within one sync does not get on.
ENDLESS = 1000
#: More ids than any vendor takes at once.
MANY = 230
#: What a source may raise when its vendor fails so.
_VERDICTS: Mapping[Verdict, tuple[type[AdapterError], ...]] = {
    Verdict.NOTHING_LEFT: (RetryableError,),
    Verdict.NOT_NOW: (RetryableError,),
    Verdict.NO: (RefusedError, RetryableError),
    Verdict.STRANGER: (AuthError,),
    Verdict.DOUBT: (RetryableError, PayloadError),
}
#: What `Adapter.call` judges by itself, and tries again.
_TRIED_AGAIN = frozenset({"500", "503", "408", "close", "reset", "hang", "half-body", "no-http"})
#: Written where there is no time.
_SENTINELS = ("0001-01-01", "1970-01-01", "0000-00-00", "1900-01-01")
#: Records that are told of by a word of `reports`.
_KINDS: Mapping[type[Record], str] = {
    ParcelRecord: "parcels",
    PaymentRecord: "payments",
    RefundRecord: "refunds",
    ReturnRecord: "returns",
    ReviewRecord: "reviews",
    CustomerRecord: "customers",
}


class SourceContract(WebhookContract, MemoryContract):
    """A source keeps what it declares, and loses nothing.

    Class attributes:
        shop: what is read in the tests that change it meanwhile.
        shop_settings: changes to `settings` for these tests: small pages.
        shop_orders: how many orders there are in these tests: some pages.
        faults: {fault: error class's name}: where this vendor means something else by it.
    """

    adapter: ClassVar[type[Source]]
    shop: ClassVar[type[FakeShop] | None] = None
    shop_settings: ClassVar[Mapping[str, Any]] = {}
    shop_orders: ClassVar[int] = 7
    faults: ClassVar[Mapping[str, str]] = {}

    vendor: PlaybackVendor

    async def given(self, adapter: Any, sample: Fixture) -> dict[str, Any]:
        """What came of a fixture."""
        if sample.given in {"stream", "read"}:
            return await reading_streams(adapter, sample)
        if sample.given == "may_say":
            told_of = sample.document["may_say"]
            order = None if told_of.get("order") is None else an_order(told_of["order"])
            asked = (told_of.get("purpose", "transactional"), told_of.get("template", "order-shipped"))
            return {"said": adapter.may_say(order, *asked)}
        return await super().given(adapter, sample)

    # --- what is declared -------------------------------------------------------------------------------------------

    def test_its_streams_are_shown(self) -> None:
        name = self.adapter.name
        for stream in self.adapter.streams():
            shown = [one for one in self.samples("stream") if one.document["stream"] == stream]
            if any(key.startswith("streams ") and stream in key.split() for key in self.lacks):
                continue
            assert shown, f"{name}: no fixture shows what its stream {stream} reads"
            if self.adapter.window(stream) is None:
                moved = [one for one in shown if one.document.get("cursor") not in (None, one.document.get("from"))]
                why = f"no fixture expects the cursor that its stream {stream} has come to, another than it began with"
                self.needs(f"cursor {stream}", bool(moved), why)
        if self.adapter.read is not Source.read and self.shop is None:
            assert self.samples("read"), f"{name} reads by id, and no fixture shows it"

    def test_it_reports_what_its_fixtures_show(self) -> None:
        """What is shown and not reported would never be waited for; what is reported and not shown never comes."""
        shown_by_all: set[str] = set()  # with what follows from it
        reported: set[str] = set()
        for sample in self.samples("stream", "read", "webhook"):
            shown, following = shown_by(self.records_of(sample))
            mine = set(self.make(sample=sample).reports)
            unknown = mine - REPORTABLE
            assert not unknown, f"{self.adapter.name} reports {sorted(unknown)}, which nobody knows"
            assert shown <= mine, f"{sample.path} shows {sorted(shown - mine)}, and `reports` does not say so"
            shown_by_all |= shown | following
            reported |= mine
        missing = (reported or set(self.make().reports)) - shown_by_all
        assert not missing, f"{self.adapter.name} reports {sorted(missing)}, and no fixture shows it"

    def records_of(self, sample: Fixture) -> list[Record]:
        """The records a fixture gives, as the adapter gives them."""
        found: list[Record] = []
        if sample.given == "webhook":
            adapter = self.make(sample=sample)
            try:
                return [r for r in adapter.records(self.verified_call(adapter, sample)) if isinstance(r, Record)]
            except CrmkitError:
                return []

        async def read() -> None:
            async with self.opened(self.plays(sample), sample=sample) as adapter:
                try:
                    async for page in pages_of(adapter, sample):
                        found.extend(page.records)
                except CrmkitError:
                    pass  # what came before it

        self.patch.setattr("crmkit.adapters.http.READ_PAUSE", 0.0)
        runs(read)
        return found

    def every_record(self) -> list[Record]:
        """The records of all fixtures."""
        return [record for one in self.samples("stream", "read", "webhook") for record in self.records_of(one)]

    # --- what is said -----------------------------------------------------------------------------------------------

    def test_a_status_nobody_knows_is_unknown_and_kept(self) -> None:
        found = next((one for one in self.samples("stream", "read", "webhook") if one.name == "unknown-status"), None)
        self.needs("unknown-status", found is not None, "no fixture `unknown-status` of an order with one nobody knows")
        assert found is not None
        orders = [one for one in self.records_of(found) if isinstance(one, OrderRecord)]
        assert orders, f"{found.path}: it has no order"
        for order in orders:
            assert order.status is OrderStatus.UNKNOWN, f"{found.path}: the status is guessed: {order.status}"
            assert order.vendor_status, f"{found.path}: the vendor's own word is not kept in vendor_status"

    def test_a_time_that_stands_for_none_is_none(self) -> None:
        """1970, 0001-01-01 and their like: a milestone of those would have been reached."""
        shown = [
            one
            for one in self.samples("stream", "read", "webhook")
            if one.name == "sentinel-dates"
            or any(word.encode() in part for word in _SENTINELS for part in _bodies(one))
        ]
        self.needs(
            "sentinel-dates", bool(shown), f"no fixture has a time that stands for none: {', '.join(_SENTINELS)}"
        )
        for sample in shown:
            assert self.records_of(sample), f"{sample.path}: it gives no record"
            text = str([written(record) for record in self.records_of(sample)])
            told_as = [word for word in _SENTINELS if word in text]
            assert told_as == [], f"{sample.path}: {told_as[0]} is taken for a time"

    def test_times_have_their_zone(self) -> None:
        """A time without one is another in each country; records refuse it, unless they are made around that."""
        for sample in self.samples("stream", "read", "webhook"):
            for record in self.records_of(sample):
                where = f"{sample.path}: {record.kind} {record.ref}"
                bare = sorted(_without_zone(record))
                assert not bare, f"{where}: {', '.join(bare)} has no zone; give it the vendor's, or account.timezone"

    def test_one_that_cannot_be_read_leaves_the_others(self) -> None:
        """Of a page of which one is broken the others are read, and it is refused by its place, not dropped."""
        found = [one for one in self.samples("stream", "read", "webhook") if one.document.get("refused")]
        found = [one for one in found if one.document.get("records")]
        why = "no fixture `one-is-broken` of a page with an order that cannot be read, and others that can"
        self.needs("one-is-broken", bool(found), why)
        for sample in found:
            came, _ = self.play(sample)
            assert came.get("records"), f"{sample.path}: what can be read beside a broken one is not"
            assert came.get("refused"), f"{sample.path}: what cannot be read vanishes; give it as Refused"
            assert all(one["reason"] for one in came["refused"]), f"{sample.path}: it is not said what is broken"

    def test_what_is_masked_is_said_to_be(self) -> None:
        """A masked name replaces no plain one only where the record says that it is masked."""
        for record in self.every_record():
            buyer = getattr(record, "buyer", None)
            for name in ("name", "email", "phone", "city"):
                value = getattr(buyer, name, None)
                if value and ("*" in value or "＊" in value):
                    assert buyer is not None
                    assert name in buyer.masked, f"{record.kind} {record.ref}: {name} is masked, and `masked` lacks it"

    @pytest.mark.parametrize("purpose", ["transactional", "marketing"])
    def test_it_says_whether_something_may_be_said(self, purpose: str) -> None:
        """With an order and without; a reason in words, or None."""
        adapter = self.make()
        order = an_order()
        for template in ("order-shipped", "review-request", "offer", ""):
            for about in (None, order):
                said = adapter.may_say(about, purpose, template)
                assert said is None or (isinstance(said, str) and said.strip()), f"may_say answers {said!r}"

    def test_what_may_not_be_said_is_shown(self) -> None:
        """Where it has an opinion: something that may not be said to its buyers, and something that may."""
        name, found = self.adapter.name, self.samples("may_say")
        if self.adapter.may_say is Source.may_say:
            assert not found, f"{name} has fixtures of what may be said, and no may_say"
            pytest.skip(f"{name} lets everything be said")
        said = [one.document.get("said") is None for one in found if "said" in one.document]
        do = 'a file with {"may_say": {"purpose": ..., "order": {...}}} and why not as "said", or null'
        assert False in said, f"{name} has may_say, and no fixture shows what may not be said: {do}"
        assert True in said, f"{name} has may_say, and no fixture shows what may be said: {do}"

    # --- ingest -----------------------------------------------------------------------------------------------------

    @pytest.fixture
    def readers(self, migrate: Migrate, migrated_templates: MigratedTemplates) -> Iterator[Callable[[], "_Reader"]]:
        """Makes installations that read the account, each with a database of its own."""
        opened: list[Store] = []

        def make() -> _Reader:
            folder = self.folder / f"reader-{len(opened)}"
            folder.mkdir()
            opened.append(Store(migrated_templates.sqlite(migrate, folder / "crm.db")))
            return _Reader(opened[-1], self.adapter.name)

        yield make
        for store in opened:
            store.close()

    def test_its_records_come_to_the_same_in_any_order_and_twice(self, readers: Callable[[], "_Reader"]) -> None:
        records = self.every_record()
        if not records:
            pytest.skip(f"{self.adapter.name} has no fixtures of records")
        expected: Dump | None = None
        for seed in range(4):
            chosen = list(records)
            if seed:
                dice = random.Random(seed)
                chosen += dice.sample(records, len(records) // 2)
                dice.shuffle(chosen)
            reader = readers()
            for first in range(0, len(chosen), 3):
                reader.take(Page(tuple(chosen[first : first + 3])))
            expected = expected or reader.dump()
            assert reader.dump() == expected, (
                f"{self.adapter.name}: another order of its records gives another database"
            )

    # --- faults -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
    def test_a_fault_while_reading_comes_to_what_is_true(self, fault: Fault) -> None:
        """Over a real socket: tried again where that may help, then an error that says whose and what."""
        found = [one for one in self.samples("stream") if one.exchanges and "error" not in one.document]
        self.needs("faults", bool(found), "no fixture of a stream that could fail")
        sample = found[0]

        async def run() -> tuple[int, AdapterError | None, int]:
            count = 0
            async with facing(self, sample, fault) as adapter:
                try:
                    await adapter.open()
                    async for page in pages_of(adapter, sample):
                        count += len(page.records) + len(page.hints)
                except AdapterError as error:
                    return count, error, self.vendor.asked
            return count, None, self.vendor.asked

        count, error, asked = runs(run)
        came = type(error).__name__ if error is not None else "read"
        right = {kind.__name__ for kind in _VERDICTS.get(fault.verdict, ())} or {"read"}
        right = {self.faults[fault.name]} if fault.name in self.faults else right
        assert came in right, f"{fault.name} ({fault.told}): {came} instead of {' or '.join(sorted(right))}; {error}"
        if error is None:
            assert count == len(sample.document["records"]), f"{fault.name}: {count} records"
            return
        self.names_its_place(error)
        secrets = secrets_in(self.make(sample=sample).settings)
        assert told("\n".join([str(error), repr(error), self.logged()]), secrets) == [], f"{fault.name}: tells a secret"
        if fault.name in _TRIED_AGAIN:
            assert asked > len(sample.exchanges), f"{fault.name}: it was not tried again within the run"

    # --- a shop that changes while it is read -----------------------------------------------------------------------

    def a_shop(self, reader: "_Reader | None" = None, orders: int | None = None) -> FakeShop:
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
        self, reader: "_Reader", shop: FakeShop, now: datetime | None = None
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

    def syncs(self, reader: "_Reader", shop: FakeShop, now: datetime | None = None) -> Tally:
        """A sync that must end well."""
        tally, errors = asyncio.run(self.sync(reader, shop, now))
        assert errors == [], f"{self.adapter.name}: {errors[0]}"
        return tally

    def has_all(self, reader: "_Reader", shop: FakeShop, readers: Callable[[], "_Reader"], when: str) -> None:
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

    @pytest.mark.parametrize("what", ["changes", "comes", "comes and changes"])
    @pytest.mark.parametrize("page", [1, 2, 3, 4])
    def test_nothing_is_missed_while_a_list_shifts(
        self, page: int, what: str, readers: Callable[[], "_Reader"]
    ) -> None:
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
    def test_a_read_that_breaks_off_is_made_up_for(self, page: int, readers: Callable[[], "_Reader"]) -> None:
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
    def test_a_vendors_clock_that_is_wrong_loses_nothing(self, minutes: int, readers: Callable[[], "_Reader"]) -> None:
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

    def test_what_did_not_change_writes_nothing(self, readers: Callable[[], "_Reader"]) -> None:
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

    def test_an_expired_cursor_is_begun_anew(self, readers: Callable[[], "_Reader"]) -> None:
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

    def test_a_change_that_moves_no_time_is_found(self, readers: Callable[[], "_Reader"]) -> None:
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

    def test_it_says_which_account_it_reads(self) -> None:
        """Two sections on one account are noticed by it, so it is the same each time."""
        is_told = self.adapter.vendor_account is not Source.vendor_account
        self.needs("vendor-account", is_told, "write vendor_account, or say why its vendor gives an account no id")
        shop = self.a_shop(orders=1) if self.shop is not None else None

        async def ask() -> str | None:
            transport = httpx.MockTransport(shop.answer) if shop is not None else None
            async with self.opened(transport) as adapter:
                found: str | None = await adapter.vendor_account()
                return found

        one, other = runs(ask), runs(ask)
        assert one == other, f"{self.adapter.name}: it says {one!r}, then {other!r}"
        assert one is None or isinstance(one, str)
        assert told(str(one), secrets_in(self.make().settings)) == [], "the account's id tells a secret"


class _Reader:
    """An installation with one shop."""

    def __init__(self, store: Store, adapter: str) -> None:
        self.store = store
        self.now = BEGINNING
        with store.begin() as tx:
            number, _ = accounts.meet(
                tx,
                name=f"our-{adapter}",
                kind="shop",
                adapter=adapter,
                vendor_account=None,
                announce_from=BEGINNING,
                now=BEGINNING,
            )
        name = f"our-{adapter}"
        self.shop = Shop(number, name, name, REPORTABLE, BEGINNING, "en", ZoneInfo("UTC"))

    def take(self, page: Page) -> None:
        """Ingest a page."""
        with self.store.begin() as tx:
            ingest(tx, self.shop, page, stream="contract", listened=frozenset(), now=datetime.now(ZoneInfo("UTC")))

    def dump(self) -> Dump:
        """What the facts came to."""
        with self.store.read() as tx:
            return canonical(tx)

    def cursors(self) -> dict[str, Any]:
        """How far each stream was read."""
        from crmkit.store import tables as t

        with self.store.read() as tx:
            return {row.stream: row.value for row in tx.execute(t.cursor.select())}

    def orders(self) -> dict[str, Mapping[str, Any]]:
        """The newest that is known of each order, by the shop's id; not what it went through, nor when it was seen."""
        from crmkit.store import tables as t

        left = {f"{name}_at" for name in MILESTONES}
        left |= {"id", "shop_id", "profile_id", "recorded_at", "version_observed", "older", "version_hash", "said"}
        with self.store.read() as tx:
            rows = [dict(row) for row in tx.execute(t.orders.select()).mappings()]
        return {row["external_id"]: {k: v for k, v in row.items() if k not in left} for row in rows}


def an_order(changes: Mapping[str, Any] | None = None) -> Order:
    """A standard order with these changes: fields of `Order`."""
    values = {"id": 1, "shop_id": 1, "external_id": "17", "number": "1017", "status": "shipped"}
    return TypeAdapter(Order).validate_python({**values, **(changes or {})})


def shown_by(records: Sequence[Record]) -> tuple[set[str], set[str]]:
    """What records tell, in the words of `reports`; and what orders may come to by their parcels."""
    found: set[str] = set()
    following: set[str] = set()
    for record in records:
        found |= {word for kind, word in _KINDS.items() if isinstance(record, kind)}
        parcels = [record] if isinstance(record, ParcelRecord) else getattr(record, "parcels", ())
        following |= {"shipped"} if any(one.shipped_at is not None for one in parcels) else set()
        following |= {"delivered"} if any(one.delivered_at is not None for one in parcels) else set()
        if isinstance(record, OrderRecord):
            reached = milestones_of(record)
            found |= {name for name in MILESTONES if reached[f"{name}_at"] is not None}
            found |= {"parcels"} if record.parcels else set()
    return found, following


def _without_zone(model: BaseModel) -> Iterator[str]:
    """The names of times that have no zone."""
    for name, value in model:
        several = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(one, datetime) and one.tzinfo is None for one in several):
            yield name
        for one in several:
            yield from _without_zone(one) if isinstance(one, BaseModel) else ()


def _by_id(orders: Sequence[Record]) -> dict[str, Any]:
    found = {one.ref: written(one) for one in orders if isinstance(one, OrderRecord)}
    for one in found.values():
        one.pop("observed_at", None)
        for parcel in one.get("parcels", ()):
            parcel.pop("observed_at", None)
    return found


def _bodies(sample: Fixture) -> list[bytes]:
    every = [one.response.body for one in sample.exchanges if one.response is not None]
    return every + [one.request.body for one in sample.exchanges]


__all__ = ["FakeShop", "SourceContract", "shown_by"]
