"""A booth whose orders come by webhook, whole or hinted at, and a courier that says so too what became of its mails.

What goes wrong goes wrong loudly: a code of theirs that breaks names in its error whatever it had in hand.
"""

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, ClassVar

from pydantic import SecretStr

from crmkit import (
    Buyer,
    Call,
    DoubtError,
    Gateway,
    Hmac,
    Message,
    OrderRecord,
    Page,
    Receipt,
    ReceiptRecord,
    Record,
    Ref,
    Refused,
    Reread,
    RetryableError,
    Source,
    SourceSettings,
    hookimpl,
)

SECRET = "the-secret-of-the-booth"
SIGNED = Hmac("x-signature", secret="secret")


class Booth(Source):
    """A shop that signs its webhooks."""

    name = "booth"
    reports: ClassVar = {"placed", "paid"}
    verifies = SIGNED
    there: ClassVar[dict[str, dict[str, Any]]] = {}

    class Settings(SourceSettings):
        secret: SecretStr = SecretStr(SECRET)

    def records(self, call: Call) -> Iterable[Record | Ref | Refused]:
        """An order, the hint that one changed, or something broken."""
        said = json.loads(call.body)
        if "hint" in said:
            yield Reread("order", said["hint"])
        elif "broken" in said:
            raise KeyError(said["broken"])
        elif "refused" in said:
            yield Refused("order", "webhook", f"no total in {said['refused']}", call.body.decode(), "9")
        else:
            yield _order(said)

    async def read(self, refs: Sequence[Ref]) -> AsyncIterator[Page]:
        """The orders there are."""
        yield Page([_order(self.there[ref.external_id]) for ref in refs if ref.external_id in self.there])


def _order(said: dict[str, Any]) -> OrderRecord:
    buyer = Buyer(external_id=said["buyer"], name=said.get("name"), email=said["email"], phone=said.get("phone"))
    times = {name: said[name] for name in ("placed_at", "paid_at") if name in said}
    return OrderRecord(buyer=buyer, external_id=said["id"], number=said["id"], updated_at=max(times.values()), **times)


class Courier(Gateway):
    """Takes mails, and says later what became of them; or whatever `answers` says."""

    name = "courier"
    channel = "email"
    reaches = ("email",)
    verifies = SIGNED
    taken: ClassVar[list[Message]] = []
    answers: ClassVar[list[str]] = []

    class Settings(Gateway.Settings):
        secret: SecretStr = SecretStr(SECRET)

    async def deliver(self, message: Message) -> Receipt:
        """Take it, or what is to become of it."""
        self.taken.append(message)
        answer = self.answers.pop(0) if self.answers else "take"
        if answer == "refuse":
            return message.rejected("other", f"550 no such user {message.address}")  # type: ignore[arg-type]
        if answer == "break":
            raise RuntimeError(f"{message.address} {message.text}")
        if answer == "later":
            raise RetryableError(f"429 {message.address}", who="courier", operation=f"deliver to {message.address}")
        if answer == "doubt":
            raise DoubtError(f"HTTP 500: {message.address} {message.text}", who="courier", operation="deliver")
        return message.accepted(vendor_id=f"v{message.id}")

    def records(self, call: Call) -> Iterable[Record | Ref | Refused]:
        """Receipts."""
        said = json.loads(call.body)
        yield ReceiptRecord(
            external_id=said["id"],
            state=said["state"],
            vendor_id=said["message"],
            reason=said.get("reason"),
            detail=said.get("detail"),
            occurred_at=said["at"],
        )


@hookimpl
def crmkit_sources() -> Iterator[type[Source]]:
    """The shop."""
    yield Booth


@hookimpl
def crmkit_gateways() -> Iterator[type[Gateway]]:
    """The gateway."""
    yield Courier
