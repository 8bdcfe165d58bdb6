"""An order with what belongs to it: refunds and parcels, which are asked for where the order says that it has them."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from crmkit import OrderStatus, Page, Record, Ref, Refused, RefusedError, Reread

from . import tracking
from .api import Answer, Api, has_no_route, is_missing
from .mapping import each, page_of, refused, status_of, to_order, to_refund
from .settings import WooSettings
from .shape import WooFulfillment, WooOrder, WooRefund

#: Single orders are asked about so many at once.
_AT_ONCE = 4


class OrderReader:
    """Reads orders of one shop."""

    def __init__(self, api: Api, settings: WooSettings) -> None:
        self._api, self._settings = api, settings
        #: what the shop turned out not to have
        self._lacks: set[str] = set()

    def begin(self) -> None:
        """What the shop lacked in the run before, it may have now."""
        self._lacks.clear()

    async def page(self, rows: Sequence[Any], answer: Answer) -> Page:
        """Orders with what belongs to them."""
        gate = asyncio.Semaphore(_AT_ONCE)
        tasks = [asyncio.ensure_future(self._order(row, answer.at, gate)) for row in rows]
        try:
            found = await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        return page_of((one for ones in found for one in ones), answer)

    async def _order(self, row: Any, at: datetime | None, gate: asyncio.Semaphore) -> list[Record | Refused]:
        try:
            order = WooOrder.model_validate(row)
            record = to_order(order, self._settings, at)
        except (ValueError, ArithmeticError) as error:
            return [refused("order", "orders", row, error)]
        if record is None:
            return []
        async with gate:
            return [record, *await self._refunds(order, at), *await self._parcels(order, at)]

    async def _refunds(self, order: WooOrder, at: datetime | None) -> list[Record | Refused]:
        if not order.refunds:
            return []
        path = f"orders/{order.id}/refunds"
        rows = await self._rows("read refunds", path, per_page=100)
        if isinstance(rows, Refused):
            return [rows]

        def make(row: Any) -> Record:
            return to_refund(WooRefund.model_validate(row), order, at)

        return list(each("refund", path, rows, make, str(order.id)))

    async def _parcels(self, order: WooOrder, at: datetime | None) -> list[Record | Refused]:
        """The parcels of the first place that has any."""
        for place in self._settings.tracking:
            try:
                found: list[Record | Refused] = [*tracking.in_fields(order, place, self._settings, at)]
                if not found and self._asks(order, place):
                    found = await (self._fulfillments if place == "fulfillments" else self._trackings)(order, at)
            except (ValueError, ArithmeticError) as error:
                return [refused("parcel", f"orders/{order.id}", order.model_dump(mode="json"), error, str(order.id))]
            if found:
                return found
        return []

    def _parcels_told(self, order: WooOrder, at: datetime) -> tuple[list[Record], bool]:
        """The parcels an order tells of by itself, or whether it has to be asked about."""
        for place in self._settings.tracking:
            if self._asks(order, place):
                return [], True
            if found := tracking.in_fields(order, place, self._settings, at):
                return [*found], False
        return [], False

    def _asks(self, order: WooOrder, place: str) -> bool:
        """Whether an order may have parcels in a place that has to be asked."""
        if place in self._lacks:
            return False
        if place == "fulfillments":
            return order.is_fulfilled
        waits = (OrderStatus.PLACED, OrderStatus.CANCELLED)
        return place == "shipment-trackings" and status_of(order, self._settings) not in waits

    async def _fulfillments(self, order: WooOrder, at: datetime | None) -> list[Record | Refused]:
        path = f"orders/{order.id}/fulfillments"
        rows = await self._rows("read fulfillments", path, lacks="fulfillments")
        if isinstance(rows, Refused):
            return [rows]

        def make(row: Any) -> Record | None:
            return tracking.of_fulfillment(WooFulfillment.model_validate(row), order, at)

        return list(each("parcel", path, rows, make, str(order.id)))

    async def _trackings(self, order: WooOrder, at: datetime | None) -> list[Record | Refused]:
        path = f"orders/{order.id}/shipment-trackings"
        rows = await self._rows("read parcels", path, lacks="shipment-trackings", namespace="wc-shipment-tracking/v3")
        return [rows] if isinstance(rows, Refused) else [*tracking.of_items(order, rows, at)]

    async def _rows(self, operation: str, path: str, lacks: str | None = None, **how: Any) -> list[Any] | Refused:
        """What belongs to one order. What the shop refuses to say of one harms that one only.

        Args:
            lacks: what the shop has not got where it knows no such address; it is not asked again in this run.
        """
        try:
            answer = await self._api.get(operation, path, **how)
        except RefusedError as error:
            if lacks is not None and has_no_route(error):
                self._lacks.add(lacks)
            if is_missing(error):
                return []
            return Refused("order", path, str(error), error.body, path.split("/")[1])
        nested = (
            answer.rows[0].get("fulfillments") if len(answer.rows) == 1 and isinstance(answer.rows[0], dict) else None
        )
        return nested if isinstance(nested, list) else answer.rows

    # webhooks

    def told(self, row: Any, at: datetime) -> Iterator[Record | Ref | Refused]:
        """What an order in a webhook says; what it only hints at is read again."""
        try:
            order = WooOrder.model_validate(row)
            record = to_order(order, self._settings, at)
            parcels, places = self._parcels_told(order, at)
        except (ValueError, ArithmeticError) as error:
            yield refused("order", "orders", row, error)
            return
        if record is None:
            return
        yield record
        yield from parcels
        if order.refunds or places:
            yield Reread("order", str(order.id))
