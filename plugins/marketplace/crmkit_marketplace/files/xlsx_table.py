"""Spreadsheets: the rows of one sheet of an `.xlsx` file, streamed. Needs the extra `xlsx` (openpyxl).

A spreadsheet's numbers are floats: an id of 1001 is stored as 1001.0 and comes out as `1001`.
"""

import datetime
import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, Self

from crmkit import ConfigError, PayloadError

from .cells import Native
from .tabular import Layout, Row, Tabular, picker


class XlsxTable(Tabular):
    """One sheet; the first unless the mapping names another."""

    def __init__(self, name: str, rows: Iterator[tuple[Any, ...]], header: int) -> None:
        super().__init__(name)
        self._rows = enumerate(self._whole(rows), 1)
        first: tuple[Any, ...] = ()
        for number, cells in self._rows:
            if number == header:
                first = cells
                break
        self.header = [_text(cell).strip() for cell in first]
        while self.header and not self.header[-1]:
            self.header.pop()
        if not self.header:
            raise PayloadError("the sheet is empty: no header", who=name, operation="read", do="export it again")

    def _whole(self, rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        number = 0
        try:
            for number, cells in enumerate(rows, 1):  # noqa: B007  (it names the row that broke)
                yield cells
        except Exception as error:  # whatever a damaged archive makes of its reader
            self._broken(number + 1, error)

    @classmethod
    @contextmanager
    def opened(cls, source: IO[bytes], name: str, layout: Layout) -> Iterator[Self]:
        """Open the sheet."""
        try:
            from openpyxl import load_workbook
        except ImportError as error:
            raise ConfigError(
                "XLSX files need openpyxl, which is not installed",
                who=name,
                operation="read",
                do="run: pip install 'crmkit-marketplace[xlsx]'",
            ) from error
        try:
            book = load_workbook(source, read_only=True, data_only=True)
        except Exception as error:  # whatever a damaged archive makes of its reader
            raise PayloadError(
                f"it is no XLSX file, or half of one: {error}", who=name, operation="read", do="export it again"
            ) from error
        try:
            if layout.sheet is not None and layout.sheet not in book.sheetnames:
                near = difflib.get_close_matches(layout.sheet, book.sheetnames, 1)
                raise ConfigError(
                    f"no sheet {layout.sheet!r}; its sheets are {', '.join(book.sheetnames)}",
                    who=name,
                    operation="read",
                    do=f"did you mean {near[0]!r}?" if near else "correct the mapping's sheet",
                )
            sheet = book[layout.sheet] if layout.sheet is not None else book.worksheets[0]
            sheet.reset_dimensions()  # the size some programs write into the file is wrong
            yield cls(name, sheet.iter_rows(values_only=True), layout.header)
        finally:
            book.close()

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """The rows; empty ones are left out."""
        header = self.header or []
        pick, width = picker(header, columns), len(header)
        for number, cells in self._rows:
            raw = [_text(cell) for cell in cells]
            if not any(raw):
                continue
            if any(raw[width:]):
                yield Row(number, (), raw, f"{len(raw)} cells where the header has {width}")
                continue
            raw = raw[:width] + [""] * (width - len(raw))
            if "\x00" in "".join(raw):
                yield Row(number, (), raw, "holds a NUL character")
            else:
                yield Row(number, pick(raw), raw)


def _text(cell: Any) -> str:
    match cell:
        case None:
            return ""
        case bool():
            return str(cell).lower()
        case int():
            return Native(cell)
        case float():
            return Native(int(cell) if cell.is_integer() else format(cell, ".15g"))
        case datetime.datetime():
            return Native(cell.isoformat(" "))
        case datetime.date() | datetime.time():
            return Native(cell.isoformat())
        case _:
            return str(cell)
