"""A source and gateways of the benchmarks' own: a shop in memory, a vendor on loopback, one that takes all at once."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator

import httpx

from crmkit import Gateway, GatewaySettings, Message, Receipt, Source, hookimpl
from crmkit.adapters.stream import Page, Start, stream

HEADERS = {"Content-Type": "application/json"}


class MemorySource(Source):
    """Yields the pages it was given."""

    name = "memory"
    reports = {"placed", "paid", "payments"}
    pages: Iterable[Page] = ()

    @stream
    async def orders(self, start: Start) -> AsyncIterator[Page]:
        for page in type(self).pages:
            yield page


async def post(http: httpx.AsyncClient, url: str, key: str, to: str, text: str) -> str:
    """One message to the vendor on loopback: what gateway and bare loop both do."""
    body = json.dumps({"key": key, "to": to, "text": text})
    response = await http.post(url, content=body.encode(), headers=HEADERS)
    response.raise_for_status()
    return str(json.loads(response.content)["id"])


class LoopbackGateway(Gateway):
    """Posts each message as JSON."""

    name = "loopback"
    channel = "sms"
    reaches = ("phone",)

    class Settings(GatewaySettings):
        """Where to post."""

        url: str

    async def deliver(self, message: Message) -> Receipt:
        return message.accepted(await post(self.http, self.settings.url, message.key, message.address, message.text))


class NullGateway(Gateway):
    """Takes everything at once: what is left is the core's own work."""

    name = "null"
    channel = "sms"
    reaches = ("phone",)

    async def deliver(self, message: Message) -> Receipt:
        return message.accepted(f"null-{message.id}")


@hookimpl
def crmkit_sources() -> Iterator[type[Source]]:
    yield MemorySource


@hookimpl
def crmkit_gateways() -> Iterator[type[Gateway]]:
    yield LoopbackGateway
    yield NullGateway
