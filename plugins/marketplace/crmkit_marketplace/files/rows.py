"""Tables whose rows are records by themselves: customers, parcels, payments, refunds, returns, reviews."""

from collections.abc import Generator
from typing import Any

from pydantic import ValidationError

from crmkit import Page, PayloadError, Record

from .cells import CellError
from .exports import Export, check_header, layout_of
from .lookup import Lookup
from .reads import UNSET, Cells, Read
from .run import Run
from .tabular import Row, Tabular, open_table
from .translate import Translation


class RowReader:
    """Reads one table, a record a row.

    Args:
        shop: the shop's section, for errors.
        table: the table, compiled.
        currency: of amounts that name none.
    """

    def __init__(self, shop: str, table: Translation, currency: str | None) -> None:
        self.shop, self.table, self.currency = shop, table, currency
        spec = getattr(table.table, "order", None)
        self._order: Read | None = table.reader("order", spec) if spec is not None else None
        named = [field for field in ("external_id", "ordinal") if field in table.mapped]
        self._id: Read = table.field(named[0]) if named else lambda row: UNSET

    def pages(self, run: Run, files: list[Export]) -> Generator[Page | None, None, None]:
        """Pages of records, oldest file first; None now and then."""
        with Lookup() as lookup:
            for number, export in enumerate(files):
                with open_table(export.path, export.name, layout_of(self.table.table)) as opened:
                    check_header(opened, self.table.columns, self.shop)
                    try:
                        for row in opened.rows(self.table.columns.names):
                            run.row += 1
                            self._land(row, number, export, opened, run, lookup)
                            if run.is_full:
                                yield run.page(row=run.row)
                            elif run.row % 2_000 == 0:
                                yield None
                    except PayloadError:
                        yield run.page(row=run.row)
                        raise
        yield run.page(row=run.row, done=True)

    def _land(self, row: Row, number: int, export: Export, opened: Tabular, run: Run, lookup: Lookup) -> None:
        """Land the record of a row, or refuse it."""
        place = f"{export.name}:{row.line}"
        ref, why = None, row.problem
        try:
            if why is None:
                ref, id_, order = self._names(row.cells)
                counted = lookup.count(order) if id_ is None and order is not None else None
                if id_ is not None:
                    key = f"{order}/{id_}" if self.table.name == "parcels" else id_
                    first = lookup.see(key, number, row.line, hash(tuple(row.cells)))
                    if first is not None and first[1]:
                        return
                    if first is not None:
                        why = f'a second {self.table.kind.word} "{id_}" that differs; the first is at '
                        why += f"{export.name}:{first[0]}"
                if why is None and run.row > run.skip:
                    run.land(self._record(row.cells, order, counted, export), place)
        except CellError as error:
            why = str(error)
        except ValidationError as error:
            why = self.table.why(error)
        if why is not None and run.row > run.skip:
            run.refuse(self.table.kind.word, place, why, opened.raw(row), ref)

    def _names(self, row: Cells) -> tuple[str, str | None, str | None]:
        """What a row is asked for again by, its id (None for a parcel that is counted), its order.

        Raises:
            CellError: it has no id, or no order.
        """
        table = self.table
        id_ = self._id(row)
        order = self._order(row) if self._order is not None else None
        if not isinstance(order, str) and self._order is not None and table.name != "reviews":
            raise CellError(f"it does not say what order it belongs to: {', '.join(table.sources['order'])} is empty")
        if not isinstance(id_, str) and table.name != "parcels":
            raise CellError(f"it has no id: {', '.join(table.sources['external_id'])} is empty")
        id_ = id_ if isinstance(id_, str) else None
        order = order if isinstance(order, str) else None
        ref = id_ if table.name in ("customers", "reviews") else order
        return str(ref), id_, order

    def _record(self, row: Cells, order: str | None, counted: int | None, export: Export) -> Record:
        values = self.table.values(row)
        if self.table.name == "customers":
            values = customer_of(values)
        elif "currency" in self.table.kind.fields and self.currency is not None and values.get("currency") is None:
            values["currency"] = self.currency
        if order is not None:
            values["order_external_id"] = order
        if counted is not None:
            values["ordinal"] = counted
        values["observed_at"] = export.written_at
        record: Any = self.table.kind.record.model_validate(values)
        assert isinstance(record, Record)
        return record


def buyer_of(values: dict[str, Any]) -> dict[str, Any]:
    """The buyer in the values of a customer's row."""
    return {name: value for name, value in values.items() if name not in ("created_at", "updated_at")}


def customer_of(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a customer's record: the buyer apart, the times beside it."""
    times = {name: value for name, value in values.items() if name in ("created_at", "updated_at")}
    return {"external_id": values.get("external_id"), "buyer": buyer_of(values), **times}
