"""One cell's text to a value: times, days, amounts, numbers, yes and no.

Nothing is guessed: `1,234` may be a thousand or a little more than one, `03/04/2025` may be in March or in April;
such a cell is refused with what to say in the mapping. Native cells (a number of JSON, a date of a spreadsheet) are
unambiguous.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any

Parse = Callable[[str], Any]


class CellError(ValueError):
    """A cell that cannot be read; the text says what is wrong and what to do."""


class Native(str):
    """The text of a cell that was a number or a time in the file itself, not text: no setting applies to it."""

    __slots__ = ()


_TIME = re.compile(
    r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})"
    r"(?:[T ]\s*(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,6})\d*)?)?)?\s*(Z|UTC|GMT|[+-]\d{2}:?\d{2})?",
    re.ASCII,
)
_PLAIN = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
_SYMBOLS = " \t\u00a0\u202f€$£¥￥₹"
_WORDS = {"true": True, "yes": True, "y": True, "1": True, "false": False, "no": False, "n": False, "0": False}


def text(cell: str) -> str:
    """The cell as it stands, without the space around it."""
    return cell if cell.__class__ is str else str(cell)


def integer(cell: str) -> int:
    """A whole number."""
    number = amount(".")(cell)
    if number != int(number):
        raise CellError("is no whole number")
    return int(number)


def boolean(cell: str) -> bool:
    """Yes or no."""
    try:
        return _WORDS[cell.lower()]
    except KeyError:
        raise CellError("is neither yes nor no; say what it means with values = { ... = true }") from None


def tags(cell: str) -> list[str]:
    """A list in one cell, separated by commas."""
    return [part for part in (piece.strip() for piece in cell.split(",")) if part]


def moment(zone: tzinfo, formats: Sequence[str] = ()) -> Parse:
    """Times: ISO 8601 and its relatives, or the `formats` given (strptime, `epoch`, `epoch-ms`).

    A time without a zone of its own is read in `zone`. A year of 9999 is nobody's date: it reads as None.
    """

    def read(cell: str) -> datetime | None:
        at = _formatted(cell, formats) if formats else _iso(cell)
        if at is None or at.year >= 9999:
            return None
        return at if at.tzinfo is not None else at.replace(tzinfo=zone)

    return read


def day_end(zone: tzinfo, formats: Sequence[str] = ()) -> Parse:
    """The moment at which the day in the cell ends: the next local midnight in `zone`."""
    at = moment(zone, formats)

    def read(cell: str) -> datetime | None:
        found = at(cell)
        if found is None:
            return None
        day = found.astimezone(zone).date() if found.year > 1 else found.date()
        return datetime(day.year, day.month, day.day, tzinfo=zone) + timedelta(days=1)

    return read


def day(formats: Sequence[str] = ()) -> Parse:
    """A date without a time."""

    def read(cell: str) -> date | None:
        found = _formatted(cell, formats) if formats else _iso(cell)
        return None if found is None else found.date()

    return read


def _iso(cell: str) -> datetime | None:
    if len(cell) >= 10 and cell[4] == "-":  # anything else fromisoformat takes may be a number
        try:
            return datetime.fromisoformat(cell)
        except ValueError:
            pass
    match = _TIME.fullmatch(cell)
    if match is None:
        raise CellError('is no date I know; say how it is written with format = "%d/%m/%Y %H:%M"')
    year, _, month, dom, hour, minute, second, fraction, offset = match.groups()
    if int(year) == 0:  # 0000-00-00: how MySQL says that there is none
        return None
    try:
        at = datetime(int(year), int(month), int(dom), int(hour or 0), int(minute or 0), int(second or 0))
    except ValueError as error:
        raise CellError(f"is no date: {error}") from None
    at = at.replace(microsecond=int((fraction or "0").ljust(6, "0")))
    if offset is None:
        return at
    if offset[0] not in "+-":
        return at.replace(tzinfo=UTC)
    try:
        return datetime.fromisoformat(at.isoformat() + offset[:3] + ":" + offset[-2:])
    except ValueError as error:
        raise CellError(f"is no date: {error}") from None


def _formatted(cell: str, formats: Sequence[str]) -> datetime | None:
    for form in formats:
        try:
            if form in ("epoch", "epoch-ms"):
                number = float(cell)
                return datetime.fromtimestamp(number / 1000 if form == "epoch-ms" else number, UTC)
            return datetime.strptime(cell, form)
        except (ValueError, OverflowError, OSError):
            continue
    if isinstance(cell, Native):
        return _iso(cell)
    raise CellError(f"is not written as {' or '.join(formats)}")


def amount(decimal: str | None) -> Parse:
    """Amounts and numbers. `decimal` is the mark before the decimals, "." or ","; None if the mapping does not say."""
    mark = decimal or "."
    group = "," if mark == "." else "."
    grouped = re.compile(rf"[+-]?\d{{1,3}}(?:[{group}'\s]\d{{3}})+(?:{re.escape(mark)}\d+)?", re.ASCII)
    single = re.compile(rf"[+-]?\d+{re.escape(mark)}\d+", re.ASCII)

    def read(cell: str) -> Decimal:
        if (mark == "." or isinstance(cell, Native)) and _PLAIN.fullmatch(cell):
            return Decimal(cell)
        if isinstance(cell, Native):
            return Decimal(cell) if cell[-1:].isdigit() else _refuse(cell)
        bare = cell.strip(_SYMBOLS)
        if bare.isascii() and bare.isdigit():
            return Decimal(bare)
        if single.fullmatch(bare):
            return Decimal(bare.replace(mark, "."))
        if grouped.fullmatch(bare):
            if decimal is None and mark not in bare:
                raise CellError('may be thousands or decimals; set decimal = "." or decimal = ","')
            return Decimal(re.sub(rf"[{group}'\s]", "", bare).replace(mark, "."))
        return _refuse(bare, decimal)

    return read


def _refuse(cell: str, decimal: str | None = ".") -> Decimal:
    if re.fullmatch(r"[+-]?[\d.]*,\d+", cell) and decimal != ",":
        raise CellError('is no amount with a decimal point; set decimal = "," if the comma is before the decimals')
    if re.fullmatch(r"[+-]?[\d,]*\.\d+", cell) and decimal == ",":
        raise CellError('is no amount with a decimal comma; set decimal = "." if the point is before the decimals')
    raise CellError("is no amount")
