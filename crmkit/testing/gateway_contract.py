"""What every gateway is held to. A test file inherits it in ten lines:

```python
class TestAcme(GatewayContract):
    adapter = AcmeGateway
    settings = {"api_key": "k-0123456789"}
    fixtures = Path(__file__).parent / "acme"
```

Of its fixtures `accepted` is a message that the vendor takes; it is the one that faults, double sends and receipts are
tried with. `unknown-code` is a refusal for a reason nobody knows (`"code"` beside it says how it is written), and
`unknown-status` a webhook with a status nobody knows; who has no codes or no statuses says so in `lacks`. Of one that
deduplicates `repeated` is the same message sent again.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import httpx
import pytest
from pydantic import TypeAdapter

from crmkit.adapters.gateway import Gateway
from crmkit.core.errors import (
    AdapterError,
    AuthError,
    DoubtError,
    PayloadError,
    RefusedError,
    RetryableError,
    UnsupportedError,
)
from crmkit.core.message import Message, Reason, Receipt
from crmkit.core.records import ReceiptRecord
from crmkit.store.engine import Store
from crmkit.testing.contract import NOW, runs, written_all
from crmkit.testing.crowd import Crowd, numbered, one_of
from crmkit.testing.database import Migrate, MigratedTemplates
from crmkit.testing.echo import xml_texts
from crmkit.testing.errand import Errand
from crmkit.testing.exchange import Answer, Exchange, Fixture, Sent
from crmkit.testing.fault import FAULTS, Fault, Verdict
from crmkit.testing.memory_contract import MemoryContract
from crmkit.testing.playback import Playback, PlaybackVendor
from crmkit.testing.reading import facing, reading_streams
from crmkit.testing.secrecy import secrets_in, texts_in, told
from crmkit.testing.template_contract import TemplateContract
from crmkit.testing.webhook_contract import WebhookContract

#: Whom a standard message is to, by the kind of address; numbers that are nobody's.
ADDRESSES = {
    "phone": "+8613800138000",
    "email": "ann.li@buyers.example",
    "relay_email": "r7f3a9c21@relay.example",
    "virtual_phone": "+8613900139000",
    "order_token": "ot-7f3a9c21d4e8",
}
#: What buyers are called, and texts are written in.
TEXTS = {
    "right-to-left": "مرحبا ليلى، طلبك رقم 1017 في الطريق إليك",
    "both-ways": "Dear \u2068ليلى\u2069, \u200fשלום\u200f, your order left.",
    "chinese": "李雷，您的订单 1017 已发货。",
    "emoji": "Your order 👩‍👩‍👧‍👦 has left 🇨🇳 🚚 – zażółć gęślą jaźń, e\u0301",
    "markup": "Ann & Bob <b>\"left\"</b> 'soon' 100% {{ name }} ${a} \\n \\u0041 +1=2&to=x;#?/",
    "lines": "First line\nsecond line\n\nlast",
    "blanks": " Left. ",
}
#: So many messages are handed over at once.
CROWD = 3
_VERDICTS: Mapping[Verdict, tuple[type[AdapterError], ...]] = {
    Verdict.NOTHING_LEFT: (RetryableError,),
    Verdict.NOT_NOW: (RetryableError,),
    Verdict.NO: (RefusedError, UnsupportedError),
    Verdict.STRANGER: (AuthError,),
    Verdict.DOUBT: (DoubtError,),
}
#: Answers of 200 that cannot be read; `PayloadError` says of a sending call what `DoubtError` does: it left.
_UNREADABLE = frozenset({"empty", "garbage", "other", "page"})
_OUTCOMES = {Verdict.TAKEN: "accepted", Verdict.NO: "rejected", Verdict.NOT_NOW: "deferred"}


class GatewayContract(WebhookContract, TemplateContract, MemoryContract):
    """A gateway keeps what it declares.

    Class attributes:
        message: changes to the standard message, for all fixtures.
        faults: {fault: error class's name or receipt's outcome}: where this vendor means something else by it than
            `crmkit.testing.fault` says, as its documentation has it.
    """

    adapter: ClassVar[type[Gateway]]
    message: ClassVar[Mapping[str, Any]] = {}
    faults: ClassVar[Mapping[str, str]] = {}

    vendor: PlaybackVendor

    # --- what a test file may say otherwise -------------------------------------------------------------------------

    @asynccontextmanager
    async def facing(self, fault: Fault | None) -> AsyncIterator[Any]:
        """The gateway, not opened yet, and a vendor on this machine that fails so; None: that takes what it is sent.

        A gateway that speaks no HTTP says here how its vendor fails, and skips what cannot happen to it.
        """
        async with facing(self, self.accepted(), fault) as gateway:
            yield gateway

    @asynccontextmanager
    async def taking(self) -> AsyncIterator[tuple[Any, list[Sent]]]:
        """The gateway, open, at a vendor that takes everything; and what it was sent, as it goes on."""
        sent: list[Sent] = []
        playback = Playback(self.accepted().exchanges, again=True, any_of=self.volatile)
        async with self.opened(playback, sample=self.accepted()) as gateway:
            yield gateway, sent
            sent.extend(Sent.of(request, request.headers, whole=True) for request in playback.requests)

    def says(self, sent: Sent, text: str) -> bool:
        """Whether a request holds a text as it is, somewhere."""
        return any(text in found for found in _leaves(sent))

    def accepted(self) -> Fixture:
        """The fixture of a message that is taken."""
        found = [one for one in self.samples("message", "messages") if one.name == "accepted"]
        if not found:
            pytest.fail(f"{self.adapter.name}: no fixture `accepted` of a message its vendor takes")
        return found[0]

    # --- messages ---------------------------------------------------------------------------------------------------

    def to(self, changes: Mapping[str, Any] | None = None, number: int = 1) -> Message:
        """The standard message with the contract's changes and these.

        Args:
            changes: fields of `Message`; `form` as a table.
            number: of several, which.
        """
        kind = {**self.message, **(changes or {})}.get("address_kind", self.adapter.reaches[0])
        values: dict[str, Any] = {
            "id": number,
            "key": f"{30 + number}:care:order-shipped:17",
            "channel": self.adapter.channel,
            "address_kind": kind,
            "address": ADDRESSES.get(kind, f"{kind}-7f3a9c21"),
            "purpose": "transactional",
            "template": "order-shipped",
            "locale": "en",
            "text": "Dear Ann Li, your order 1017 has left us.",
            "subject": "Your order 1017 has left",
            "params": {"customer": {"name": "Ann Li"}, "order": {"number": "1017"}},
            "shop": "flagship",
            "order": "17",
            "decided_at": NOW,
            "leaves_at": NOW,
        }
        every = {**values, **self.message, **(changes or {})}
        return TypeAdapter(Message).validate_python({k: v for k, v in every.items() if k in _FIELDS})

    def messages_of(self, sample: Fixture) -> list[Message]:
        """The messages of a fixture."""
        told_of = sample.document[sample.given]
        several = told_of if isinstance(told_of, list) else [told_of]
        return [self.to(changes, number) for number, changes in enumerate(several, 1)]

    async def hand(self, gateway: Any, messages: Sequence[Message]) -> list[Receipt]:
        """Give messages to the gateway as crmkit does."""
        if gateway.batch > 1:
            return [receipt async for receipt in gateway.deliver_many(messages)]
        return [await gateway.deliver(message) for message in messages]

    async def given(self, adapter: Any, sample: Fixture) -> dict[str, Any]:
        """What came of a fixture."""
        if sample.given == "stream":
            return await reading_streams(adapter, sample)
        if sample.given not in {"message", "messages", "look_up", "cancel"}:
            return await super().given(adapter, sample)
        messages = self.messages_of(sample)
        if sample.given == "look_up":
            found = await adapter.look_up(messages[0])
            return {"receipt": None if found is None else written_receipt(found)}
        if sample.given == "cancel":
            return {"cancelled": await adapter.cancel(messages[0])}
        if sample.given == "message":
            [receipt] = await self.hand(adapter, messages)
            return {"receipt": written_receipt(receipt)}
        found_by: dict[int, dict[str, Any]] = {}
        failed: dict[str, Any] = {}
        try:
            async for receipt in adapter.deliver_many(messages):
                number = receipt.message.id
                assert number not in found_by, f"{sample.path}: message {number} has two receipts"
                assert any(one.id == number for one in messages), (
                    f"{sample.path}: a receipt of another batch"
                )
                found_by[number] = written_receipt(receipt)
        except AdapterError as error:
            self.error = error
            failed = {"error": type(error).__name__}
        return {"receipts": [found_by.get(one.id) for one in messages], **failed}

    def personal(self, sample: Fixture, came: Mapping[str, Any]) -> list[str]:
        """The recipient, what they are told, and what that was made of."""
        found = super().personal(sample, came)
        if sample.given in {"message", "messages", "look_up", "cancel"}:
            for one in self.messages_of(sample):
                found += personal_of(one)
        return found

    # --- what is declared -------------------------------------------------------------------------------------------

    def test_what_it_reaches_is_shown(self) -> None:
        """A message to each kind of address it declares is taken."""
        shown = set()
        for sample in self.samples("message", "messages"):
            receipts = [sample.document.get("receipt"), *sample.document.get("receipts", ())]
            for one, receipt in zip(self.messages_of(sample), [r for r in receipts if r is not None], strict=False):
                if receipt["outcome"] == "accepted":
                    shown.add(one.address_kind)
        missing = set(self.adapter.reaches) - shown
        assert not missing, f"{self.adapter.name} reaches {sorted(missing)}, and no fixture shows one taken"
        assert shown <= set(self.adapter.reaches), f"{sorted(shown)} are taken, and `reaches` does not say so"

    def test_what_it_can_do_is_shown(self) -> None:
        """Looking up, taking back, batches and streams, where it has them."""
        kind, name = self.adapter, self.adapter.name
        if kind.look_up is not Gateway.look_up:
            found = [sample.document.get("receipt", "nothing") for sample in self.samples("look_up")]
            missing = f"{name}: no fixture shows that it looks up a message its vendor does not have"
            assert None in found or "not-there" in self.lacks, missing  # a log that may be silent never says so
            assert any(isinstance(one, dict) for one in found), f"{name}: no fixture shows that it finds one"
        if kind.cancel is not Gateway.cancel:
            assert self.samples("cancel"), f"{name} takes messages back, and no fixture shows it"
        for stream in kind.streams():
            shown = [sample for sample in self.samples("stream") if sample.document["stream"] == stream]
            assert shown, f"{name}: no fixture shows what its stream {stream} reads"
        if kind.batch > 1:
            several = [one for one in self.samples("messages") if len(one.document["messages"]) > 1]
            assert several, f"{name} takes batches, and no fixture shows one of several messages"
            mixed = [one for one in several if len({(r or {}).get("outcome") for r in one.document["receipts"]}) > 1]
            assert mixed or "partial" in self.lacks, f"{name}: no fixture shows a batch of which a part is refused"
            for sample in several:
                keys = {runs_sync(self, one) for one in self.messages_of(sample)}
                assert len(keys) == 1, f"{sample.path}: its messages have several batch keys, and never go together"
                assert len(sample.document["messages"]) <= kind.batch, f"{sample.path}: more than fit in a batch"
        if self.make(sample=self.accepted()).deduplicates:
            self._repeat_is_shown()
        if kind.needs_form:
            assert self.to(self.accepted().document.get("message", {})).form, f"{name}: `accepted` has no form"

    def _repeat_is_shown(self) -> None:
        """What a vendor that deduplicates answers to a key it has seen: taken, under the number it had."""
        name = self.adapter.name
        found = next((one for one in self.samples("message", "messages") if one.name == "repeated"), None)
        assert found is not None, f"{name} says that it deduplicates, and no fixture `repeated` shows a key sent again"
        first = _receipts_of(self.accepted().document)[0]
        again = _receipts_of(found.document)[0]
        same = [(one["outcome"], one.get("vendor_id"), one.get("batch_id")) for one in (first, again)]
        assert same[0] == same[1], f"{found.path}: a key sent again is {again}, and was {first}"

    def test_a_batch_gives_one_receipt_for_each_message(self) -> None:
        if self.adapter.batch < 2:
            pytest.skip(f"{self.adapter.name} takes no batches")
        for sample in self.samples("messages"):
            count = len(sample.document["messages"])
            came, _ = self.play(sample)
            got = [one for one in came["receipts"] if one is not None]
            assert len(got) == count or "error" in came, f"{sample.path}: {len(got)} receipts for {count} messages"

    # --- the wire ---------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
    def test_a_fault_comes_to_what_is_true(self, fault: Fault) -> None:
        """Over a real socket: taken, refused, not now, credentials refused, nothing left, or in doubt.

        In doubt, it was sent once: who tries again by himself sends twice, unless his vendor tells repeats by key.
        """
        self.needs("faults", True, "")

        async def run() -> tuple[Receipt | None, AdapterError | None, int]:
            async with self.facing(fault) as gateway:
                try:
                    await gateway.open()
                    found = await self.hand(gateway, [self.to(self.accepted_changes())])
                    return found[0], None, self.sendings()
                except AdapterError as error:
                    return None, error, self.sendings()

        receipt, error, sendings = runs(run)
        came = receipt.outcome if receipt is not None else type(error).__name__
        right = {kind.__name__ for kind in _VERDICTS.get(fault.verdict, ())}
        right |= {_OUTCOMES[fault.verdict]} if fault.verdict in _OUTCOMES else set()
        right |= {PayloadError.__name__} if fault.name in _UNREADABLE else set()
        right = {self.faults[fault.name]} if fault.name in self.faults else right
        assert came in right, f"{fault.name} ({fault.told}): {came} instead of {' or '.join(sorted(right))}; {error}"
        if fault.verdict is Verdict.DOUBT and not self.make(sample=self.accepted()).deduplicates:
            again = (
                f"{fault.name} ({fault.told}): it is in doubt, and was sent {sendings} times; raise, and let crmkit ask"
            )
            assert sendings <= 1, again
        if error is not None:
            self.names_its_place(error)
            shown = "\n".join([str(error), repr(error), self.logged()])
            self._tells_nobody(shown, f"{fault.name}: its error or log")

    def accepted_changes(self) -> Mapping[str, Any]:
        """What `accepted` changes of the standard message."""
        document = self.accepted().document
        found: Mapping[str, Any] = document["message"] if "message" in document else document["messages"][0]
        return found

    def _tells_nobody(self, shown: str, where: str) -> None:
        made = self.make(sample=self.accepted())
        assert told(shown, secrets_in(made.settings)) == [], f"{where} tells a secret"
        assert told(shown, personal_of(self.to(self.accepted_changes()))) == [], f"{where} tells somebody's data"

    @pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 422, 429, 500])
    def test_what_a_vendor_repeats_of_a_message_is_not_told(self, status: int) -> None:
        """Vendors quote number, text and credentials in what they answer; it is neither shown nor logged nor stored."""
        if not self.accepted().exchanges:
            pytest.skip(f"{self.adapter.name} speaks no HTTP")

        def echo(request: httpx.Request) -> httpx.Response:
            said = " ".join([request.content.decode("utf-8", "replace"), str(request.url), str(request.headers.raw)])
            said += f" {message.address} {message.text}"
            names = "error message detail msg Message errmsg error_message sub_msg description more_info".split()
            told_back = {**dict.fromkeys(names, said), "code": 987654, "errors": [{"message": said, "code": 987654}]}
            return httpx.Response(status, json=told_back)

        async def run() -> str:
            playback = _EndsIn(self.accepted().exchanges, echo)
            async with self.opened(playback, sample=self.accepted()) as gateway:
                try:
                    return "\n".join(str(one.detail) for one in await self.hand(gateway, [message]))
                except AdapterError as error:
                    return f"{error}\n{error!r}"

        message = self.to(self.accepted_changes())
        self._tells_nobody("\n".join([runs(run), self.logged()]), f"answered {status}, what it says")

    @pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
    def test_what_is_written_arrives_as_it_is(self, text: str) -> None:
        """Names and texts in any script, with whatever means something on the wire."""

        async def run() -> tuple[list[Receipt], list[Sent]]:
            async with self.taking() as (gateway, sent):
                try:
                    found = await self.hand(gateway, [self._reading(text)])
                except UnsupportedError as error:
                    self.names_its_place(error)
                    found = []
            return found, sent

        receipts, sent = runs(run)
        if any(one.outcome == "accepted" for one in receipts):
            what = f"{self.adapter.name}: taken, and not a request holds {text!r}"
            assert any(self.says(one, text) for one in sent), what

    def _reading(self, text: str) -> Message:
        """A message that reads so, to somebody who is called so."""
        found = self.to(self.accepted_changes())
        form = found.form
        if form is not None:
            form = replace(form, params=dict.fromkeys(form.params, text))
        return replace(found, text=text, form=form, params={"customer": {"name": text}, "order": {"number": text}})

    @pytest.mark.parametrize("length", [0, 1_000, 70_000, 300_000])
    def test_a_text_of_any_length_is_taken_or_refused(self, length: int) -> None:
        """Never another exception: what is raised beside the adapter's errors puts a message in doubt."""

        async def run() -> None:
            async with self.taking() as (gateway, _):
                try:
                    await self.hand(gateway, [self._reading("é" * length)])
                except (UnsupportedError, PayloadError) as error:
                    self.names_its_place(error)

        runs(run)

    def test_a_key_that_is_sent_again(self) -> None:
        """Who deduplicates sends the same again, key and all, and another for another key; who does not, each anew."""

        async def run(*messages: Message) -> list[Sent]:
            async with self.taking() as (gateway, sent):
                for message in messages:
                    await self.hand(gateway, [message])
            return sent

        message = self.to(self.accepted_changes())
        other = replace(message, key=f"9{message.key}9")
        sent = runs(lambda: run(message, message, other))
        each = len(runs(lambda: run(message)))
        makes = [one for one in sent if one.method != "GET"] if each > 1 else sent
        assert len(makes) >= 3, f"{self.adapter.name}: {len(makes)} requests for three deliveries"
        first, again, another = makes[-3:]
        if self.make(sample=self.accepted()).deduplicates:
            apart = first.differences(again, any_of=self.volatile)
            assert apart == [], f"{self.adapter.name} says that it deduplicates, and sends something else: {apart}"
            apart = first.differences(another, any_of=self.volatile)
            assert apart, f"{self.adapter.name} says that it deduplicates, and its requests do not hold the key"

    def test_messages_at_the_same_time_are_not_mixed_up(self) -> None:
        """Several are handed over before one is answered: each request and each receipt is of its own message."""
        messages = [one_of(self.to(self.accepted_changes()), number) for number in range(1, CROWD + 1)]
        if not self.accepted().exchanges:
            sent = runs(lambda: self._at_once(messages))
            for one in messages:
                mine = [found for found in sent if self.says(found, one.text)]
                what = f"{self.adapter.name}: of {CROWD} messages at once one was sent {len(mine)} times"
                assert len(mine) == 1, what
                assert one.address.encode() in mine[0].body, f"{self.adapter.name}: a text went to somebody else"
            return
        alone = [runs(lambda m=one: self._alone(m)) for one in messages]  # type: ignore[misc]
        told = _receipts_of(self.accepted().document)[0]
        ids = [told[name] for name in ("vendor_id", "batch_id") if told.get(name)]
        crowd = Crowd(self.accepted().exchanges, ids, CROWD, any_of=self.volatile)

        async def run() -> list[list[Receipt]]:
            async with self.opened(crowd, sample=self.accepted()) as gateway:
                return await asyncio.gather(*(self.hand(gateway, [one]) for one in messages))

        who = f"{self.adapter.name}: of {CROWD} messages at once"
        for message, (was, request), receipts in zip(messages, alone, runs(run), strict=True):
            numbers = [number for sent, number in crowd.taken if not request.differences(sent, any_of=self.volatile)]
            assert len(numbers) == 1, (
                f"{who} the request of one was sent {len(numbers)} times; keep nothing of it on self"
            )
            assert [one.message.id for one in receipts] == [message.id], f"{who} one has the receipt of another"
            assert receipts[0].outcome == was.outcome, f"{who} one is {receipts[0].outcome}, and alone {was.outcome}"
            for name in ("vendor_id", "batch_id"):
                before, now = getattr(was, name), getattr(receipts[0], name)
                if before in ids and _is_written(before, self.accepted()):
                    right = numbered(before, numbers[0])
                    assert now == right, f"{who} one has the {name} {now!r}, and its vendor said {right!r}"

    async def _alone(self, message: Message) -> tuple[Receipt, Sent]:
        """What comes of a message by itself, and the request that sent it."""
        playback = Playback(self.accepted().exchanges, again=True, any_of=self.volatile)
        async with self.opened(playback, sample=self.accepted()) as gateway:
            [receipt] = await self.hand(gateway, [message])
        sent = [Sent.of(request, request.headers, whole=True) for request in playback.requests]
        return receipt, [one for one in sent if playback.answers_last(one)][-1]

    async def _at_once(self, messages: Sequence[Message]) -> list[Sent]:
        async with self.taking() as (gateway, sent):
            await asyncio.gather(*(self.hand(gateway, [one]) for one in messages))
        return sent

    def test_a_closed_gateway_holds_no_connection(self) -> None:

        async def run() -> int:
            async with self.facing(None) as gateway:
                await gateway.open()
                await self.hand(gateway, [self.to(self.accepted_changes())])
                await gateway.close()
                await gateway.http.aclose()
                for _ in range(100):
                    if not self.connections():
                        break
                    await asyncio.sleep(0.02)
                return self.connections()

        assert runs(run) == 0, f"{self.adapter.name}: its vendor still has connections after close()"

    def sendings(self) -> int:
        """How often the vendor of `facing` was handed the message, or the beginning of it."""
        return int(self.vendor.sendings)

    def connections(self) -> int:
        """How many connections the vendor of `facing` has open."""
        return int(self.vendor.connections)

    # --- what is not known ------------------------------------------------------------------------------------------

    def test_a_refusal_for_a_reason_nobody_knows_is_other_and_shows_its_code(self) -> None:
        found = next((one for one in self.samples("message", "messages") if one.name == "unknown-code"), None)
        why = 'no fixture `unknown-code` of a refusal nobody knows, with "code" beside it'
        self.needs("unknown-code", found is not None and "code" in found.document, why)
        assert found is not None
        came, _ = self.play(found)
        refused = [came.get("receipt"), *came.get("receipts", ())]
        rejected = [one for one in refused if one is not None and one["outcome"] == "rejected"]
        assert rejected, f"{found.path}: {came} is no refusal"
        for one in rejected:
            assert one["reason"] == Reason.OTHER, f"{found.path}: the reason is guessed: {one['reason']}"
            assert str(found.document["code"]) in one["detail"], (
                f"{found.path}: {one['detail']!r} does not show the code"
            )

    def test_a_refusal_that_is_known_has_its_reason(self) -> None:
        found = [
            receipt
            for sample in self.samples("message", "messages")
            if sample.exchanges or not self.accepted().exchanges  # the vendor's refusals, not the adapter's own
            for receipt in _receipts_of(self.play(sample)[0])
            if receipt["outcome"] == "rejected" and receipt["reason"] != Reason.OTHER
        ]
        why = "no fixture shows a refusal with a reason of ours: bad-address, blocked, content, ..."
        self.needs("reasons", bool(found), why)

    def test_a_status_nobody_knows_moves_no_message(self) -> None:
        """It is refused with the vendor's own word, or says nothing; the call itself is kept, and can be replayed."""
        if not self._receipt_samples():
            pytest.skip(f"{self.adapter.name} gets no receipts")
        found = next((one for one in self.samples("webhook", "stream") if one.name == "unknown-status"), None)
        self.needs("unknown-status", found is not None, "no fixture `unknown-status` with a status nobody knows")
        assert found is not None
        came, _ = self.play(found)
        receipts = [one for one in came.get("records", ()) if one.get("record") == "receipt"]
        assert receipts == [], f"{found.path}: an unknown status is taken for {receipts}"

    # --- looking up -------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
    def test_a_look_up_that_fails_never_says_that_it_is_not_there(self, fault: Fault) -> None:
        """None is "surely not there", and sends again: what cannot be read, or was not answered, is raised."""
        sample = self._log(is_there=True)
        if sample is None:
            pytest.skip(f"{self.adapter.name} cannot be asked what became of a message")
        if fault.verdict is Verdict.TAKEN:
            pytest.skip("it is answered")

        async def run() -> tuple[Receipt | None, AdapterError | None]:
            async with facing(self, sample, fault) as gateway:
                try:
                    await gateway.open()
                    return await gateway.look_up(self.messages_of(sample)[0]), None  # type: ignore[attr-defined]
                except AdapterError as error:
                    return None, error

        receipt, error = runs(run)
        said = "not there" if receipt is None else receipt.outcome
        assert error is not None, f"{fault.name} ({fault.told}): asked what became of a message, it says {said}"
        self.names_its_place(error)

    def test_a_look_up_that_is_refused_never_says_that_it_is_not_there(self) -> None:
        """A vendor's refusals, of a reason nobody knows too, within a 200 or not: they say nothing of a message."""
        sample = self._log(is_there=True)
        if sample is None:
            pytest.skip(f"{self.adapter.name} cannot be asked what became of a message")
        silent = [_last_answer(one) for one in self.samples("look_up") if one.document.get("receipt", 0) is None]
        for one in self.samples("message", "messages"):
            answer = _last_answer(one)
            refused = any(r["outcome"] != "accepted" for r in _receipts_of(one.document)) or "error" in one.document
            if not refused or answer is None or answer in silent:
                continue
            exchanges = [*sample.exchanges[:-1], replace(sample.exchanges[-1], response=answer)]

            async def run(exchanges: Sequence[Exchange] = exchanges) -> Receipt | None:
                async with self.opened(Playback(exchanges, again=True), sample=sample) as gateway:
                    found: Receipt | None = await gateway.look_up(self.messages_of(sample)[0])
                    return found

            self.patch.setattr("crmkit.adapters.http.READ_PAUSE", 0.0)
            try:
                said = runs(run)
            except AdapterError:
                continue
            what = f"{one.path}.http: this answer to the question what became of a message is taken for"
            assert said is not None, f"{what} 'not there', and it is sent again"
            assert said.outcome != "accepted", f"{what} {said.outcome!r}"

    def test_a_log_that_lags_is_not_believed_at_once(self) -> None:
        """Right after a try that was lost, that its log does not show the message yet says nothing.

        Who relies on `look_up_after`, or whose log has a message before it answers, says so in `lacks["log-lag"]`.
        """
        empty = self._log(is_there=False)
        if empty is None:
            pytest.skip(f"{self.adapter.name} never says that its vendor does not have a message")
        self.needs("log-lag", True, "")
        sample, message = self.accepted(), self.messages_of(empty)[0]
        lost = replace(sample.exchanges[-1], response=None)

        async def run() -> tuple[AdapterError | None, Receipt | None]:
            playback = _InTurn(sample.exchanges[:-1], lost, empty.exchanges)
            async with self.opened(playback, sample=empty) as gateway:
                try:
                    await self.hand(gateway, [message])
                except AdapterError as error:
                    assert isinstance(error, DoubtError), f"{self.adapter.name}: a lost answer is {error!r}"
                playback.is_lost = True
                try:
                    return None, await gateway.look_up(message)
                except (DoubtError, RetryableError) as error:
                    return error, None

        self.patch.setattr("crmkit.adapters.http.READ_PAUSE", 0.0)
        error, said = runs(run)
        what = f"{self.adapter.name}: right after a try that was lost, its log is believed to be complete"
        assert error is not None or said is not None, f"{what}; raise DoubtError until it surely is"

    def _log(self, *, is_there: bool) -> Fixture | None:
        """A fixture of a look-up that finds the message, or that surely does not; None where there is none."""
        for sample in self.samples("look_up"):
            if isinstance(sample.document.get("receipt"), dict) is is_there and "receipt" in sample.document:
                return sample if sample.exchanges else None
        return None

    # --- receipts ---------------------------------------------------------------------------------------------------

    def _receipt_samples(self) -> list[Fixture]:
        """Fixtures that expect receipts, by webhook or stream."""
        every = self.samples("webhook", "stream")
        return [one for one in every if any(r.get("record") == "receipt" for r in one.document.get("records", ()))]

    def _of_the_accepted(self) -> dict[str, list[ReceiptRecord]]:
        """{state: receipts about the message of `accepted`}."""
        document, message = self.accepted().document, self.to(self.accepted_changes())
        taken = document.get("receipt") or document["receipts"][0]
        found: dict[str, list[ReceiptRecord]] = {}
        for sample in self._receipt_samples():
            for one in self.play(sample)[0].get("records", ()):
                if one.get("record") != "receipt":
                    continue
                receipt = ReceiptRecord.model_validate({key: v for key, v in one.items() if key != "record"})
                by_batch = (receipt.batch_id, receipt.recipient) == (taken.get("batch_id"), message.address)
                by_id = receipt.vendor_id is not None and receipt.vendor_id == taken.get("vendor_id")
                if receipt.key == message.key or by_id or (receipt.batch_id is not None and by_batch):
                    found.setdefault(receipt.state, []).append(receipt)
        return found

    @pytest.fixture
    def errands(self, migrate: Migrate, migrated_templates: MigratedTemplates) -> Iterator[Any]:
        """Makes errands, each in a database of its own."""
        opened: list[Store] = []

        def make(gateway: Gateway) -> Errand:
            folder = self.folder / f"errand-{len(opened)}"
            folder.mkdir()
            opened.append(Store(migrated_templates.sqlite(migrate, folder / "crm.db")))
            return Errand(opened[-1], gateway, self.to(self.accepted_changes()), NOW, folder)

        yield make
        for store in opened:
            with closing(store):
                pass

    def test_receipts_come_to_the_same_however_they_come(self, errands: Any) -> None:
        """Late, before the answer, twice, the last first: the message ends where its vendor says it did."""
        if not self._receipt_samples():
            pytest.skip(f"{self.adapter.name} gets no receipts")
        states = self._of_the_accepted()
        ends = [state for state in ("delivered", "bounced", "failed") if state in states]
        why = "no receipt of an end (delivered, bounced, failed) is about the message of `accepted`; give it that id"
        assert ends, f"{self.adapter.name}: {why}"

        async def end(
            state: str, *, before: Sequence[ReceiptRecord], after: Sequence[ReceiptRecord]
        ) -> tuple[str, int]:
            playback = Playback(self.accepted().exchanges, again=True)
            async with self.opened(playback, sample=self.accepted()) as gateway:
                errand = errands(gateway)
                early = _Early(gateway, lambda: errand.hear(before))
                early.watch()
                await errand.deliver()
                if not before:
                    assert errand.row["state"] == "sent", f"{self.adapter.name}: delivered, it is {errand.row['state']}"
                for receipt in after:
                    errand.hear([receipt])
                return str(errand.row["state"]), errand.receipts

        for state in ends:
            last, sent = states[state][0], states.get("sent", [])[:1]
            ways = {
                "late": ([], [*sent, last]),
                "twice": ([], [*sent, last, last, *sent]),
                "the last first": ([], [last, *sent]),
                "before the answer": ([last], sent),
            }
            for way, (before, after) in ways.items():
                came, count = runs(lambda s=state, b=before, a=after: end(s, before=b, after=a))  # type: ignore[misc]
                assert came == state, f"{self.adapter.name}: receipts {way}: it is {came} instead of {state}"
                assert count == 1 + len(sent), (
                    f"{self.adapter.name}: receipts {way}: {count} of {1 + len(sent)} are kept"
                )

    def test_receipts_that_differ_have_ids_that_differ(self) -> None:
        """A second status with the id of the first would be taken for a repeat, and lost."""
        if not self._receipt_samples():
            pytest.skip(f"{self.adapter.name} gets no receipts")
        found: dict[str, tuple[Any, str]] = {}
        for sample in self._receipt_samples():
            came, _ = self.play(sample)
            for one in came.get("records", ()):
                if one.get("record") == "receipt":
                    record = ReceiptRecord.model_validate({key: value for key, value in one.items() if key != "record"})
                    what = (record.vendor_id or record.key, record.recipient, record.state)
                    known, where = found.setdefault(record.ref, (what, sample.name))
                    assert known == what, f"{sample.name} and {where}: two receipts with the id {record.ref}"


