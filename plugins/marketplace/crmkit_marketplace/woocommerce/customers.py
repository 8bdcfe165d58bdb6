"""Registered customers. No filter finds those that changed, so all are read again once in a while."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from crmkit import CustomerRecord, Page, Record, Refused

from .api import Answer, Api, id_of
from .mapping import each, page_of, to_customer
from .settings import WooSettings
from .shape import WooCustomer


class CustomerReader:
    """Reads the customers of one shop."""

    def __init__(self, api: Api, settings: WooSettings) -> None:
        self._api, self._settings = api, settings

    def told(self, row: Any, at: datetime | None) -> Iterator[Record | Refused]:
        """What one raw customer comes to."""

        def make(raw: Any) -> CustomerRecord:
            return to_customer(WooCustomer.model_validate(raw), at)

        yield from each("customer", "customers", [row], make)

    def page(self, rows: Iterable[Any], answer: Answer) -> Page:
        """Customers that came together."""
        return page_of((one for row in rows for one in self.told(row, answer.at)), answer)

    async def changed(self, since: datetime) -> AsyncIterator[Page]:
        """Those that changed since a moment, found by reading all."""
        async for answer in self._api.listing("read customers", "customers"):
            page = self.page(answer.new, answer)
            records = [one for one in page.records if one.updated_at is None or one.updated_at >= since]
            yield Page(records, page.refused, total=answer.total)

    async def pages(self, start: Mapping[str, Any] | None) -> AsyncIterator[Page]:
        """The new ones; and all, at first and whenever it is time.

        The cursor is `newest` (the highest id), `scanned_at` (when the last full reading began, by the shop's clock),
        and while one is under way `scan`: where it stands.
        """
        cursor: dict[str, Any] = dict(start or {})
        newest: int | None = cursor.get("newest")
        if newest is not None and "scan" not in cursor:
            found: list[Page] = []
            at: datetime | None = None
            async for answer in self._newer(newest):
                found.append(self.page((row for row in answer.rows if (id_of(row) or 0) > newest), answer))
                at = at or answer.at
                cursor["newest"] = max([cursor["newest"], *(id_of(row) or 0 for row in answer.rows)])
            records = [one for page in found for one in page.records]
            yield Page(records, [one for page in found for one in page.refused], cursor=dict(cursor))
            scanned = cursor.get("scanned_at")
            if at is None or scanned is None or at - datetime.fromisoformat(scanned) < self._settings.customers_every:
                return
        async for page in self._every(cursor):
            yield page

    async def _newer(self, newest: int) -> AsyncIterator[Answer]:
        """Pages with the customers of higher ids than `newest`, the newest first."""
        size, offset = self._settings.per_page, 0
        while True:
            answer = await self._api.get(
                "read customers", "customers", orderby="id", order="desc", per_page=size, offset=offset or None
            )
            yield answer
            ids = [number for row in answer.rows if (number := id_of(row)) is not None]
            offset += size
            if not ids or min(ids) <= newest or len(answer.rows) < size:
                return

    async def _every(self, cursor: dict[str, Any]) -> AsyncIterator[Page]:
        """All customers; a scan that was killed goes on where it was."""
        scan = cursor.get("scan") or {"offset": 0, "last": -1, "began": None}
        async for answer in self._api.listing("read customers", "customers", offset=scan["offset"], last=scan["last"]):
            began = scan["began"] or (answer.at.isoformat() if answer.at else None)
            scan = {"offset": answer.offset, "last": answer.last, "began": began}
            page = self.page(answer.new, answer)
            yield Page(page.records, page.refused, {**cursor, "scan": scan}, answer.total)
        newest = max(cursor.get("newest") or 0, scan["last"], 0)
        yield Page(cursor={"newest": newest, "scanned_at": scan["began"]})
