"""A plugin with a gateway of each kind: `plain`, `deduplicating`, `asking`; and what their vendors say by webhook."""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar

from pydantic import BaseModel, SecretStr

from crashkit.shop import CHANNELS, SECRET
from crmkit import (
    Address,
    Call,
    Gateway,
    GatewaySettings,
    Hmac,
    InboundRecord,
    Message,
    Receipt,
    ReceiptRecord,
    Record,
    hookimpl,
)

#: What is installed, and these.
POINTS = [
    *entry_points(group="crmkit"),
    *(EntryPoint(f"{channel}.{kind}", __name__, "crmkit") for kind, channel in CHANNELS.items()),
]


class Taken(BaseModel):
    id: str


class PlainGateway(Gateway):
    """To a vendor that takes every request for a message more, and cannot be asked."""

    name = "plain"
    channel = CHANNELS["plain"]
    reaches = ("email",)
    verifies = Hmac("x-signature", secret="secret")
    names_keys: ClassVar[bool] = True

    class Settings(GatewaySettings):
        url: str
        secret: SecretStr

    async def deliver(self, message: Message) -> Receipt:
        taken = await self.call(
            "deliver",
            "POST",
            f"{self.settings.url}/messages",
            json={"reference": message.key, "to": message.address, "text": message.text},
            headers={"Idempotency-Key": message.key} if self.deduplicates else {},
            read=Taken,
        )
        return message.accepted(vendor_id=taken.id)

    def records(self, call: Call) -> Iterator[Record]:
        told = json.loads(call.body)
        for receipt in told["receipts"]:
            yield ReceiptRecord(
                external_id=receipt["id"],
                key=receipt["key"] if self.names_keys else None,
                vendor_id=receipt["vendor_id"],
                state=receipt["state"],
                occurred_at=datetime.fromisoformat(told["at"]),
            )
        for reply in told["replies"]:
            yield InboundRecord(
                external_id=reply["id"],
                channel=self.channel,
                sender=Address(kind="email", value=reply["from"]),
                text=reply["text"],
                received_at=datetime.fromisoformat(told["at"]),
            )


class DeduplicatingGateway(PlainGateway):
    """To a vendor that tells repeats by their key; its receipts name only its own numbers."""

    name = "deduplicating"
    channel = CHANNELS["deduplicating"]
    deduplicates = True
    names_keys = False


class AskingGateway(PlainGateway):
    """To a vendor that can be asked what it has."""

    name = "asking"
    channel = CHANNELS["asking"]

    async def look_up(self, message: Message) -> Receipt | None:
        where, key = f"{self.settings.url}/found", {"key": message.key}
        found = await self.call("look up", "GET", where, params=key, answers=(404,), sends=False)
        return None if found.status_code == 404 else message.accepted(vendor_id=found.json()["id"])


GATEWAYS: dict[str, type[PlainGateway]] = {
    gateway.name: gateway for gateway in (PlainGateway, DeduplicatingGateway, AskingGateway)
}


@hookimpl
def crmkit_gateways() -> Iterator[type[Gateway]]:
    yield from GATEWAYS.values()


def webhook(
    account: str, at: datetime, receipts: Sequence[dict[str, str]] = (), replies: Sequence[dict[str, str]] = ()
) -> dict[str, Any]:
    """A call as the vendor makes it, signed: `account`, `headers`, `body`."""
    body = json.dumps({"at": at.isoformat(), "receipts": list(receipts), "replies": list(replies)})
    signature = base64.b64encode(hmac.new(SECRET.encode(), body.encode(), hashlib.sha256).digest()).decode()
    return {"account": account, "headers": {"X-Signature": signature}, "body": body}
