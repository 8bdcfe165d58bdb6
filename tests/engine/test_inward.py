"""What comes in: spans of time, hints, open orders read again, webhooks kept and taken in, what adapters remember."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from crmkit.adapters.adapter import Account
from crmkit.adapters.door import Call, Hmac, Reply, Verified
from crmkit.adapters.gateway import Gateway, GatewaySettings
from crmkit.adapters.http import client
from crmkit.adapters.source import Source, SourceSettings
from crmkit.adapters.stream import Page, Ref, Refused, Reread, Start, Window, stream, window
from crmkit.core.actions import Note
from crmkit.core.errors import AuthError, ConfigError, PayloadError, RetryableError
from crmkit.core.events import ConsentChanged, MessageReceived, OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.records import Address, ConsentRecord, InboundRecord, OrderRecord, ReceiptRecord, Record
from crmkit.engine.accounts import Accounts
from crmkit.engine.inward import Inward
from crmkit.flow.setup import Entry
from crmkit.host.opening import ShopEntry
from crmkit.host.sections import PolicySection
from crmkit.store import accounts, inbox, outbox, report
from crmkit.store import tables as t
from tests.dump import everything
from tests.play import DAY, HOUR, MINUTE, NOON, Play, buyer, order

LONG_AGO = NOON - 10 * DAY


class Vendor(Source):
    """A shop of which a test says what it has: orders by number, and when each changed."""

    name = "vendor"
    rescans = timedelta(days=30)
    keeps_headers = ("x-topic",)
    verifies = Hmac("X-Signature", secret="secret")
    accepts_with = Reply(200, b"success")

    class Settings(SourceSettings):
        secret: list[SecretStr] = [SecretStr("new"), SecretStr("old")]

    orders_there: dict[str, OrderRecord]
    asked: list[Any]
    error: Exception | None

    @window(max_span="7d", end_lag="1m", overlap="5m", history="20d")
    async def orders(self, start: datetime, end: datetime) -> AsyncIterator[Page]:
        self.asked.append((start, end))
        for record in list(self.orders_there.values()):
            changed = record.updated_at
            if changed is not None and start <= changed < end:
                yield Page([record])
        if self.error is not None:
            raise self.error

    async def read(self, refs: Sequence[Ref]) -> AsyncIterator[Page]:
        self.asked.append([ref.external_id for ref in refs])
        if self.error is not None:
            raise self.error
        yield Page([self.orders_there[ref.external_id] for ref in refs if ref.external_id in self.orders_there])

    def records(self, call: Call) -> Iterable[Record | Ref | Refused]:
        said = json.loads(call.body)
        if said.get("topic", call.headers.get("x-topic")) == "hint":
            yield Reread("order", said["id"])
        elif "half" in said:
            yield order(said["id"])
            raise PayloadError("half of it")
        elif "bad" in said:
            yield Refused("order", "webhook", "no total", call.body.decode(), said["id"])
        else:
            yield order(said["id"], observed_at=call.received_at)


class Phone(Gateway):
    """A gateway whose vendor calls back, and has a list of receipts to be pulled."""

    name = "phone"
    channel = "sms"
    reaches = ("phone",)

    asked: list[Any]

    @stream
    async def receipts(self, start: Start) -> AsyncIterator[Page]:
        self.asked.append(start.cursor)
        done = ReceiptRecord(external_id="r1", state="delivered", vendor_id="v1", occurred_at=NOON)
        yield Page([done], cursor={"after": "r1"})

    def verify(self, call: Call) -> Verified | Reply:
        return Verified(call.query) if call.path_secret == "s3cret" else Reply(401)

    def records(self, call: Call) -> Iterable[Record | Ref | Refused]:
        said = json.loads(call.body)
        sender = Address(kind="phone", value=said["from"])
        yield InboundRecord(
            external_id=said["id"], channel="sms", sender=sender, text=said["text"], received_at=call.received_at
        )
        if said["text"] == "STOP":
            yield ConsentRecord(
                external_id=said["id"],
                address=sender,
                channel="sms",
                state="withdrawn",
                wording=said["text"],
                said_at=call.received_at,
            )


class Stage:
    """What comes in, on a play, without a file of configuration."""

    migrations: dict[str, Path] = {}

    def __init__(self, play: Play) -> None:
        self.play = play
        self.orders: dict[str, OrderRecord] = {}
        self.asked: list[Any] = []
        self.error: Exception | None = None
        self.config = SimpleNamespace(
            key=SecretStr("0123456789abcdef"),
            crm=SimpleNamespace(locale="en", timezone="UTC", instance=None),
            folder=Path(),
            path=Path("crmkit.toml"),
            policy=PolicySection(),
            web=SimpleNamespace(keep_bodies=30 * DAY),
            database="",
        )
        account = Account("tea", "UTC", None, "US", Path(), "https://crm.example/webhooks/tea")
        shop = ShopEntry("tea", "shop", Vendor, Vendor.Settings(), account, "Tea", "en", LONG_AGO)
        self.shops = {"tea": shop}
        self.channels = {"sms": [Entry("phone", "sms", Phone, GatewaySettings())]}
        self.inward = Inward(self, play.store)  # type: ignore[arg-type]

    def setup(self, known: Any) -> Any:
        for number, announce_from in known.values():
            self.play.shop(number, announce_from=announce_from)
        return self.play.setup

    def source(self, entry: ShopEntry) -> Source:
        made = Vendor(entry.settings, entry.account, client())
        made.orders_there, made.asked, made.error = self.orders, self.asked, self.error
        return made

    def gateway(self, entry: Entry) -> Gateway:
        made = Phone(entry.settings, Account(entry.name, "UTC", None, None, Path()), client())
        made.asked = self.asked
        return made

    def has(self, number: str, changed: datetime, **fields: Any) -> None:
        self.orders[number] = order(number, at=fields.pop("at", changed), **{"updated_at": changed, **fields})

    def sync(self, *names: str, now: datetime = NOON, **more: Any) -> Any:
        self.asked.clear()
        return asyncio.run(self.inward.sync(names or ["tea"], now=now, **more))

    def accept(self, body: Any, now: datetime = NOON, account: str = "tea", **more: Any) -> Reply:
        raw = json.dumps(body).encode()
        headers = {"X-Signature": Vendor.verifies.written(more.pop("secret", "old"), raw), **more.pop("headers", {})}
        return asyncio.run(self.inward.accept(account, headers, raw, now=now, **more))

    def numbers(self) -> list[str]:
        return sorted(row["external_id"] for row in self.play.rows(t.orders))

    def cursor(self, name: str = "orders") -> Any:
        with self.play.store.read() as tx:
            row = accounts.find(tx, "tea")
            return None if row is None else accounts.cursor(tx, row["id"], name)


@pytest.fixture
def stage(play: Play) -> Stage:
    return Stage(play)


# --- spans of time ----------------------------------------------------------------------------------------------------


def test_the_first_read_goes_back_as_far_as_the_stream_says_in_spans_the_vendor_answers(stage: Stage) -> None:
    # SEMANTICS 31
    stage.sync()
    spans = stage.asked
    assert spans[0][0] == NOON - 20 * DAY
    assert spans[-1][1] == NOON - MINUTE
    assert all(end - start <= 7 * DAY for start, end in spans)
    assert [end for _, end in spans[:-1]] == [start for start, _ in spans[1:]]
    assert stage.cursor() == {"until": (NOON - MINUTE).isoformat()}


def test_the_next_read_begins_an_overlap_before_the_last_one_ended(stage: Stage) -> None:
    # SEMANTICS 31
    stage.sync()
    stage.sync(now=NOON + HOUR)
    assert stage.asked == [(NOON - 6 * MINUTE, NOON + HOUR - MINUTE)]


def test_what_the_vendor_lists_late_is_met_within_lag_and_overlap(stage: Stage) -> None:
    stage.sync()
    stage.has("1", NOON - 3 * MINUTE)  # changed before the span ended, listed after it was read
    stage.sync(now=NOON + HOUR)
    assert stage.numbers() == ["1"]


def test_the_watermark_stays_where_a_span_breaks_off(stage: Stage) -> None:
    stage.has("1", NOON - 19 * DAY)
    stage.error = RetryableError("busy")
    (run,) = stage.sync()
    assert {str(error) for error in run.errors} == {"busy"}
    assert stage.cursor() is None
    assert stage.numbers() == ["1"]  # what was read is in
    stage.error = None
    stage.sync()
    assert stage.asked[0][0] == NOON - 20 * DAY


def test_reading_since_then_moves_no_watermark(stage: Stage) -> None:
    stage.sync()
    before = stage.cursor()
    stage.sync(now=NOON + HOUR, since=NOON - 2 * DAY)
    assert stage.asked == [(NOON - 2 * DAY, NOON + HOUR - MINUTE)]
    assert stage.cursor() == before


moments = st.integers(0, 500).map(lambda minutes: NOON + timedelta(minutes=minutes))


@given(st.lists(moments, min_size=1, max_size=8).map(sorted), st.integers(1, 90), st.integers(0, 30), st.integers(0, 9))
def test_spans_leave_no_gap_whenever_they_are_read(runs: list[datetime], longest: int, overlap: int, lag: int) -> None:
    # SEMANTICS 31
    spans = Window(timedelta(minutes=longest), timedelta(minutes=lag), timedelta(minutes=overlap), HOUR)
    until, covered = None, runs[0] - HOUR
    for now in runs:
        for start, end in spans.spans(until, now):
            assert start <= covered
            assert start < end <= now - timedelta(minutes=lag)
            covered = until = max(covered, end)


# --- open orders, read again ------------------------------------------------------------------------------------------


def test_open_orders_are_read_again_where_changed_since_misses_changes(stage: Stage) -> None:
    # SEMANTICS 31
    stage.has("1", NOON - DAY)
    stage.has("2", NOON - DAY, completed_at=NOON - HOUR)
    stage.has("3", NOON - DAY)
    stage.sync()
    stage.has("1", NOON - DAY, shipped_at=NOON)  # the vendor does not move the time of its last change
    stage.sync(now=NOON + HOUR)
    assert stage.asked[-1] == ["1", "3"]
    assert stage.play.one(t.orders, external_id="1")["shipped_at"] == NOON


def test_the_round_of_open_orders_goes_on_where_it_stopped(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crmkit.flow.sync.REREAD", 2)
    for number in "12345":
        stage.has(number, NOON - DAY)
    stage.sync()
    seen = [stage.asked[-1]]
    for hours in range(1, 5):
        stage.sync(now=NOON + hours * HOUR)
        seen.append(stage.asked[-1])
    assert seen[:4] == [["1", "2"], ["3", "4"], ["5"], ["1", "2"]]


def test_orders_from_long_ago_are_left_alone(stage: Stage) -> None:
    stage.has("1", NOON - 2 * MINUTE, at=NOON - 40 * DAY)
    stage.sync()
    assert [asked for asked in stage.asked if isinstance(asked, list)] == []


# --- webhooks ---------------------------------------------------------------------------------------------------------


def test_a_webhook_is_kept_at_the_door_and_read_by_the_next_sync(stage: Stage) -> None:
    # SEMANTICS 30
    assert stage.accept({"id": "7"}) == Reply(200, b"success")
    assert stage.play.count(t.orders) == 0
    (run,) = stage.sync(now=NOON + MINUTE)
    assert (run.webhooks, run.errors, stage.numbers()) == (1, [], ["7"])
    assert stage.play.one(t.inbox)["state"] == "done"


@pytest.mark.parametrize("secret", ["wrong", "", "newer"])
def test_of_an_unverified_call_nothing_is_kept(stage: Stage, secret: str) -> None:
    # SEMANTICS 30
    assert stage.accept({"id": "7"}, secret=secret).status == 401
    assert stage.play.count(t.inbox) == 0


def test_the_old_secret_holds_while_the_vendor_changes_over(stage: Stage) -> None:
    assert [stage.accept({"id": one}, secret=one).status for one in ("old", "new")] == [200, 200]


def test_nobody_is_told_of_accounts_that_are_not_there(stage: Stage) -> None:
    assert stage.accept({"id": "7"}, account="coffee").status == 404


def test_a_call_that_comes_twice_is_answered_twice_and_kept_once(stage: Stage) -> None:
    # SEMANTICS 30
    for _ in range(3):
        assert stage.accept({"id": "7"}).status == 200
    assert stage.play.count(t.inbox) == 1


def test_a_hint_is_read_again_by_id(stage: Stage) -> None:
    # SEMANTICS 31
    stage.has("9", NOON - 100 * DAY)
    stage.accept({"id": "9"}, headers={"X-Topic": "hint", "X-Other": "not kept"})
    assert stage.play.one(t.inbox)["headers"] == {"x-topic": "hint"}
    stage.sync()
    assert ["9"] in stage.asked
    assert (stage.numbers(), stage.play.count(t.hint)) == (["9"], 0)


def test_a_hint_that_cannot_be_read_now_stays(stage: Stage) -> None:
    stage.accept({"id": "9", "topic": "hint"})
    stage.error = RetryableError("busy")
    stage.sync()
    assert stage.play.count(t.hint) == 1


def _lists_changes(monkeypatch: pytest.MonkeyPatch, *hints: Any) -> None:
    """The vendor has a list of changes that names them by id alone."""

    @stream
    async def changes(self: Vendor, start: Start) -> AsyncIterator[Page]:
        done = (start.cursor or {}).get("done", 0)
        if done < len(hints):
            yield Page(hints=hints[done:], cursor={"done": len(hints)})

    monkeypatch.setattr(Vendor, "changes", changes, raising=False)


def test_what_a_page_hints_at_is_kept_with_its_cursor_and_read_by_id(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SEMANTICS 31
    _lists_changes(monkeypatch, Reread("order", "9"), Reread("order", "9"), Reread("order", "gone"))
    stage.has("9", NOON - 100 * DAY)
    stage.error = RetryableError("busy")
    stage.sync()
    assert (stage.numbers(), stage.cursor("changes")) == ([], {"done": 3})
    assert {(row["external_id"], row["tries"]) for row in stage.play.rows(t.hint)} == {("9", 1), ("gone", 1)}
    stage.error = None
    stage.sync(now=NOON + MINUTE)
    assert ["9", "gone"] in stage.asked or ["gone", "9"] in stage.asked
    assert (stage.numbers(), stage.play.count(t.hint)) == (["9"], 0)


def test_a_planned_sync_counts_what_a_page_hints_at_and_keeps_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lists_changes(monkeypatch, Reread("order", "9"))
    stage.has("9", NOON - 100 * DAY)
    (run,) = asyncio.run(stage.inward.plan_sync(["tea"], now=NOON))
    assert (run.errors, run.tally.records["order"]["created"]) == ([], 1)
    assert (stage.numbers(), stage.play.count(t.hint), stage.cursor("changes")) == ([], 0, None)


@pytest.mark.parametrize("hint", [order("9"), Ref("order", 9), ("order", "9")])  # type: ignore[arg-type]
def test_a_page_that_hints_at_what_is_no_id_is_its_authors_to_mend(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, hint: Any
) -> None:
    _lists_changes(monkeypatch, hint)
    (run,) = stage.sync()
    assert "which is no page of records" in str(run.errors[0])
    assert stage.cursor("changes") is None


@pytest.mark.parametrize("body", [{"id": "8", "half": True}, ["no mapping"], "text"])
def test_a_body_that_cannot_be_read_is_kept_with_the_reason_and_nothing_of_it_counts(stage: Stage, body: Any) -> None:
    stage.accept(body)
    stage.accept({"id": "7"})
    (run,) = stage.sync()
    assert stage.numbers() == ["7"]
    failed = stage.play.one(t.inbox, state="failed")
    assert failed["error"]
    assert f"webhook {failed['id']} cannot be read" in str(run.errors[0])


def test_a_record_that_is_refused_goes_to_quarantine_the_rest_lands(stage: Stage) -> None:
    stage.accept({"id": "8", "bad": True})
    stage.accept({"id": "7"})
    stage.sync()
    assert (stage.numbers(), stage.play.one(t.quarantine)["ref"]) == (["7"], "8")


def test_a_body_is_read_again_by_a_newer_parser(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    # SEMANTICS 30
    stage.accept({"id": "8", "half": True})
    stage.sync()
    monkeypatch.setattr(Vendor, "records", lambda self, call: [order(json.loads(call.body)["id"])])
    stage.play.write(lambda tx: inbox.again(tx, [stage.play.one(t.inbox)["id"]]))
    stage.sync()
    assert stage.numbers() == ["8"]
    assert stage.play.one(t.inbox)["tries"] == 2


def test_webhook_and_poll_in_any_order_and_number_leave_the_same(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    # SEMANTICS 9
    stage = Stage(play)
    play.plugin("p", on(OrderPlaced)(lambda event, crm: [Note("seen")]))
    stage.has("7", NOON - HOUR)
    stage.sync()
    polled = _shop_facts(play)
    monkeypatch.setattr(Vendor, "records", lambda self, call: [stage.orders["7"]])
    stage.accept({"id": "7"})
    stage.sync()
    stage.accept({"id": "7", "again": 1})
    stage.sync(now=NOON + MINUTE)
    assert _shop_facts(play) == polled


def _shop_facts(play: Play) -> dict[str, Any]:
    with play.store.read() as tx:
        found = everything(tx)
    return {name: rows for name, rows in found.items() if name not in {"run", "inbox", "cursor", "account"}}


# --- gateways ---------------------------------------------------------------------------------------------------------


def _texted(stage: Stage) -> None:
    """A customer with a phone, whom the shop wrote to."""
    stage.has("1", NOON - HOUR, who=buyer(phone="+12025550123"))
    stage.sync()
    profile = stage.play.one(t.orders)["profile_id"]
    row = {
        "key": "k",
        "plugin": "p",
        "profile_id": profile,
        "shop_id": stage.play.one(t.orders)["shop_id"],
        "template": "news",
        "purpose": "transactional",
        "channel": "sms",
        "gateways": ["phone"],
        "gateway": "phone",
        "address_kind": "phone",
        "address": "+12025550123",
        "decided_at": NOON,
        "not_before": NOON,
        "state": "sent",
        "vendor_id": "v1",
    }
    stage.play.write(lambda tx: outbox.add(tx, [row]))


def test_receipts_are_pulled_like_records(stage: Stage) -> None:
    # SEMANTICS 32
    _texted(stage)
    (run,) = stage.sync("phone")
    assert run.errors == []
    assert stage.play.one(t.message)["state"] == "delivered"
    stage.sync("phone")
    assert stage.asked == [{"after": "r1"}]


def test_a_reply_belongs_to_the_shop_that_wrote_last(stage: Stage) -> None:
    _texted(stage)
    heard: list[Any] = []
    stage.play.plugin("p", on(MessageReceived)(lambda event, crm: heard.append(event) or []))
    said = {"id": "m1", "from": "+1 202 555 0123", "text": "Where is it?"}
    stage.accept(said, account="phone", path_secret="s3cret", query="1")
    (run,) = asyncio.run(stage.inward.take_in(now=NOON))
    assert run.errors == []
    stage.play.decide()
    (event,) = heard
    bought = stage.play.one(t.orders)
    assert (event.text, event.sender) == ("Where is it?", "+12025550123")
    assert (event.shop.id, event.customer.profile_id) == (bought["shop_id"], bought["profile_id"])


def test_stop_in_reply_is_consent_withdrawn_for_the_number_and_for_the_customer(stage: Stage) -> None:
    # SEMANTICS 38
    _texted(stage)
    heard: list[Any] = []
    stage.play.plugin("p", on(ConsentChanged)(lambda event, crm: heard.append(event.state) or []))
    said = {"id": "m1", "from": "+12025550123", "text": "STOP"}
    stage.accept(said, account="phone", path_secret="s3cret", query="1")
    (run,) = asyncio.run(stage.inward.take_in(now=NOON))
    assert run.errors == []
    stage.play.decide()
    entries = stage.play.rows(t.consent)
    whose = {(row["address"], row["profile_id"] is not None) for row in entries}
    assert whose == {("+12025550123", False), (None, True)}
    assert {(row["channel"], row["state"], row["wording"]) for row in entries} == {("sms", "withdrawn", "STOP")}
    assert heard == ["withdrawn"]


# --- memory -----------------------------------------------------------------------------------------------------------


def _remember(stage: Stage, **values: Any) -> None:
    async def run() -> None:
        async with stage.inward.accounts.open(stage.shops["tea"], stage.play.store.run, NOON) as (adapter, _):
            await adapter.memory.keep(**values)

    asyncio.run(run())


def test_an_account_has_an_origin_that_stays_and_is_no_other_accounts(stage: Stage) -> None:
    def origins() -> list[str]:
        held = Accounts(stage, stage.play.store)  # type: ignore[arg-type]
        found = []
        for entry in held.named().values():
            made = held.made(entry)
            asyncio.run(held.recall(made, entry, None, stage.play.store.run))
            asyncio.run(made.http.aclose())
            found.append(made.origin)
        return found

    tea, phone = origins()
    assert origins() == [tea, phone]
    assert tea != phone
    assert len(tea) == len(phone) == 16


def _recall(stage: Stage) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        async with stage.inward.accounts.open(stage.shops["tea"], stage.play.store.run, NOON) as (adapter, _):
            return dict(adapter.memory)

    return asyncio.run(run())


def test_what_an_adapter_remembers_is_there_in_the_next_run_and_unreadable_in_the_database(stage: Stage) -> None:
    # SEMANTICS 32
    _remember(stage, token="very secret", scopes=["orders"])
    _remember(stage, token="rotated", scopes=None)
    assert _recall(stage) == {"token": "rotated"}
    row = stage.play.one(t.memory)
    assert "rotated" not in row["value"]


def test_a_door_that_stands_open_learns_what_its_adapter_remembers_since(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SEMANTICS 32
    def verify(self: Vendor, call: Call) -> Verified | Reply:
        return Verified("1") if self.memory.get("token") == "new" else Reply(401)

    monkeypatch.setattr(Vendor, "verify", verify)
    assert stage.accept({"id": "7"}).status == 401
    _remember(stage, token="new")
    assert stage.accept({"id": "7"}).status == 401
    asyncio.run(stage.inward.doors.remind())
    assert stage.accept({"id": "7"}).status == 200


def test_without_the_key_it_is_said_what_to_do(stage: Stage) -> None:
    _remember(stage, token="x")
    stage.config.key = None
    with pytest.raises(ConfigError, match="there is no key to lock what it remembers"):
        _recall(stage)
    stage.config.key = SecretStr("another key, long enough")
    with pytest.raises(ConfigError, match="locked with another key"):
        _recall(stage)


def test_connecting_fills_the_memory(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    # SEMANTICS 32
    async def connect(self: Vendor, ask: Any) -> None:
        await self.memory.keep(token=await ask("code", secret=True))

    async def ask(question: str, *, secret: bool = False) -> str:
        return f"{question} {secret}"

    with pytest.raises(ConfigError, match="tea needs no connecting"):
        asyncio.run(stage.inward.connect("tea", ask, now=NOON))
    monkeypatch.setattr(Vendor, "connect", connect)
    asyncio.run(stage.inward.connect("tea", ask, now=NOON))
    assert _recall(stage) == {"token": "code True"}


def test_a_gateway_may_share_the_memory_of_the_shop_it_writes_for(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SEMANTICS 32
    shared = Entry("phone", "sms", Phone, GatewaySettings(), connection="tea")
    stage.channels["sms"] = [shared]

    async def memory(entry: Any, **news: Any) -> dict[str, Any]:
        async with stage.inward.accounts.open(entry, stage.play.store.run, NOON) as (adapter, _):
            await adapter.memory.keep(**news)
            return dict(adapter.memory)

    assert asyncio.run(memory(shared, session="by the gateway")) == {"session": "by the gateway"}  # the shop is new
    assert asyncio.run(memory(stage.shops["tea"], refresh="by the shop")) == {
        "session": "by the gateway",
        "refresh": "by the shop",
    }
    assert asyncio.run(memory(shared, session=None)) == _recall(stage) == {"refresh": "by the shop"}
    with stage.play.store.read() as tx:
        tea = accounts.find(tx, "tea")
        assert tea is not None and {row["account_id"] for row in stage.play.rows(t.memory)} == {tea["id"]}
        phone = stage.gateway(shared)
        stage.inward.accounts.reminded(phone, "phone", tx)
        assert dict(phone.memory) == {"refresh": "by the shop"}
    with pytest.raises(ConfigError, match="phone uses the connection of tea; run crmkit connect tea"):
        asyncio.run(stage.inward.connect("phone", None, now=NOON))  # type: ignore[arg-type]


# --- a planned sync ---------------------------------------------------------------------------------------------------


def test_a_planned_sync_holds_no_transaction_while_it_reads(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    # SEMANTICS 34
    original = Vendor.read

    async def read(self: Vendor, refs: Sequence[Ref]) -> AsyncIterator[Page]:
        stage.play.write(lambda tx: inbox.hint(tx, 1, [("order", "written meanwhile")], NOON))
        async for page in original(self, refs):
            yield page

    monkeypatch.setattr(Vendor, "read", read)
    stage.has("1", NOON - HOUR)
    (run,) = asyncio.run(stage.inward.plan_sync(["tea"], ids=["1", "2"], now=NOON))
    assert (run.errors, run.tally.records["order"]["created"]) == ([], 1)
    assert stage.numbers() == []
    assert stage.play.count(t.hint) == 1


def test_a_planned_sync_ends_however_much_is_hinted_at(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crmkit.flow.sync.REREAD", 2)
    stage.sync()
    for number in range(7):
        stage.has(f"{number}", NOON - HOUR)
    stage.play.write(lambda tx: inbox.hint(tx, 1, [("order", f"{number}") for number in range(7)], NOON))
    (run,) = asyncio.run(stage.inward.plan_sync(["tea"], now=NOON + MINUTE))
    assert run.errors == []
    assert stage.play.count(t.hint) == 7


def test_a_token_exchanged_while_planning_is_kept(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    # SEMANTICS 32
    async def opened(self: Vendor) -> None:
        await self.memory.keep(token=f"{self.memory.get('token', '')}x")

    monkeypatch.setattr(Vendor, "open", opened)
    asyncio.run(stage.inward.plan_sync(["tea"], now=NOON))
    stage.sync()
    monkeypatch.undo()
    assert _recall(stage) == {"token": "xx"}
    assert stage.numbers() == []


# --- what cannot be read ----------------------------------------------------------------------------------------------


def _unreadable(monkeypatch: pytest.MonkeyPatch, stage: Stage, *numbers: str, error: Exception) -> None:
    async def read(self: Vendor, refs: Sequence[Ref]) -> AsyncIterator[Page]:
        if any(ref.external_id in numbers for ref in refs):
            raise error
        yield Page([self.orders_there[ref.external_id] for ref in refs])

    monkeypatch.setattr(Vendor, "read", read)


@pytest.mark.parametrize("error", [AuthError("401"), RetryableError("500"), PayloadError("odd"), KeyError("total")])
def test_who_cannot_be_read_keeps_no_other_from_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    # SEMANTICS 7
    stage.sync()
    for number in "12345":
        stage.has(number, NOON - 100 * DAY)
    _unreadable(monkeypatch, stage, "1", "3", error=error)
    stage.play.write(lambda tx: inbox.hint(tx, 1, [("order", number) for number in "12345"], NOON))
    for minutes in range(1, 7):
        (run,) = stage.sync(now=NOON + minutes * MINUTE)
        assert stage.numbers() == ["2", "4", "5"]
        assert stage.asked  # the streams are read all the same
    assert stage.play.count(t.hint) == 0
    assert [row["ref"] for row in stage.play.rows(t.quarantine)] == ["1", "3"]
    assert run.errors == []


def test_an_outage_is_nobodys_fault(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.sync()
    _unreadable(monkeypatch, stage, *"1234567", error=RetryableError("down"))
    stage.play.write(lambda tx: inbox.hint(tx, 1, [("order", number) for number in "1234567"], NOON))
    for minutes in range(1, 9):
        stage.sync(now=NOON + minutes * MINUTE)
    assert stage.play.count(t.hint) == 7
    assert stage.play.count(t.quarantine) == 0


def test_the_round_of_open_orders_passes_who_cannot_be_read(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crmkit.flow.sync.REREAD", 2)
    for number in "12345":
        stage.has(number, NOON - DAY)
    stage.sync()
    _unreadable(monkeypatch, stage, "3", error=RetryableError("500"))
    for number in "45":
        stage.has(number, NOON - DAY, shipped_at=NOON)
    for hours in range(1, 4):
        stage.sync(now=NOON + hours * HOUR)
    assert [row["external_id"] for row in stage.play.rows(t.orders) if row["shipped_at"]] == ["4", "5"]


# --- clocks -----------------------------------------------------------------------------------------------------------


def test_a_watermark_does_not_follow_a_clock_that_runs_ahead(stage: Stage) -> None:
    # SEMANTICS 31
    future = datetime.now(UTC) + 365 * DAY
    stage.sync(now=future)
    until = datetime.fromisoformat(stage.cursor()["until"])
    assert until <= datetime.now(UTC)


def test_a_watermark_ahead_of_the_clock_is_not_believed(stage: Stage) -> None:
    stage.sync()
    ahead = {"until": (NOON + 30 * DAY).isoformat()}
    stood = accounts.Stood(stage.cursor())
    stage.play.write(lambda tx: accounts.move_cursor(tx, stage.play.shops[1], "orders", ahead, NOON, stood=stood))
    stage.has("1", NOON + 50 * MINUTE)
    stage.sync(now=NOON + HOUR)
    assert stage.numbers() in ([], ["1"])
    stage.sync(now=NOON + 2 * HOUR)
    stage.has("2", NOON + 150 * MINUTE)
    stage.sync(now=NOON + 3 * HOUR)
    assert "2" in stage.numbers()


def test_a_watermark_goes_by_the_vendors_clock(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    # SEMANTICS 31
    behind = 10 * MINUTE  # the vendor's clock is so much behind ours
    original = Vendor.orders

    @window(max_span="7d", end_lag="1m", overlap="5m", history="20d")
    async def orders(self: Vendor, start: datetime, end: datetime) -> AsyncIterator[Page]:
        self.answered_at = self.answered_at or clock[0] - behind
        async for page in original(self, start, end):
            yield page

    monkeypatch.setattr(Vendor, "orders", orders)
    clock = [NOON]
    stage.sync(now=NOON)
    for number, minutes in enumerate(range(0, 60, 3)):
        stage.has(f"{number}", NOON + minutes * MINUTE - behind + timedelta(seconds=30))
        clock[0] = NOON + (minutes + 2) * MINUTE
        stage.sync(now=clock[0])
    clock[0] = NOON + HOUR
    stage.sync(now=clock[0])
    assert len(stage.numbers()) == 20


# --- one shop, one account --------------------------------------------------------------------------------------------


def test_a_section_that_reads_another_shop_is_refused_until_it_is_said_to_have_moved(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SEMANTICS 8
    account = ["old.example"]

    async def vendor_account(self: Vendor) -> str:
        return account[0]

    monkeypatch.setattr(Vendor, "vendor_account", vendor_account)
    stage.has("1", NOON - HOUR)
    stage.sync()
    account[0] = "new.example"
    stage.has("2", NOON - MINUTE)
    (run,) = stage.sync(now=NOON + HOUR)
    assert "reads new.example now, and read old.example before" in str(run.errors[0])
    assert stage.numbers() == ["1"]
    stage.play.write(lambda tx: accounts.moved(tx, "tea"))
    (run,) = stage.sync(now=NOON + HOUR)
    assert (run.errors, stage.numbers()) == ([], ["1", "2"])


def test_consent_is_entered_in_as_many_statements_for_many_as_for_few(play: Play) -> None:
    def statements(count: int, first: int) -> int:
        told: list[str] = []
        listener = lambda *args: told.append(args[2])  # noqa: E731
        sa.event.listen(play.store.engine, "before_cursor_execute", listener)
        records = [
            ConsentRecord(
                external_id=f"c{number}",
                address=Address(kind="email", value=f"a{number}@example.com"),
                state="withdrawn",
                said_at=NOON,
            )
            for number in range(first, first + count)
        ]
        play.take(*records)
        sa.event.remove(play.store.engine, "before_cursor_execute", listener)
        return len(told)

    assert statements(10, 0) == statements(100, 10)


def test_only_what_gave_something_counts_as_news_of_a_shop(stage: Stage) -> None:
    stage.has("1", NOON - HOUR, at=NOON - HOUR)
    stage.sync()
    for hours in (1, 2, 3):
        stage.sync(now=NOON + hours * HOUR)
    with stage.play.store.read() as tx:
        assert report.last_moved(tx) == {1: NOON}
