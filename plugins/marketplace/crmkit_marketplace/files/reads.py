"""From a row's cells to one value: a column, the latest of several, a text made of them, a constant.

Each function here makes such a function; the cells it needs are given by their places.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .cells import CellError, Native, Parse, text

Cells = Sequence[str | None]
Read = Callable[[Cells], Any]

HOLE = re.compile(r"\{([^{}]+)\}")


class _Unset:
    """What a function gives for a field that the row does not say."""


UNSET = _Unset()


def shown(value: Any) -> str:
    """A value as errors show it."""
    written = repr(str(value))
    return written if len(written) <= 80 else f"{written[:77]}..."


def stripped(cell: str) -> str:
    """A cell without the space around it; a native one stays one."""
    return cell.strip() if cell.__class__ is str else cell


def cell(column: str, place: int, parse: Parse) -> Read:
    """The value of one column; a cell that cannot be read is named with its column."""

    def read(row: Cells) -> Any:
        cell = row[place]
        if cell is None:
            return UNSET
        cell = stripped(cell)
        if not cell:
            return None
        try:
            return parse(cell)
        except CellError as error:
            raise CellError(f"{column} {shown(cell)} {error}") from None

    if parse is text:

        def read_text(row: Cells) -> Any:
            cell = row[place]
            return UNSET if cell is None else str(cell).strip() or None

        return read_text
    return read


def constant(value: Any) -> Read:
    """Always the same value."""
    return lambda row: value


def present(place: int, value: Any) -> Read:
    """A value where the column is not empty."""

    def read(row: Cells) -> Any:
        cell = row[place]
        return UNSET if cell is None else value if cell.strip() else None

    return read


def template(pattern: str, places: dict[str, int]) -> Read:
    """A text with columns put into it; None if one of them is empty."""
    pieces = HOLE.split(pattern)

    def read(row: Cells) -> Any:
        out = []
        for index, piece in enumerate(pieces):
            if index % 2 == 0:
                out.append(piece)
                continue
            cell = row[places[piece]]
            if cell is None:
                return UNSET
            if not (cell := cell.strip()):
                return None
            out.append(cell)
        return "".join(out)

    return read


def joined(places: Sequence[int], between: str) -> Read:
    """The columns that are not empty, put together."""

    def read(row: Cells) -> Any:
        said = [cell for place in places if (cell := row[place]) is not None]
        if not said:
            return UNSET
        return between.join(cell for cell in map(str.strip, said) if cell) or None

    return read


def latest(columns: Iterable[tuple[str, int]], parse: Parse) -> Read:
    """The latest of several times."""
    reads = [cell(column, place, parse) for column, place in columns]

    def read(row: Cells) -> Any:
        latest, said = None, False
        for one in reads:
            at = one(row)
            if at is not UNSET:
                said = True
                if at is not None and (latest is None or at > latest):
                    latest = at
        return latest if said else UNSET

    return read


def first(reads: Sequence[Read]) -> Read:
    """The first that says something."""

    def read(row: Cells) -> Any:
        said = False
        for one in reads:
            value = one(row)
            if value is not UNSET:
                said = True
                if value is not None:
                    return value
        return None if said else UNSET

    return read


def chosen(values: dict[str, Any], choices: Any) -> Parse:
    """One of the values a field knows; what the mapping does not list is unknown."""
    exact = dict(values)
    folded = {raw.casefold(): value for raw, value in values.items()}

    def parse(cell: str) -> Any:
        if cell in exact:
            return exact[cell]
        return folded.get(cell.casefold(), choices("unknown") if "unknown" in choices._value2member_map_ else None)

    return parse


def translated(values: dict[str, Any], parse: Parse) -> Parse:
    """A value the mapping gives a meaning; what it does not list is read as it stands."""

    def read(cell: str) -> Any:
        if cell not in values:
            return parse(cell)
        value = values[cell]
        if not isinstance(value, str):
            return value
        return parse(Native(value)) if value else None

    return read
