"""CSV: separated by comma, semicolon, tab or bar; UTF-8 with or without a BOM, or GB18030.

Line numbers are those of an editor: a quoted cell may hold line breaks, and a row is where it begins. When a quote is
opened and never closed, only the line it is in is refused and reading goes on with the next one.
"""

import codecs
import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO

from crmkit import PayloadError

from .tabular import BREAKS, Layout, Row, Tabular, picker

SEPARATORS = (",", ";", "\t", "|")


class CsvTable(Tabular):
    """Comma, semicolon, tab or bar separated values."""

    def __init__(self, source: IO[bytes], name: str, layout: Layout) -> None:
        super().__init__(name)
        head, self._lines = _Lines.of(source), _Lines(source)
        try:
            encoding = layout.encoding or _encoding(head, name)
            self._lines.decode = codecs.lookup(encoding).decode
            for _ in range(layout.header - 1):
                next(self._lines)
            first = next(self._lines)
        except StopIteration:
            raise PayloadError("it is empty: no header", who=name, operation="read", do="export it again") from None
        except (UnicodeDecodeError, *BREAKS) as error:
            self._broken(self._lines.number + 1, error)
        self._lines.put_back(1)
        try:
            separator = {"tab": "\t", "\\t": "\t"}.get(layout.separator or "", layout.separator) or max(
                SEPARATORS, key=lambda mark: len(next(csv.reader([first], delimiter=mark), []))
            )
            self._reader = csv.reader(self._lines, delimiter=separator, strict=True)
            self.header = [column.strip() for column in next(self._reader)]
        except csv.Error as error:
            raise PayloadError(f"its header cannot be read: {error}", who=name, operation="read") from error
        except (UnicodeDecodeError, *BREAKS) as error:  # a quote that is not closed makes the header go on
            self._broken(self._lines.number + 1, error)
        while self.header and not self.header[-1]:
            self.header.pop()

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """The rows; one that a stray quote has swallowed others into is refused alone."""
        header, lines, reader = self.header or [], self._lines, self._reader
        width, pick = len(header), picker(header, columns)
        while True:
            lines.taken.clear()
            line = lines.number + 1
            try:
                raw = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                problem = f"a quoted cell is not closed ({error})" if "end of data" in str(error) else str(error)
                yield self._refused(line, problem)
                continue
            except (UnicodeDecodeError, *BREAKS) as error:
                self._broken(lines.number + 1, error)
            if len(raw) != width:
                if not raw:
                    continue
                while len(raw) > width and not raw[-1]:
                    raw.pop()
                if len(raw) != width:
                    cells = f"{len(raw)} cell{'s' * (len(raw) != 1)} where the header has {width}"
                    yield self._refused(line, cells, raw)
                    continue
            if "\x00" in "".join(raw):
                yield Row(line, (), raw, "holds a NUL character")
            else:
                yield Row(line, pick(raw), raw)

    def _refused(self, line: int, problem: str, raw: list[str] | None = None) -> Row:
        if raw is None or len(self._lines.taken) > 1:
            raw = [self._lines.taken[0].rstrip("\r\n")] if self._lines.taken else []
            self._lines.put_back(len(self._lines.taken) - 1)
        return Row(line, (), raw, problem)


class _Lines:
    """Decoded lines that can be put back. It decodes line by line, so that the lines before a bad byte are read."""

    def __init__(self, source: Iterable[bytes]) -> None:
        self.source = iter(source)
        self.decode: Callable[[bytes], tuple[str, int]] = codecs.lookup("utf-8").decode
        self.number = 0
        self.taken: list[str] = []
        self.back: list[str] = []

    @staticmethod
    def of(source: IO[bytes]) -> bytes:
        """The first bytes of a file, which stay to be read."""
        head = b""
        try:
            while len(head) < 262_144 and (piece := source.read(8_192)):
                head += piece
        except BREAKS:  # a damaged file is told of by its rows
            pass
        source.seek(0)
        return head

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.back.pop() if self.back else self.decode(next(self.source))[0]
        if self.number == 0:
            line = line.removeprefix("\ufeff")
        self.number += 1
        self.taken.append(line)
        return line

    def put_back(self, count: int) -> None:
        """Give the last `count` lines out again."""
        for _ in range(count):
            self.back.append(self.taken.pop())
        self.number -= count


def _encoding(head: bytes, name: str) -> str:
    """UTF-8 with or without a BOM, or GB18030 where most of what is not ASCII is plain Chinese in it."""
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8"  # the mark itself is taken off the first line
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise PayloadError("it is UTF-16 text", who=name, operation="read", do="save it as UTF-8")
    head = head[: head.rfind(b"\n") + 1] or head
    try:
        head.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError:
        pass
    try:
        foreign = [letter for letter in head.decode("gb18030") if letter > "\x7f"]
    except UnicodeDecodeError:
        return "utf-8"
    plain = sum(len(letter.encode("gb2312", "ignore")) == 2 for letter in foreign)
    return "gb18030" if plain >= 0.9 * len(foreign) else "utf-8"
