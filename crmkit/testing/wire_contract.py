"""What a gateway is held to on the wire: faults, texts of any kind, keys sent again, messages at the same time."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest

from crmkit.core.errors import (
    AdapterError,
    AuthError,
    DoubtError,
    PayloadError,
    RefusedError,
    RetryableError,
    UnsupportedError,
)
from crmkit.core.message import Message, Receipt
from crmkit.testing.contract import runs
from crmkit.testing.crowd import Crowd, numbered, one_of
from crmkit.testing.exchange import Exchange, Fixture, Sent
from crmkit.testing.fault import FAULTS, Fault, Verdict
from crmkit.testing.message_contract import MessageContract, receipts_of
from crmkit.testing.playback import Playback

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


class WireContract(MessageContract):
    """What is handed over arrives as it is, once, and what came of it is true."""

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
            self.tells_nobody(shown, f"{fault.name}: its error or log")

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
        self.tells_nobody("\n".join([runs(run), self.logged()]), f"answered {status}, what it says")

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
        told = receipts_of(self.accepted().document)[0]
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


def _is_written(told: str, sample: Fixture) -> bool:
    """Whether an id stands in the last answer of a fixture, as it is."""
    answer = sample.exchanges[-1].response
    return answer is not None and (told.encode() in answer.body or told in dict(answer.headers).values())


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


__all__ = ["TEXTS", "WireContract"]
