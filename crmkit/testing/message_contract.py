"""How contracts give messages to a gateway, and what its fixtures say of them."""

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import pytest
from pydantic import TypeAdapter

from crmkit.adapters.gateway import Gateway
from crmkit.core.errors import (
    AdapterError,
)
from crmkit.core.message import Message, Receipt
from crmkit.core.money import Money
from crmkit.testing.contract import NOW, AdapterContract
from crmkit.testing.echo import xml_texts
from crmkit.testing.exchange import Fixture, Sent
from crmkit.testing.fault import Fault
from crmkit.testing.playback import Playback, PlaybackVendor
from crmkit.testing.reading import facing, reading_streams
from crmkit.testing.secrecy import secrets_in, texts_in, told

#: Whom a standard message is to, by the kind of address; numbers that are nobody's.
ADDRESSES = {
    "phone": "+8613800138000",
    "email": "ann.li@buyers.example",
    "relay_email": "r7f3a9c21@relay.example",
    "virtual_phone": "+8613900139000",
    "order_token": "ot-7f3a9c21d4e8",
}


class MessageContract(AdapterContract):
    """What tests of gateways are written with.

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

    def sendings(self) -> int:
        """How often the vendor of `facing` was handed the message, or the beginning of it."""
        return int(self.vendor.sendings)

    def connections(self) -> int:
        """How many connections the vendor of `facing` has open."""
        return int(self.vendor.connections)

    # --- messages ---------------------------------------------------------------------------------------------------

    def accepted(self) -> Fixture:
        """The fixture of a message that is taken."""
        found = [one for one in self.samples("message", "messages") if one.name == "accepted"]
        if not found:
            pytest.fail(f"{self.adapter.name}: no fixture `accepted` of a message its vendor takes")
        return found[0]

    def accepted_changes(self) -> Mapping[str, Any]:
        """What `accepted` changes of the standard message."""
        document = self.accepted().document
        found: Mapping[str, Any] = document["message"] if "message" in document else document["messages"][0]
        return found

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
        if sample.given == "balance":
            return {"left": written_balance(await adapter.balance())}
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
                assert any(one.id == number for one in messages), f"{sample.path}: a receipt of another batch"
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

    def tells_nobody(self, shown: str, where: str) -> None:
        made = self.make(sample=self.accepted())
        assert told(shown, secrets_in(made.settings)) == [], f"{where} tells a secret"
        assert told(shown, personal_of(self.to(self.accepted_changes()))) == [], f"{where} tells somebody's data"


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


def written_balance(left: object) -> str | int | None:
    """What is left on an account as a fixture has it: `"12.50 USD"`, a number of messages, or null.

    Raises:
        AssertionError: it is none of these.
    """
    if left is None or (isinstance(left, int) and not isinstance(left, bool)):
        return left
    assert isinstance(left, Money), f"{left!r} is neither Money, nor a number of messages, nor None"
    assert left.amount.is_finite(), f"{left.amount!r} is no amount"
    assert len(left.currency) == 3, f"{left.currency!r} is no currency: three letters (ISO 4217)"
    return f"{left.amount} {left.currency}"


def receipts_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [one for one in (document.get("receipt"), *document.get("receipts", ())) if one is not None]


def personal_of(message: Message) -> list[str]:
    """What of a message is somebody's own."""
    form = list(message.form.params.values()) if message.form is not None else []
    every = [message.address, message.text, message.subject or "", *texts_in(message.params), *form]
    return [one for one in every if len(one) >= 5]


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


__all__ = ["ADDRESSES", "MessageContract", "personal_of", "receipts_of", "written_receipt"]
