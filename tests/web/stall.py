"""What a town has: a shop that signs its webhooks, and gateways that take everything and remember it."""

import json
from collections.abc import Iterable, Iterator
from typing import ClassVar

from pydantic import SecretStr

from crmkit import (
    Buyer,
    Call,
    Gateway,
    Hmac,
    Message,
    OrderRecord,
    Receipt,
    Record,
    Ref,
    Refused,
    Reread,
    Source,
    SourceSettings,
    hookimpl,
)

SECRETS = ("s3cret-of-the-stall", "the-one-before")


class Stall(Source):
    """A shop that signs its webhooks."""

    name = "stall"
    reports: ClassVar = {"placed", "paid", "shipped", "delivered", "completed", "parcels", "refunds", "payments"}
    verifies = Hmac("x-signature", secret="secret")

    class Settings(SourceSettings):
        secret: list[SecretStr] = [SecretStr(one) for one in SECRETS]

    def records(self, call: Call) -> Iterable[Record | Ref | Refused]:
        """An order, or the hint that one changed."""
        said = json.loads(call.body)
        if "hint" in said:
            yield Reread("order", said["hint"])
        else:
            yield OrderRecord(buyer=Buyer(external_id=said["buyer"]), external_id=said["id"], placed_at=said["at"])


class Post(Gateway):
    """Takes every mail."""

    name = "post"
    channel = "email"
    reaches = ("email",)
    taken: ClassVar[list[Message]] = []

    async def deliver(self, message: Message) -> Receipt:
        """Take it."""
        self.taken.append(message)
        return message.accepted(vendor_id=message.key)


class Text(Post):
    """Takes every text message."""

    name = "text"
    channel = "sms"
    reaches = ("phone",)
    taken: ClassVar[list[Message]] = []


@hookimpl
def crmkit_sources() -> Iterator[type[Source]]:
    """The shop."""
    yield Stall


@hookimpl
def crmkit_gateways() -> Iterator[type[Gateway]]:
    """The gateways."""
    yield Post
    yield Text