# --- writing and reading ----------------------------------------------------------------------------------------------

_FIELDS = {one.name for one in fields(Message)}


def written_receipt(receipt: Receipt) -> dict[str, Any]:
    """A receipt as a fixture has it: what it says, and no more."""
    found: dict[str, Any] = {"outcome": receipt.outcome}
    for name in ("vendor_id", "batch_id", "reason", "detail"):
        if getattr(receipt, name) is not None:
            found[name] = str(getattr(receipt, name))
    if receipt.cost is not None:
        found["cost"] = f"{receipt.cost.amount} {receipt.cost.currency}"
    if receipt.retry_after is not None:
        found["retry_after"] = int(receipt.retry_after / timedelta(seconds=1))
    return found


def _receipts_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [one for one in (document.get("receipt"), *document.get("receipts", ())) if one is not None]


def _last_answer(sample: Fixture) -> Answer | None:
    return sample.exchanges[-1].response if sample.exchanges else None


def _is_written(told: str, sample: Fixture) -> bool:
    """Whether an id stands in the last answer of a fixture, as it is."""
    answer = sample.exchanges[-1].response
    return answer is not None and (told.encode() in answer.body or told in dict(answer.headers).values())


def personal_of(message: Message) -> list[str]:
    """What of a message is somebody's own."""
    form = list(message.form.params.values()) if message.form is not None else []
    every = [message.address, message.text, message.subject or "", *texts_in(message.params), *form]
    return [one for one in every if len(one) >= 5]


