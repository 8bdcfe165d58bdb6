"""JSON lines: an object a line. A nested object's members are columns `customer.email`."""

import json
from collections.abc import Iterator, Sequence
from typing import IO, Any

from .cells import Native
from .tabular import BREAKS, Layout, Row, Tabular


class JsonTable(Tabular):
    """A file of JSON lines. `header` is None: every row names its own columns."""

    def __init__(self, source: IO[bytes], name: str, layout: Layout) -> None:
        super().__init__(name)
        self._source = source
        self._encoding = layout.encoding or "utf-8-sig"

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """The rows; a column an object does not have is None, one that it says is null or "" is empty."""
        line = 0
        try:
            for binary in self._source:
                line += 1
                written = binary.decode(self._encoding).strip()
                if written:
                    yield self._row(line, written, columns)
        except (UnicodeDecodeError, *BREAKS) as error:
            self._broken(line if isinstance(error, UnicodeDecodeError) else line + 1, error)

    @staticmethod
    def _row(line: int, written: str, columns: Sequence[str]) -> Row:
        try:
            value = json.loads(written, parse_float=Native, parse_int=Native, parse_constant=Native)
            flat = _flat(value) if isinstance(value, dict) else None
        except (ValueError, RecursionError) as error:
            return Row(line, (), written, f"is no JSON: {error}")
        if flat is None:
            return Row(line, (), written, "is no JSON object")
        if "\\u" in written:
            if "\x00" in (said := "".join(flat.values())):
                return Row(line, (), value, "holds a NUL character")
            if not said.isascii() and said.encode("utf-8", "ignore").decode() != said:
                return Row(line, (), value, "holds half of a character (a lone surrogate)")
        return Row(line, [flat.get(column) for column in columns], value)


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flat |= _flat(item, f"{prefix}{key}.")
        elif isinstance(item, list):
            flat[prefix + key] = ",".join(str(part) for part in item)
        elif item is None or isinstance(item, bool):
            flat[prefix + key] = "" if item is None else str(item).lower()
        else:
            flat[prefix + key] = item
    return flat
