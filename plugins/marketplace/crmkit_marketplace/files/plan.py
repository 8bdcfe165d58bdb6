"""The whole mapping of a shop, compiled, and the files it finds: what the streams read by."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

from crmkit import Account, ConfigError, CrmkitError, PayloadError

from .exports import Export, check_header, find, layout_of, patterns_of
from .mapping import ChildTable, CustomerTable, FilesSettings, LineTable, OrderTable, Table
from .tabular import format_of, open_table
from .translate import Columns, Translation, zone_of

_MILESTONES = {"placed", "paid", "shipped", "delivered", "completed", "cancelled"}
#: Files above this size are not counted for the progress bar.
_CHEAP = 50_000_000


class Plan:
    """What a shop's mapping comes to.

    Attributes:
        shop: its section, as errors call it.
        currency: of amounts that come without one.
        tables: the tables, compiled, in the order they are read.
    """

    def __init__(self, settings: FilesSettings, account: Account) -> None:
        self.shop = f"shops.{account.name}"
        self.folder = Path(account.folder, settings.path)
        self.currency = settings.currency or account.currency
        self._settings = settings
        self._said = f"{settings.model_dump_json()} {account.timezone} {account.currency}"
        zone = zone_of(settings.timezone or account.timezone, UTC, self.shop)
        shared = Columns()
        self.tables: dict[str, Translation] = {}
        for name, table in settings.tables().items():
            is_shared = name == "orders" or has_rows_of_orders(table)
            self.tables[name] = Translation(name, table, zone, shared if is_shared else None)
            self._complete(self.tables[name])
        self._joins()

    @property
    def fingerprint(self) -> str:
        """What changes when the mapping changes."""
        return hashlib.blake2b(self._said.encode(), digest_size=8).hexdigest()

    def find(self, name: str) -> list[Export]:
        """The files of a table, oldest first."""
        table = self.tables[name].table
        if has_rows_of_orders(table):
            return []
        return find(self.folder, name, table.file, optional=table.optional, shop=self.shop)

    def check_files(self, name: str, exports: Sequence[Export]) -> None:
        """See that the files of a table have its columns.

        A joined file that cannot be read holds up no order; what reads it tells of it.
        """
        table = self.tables[name]
        for export in exports:
            try:
                with open_table(export.path, export.name, layout_of(table.table)) as opened:
                    check_header(opened, table.columns, self.shop)
            except PayloadError:
                pass

    def problems(self, name: str) -> Iterator[str]:
        """What an operator should know of a table's files; in JSON lines, columns that the first rows do not have."""
        table = self.tables[name]
        names = table.columns.names
        try:
            for export in self.find(name):
                missing = set(names) & table.columns.required
                with open_table(export.path, export.name, layout_of(table.table)) as opened:
                    check_header(opened, table.columns, self.shop)
                    if opened.header is not None:
                        continue
                    for count, row in enumerate(opened.rows(names)):
                        missing -= {name for name, cell in zip(names, row.cells, strict=False) if cell is not None}
                        if count >= 1_000 or not missing:
                            break
                yield from (f"{export.name}: none of the first rows has {column!r}" for column in sorted(missing))
        except CrmkitError as error:
            yield str(error)

    def nothing_known(self) -> Iterator[str]:
        """That the folder holds files, and none by a name that a table has."""
        there = sorted(path.name for path in self.folder.iterdir() if path.is_file() and path.name[0] != ".")
        if there and not any(self.find(name) for name in self.tables):
            known = ", ".join(name for one in self.tables.values() for name in patterns_of(one.table.file)[:1])
            do = f"rename them, or say file = ... in {self.shop}.orders"
            yield f"none of {known} is in {self.folder}, which holds {', '.join(there[:20])}; {do}"

    def count(self, name: str, exports: Sequence[Export]) -> int | None:
        """How many rows there are, where counting them is cheap."""
        layout = layout_of(self.tables[name].table)
        if any(format_of(export.path, layout) == "xlsx" or export.size > _CHEAP for export in exports):
            return None
        count = 0
        try:
            for export in exports:
                with open_table(export.path, export.name, layout) as opened:
                    count += sum(1 for _ in opened.rows(()))
        except PayloadError:
            return None
        return count

    def reports(self) -> set[str]:
        """What the shop reports: what its mapping says, else what its columns, and those its files have, tell."""
        if self._settings.reports is not None:
            return set(self._settings.reports)
        found: set[str] = set()
        for name, table in self.tables.items():
            there = self._columns_there(name)
            if there is None:
                continue
            said = {field for field in table.mapped if not (used := table.sources.get(field)) or there & {*used}}
            if name in ("orders", "parcels"):
                found |= {milestone for milestone in _MILESTONES if f"{milestone}_at" in said}
            if name == "orders" and "status" in said:
                found |= {*_values(table.table.columns["status"])} & _MILESTONES
            if stands_alone(table):
                found.add(name)
        return found

    def _columns_there(self, name: str) -> set[str] | None:
        """The columns a table's files have; all that are mapped if that cannot be seen; None without a file."""
        table = self.tables[name]
        try:
            exports = self.find(name)
            there: set[str] = set()
            for export in exports:
                with open_table(export.path, export.name, layout_of(table.table)) as opened:
                    there |= {*(opened.header if opened.header is not None else table.columns.names)}
            return there if exports else None
        except CrmkitError:
            return {*table.columns.names}

    def _complete(self, table: Translation) -> None:
        """See that a table says what its records cannot do without."""
        name, config = table.name, table.table
        if name not in ("lines", "parcels") and "external_id" not in table.mapped:
            raise self._wrong(f"{name} have no id", f'say external_id = "COLUMN" in {name}.columns')
        needs_order = isinstance(config, ChildTable) and name != "reviews" and not has_rows_of_orders(config)
        if needs_order and getattr(config, "order", None) is None:
            raise self._wrong(f"{name} do not say what order they belong to", f'say order = "COLUMN" in {name}')
        amounts = {field for field in table.mapped if (kind := table.kind.type_of(field)) and kind.as_ == "amount"}
        if "currency" in table.kind.fields and amounts and self.currency is None and "currency" not in table.mapped:
            raise self._wrong(f"{name} have amounts but no currency", f'say currency = "EUR" in {self.shop}')

    def _joins(self) -> None:
        """See that what is joined is there."""
        if not self.tables:
            raise self._wrong("it names no table", 'say preset = "...", or map orders and their columns')
        orders = self.tables.get("orders")
        if orders is None:
            if "lines" in self.tables:
                raise self._wrong("it has lines but no orders", "map orders too")
            return
        if (
            isinstance(orders.table, OrderTable)
            and orders.table.customer is not None
            and "customers" not in self.tables
        ):
            raise self._wrong("orders.customer joins customers, which are not mapped", "map customers too")
        for field, how, said in orders.aggregates:
            table, _, column = said.partition(".")
            if table not in {*self.tables} - {"orders", "customers"} or bool(column) == (how == "count"):
                what = f"orders.columns.{field}: {how} = {said!r} is no table that is joined, or no column of it"
                raise self._wrong(what, 'say sum = "lines.COLUMN" or count = "parcels"')

    def _wrong(self, what: str, do: str) -> ConfigError:
        return ConfigError(what, who=self.shop, operation="mapping", do=do)


def stands_alone(table: Translation) -> bool:
    """Whether the rows of a table are records by themselves, with a stream of their own."""
    if isinstance(table.table, CustomerTable):
        return table.table.list
    return table.name not in ("orders", "lines")


def has_rows_of_orders(table: Table) -> bool:
    """Whether a table's rows are those of the order file."""
    return isinstance(table, LineTable) and table.rows_of is not None


def _values(spec: Any) -> Iterator[str]:
    """Every canonical value that a spec of the mapping can give."""
    if isinstance(spec, dict):
        yield from (str(value) for value in (spec.get("values") or {}).values())
        yield from (str(spec[key]) for key in ("value", "present") if key in spec)
        for part in spec.get("first") or ():
            yield from _values(part)