def runs_sync(contract: GatewayContract, message: Message) -> Any:
    """The batch key of a message."""
    return contract.make().batch_key(message)


def _leaves(sent: Sent) -> Iterable[str]:
    """Every text of a request: query, form, XML, JSON, and JSON within these."""
    _, _, query = sent.target.partition("?")
    body = sent.body.decode("utf-8", "replace")
    found = [body, *(value for part in (query, body) for _, value in parse_qsl(part, keep_blank_values=True))]
    if body.lstrip()[:1] == "<":
        yield from xml_texts(body.lstrip())
    for one in found:
        yield one
        if one[:1] in {"{", "["}:
            try:
                yield from _deep(json.loads(one))
            except ValueError:
                continue


def _deep(value: Any) -> Iterable[str]:
    for one in texts_in(value):
        yield one
        if one[:1] in {"{", "["}:
            try:
                yield from texts_in(json.loads(one))
            except ValueError:
                continue


class _EndsIn(httpx.AsyncBaseTransport):
    """Answers all exchanges but the last, which it answers otherwise."""

    def __init__(self, exchanges: Sequence[Exchange], last: Any) -> None:
        self._before, self._last = list(exchanges[:-1]), last

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        found: httpx.Response
        for one in self._before:
            if httpx.URL(one.request.target).path == request.url.path and one.response is not None:
                found = one.response.response(request)
                return found
        found = self._last(request)
        found.request = request
        return found


