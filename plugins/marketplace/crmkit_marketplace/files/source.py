"""The source: its streams, each over the files of one table."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import closing

import httpx

from crmkit import Account, Page, Ref, Source, Start, stream

from .exports import fingerprint
from .mapping import FilesSettings
from .orders import OrderReader
from .plan import Plan, stands_alone
from .rows import RowReader
from .run import Run


class FilesSource(Source):
    """A shop that gives exports.

    An export is a photograph: a record was seen when its file was last written, so a corrected export wins over the
    one before, and reading the same file again changes nothing.
    """

    name = "files"
    Settings = FilesSettings
    settings: FilesSettings

    def __init__(self, settings: FilesSettings, account: Account, http: httpx.AsyncClient) -> None:
        super().__init__(settings, account, http)
        self.plan = plan = Plan(settings, account)
        self._orders = OrderReader(plan.shop, plan.tables, plan.currency) if "orders" in plan.tables else None
        self._rows = {
            name: RowReader(plan.shop, table, plan.currency)
            for name, table in plan.tables.items()
            if stands_alone(table)
        }
        self.reports = frozenset(plan.reports())

    @stream
    async def customers(self, start: Start) -> AsyncIterator[Page]:
        """The shop's list of customers, if it has one."""
        async for page in self._stream("customers", start):
            yield page

    @stream
    async def orders(self, start: Start) -> AsyncIterator[Page]:
        """Orders with their lines and buyers."""
        async for page in self._stream("orders", start):
            yield page

    @stream
    async def parcels(self, start: Start) -> AsyncIterator[Page]:
        """Parcels."""
        async for page in self._stream("parcels", start):
            yield page

    @stream
    async def payments(self, start: Start) -> AsyncIterator[Page]:
        """Payments."""
        async for page in self._stream("payments", start):
            yield page

    @stream
    async def refunds(self, start: Start) -> AsyncIterator[Page]:
        """Refunds."""
        async for page in self._stream("refunds", start):
            yield page

    @stream
    async def returns(self, start: Start) -> AsyncIterator[Page]:
        """Returns."""
        async for page in self._stream("returns", start):
            yield page

    @stream
    async def reviews(self, start: Start) -> AsyncIterator[Page]:
        """Reviews."""
        async for page in self._stream("reviews", start):
            yield page

    async def read(self, refs: Sequence[Ref]) -> AsyncIterator[Page]:
        """The records with these ids, found by reading through the files of their kinds."""
        for name, table in self.plan.tables.items():
            words = ("order", "line") if name == "orders" else (table.kind.word,)
            ids = {ref.external_id for ref in refs if ref.kind in words}
            if ids and name != "lines":
                async for page in self._stream(name, Start(), ids):
                    if page.records or page.refused:
                        yield page

    async def check(self) -> Iterable[str]:
        """Files and columns that the mapping names and the folder does not hold."""
        found = dict.fromkeys(problem for name in self.plan.tables for problem in self.plan.problems(name))
        return found or self.plan.nothing_known()

    async def _stream(self, name: str, start: Start, only: set[str] | None = None) -> AsyncIterator[Page]:
        joined = self._orders.joined if self._orders is not None and name == "orders" else ()
        if name not in self._rows and not (name == "orders" and self._orders is not None):
            return
        files = {table: self.plan.find(table) for table in (name, *joined)}
        if not files[name]:
            return
        run = Run(
            fingerprint((export for found in files.values() for export in found), self.plan.fingerprint), start, only
        )
        if run.is_done:
            return
        for table, found in files.items():
            self.plan.check_files(table, found)
        if only is None:
            run.total = self.plan.count(name, files[name])
        reader = self._rows.get(name)
        if reader is not None:
            pages = reader.pages(run, files[name])
        else:
            assert self._orders is not None
            pages = self._orders.pages(run, files)
        with closing(pages):
            for page in pages:
                if page is not None:
                    yield page
                await asyncio.sleep(0)
