"""Orders joined with their lines, their customer, and what other tables add up to.

The joined tables are kept by key on disk, the orders are streamed. In several exports of one shop an order may be in
many files: only its newest row is joined; older rows still tell their milestones.

A joined file that breaks off says nothing certain of any order: its lines and sums stay unset, the orders land, and the
error is raised after them.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from crmkit import LineRecord, OrderRecord, Page, PayloadError

from .cells import CellError
from .exports import Export, check_header, layout_of, newest
from .lookup import Found, Lookup
from .plan import has_rows_of_orders, stands_alone
from .reads import UNSET, Read, stripped
from .rows import buyer_of
from .run import PAGE, Run
from .tabular import Row, Tabular, as_json, open_table
from .translate import Translation

_CHUNK = 2_000


@dataclass(slots=True)
class Entry:
    """The rows of one order in one file (more than one where each line has a row), or one row that is none."""

    row: int
    id: str | None
    rows: list[Row] = field(default_factory=list)
    bad: list[tuple[Row, str]] = field(default_factory=list)


class OrderReader:
    """Reads the order table of a mapping, with what is joined to it.

    Args:
        shop: the shop's section, for errors.
        tables: the mapping, compiled.
        currency: of orders that name none.
    """

    def __init__(self, shop: str, tables: dict[str, Translation], currency: str | None) -> None:
        self.shop, self.currency = shop, currency
        self.orders = orders = tables["orders"]
        self.lines = tables.get("lines")
        self.flat = self.lines is not None and has_rows_of_orders(self.lines.table)
        self._id = orders.field("external_id")
        customer = getattr(orders.table, "customer", None)
        self._customer: Read | None = orders.reader("customer", customer) if customer is not None else None
        self._keys: dict[str, Read] = {}
        self.joined: dict[str, Translation] = {}
        if self.lines is not None and not self.flat:
            self._join(self.lines, "order")
        if self._customer is not None:
            self._join(tables["customers"], "key")
        self._aggregates = []
        for name, how, said in orders.aggregates:
            table, _, column = said.partition(".")
            child = tables[table]
            place, parse = child.aggregate(column, f"orders.columns.{name}") if column else (0, str)
            self._aggregates.append((name, how, table, place, parse))
            if not (self.flat and table == "lines") and table not in self.joined:
                self._join(child, "order")
        self._with_ids = self.lines is not None and "external_id" in self.lines.mapped

    def _join(self, table: Translation, key: str) -> None:
        spec = getattr(table.table, key, None)
        self._keys[table.name] = table.field("external_id") if spec is None else table.reader(key, spec)
        self.joined[table.name] = table

    def pages(self, run: Run, files: dict[str, list[Export]]) -> Generator[Page | None, None, None]:
        """Pages of orders, oldest file first; None now and then, while the joined tables are read."""
        self._files = files
        self._broken: dict[str, PayloadError] = {}
        self._silent = {name for name in self.joined if not files[name]}
        own = files["orders"]
        self._seen_at = max(
            (at for name in ("orders", *self.joined) if (at := newest(files[name])) is not None), default=None
        )
        with Lookup() as lookup:
            for table in self.joined.values():
                yield from self._keep(table, run, lookup)
            if len(own) > 1:
                yield from self._note_newest(own, lookup)
            for number, export in enumerate(own):
                with open_table(export.path, export.name, layout_of(self.orders.table)) as opened:
                    check_header(opened, self.orders.columns, self.shop)
                    yield from self._file(number, export, opened, run, lookup)
            if run.only is None and "lines" in self.joined:
                yield from self._orphans(run, lookup)
        if self._broken:
            if run.holds_something:
                yield run.page()
            raise next(iter(self._broken.values()))
        yield run.page(row=run.row, done=True)

    def _keep(self, table: Translation, run: Run, lookup: Lookup) -> Iterator[Page | None]:
        """Keep the rows of a joined table; those that are no rows are told of here if no stream of their own does."""
        key, tells = self._keys[table.name], not run.skip and not stands_alone(table)
        wanted = run.only if table.name != "customers" else None
        lookup.create(table.name)
        chunk: list[tuple[str, Found]] = []
        try:
            for number, export in enumerate(self._files[table.name]):
                with open_table(export.path, export.name, layout_of(table.table)) as opened:
                    check_header(opened, table.columns, self.shop)
                    for row in opened.rows(table.columns.names):
                        id_ = key(row.cells) if row.problem is None else None
                        if isinstance(id_, str):
                            if wanted is None or id_ in wanted:
                                chunk.append((id_, Found(number, row.line, row.cells)))
                        elif tells:
                            why = row.problem or "it does not say what it belongs to: the key is empty"
                            run.refuse(table.kind.word, f"{export.name}:{row.line}", why, opened.raw(row))
                        if len(chunk) >= _CHUNK or run.is_full:
                            lookup.keep(table.name, chunk)
                            chunk.clear()
                            yield run.page() if run.is_full else None
        except PayloadError as error:
            self._broken[table.name] = error
            self._silent.add(table.name)
        lookup.keep(table.name, chunk)
        lookup.seal(table.name)

    def _note_newest(self, own: Sequence[Export], lookup: Lookup) -> Iterator[None]:
        for number, export in enumerate(own):
            try:
                with open_table(export.path, export.name, layout_of(self.orders.table)) as opened:
                    check_header(opened, self.orders.columns, self.shop)
                    rows = (row for row in opened.rows(self.orders.columns.names) if row.problem is None)
                    lookup.note_newest((id_, number) for row in rows if isinstance(id_ := self._id(row.cells), str))
            except PayloadError:
                pass  # it is told of when its orders are read
            yield None

    def _file(self, number: int, export: Export, opened: Tabular, run: Run, lookup: Lookup) -> Iterator[Page | None]:
        batch: list[Entry] = []
        try:
            for entry in self._entries(opened, run):
                if entry.id is not None:
                    digest = hash(tuple(tuple(row.cells) for row in entry.rows))
                    first = lookup.see(entry.id, number, entry.rows[0].line, digest)
                    if first is not None:
                        line, is_same = first
                        if not is_same:
                            why = f'a second order "{entry.id}" that differs; the first is at {export.name}:{line}'
                            entry.bad.append((entry.rows[0], why))
                        entry.rows = []
                if entry.row > run.skip:
                    batch.append(entry)
                elif entry.row % _CHUNK == 0:
                    yield None
                if len(batch) >= PAGE:
                    yield from self._assemble(batch, number, export, opened, run, lookup)
                    batch = []
        except PayloadError:
            yield from self._assemble(batch, number, export, opened, run, lookup)
            raise
        yield from self._assemble(batch, number, export, opened, run, lookup)

    def _entries(self, opened: Tabular, run: Run) -> Iterator[Entry]:
        """The orders of a file. An order's further rows have its id again, or none."""
        current: Entry | None = None
        for row in opened.rows(self.orders.columns.names):
            run.row += 1
            id_, problem = None, row.problem
            if problem is None:
                id_ = self._id(row.cells)
                if current is not None and id_ in (None, UNSET, current.id):
                    current.rows.append(row)
                    current.row = run.row
                    continue
                if not isinstance(id_, str):
                    problem = f"it has no id: {', '.join(self.orders.sources['external_id'])} is empty"
            if problem is not None:
                if current is not None:
                    current.bad.append((row, problem))
                    current.row = run.row
                else:
                    yield Entry(run.row, None, bad=[(row, problem)])
                continue
            if current is not None:
                yield current
            current = Entry(run.row, id_, [row])
            if not self.flat:
                yield current
                current = None
        if current is not None:
            yield current

    def _assemble(
        self, batch: list[Entry], number: int, export: Export, opened: Tabular, run: Run, lookup: Lookup
    ) -> Iterator[Page]:
        if not batch:
            return
        whole = {entry.id: entry for entry in batch if entry.rows and entry.id is not None}
        if run.only is not None:
            whole = {id_: entry for id_, entry in whole.items() if id_ in run.only}
        current = [id_ for id_ in whole if len(self._files["orders"]) == 1 or lookup.is_newest(id_, number)]
        children = {name: lookup.rows(name, current) for name in self.joined if name != "customers"}
        customers: dict[str, list[Found]] = {}
        if self._customer is not None:
            keys = {key for id_ in current if isinstance(key := self._customer(whole[id_].rows[0].cells), str)}
            customers = lookup.rows("customers", sorted(keys))
        is_current = set(current)
        for entry in batch:
            for row, why in entry.bad:
                run.refuse("order", f"{export.name}:{row.line}", why, opened.raw(row), entry.id)
            if entry.id is None or entry.id not in whole or not entry.rows:
                continue
            first = entry.rows[0]
            place = f"{export.name}:{first.line}"
            try:
                values = self.orders.values(first.cells)
                if self.currency is not None and values.get("currency") is None:
                    values["currency"] = self.currency
                values["observed_at"] = export.written_at
                if entry.id in is_current:
                    values["observed_at"] = self._seen_at
                    mine = {name: found.get(entry.id, []) for name, found in children.items()}
                    if self.flat:
                        mine["lines"] = [Found(number, row.line, row.cells) for row in entry.rows]
                    self._fill(values, entry.id, first, mine, customers, run, export)
                run.land(OrderRecord.model_validate(values), place)
            except CellError as error:
                run.refuse("order", place, str(error), opened.raw(first), entry.id)
            except ValidationError as error:
                run.refuse("order", place, self.orders.why(error), opened.raw(first), entry.id)
        yield run.page(row=batch[-1].row)

    def _fill(
        self,
        values: dict[str, Any],
        id_: str,
        first: Row,
        children: dict[str, list[Found]],
        customers: dict[str, list[Found]],
        run: Run,
        export: Export,
    ) -> None:
        """Add what is joined to an order's own values."""
        if self.lines is not None and "lines" not in self._silent:
            values["lines"] = self._lines(id_, children["lines"], run)
        for name, how, table, place, parse in self._aggregates:
            if table not in self._silent:
                value = _aggregated(how, children[table], place, parse)
                if value is not UNSET:
                    values[name] = value
        if self._customer is not None:
            found = customers.get(str(self._customer(first.cells)), [])
            buyer = self._buyer(found, run)
            own = {name: value for name, value in (values.get("buyer") or {}).items() if value is not None}
            if buyer or own:
                values["buyer"] = buyer | own

    def _buyer(self, found: list[Found], run: Run) -> dict[str, Any]:
        if not found:
            return {}
        table = self.joined["customers"]
        row = next(row for row in found if row.file == found[-1].file)
        try:
            return buyer_of(table.values(row.cells))
        except CellError as error:
            if not stands_alone(table):
                place = f"{self._files['customers'][row.file].name}:{row.line}"
                run.refuse("customer", place, str(error), _raw(table, row))
            return {}

    def _lines(self, id_: str, found: list[Found], run: Run) -> list[LineRecord]:
        assert self.lines is not None
        files = self._files["orders" if self.flat else "lines"]
        if not self._with_ids and found:
            found = [row for row in found if row.file == found[-1].file]
        lines: dict[str, tuple[Found, LineRecord]] = {}
        own = {self.lines.columns.names.index(name) for names in self.lines.sources.values() for name in names}
        for ordinal, row in enumerate(found, 1):
            if self.flat and not any(row.cells[place] for place in own):
                continue
            why = None
            try:
                values = self.lines.values(row.cells)
                if not self._with_ids:
                    values["external_id"] = str(ordinal)
                line = LineRecord.model_validate(values)
                before = lines.get(line.external_id)
                if before is None or before[0].file != row.file:
                    lines[line.external_id] = row, line
                elif before[1] != line:
                    at = f"{files[before[0].file].name}:{before[0].line}"
                    why = f'a second line "{line.external_id}" of order "{id_}" that differs; the first is at {at}'
            except CellError as error:
                why = str(error)
            except ValidationError as error:
                why = self.lines.why(error)
            if why is not None:
                run.refuse("line", f"{files[row.file].name}:{row.line}", why, _raw(self.lines, row), id_)
        return [line for _, line in lines.values()]

    def _orphans(self, run: Run, lookup: Lookup) -> Iterator[Page]:
        assert self.lines is not None
        for key, row in lookup.orphans("lines"):
            place = f"{self._files['lines'][row.file].name}:{row.line}"
            run.refuse("line", place, f'there is no order "{key}"', _raw(self.lines, row), key)
            if run.is_full:
                yield run.page()


def _raw(table: Translation, row: Found) -> str:
    return as_json(dict(zip(table.columns.names, row.cells, strict=True)))


def _aggregated(how: str, rows: list[Found], place: int, parse: Any) -> Any:
    """The sum, maximum or count; None without rows, unset where a cell cannot be read (its own row is refused)."""
    if how == "count":
        return len(rows) or None
    try:
        said = [parse(cell) for row in rows if (cell := stripped(row.cells[place] or ""))]
    except CellError:
        return UNSET
    if not said:
        return None
    return sum(said, Decimal(0)) if how == "sum" else max(said)