class _InTurn(httpx.AsyncBaseTransport):
    """Loses the message it is sent; asked afterwards, answers as a log says.

    Attributes:
        is_lost: whether it is asked now.
    """

    def __init__(self, before: Sequence[Exchange], lost: Exchange, log: Sequence[Exchange]) -> None:
        self._sending = Playback([*before, lost], again=True)
        self._log = Playback(log, again=True)
        self.is_lost = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await (self._log if self.is_lost else self._sending).handle_async_request(request)


class _Early:
    """Lets something happen between the vendor's answer and its being stored."""

    def __init__(self, gateway: Any, then: Any) -> None:
        self._gateway, self._then = gateway, then

    def watch(self) -> None:
        """Do it after each delivery."""
        deliver, deliver_many = self._gateway.deliver, self._gateway.deliver_many

        async def one(message: Message) -> Receipt:
            receipt: Receipt = await deliver(message)
            await asyncio.to_thread(self._then)
            return receipt

        async def many(messages: Sequence[Message]) -> AsyncIterator[Receipt]:
            async for receipt in deliver_many(messages):
                await asyncio.to_thread(self._then)
                yield receipt

        self._gateway.deliver, self._gateway.deliver_many = one, many


__all__ = ["ADDRESSES", "TEXTS", "Answer", "GatewayContract", "personal_of", "written_all", "written_receipt"]
