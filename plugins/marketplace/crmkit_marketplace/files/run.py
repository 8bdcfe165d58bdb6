"""One run of a stream: what it has read, what goes on the next page, and the cursor that goes with it.

The cursor is {"files": fingerprint, "row": rows done, "done": whether that was all}. While the files and the mapping
stay as they are, a stream that is done reads nothing and one that was interrupted goes on after `row`; otherwise it
begins again, and the core passes over what has not changed.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from crmkit import CustomerRecord, OrderRecord, Page, ParcelRecord, Record, Refused, Start

#: Records on a page.
PAGE = 500


class Run:
    """Collects records into pages.

    Attributes:
        row: rows read, over all files of the table.
        skip: rows an earlier run has done.
        only: the ids asked for; None for all.
    """

    def __init__(self, files: str, start: Start, only: set[str] | None = None) -> None:
        self.files, self.since, self.only = files, start.since, only
        self.row = 0
        self.total: int | None = None
        self._keeps_cursor = only is None and start.since is None
        cursor: Mapping[str, Any] = start.cursor or {}
        same = self._keeps_cursor and cursor.get("files") == files
        self.is_done = bool(same and cursor.get("done"))
        self.skip = int(cursor.get("row", 0)) if same else 0
        self._records: list[Record] = []
        self._refused: list[Refused] = []
        self._places: dict[int, str] = {}

    def land(self, record: Record, place: str) -> None:
        """A record for the next page, if it was asked for."""
        if self.only is not None and record.ref not in self.only:
            return
        if self.since is not None and (at := changed_at(record)) is not None and at < self.since:
            return
        self._places[len(self._records)] = place
        self._records.append(record)

    def refuse(self, kind: str, place: str, reason: str, raw: str, ref: str | None = None) -> None:
        """A row that is no record, for the next page."""
        if self.only is None or ref in self.only:
            self._refused.append(Refused(kind, place, reason, raw, ref))

    @property
    def is_full(self) -> bool:
        """Whether the next page should leave."""
        return len(self._records) + len(self._refused) >= PAGE

    @property
    def holds_something(self) -> bool:
        """Whether there is anything for a page."""
        return bool(self._records or self._refused)

    def page(self, *, row: int | None = None, done: bool = False) -> Page:
        """What has been collected; `row` is how many rows are done with it, None if that has not moved."""
        cursor = None
        if self._keeps_cursor and (row is not None or done):
            cursor = {"files": self.files, "row": self.row if row is None else row, "done": done}
        page = Page(self._records, self._refused, cursor, self.total, self._places)
        self._records, self._refused, self._places = [], [], {}
        return page


def changed_at(record: Record) -> datetime | None:
    """When the shop last changed what the record says, as far as it tells; a promise is no change."""
    if isinstance(record, OrderRecord):
        return record.changed_at
    if record.updated_at is not None or isinstance(record, CustomerRecord):
        return record.updated_at
    names = ("shipped_at", "delivered_at") if isinstance(record, ParcelRecord) else _TIMES
    times = (getattr(record, name, None) for name in names)
    return max((time for time in times if time is not None), default=None)


_TIMES = ("paid_at", "requested_at", "refunded_at", "received_at", "posted_at")
