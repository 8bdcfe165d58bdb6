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

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

import httpx
import pytest
from pydantic import BaseModel, TypeAdapter

from crmkit.adapters.source import REPORTABLE, Source
from crmkit.adapters.stream import Page
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
from crmkit.testing.contract import runs, written
from crmkit.testing.dump import Dump
from crmkit.testing.exchange import Fixture
from crmkit.testing.fault import FAULTS, Fault, Verdict
from crmkit.testing.memory_contract import MemoryContract
from crmkit.testing.playback import PlaybackVendor
from crmkit.testing.reader import Reader
from crmkit.testing.reading import facing, pages_of, reading_streams
from crmkit.testing.secrecy import secrets_in, told
from crmkit.testing.shop_contract import ShopContract
from crmkit.testing.webhook_contract import WebhookContract

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


class SourceContract(ShopContract, WebhookContract, MemoryContract):
    """A source keeps what it declares, and loses nothing.

    Class attributes:
        faults: {fault: error class's name}: where this vendor means something else by it.
    """

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

    def test_its_records_come_to_the_same_in_any_order_and_twice(self, readers: Callable[[], Reader]) -> None:
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


def _bodies(sample: Fixture) -> list[bytes]:
    every = [one.response.body for one in sample.exchanges if one.response is not None]
    return every + [one.request.body for one in sample.exchanges]


__all__ = ["SourceContract", "an_order", "shown_by"]
