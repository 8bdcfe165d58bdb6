"""A vendor of orders that a source reads: it changes while it is read, and lists as real ones do.

An author subclasses it, writes an order as the vendor does, and answers requests; paging by number, by offset, by
cursor, and newest first (so that the last page is to be read first) are here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import httpx

from crmkit.testing.clock import NOON


class CursorExpired(Exception):
    """The cursor is from before `expire`; answer as the vendor does."""


@dataclass(slots=True)
class Kept:
    """An order in the shop.

    Attributes:
        number: its id.
        payload: it, as the vendor writes it.
        created_at, changed_at: by the vendor's clock.
    """

    number: int
    payload: dict[str, Any]
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of a list.

    Attributes:
        orders: as the vendor writes them.
        total: how many there are on all pages.
        has_more: whether another page follows.
        cursor: where the next begins; None after the last.
    """

    orders: list[dict[str, Any]]
    total: int
    has_more: bool
    cursor: str | None


@dataclass
class FakeShop:
    """One shop.

    ```python
    class AcmeShop(FakeShop):
        def fresh(self, number):
            return {"id": number, "state": "new", "changed": self.now.isoformat()}

        def touched(self, order, at):
            order["changed"] = at.isoformat()

        def handle(self, request):
            query = request.url.params
            found = self.page(since=moment(query["from"]), until=moment(query["to"]), number=int(query["page"]))
            return httpx.Response(200, json={"orders": found.orders, "more": found.has_more})
    ```

    Class attributes:
        descending: whether lists are newest first.
        sorts: what they are sorted by: `changed_at`, `created_at` or `number`.
        moves_times: whether the time of an order moves with every change of it.
        behind: how long its lists may be behind what happens, as its vendor says; 0 where it says that they never are.

    Attributes:
        now: its clock; move it.
        size: orders on a page, unless a request says otherwise.
        lag: how long a change takes until lists show it.
        orders: what it has, by number.
        between: called before each page of a list, with how many pages were asked for: change something there.
        pages: how many pages were asked for.
        expired: how many cursors were refused as expired.
        asked: what was asked.
    """

    descending: ClassVar[bool] = False
    sorts: ClassVar[str] = "changed_at"
    moves_times: ClassVar[bool] = False
    behind: ClassVar[timedelta | None] = None

    now: datetime = NOON
    size: int = 2
    lag: timedelta = timedelta(0)
    orders: dict[int, Kept] = field(default_factory=dict)
    between: Callable[[int], None] = lambda pages: None
    pages: int = 0
    expired: int = 0
    asked: list[httpx.Request] = field(default_factory=list)
    _age: int = 0

    # what a vendor's own says

    def fresh(self, number: int) -> dict[str, Any]:
        """A new order, placed now, as the vendor writes it."""
        raise NotImplementedError

    def touched(self, order: dict[str, Any], at: datetime) -> None:
        """Write into an order when it was changed last."""
        raise NotImplementedError

    def changed(self, order: dict[str, Any]) -> None:
        """Change an order so that its record says something else: a status, an amount."""
        raise NotImplementedError

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer a request: lists by `page`, single orders by `find`."""
        raise NotImplementedError

    def external_id(self, number: int) -> str:
        """What the source's record of an order has as its id."""
        return str(number)

    # what there is

    def put(self, number: int, changes: Mapping[str, Any] | None = None, *, silently: bool = False) -> dict[str, Any]:
        """Add an order, or change one.

        Args:
            number: its id.
            changes: of what the vendor writes.
            silently: the time of its last change does not move.
        """
        kept = self.orders.get(number)
        if kept is None:
            kept = self.orders[number] = Kept(number, self.fresh(number), self.now, self.now)
        kept.payload.update(changes or {})
        if not silently:
            kept.changed_at = self.now
            self.touched(kept.payload, self.now)
        return kept.payload

    def change(self, number: int, *, silently: bool = False) -> None:
        """Change an order, somehow, now."""
        self.changed(self.orders[number].payload)
        self.put(number, silently=silently)

    def find(self, number: Any) -> dict[str, Any] | None:
        """An order by its id, as text or number."""
        try:
            kept = self.orders.get(int(number))
        except ValueError:
            return None
        return None if kept is None else kept.payload

    def expire(self) -> None:
        """Cursors given so far are worth nothing any more."""
        self._age += 1

    def page(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        number: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
        size: int | None = None,
        matches: Callable[[Kept], bool] = lambda kept: True,
    ) -> Listed:
        """A page of the orders that changed from `since` until before or at `until`.

        Args:
            since, until: None: any.
            number: the page, the first is 1; or
            offset: how many orders to leave out; or
            cursor: what the page before gave.
            size: orders on a page, `size` of the shop at the most.
            matches: what else they must be.

        Raises:
            CursorExpired: it is from before `expire`.
        """
        self.pages += 1
        self.between(self.pages)
        shown = [kept for kept in self.orders.values() if self._is_listed(kept, since, until) and matches(kept)]
        shown.sort(key=lambda kept: (getattr(kept, self.sorts), kept.number), reverse=self.descending)
        step = min(size or self.size, self.size)
        first = offset if offset is not None else ((number or 1) - 1) * step
        if cursor is not None:
            age, _, place = cursor.partition("|")
            if int(age) != self._age:
                self.expired += 1
                raise CursorExpired
            first = next((at for at, kept in enumerate(shown) if self._is_after(kept, place)), len(shown))
        found = shown[first : first + step]
        has_more = first + step < len(shown)
        after = f"{self._age}|{self._place(found[-1])}" if has_more else None
        return Listed([kept.payload for kept in found], len(shown), has_more, after)

    def _is_listed(self, kept: Kept, since: datetime | None, until: datetime | None) -> bool:
        at = kept.changed_at
        return (since is None or at >= since) and (until is None or at <= until) and at + self.lag <= self.now

    def _place(self, kept: Kept) -> str:
        key = getattr(kept, self.sorts)
        return f"{key.astimezone(UTC).isoformat() if isinstance(key, datetime) else f'{key:012}'}#{kept.number:012}"

    def _is_after(self, kept: Kept, place: str) -> bool:
        return self._place(kept) < place if self.descending else self._place(kept) > place

    # on the wire

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer a request, with the time by the shop's clock where the answer does not say it."""
        self.asked.append(request)
        said = self.handle(request)
        said.headers.setdefault("date", self.now.astimezone(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"))
        return said


__all__ = ["CursorExpired", "FakeShop", "Kept", "Listed"]
