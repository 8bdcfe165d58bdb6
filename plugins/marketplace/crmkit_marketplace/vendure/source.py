"""The source: streams, reading by id, webhooks, and what to look after.

An order's `updatedAt` does not move when it is placed, shipped or delivered, so orders are asked for by `orderPlacedAt`
too, and open ones are read again by their ids (`rescans`). Vendure sends no webhooks by itself; what a small plugin of
one's own sends is a hint and no more.
"""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import httpx

from crmkit import (
    Account,
    AdapterError,
    Call,
    CrmkitError,
    Page,
    PayloadError,
    Record,
    Ref,
    Refused,
    Reread,
    Source,
    StandardWebhooks,
    window,
)

from . import query
from .api import Answer, Api, written
from .mapping import to_customer, to_records
from .settings import VendureSettings
from .shape import VendureCustomer, VendureOrder


class VendureSource(Source):
    """A shop on Vendure."""

    name = "vendure"
    Settings = VendureSettings
    settings: VendureSettings
    #: All it may report; an instance says what its shop does.
    reports = frozenset("placed paid shipped delivered completed cancelled parcels payments refunds customers".split())
    rescans = timedelta(days=60)
    verifies = StandardWebhooks(secret="webhook_secret")

    def __init__(self, settings: VendureSettings, account: Account, http: httpx.AsyncClient) -> None:
        super().__init__(settings, account, http)
        own = set(settings.states.values())
        told = {
            "delivered": settings.marks_delivered or "delivered" in own,
            "completed": "completed" in own,
            "customers": settings.customers,
        }
        self.reports = frozenset(name for name in VendureSource.reports if told.get(name, True))
        self.api = Api(self, settings)

    async def open(self) -> None:
        """Go on in the session of the last run."""
        self.api.recall()

    async def vendor_account(self) -> str | None:
        """The shop's host and its channel."""
        data, _ = await self.api.ask("read the channel", query.CHANNEL)
        channel = data.get("activeChannel") or {}
        return f"{httpx.URL(self.settings.url).netloc.decode()}:{channel.get('id')}"

    async def renew(self) -> bool:
        """Log in again."""
        return await self.api.log_in()

    def fault(self, operation: str, response: httpx.Response) -> AdapterError | None:
        """What the shop says went wrong, which it does with HTTP 200."""
        return self.api.fault(operation, response)

    # streams

    @window(overlap="5m", end_lag="1m")
    async def orders(self, start: datetime, end: datetime) -> AsyncIterator[Page]:
        """Orders that were placed or changed within a span, with their payments, refunds and parcels.

        A cart may have lain there for days: to place it does not move its `updatedAt`. Those placed within the span are
        left out of what changed within it.
        """
        is_older = {"orderPlacedAt": {"before": written(start)}}
        for by, where in (("orderPlacedAt", {}), ("updatedAt", is_older)):
            wanted = {"active": {"eq": False}, **where}
            async for answer in self.api.span("read orders", "orders", query.ORDERS, start, end, by, **wanted):
                yield self._page(answer, "order", self._orders)

    @window(overlap="5m", end_lag="1m")
    async def customers(self, start: datetime, end: datetime) -> AsyncIterator[Page]:
        """Registered customers that changed within a span."""
        if not self.settings.customers:
            return
        async for answer in self.api.span("read customers", "customers", query.CUSTOMERS, start, end):
            yield self._page(answer, "customer", self._customers)

    async def read(self, refs: Sequence[Ref]) -> AsyncIterator[Page]:
        """Orders, with what belongs to them, and customers, by id."""
        orders = sorted({ref.external_id for ref in refs if ref.kind != "customer"})
        async for answer in self.api.by_id("read by id", "orders", query.ORDERS, orders):
            yield self._page(answer, "order", self._orders)
        customers = sorted({ref.external_id for ref in refs if ref.kind == "customer"})
        async for answer in self.api.by_id("read by id", "customers", query.CUSTOMERS, customers):
            yield self._page(answer, "customer", self._customers)

    def _orders(self, row: Any, at: datetime | None) -> list[Record]:
        return to_records(VendureOrder.model_validate(row), self.settings, at)

    def _customers(self, row: Any, at: datetime | None) -> list[Record]:
        record = to_customer(VendureCustomer.model_validate(row), at)
        return [] if record is None else [record]

    @staticmethod
    def _page(answer: Answer, kind: str, make: Callable[[Any, datetime | None], list[Record]]) -> Page:
        records: list[Record] = []
        refused: list[Refused] = []
        for row in answer.rows:
            why = answer.failed.get(str(row.get("id"))) if isinstance(row, dict) else None
            if why is not None:
                refused.append(_refused(kind, row, PayloadError(why)))
                continue
            try:
                records += make(row, answer.at)
            except (ValueError, ArithmeticError) as error:  # pydantic's are ValueErrors
                refused.append(_refused(kind, row, error))
        return Page(records, refused, total=answer.total)

    # webhooks

    def records(self, call: Call) -> Iterator[Record | Ref | Refused]:
        """What a webhook hints at: `{"orderId": "7"}`, `{"customerId": "3"}`."""
        try:
            said = json.loads(call.body)
            hints = {kind: said.get(f"{kind}Id") for kind in ("order", "customer")}
        except (ValueError, AttributeError, RecursionError):
            hints = {}
        hints = {kind: number for kind, number in hints.items() if number and type(number) in (int, str)}
        if not hints:
            what = "a webhook that names neither orderId nor customerId"
            raise self.error(PayloadError, "read webhook", what, "send what docs/vendure.md says")
        for kind, number in hints.items():
            yield Reread(kind, str(number))

    # what to look after

    async def check(self) -> Iterable[str]:
        """Whether we are let in, and may read what is read."""
        try:
            data, _ = await self.api.ask("check", query.RIGHTS)
        except CrmkitError as error:
            return [str(error)]
        here = (data.get("activeChannel") or {}).get("id")
        channels = (data.get("me") or {}).get("channels") or []
        rights = {right for one in channels if one.get("id") == here for right in one.get("permissions") or ()}
        wanted = {"ReadOrder"} | ({"ReadCustomer"} if self.settings.customers else set())
        if "SuperAdmin" in rights:
            what = "it logs in as a super administrator; make a role that may ReadOrder and ReadCustomer only"
            return [f"{self.account.name} check: {what}"]
        missing = " and ".join(sorted(wanted - rights))
        what = f"its role may not {missing} in this channel; add that to the role"
        return [f"{self.account.name} check: {what}"] if missing else []


def _refused(kind: str, row: Any, error: Exception) -> Refused:
    own = str(row["id"]) if isinstance(row, dict) and row.get("id") else None
    return Refused.of(error, kind, f"{kind}s/{own or '?'}", row, own)
