"""Files of rows: CSV, JSON lines and XLSX, plain or `.gz`, read one row at a time.

Every cell comes out as text ("" where the file says empty, None where a row does not have the column at all); a row
that is no row comes out with its `problem`. A file that ends too early, or holds bytes that are no text, raises
`PayloadError` after its last whole row.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn

from crmkit import ConfigError, PayloadError

#: The endings of the formats; `.gz` may follow each.
ENDINGS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".xlsx": "xlsx",
}
#: What a file that is cut off or damaged raises.
BREAKS = (EOFError, zlib.error, OSError)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is written, where the mapping says so; what is None is found out."""

    format: str | None = None
    encoding: str | None = None
    separator: str | None = None
    sheet: str | None = None
    header: int = 1


@dataclass(slots=True)
class Row:
    """One row: where it begins, the cells of the columns asked for, the whole of it, and what is wrong with it."""

    line: int
    cells: Sequence[str | None]
    raw: Any
    problem: str | None = None


class Tabular:
    """An open file of rows. `header` is None where every row names its own columns (JSON lines)."""

    header: list[str] | None = None

    def __init__(self, name: str) -> None:
        self.name = name

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """The rows, with the cells of `columns` in that order."""
        raise NotImplementedError

    def raw(self, row: Row) -> str:
        """The whole row as JSON text, for a person to look at."""
        value = row.raw
        if self.header is not None and isinstance(value, list) and len(value) == len(self.header):
            value = dict(zip(self.header, value, strict=True))
        return as_json(value)

    def _broken(self, line: int, error: Exception) -> NoReturn:
        if isinstance(error, UnicodeDecodeError):
            what = f"bytes that are no {error.encoding} text"
            do = "save the file as UTF-8, or say its encoding in the mapping"
        else:
            what = "the compressed file ends too early or is damaged" if not isinstance(error, OSError) else str(error)
            do = "export or copy the file again"
        raise PayloadError(f"{what} at {self.name}:{line}", who=self.name, operation="read", do=do) from error


def as_json(value: Any) -> str:
    """JSON text that any database takes."""
    found = json.dumps(value, ensure_ascii=False, default=str)
    try:
        found.encode()
    except UnicodeEncodeError:
        found = json.dumps(value, default=str)
    return found


def format_of(path: Path, layout: Layout) -> str:
    """The format of a file: what the mapping says, else by its ending."""
    ending = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    return layout.format or ENDINGS.get(ending.lower(), "csv")


@contextmanager
def open_table(path: Path, name: str, layout: Layout) -> Iterator[Tabular]:
    """Open a file of rows; `name` is what it is called in errors."""
    form = format_of(path, layout)
    try:
        source: Any = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115
    except OSError as error:
        raise ConfigError(f"cannot open it: {error.strerror}", who=name, operation="read", do=f"see {path}") from error
    with source:
        if form == "xlsx":
            from .xlsx_table import XlsxTable

            with XlsxTable.opened(source, name, layout) as table:
                yield table
        elif form == "jsonl":
            from .json_table import JsonTable

            yield JsonTable(source, name, layout)
        else:
            from .csv_table import CsvTable

            yield CsvTable(source, name, layout)


def picker(header: Sequence[str], columns: Sequence[str]) -> Callable[[list[Any]], Sequence[Any]]:
    """A function from a whole row to the cells of `columns`; None for those that the header does not have."""
    place = {column: index for index, column in reversed(list(enumerate(header)))}
    at = [place.get(column, -1) for column in columns]
    if not at:
        return lambda row: ()
    if len(at) == 1:
        only = at[0]
        return (lambda row: (row[only],)) if only >= 0 else (lambda row: (None,))
    pick = itemgetter(*at)
    return pick if min(at) >= 0 else lambda row: pick([*row, None])
