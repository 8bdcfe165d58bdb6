"""Plugins of a small town: a shop with an order or more, and three gateways to a fake vendor."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from importlib.metadata import EntryPoint

from pydantic import BaseModel

from crmkit import (
    Buyer,
    Call,
    Gateway,
    GatewaySettings,
    Message,
    OrderRecord,
    Page,
    Receipt,
    ReceiptRecord,
    Reply,
    Source,
    SourceSettings,
    Start,
    Verified,
    fingerprint,
    hookimpl,
    stream,
)

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
POINTS = [
    *(EntryPoint(f"email.{name}", __name__, "crmkit") for name in ("plain", "deduplicating", "asking")),
    EntryPoint("marketplace.town", __name__, "crmkit"),
    EntryPoint("play.herald", "tests.faults.herald", "crmkit"),
]


class TownSource(Source):
    name = "town"
    reports = {"placed"}

    class Settings(SourceSettings):
        orders: int = 1

    @stream
    async def orders(self, start: Start) -> AsyncIterator[Page]:
        numbers = [str(number) for number in range(self.settings.orders)]
        yield Page(
            records=[
                OrderRecord(
                    external_id=number,
                    number=number,
                    placed_at=NOON,
                    updated_at=NOON,
                    buyer=Buyer(external_id=number, email=f"b{number}@buyers.example"),
                )
                for number in numbers
            ]
        )


class Taken(BaseModel):
    id: str


class PlainGateway(Gateway):
    """To a vendor that takes every request for a message more, and cannot be asked."""

    name = "plain"
    channel = "email"
    reaches = ("email",)

    class Settings(GatewaySettings):
        url: str
        within: float = 5.0
        token: str = "1"
        names_keys: bool = True

    async def open(self) -> None:
        self.http.headers["Authorization"] = f"Bearer {self.settings.token}"

    async def deliver(self, message: Message) -> Receipt:
        taken = await self.call(
            "deliver",
            "POST",
            f"{self.settings.url}/messages",
            json={"reference": message.key, "to": message.address, "text": message.text},
            headers=self.telling(message),
            read=Taken,
            within=self.settings.within,
        )
        return message.accepted(vendor_id=taken.id)

    async def renew(self) -> bool:
        told = await self.call("renew", "POST", f"{self.settings.url}/token", sends=False, read=dict[str, str])
        self.http.headers["Authorization"] = f"Bearer {told['token']}"
        return True

    def telling(self, message: Message) -> dict[str, str]:
        return {}

    def verify(self, call: Call) -> Verified | Reply:
        return Verified(fingerprint(call.body))

    def records(self, call: Call) -> Iterator[ReceiptRecord]:
        for receipt in json.loads(call.body):
            yield ReceiptRecord(
                external_id=receipt["id"],
                key=receipt["key"] if self.settings.names_keys else None,
                vendor_id=receipt["vendor_id"],
                state=receipt["state"],
                occurred_at=call.received_at,
            )


class DeduplicatingGateway(PlainGateway):
    """To a vendor that tells repeats by their key."""

    name = "deduplicating"
    deduplicates = True

    def telling(self, message: Message) -> dict[str, str]:
        return {"Idempotency-Key": message.key}


class AskingGateway(PlainGateway):
    """To a vendor that can be asked what it has."""

    name = "asking"

    async def look_up(self, message: Message) -> Receipt | None:
        found = await self.call(
            "look up",
            "GET",
            f"{self.settings.url}/found",
            params={"key": message.key},
            answers=(404,),
            sends=False,
            within=self.settings.within,
        )
        return None if found.status_code == 404 else message.accepted(vendor_id=found.json()["id"])


@hookimpl
def crmkit_gateways() -> Iterator[type[Gateway]]:
    yield from (PlainGateway, DeduplicatingGateway, AskingGateway)


@hookimpl
def crmkit_sources() -> Iterator[type[Source]]:
    yield TownSource
