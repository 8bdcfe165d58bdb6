"""A source as an author would write it, for a vendor with lists of every kind; and ways to get it wrong."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

import httpx

from crmkit import (
    CrmkitError,
    OrderRecord,
    OrderStatus,
    Page,
    PayloadError,
    Ref,
    Source,
    SourceSettings,
    Start,
    answered_at,
    stream,
    window,
)
from crmkit.testing import CursorExpired, FakeShop

STATES = {"new": OrderStatus.PLACED, "paid": OrderStatus.PAID, "sent": OrderStatus.SHIPPED}


class AcmeShop(FakeShop):
    """Lists by page number, by offset or by cursor, as it is asked."""

    behind = timedelta(minutes=1)

    def fresh(self, number: int) -> dict[str, Any]:
        return {"id": number, "state": "new", "placed": self.now.isoformat(), "changed": self.now.isoformat()}

    def touched(self, order: dict[str, Any], at: datetime) -> None:
        order["changed"] = at.isoformat()

    def changed(self, order: dict[str, Any]) -> None:
        order["state"] = "paid" if order["state"] == "new" else "sent"

    def handle(self, request: httpx.Request) -> httpx.Response:
        query = request.url.params
        if request.url.path.startswith("/orders/"):
            found = self.find(request.url.path.rpartition("/")[2])
            return httpx.Response(404, json={}) if found is None else httpx.Response(200, json=found)
        places = {name: int(query[name]) for name in ("number", "offset") if name in query}
        try:
            listed = self.page(
                since=datetime.fromisoformat(query["since"]),
                until=datetime.fromisoformat(query["until"]),
                cursor=query.get("cursor"),
                **places,
            )
        except CursorExpired:
            return httpx.Response(410, json={"error": "cursor"})
        told = {"orders": listed.orders, "total": listed.total, "next": listed.cursor}
        return httpx.Response(200, json=told)


class NewestFirstShop(AcmeShop):
    descending = True


class AcmeSource(Source):
    """Reads the list from its last page to its first: whoever leaves it moves the others to pages not read yet."""

    name = "acme"
    reports = frozenset({"placed", "paid", "shipped"})
    size: ClassVar[int] = 2

    class Settings(SourceSettings):
        url: str = "https://acme.example"

    @window(overlap="5m", end_lag="1m")
    async def orders(self, start: datetime, end: datetime) -> AsyncIterator[Page]:
        asked = {"since": start.isoformat(), "until": end.isoformat()}
        async for found in self.lists(asked):
            yield Page([self.to_order(order, found["at"]) for order in found["orders"]])

    async def lists(self, asked: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        total = (await self.ask(asked | {"number": 1}))["total"]
        for number in range(-(-total // self.size), 0, -1):
            yield await self.ask(asked | {"number": number})

    async def ask(self, params: dict[str, Any]) -> dict[str, Any]:
        response = await self.call("read orders", "GET", f"{self.settings.url}/orders", params=params, answers=(410,))
        if response.status_code == 410:
            return {"expired": True}
        found = response.json() if response.headers.get("content-type") == "application/json" else None
        if not isinstance(found, dict) or "orders" not in found:
            raise self.error(PayloadError, "read orders", "no list of orders")
        return {**found, "at": answered_at(response)}

    async def read(self, refs: Sequence[Ref]) -> AsyncIterator[Page]:
        for ref in refs:
            url = f"{self.settings.url}/orders/{ref.external_id}"
            response = await self.call("read by id", "GET", url, answers=(404,))
            if response.status_code == 200:
                yield Page([self.to_order(response.json(), answered_at(response))])

    def to_order(self, order: dict[str, Any], at: datetime | None) -> OrderRecord:
        return OrderRecord(
            external_id=str(order["id"]),
            status=STATES.get(order["state"], OrderStatus.UNKNOWN),
            vendor_status=order["state"],
            placed_at=datetime.fromisoformat(order["placed"]),
            updated_at=datetime.fromisoformat(order["changed"]),
            observed_at=at,
        )


class ByOffset(AcmeSource):
    """The same by offset."""

    async def lists(self, asked: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        total = (await self.ask(asked | {"offset": 0}))["total"]
        for offset in range((max(total - 1, 0) // self.size) * self.size, -1, -self.size):
            yield await self.ask(asked | {"offset": offset})


class ByCursor(AcmeSource):
    """By a cursor that stands after an order, wherever the list moves; an expired one is begun anew."""

    async def lists(self, asked: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        found = await self.ask(asked)
        yield found
        while found["next"] is not None:
            again = await self.ask(asked | {"cursor": found["next"]})
            found = await self.ask(asked) if "expired" in again else again
            yield found


# wrong


class FirstPageFirst(AcmeSource):
    """Whoever leaves the list moves one unseen to a page that was read."""

    async def lists(self, asked: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        number = 1
        while True:
            found = await self.ask(asked | {"number": number})
            yield found
            if number * self.size >= found["total"]:
                return
            number += 1


class WithoutLastPage(AcmeSource):
    """Divides, and forgets the rest."""

    async def lists(self, asked: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        total = (await self.ask(asked | {"number": 1}))["total"]
        for number in range(total // self.size, 0, -1):
            yield await self.ask(asked | {"number": number})


class EndsQuietly(AcmeSource):
    """Takes an error for the end."""

    async def lists(self, asked: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        try:
            async for found in super().lists(asked):
                yield found
        except CrmkitError:
            return


class GivesUpCursor(ByCursor):
    """Takes an expired cursor for the end."""

    async def lists(self, asked: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        found = await self.ask(asked)
        while True:
            yield found
            if found["next"] is None:
                return
            found = await self.ask(asked | {"cursor": found["next"]})
            if "expired" in found:
                return


class ByOurClock(AcmeSource):
    """Asks for what changed in the last minutes by its own clock, whatever the core wants."""

    async def lists(self, asked: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        until = datetime.fromisoformat(asked["until"])
        late = (until - timedelta(minutes=2)).isoformat()
        async for found in super().lists(asked | {"since": max(late, asked["since"])}):
            yield found


class SaysElseById(AcmeSource):
    """Gives less by id than it lists."""

    async def read(self, refs: Sequence[Ref]) -> AsyncIterator[Page]:
        async for page in super().read(refs):
            yield Page([record.model_copy(update={"vendor_status": None}) for record in page.records])


class StampsTime(AcmeSource):
    """Gives the time of reading for the time of change: everything is news, always."""

    def to_order(self, order: dict[str, Any], at: datetime | None) -> OrderRecord:
        return super().to_order(order, at).model_copy(update={"updated_at": at})


class ReadsOneChunk(AcmeSource):
    """Asks for a hundred ids, and forgets the rest."""

    async def read(self, refs: Sequence[Ref]) -> AsyncIterator[Page]:
        async for page in super().read(refs[:100]):
            yield page


class AsStream(AcmeSource):
    """The list of what changed with a cursor of its own instead of a window."""

    @stream
    async def orders(self, start: Start) -> AsyncIterator[Page]:
        since = start.cursor["until"] if start.cursor else (start.since or start.now - timedelta(days=1)).isoformat()
        until = start.now.isoformat()
        async for found in self.lists({"since": since, "until": until}):
            yield Page([self.to_order(order, found["at"]) for order in found["orders"]])
        yield Page((), cursor={"until": (start.now - timedelta(minutes=5)).isoformat()})


class SaysElseByIdAsStream(AsStream):
    """Gives less by id than its stream tells."""

    async def read(self, refs: Sequence[Ref]) -> AsyncIterator[Page]:
        async for page in super().read(refs):
            yield Page([record.model_copy(update={"vendor_status": None}) for record in page.records])


class NeverEnds(AcmeSource):
    """Asks for the first page again and again."""

    async def lists(self, asked: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        while True:
            yield await self.ask(asked | {"number": 1})
