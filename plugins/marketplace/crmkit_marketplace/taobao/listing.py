"""Lists that lose nothing while they change.

A list is sorted by the time of change, the latest first, and read by page number. What changes meanwhile leaves the
span it is read for, and everything older moves up: who reads the first page first does not see what moves from the
second page to the first. So the last page is read first; what moves then is seen twice. A list that fits one page is
read as one.

What comes in late moves the other way, down, and as much may leave as comes, so no count tells. So each page has to
show a row of the pages behind it again: then nothing between the two was missed. One that shows none is read again
further down. Pages have a number and a size and no offset; a size is taken by which they overlap.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .api import Top, rows_of
from .signing import written

#: A span with more rows than this is halved, while it is longer than `SHORTEST`.
MOST = 2_000
SHORTEST = timedelta(minutes=30)
#: Pages that were pushed away before they were read are looked for so often in a list.
TRIES = 12
#: The most rows a page may have.
LARGEST = 100
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Listing:
    """A method that lists.

    Attributes:
        method: `taobao.trades.sold.increment.get`.
        operation: what it is for, as errors name it.
        outer, inner: what its rows are wrapped in.
        start, end: what it calls the ends of a span.
        key: a field every row has; the count asks for no more.
        params: whatever else it is asked with; `fields` among them.
        most: a span with more rows is halved.
        shortest: a span that short is not.
    """

    method: str
    operation: str
    outer: str
    inner: str
    start: str
    end: str
    key: str
    params: Mapping[str, Any]
    most: int = MOST
    shortest: timedelta = SHORTEST


async def pages(top: Top, what: Listing, start: datetime, end: datetime, size: int) -> AsyncIterator[list[Any]]:
    """The rows of a span, page by page; a row may come twice. Both of its ends belong to it.

    Args:
        start, end: to the second; the platform does not say whether its ends belong to a span, so it is asked for one
            that is a second longer on both sides.
    """
    first, last = start.replace(microsecond=0) - _SECOND, end.replace(microsecond=0) + _SECOND
    span = {what.start: written(first), what.end: written(last)}
    rows, has_more = await _page(top, what, span, 1, size)
    if not has_more:
        yield rows
        return
    total = await _count(top, what, span)
    if total > what.most and end - start > what.shortest:
        middle = start + (end - start) / 2
        for part in ((start, middle), (middle, end)):
            async for rows in pages(top, what, *part, size):
                yield rows
        return
    async for rows in _last_first(top, what, span, total, size):
        yield rows


async def _last_first(
    top: Top, what: Listing, span: Mapping[str, str], total: int, size: int
) -> AsyncIterator[list[Any]]:
    """The pages from the last to the first.

    Raises:
        RetryableError: the list grows faster than it is read.
    """
    behind, seen, tries = total, set[str](), 0
    while behind > 0:
        width = _width(behind, size)
        first = behind // width * width
        rows, has_more = await _page(top, what, span, first // width + 1, width)
        versions = {repr(row) for row in rows}
        if has_more and seen.isdisjoint(versions):
            tries += 1
            if tries > TRIES:
                raise top.changing(what.operation)
            behind = first + width + size // 2
            continue
        yield rows
        seen |= versions
        behind = first


def _width(behind: int, size: int) -> int:
    """The size of pages one of which has the row at `behind`, and as many as can be before it.

    It is more than `size` only where no page of that size has any.
    """
    best = max(range(1, size + 1), key=lambda width: (behind % width, width))
    while behind % best == 0 and best < LARGEST:
        best += 1
    return best


async def _page(top: Top, what: Listing, span: Mapping[str, str], number: int, size: int) -> tuple[list[Any], bool]:
    """The rows of a page, and whether there are more behind it."""
    asked = {**what.params, **span, "page_no": number, "page_size": size, "use_has_next": True}
    answer = await top.ask(what.operation, what.method, **asked)
    rows = rows_of(answer, what.outer, what.inner)
    has_more = answer.get("has_next", len(rows) >= size)  # where it does not say, a full page may not be the last
    return rows, has_more in (True, "true")


async def _count(top: Top, what: Listing, span: Mapping[str, str]) -> int:
    asked = {**what.params, **span, "fields": what.key, "page_no": 1, "page_size": 1, "use_has_next": False}
    answer = await top.ask(what.operation, what.method, **asked)
    total = str(answer.get("total_results", ""))
    if not total.isascii() or not total.isdigit():
        raise top.strange(what.operation, "a list without its count (total_results)")
    return int(total)
