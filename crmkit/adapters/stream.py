"""Streams: how an adapter yields what it reads, page by page, and where each read starts.

`@stream` keeps a cursor that only the adapter understands. `@window` is for vendors that are asked for a span of time:
the core owns the watermark, cuts spans, re-reads an overlap and moves on when a span is exhausted.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from crmkit.adapters.misreading import misread
from crmkit.core.duration import parse_duration
from crmkit.core.records import Record

#: Nobody sold anything online before.
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a stream starts.

    Attributes:
        cursor: what the last stored page gave; None at first, and when the operator asked for a `since`.
        since: only what changed at or after this moment is wanted; the live cursor does not move.
        now: the run's clock, never ahead of the one on the wall.
    """

    cursor: Mapping[str, Any] | None = None
    since: datetime | None = None
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Ref:
    """A record asked for by id: what kind it is, and the id its vendor knows it by."""

    kind: str
    external_id: str


@dataclass(frozen=True, slots=True)
class Reread(Ref):
    """What a webhook, or a page of a list of changes, only hints at: it changed; `Source.read` is asked for it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A raw record that could not be made into a record: quarantined by the core, the rest of the page lands.

    Attributes:
        kind: what it would have been: `order`, `parcel`, ...
        place: where it is, as a person would look for it: `orders.csv:17`.
        reason: why it was refused. It is listed and logged, so nothing of a person belongs into it: see `of`.
        raw: the raw record, as text.
        ref: the id it can be read again by; None where it has none that can be read.
    """

    kind: str
    place: str
    reason: str
    raw: str
    ref: str | None = None

    @classmethod
    def of(cls, error: Exception, kind: str, place: str, row: Any, ref: str | None = None) -> "Refused":
        """A raw record of JSON that could not be read: its reason says where and why, without what stands there.

        Args:
            error: what pydantic raised, or the mapping: of a PayloadError its text is shown, of any other its type.
            kind, place, ref: as above.
            row: the raw record, as it was parsed.
        """
        return cls(kind, place, misread(error), json.dumps(row, ensure_ascii=False, default=str), ref)


@dataclass(frozen=True, slots=True)
class Page:
    """Records that are stored together, and the cursor that is stored with them.

    Attributes:
        records: canonical records.
        refused: what could not be made into one.
        cursor: where the stream goes on after this page; None leaves the cursor where it is. A window has none.
        total: how many records the stream is expected to have in all, for the progress bar; None if unknown.
        places: {index in records: place}, where a source can say where each record is.
        hints: what is only known to have changed: kept with the page, and read by id once the streams were.
    """

    records: Sequence[Record] = ()
    refused: Sequence[Refused] = ()
    cursor: Mapping[str, Any] | None = None
    total: int | None = None
    places: Mapping[int, str] = field(default_factory=dict)
    hints: Sequence[Reread] = ()


Method = Callable[..., AsyncIterator[Page]]
M = TypeVar("M", bound=Method)


@dataclass(frozen=True, slots=True)
class Window:
    """How a vendor wants to be asked for a span of time.

    Attributes:
        max_span: the longest span it answers; longer ones are cut. None: any.
        end_lag: how long a change may take until the vendor lists it: so much before now a span ends.
        overlap: how far before the last span's end the next begins.
        history: how far back the first read goes; None: to the beginning.
    """

    max_span: timedelta | None = None
    end_lag: timedelta = timedelta(0)
    overlap: timedelta = timedelta(0)
    history: timedelta | None = None

    def spans(
        self, until: datetime | None, now: datetime, since: datetime | None = None
    ) -> list[tuple[datetime, datetime]]:
        """The spans (start, end) to read, oldest first; none where nothing can be new yet.

        Args:
            until: the end of the last span that was exhausted, None at first.
            now: the run's clock.
            since: read from there instead.
        """
        last = now - self.end_lag
        if until is not None and until > now:
            until = last  # some clock ran ahead
        elif until is not None and since is None and last <= until:
            return []
        first = BEGINNING if self.history is None else now - self.history
        start = since if since is not None else first if until is None else until - self.overlap
        found = []
        while start < last:
            end = last if self.max_span is None else min(last, start + self.max_span)
            found.append((start, end))
            start = end
        return found


def stream(method: M) -> M:
    """Mark a method as a stream: `async def orders(self, start: Start) -> AsyncIterator[Page]`."""
    method.__crmkit_stream__ = True  # type: ignore[attr-defined]
    return method


def window(
    *, max_span: str | None = None, end_lag: str = "0s", overlap: str = "0s", history: str | None = None
) -> Callable[[M], M]:
    """Mark a method as a stream over spans of time: `async def orders(self, start: datetime, end: datetime)`.

    Durations are written as in the configuration: `"5m"`, `"7d"`. See `Window` for what each means.
    """
    spans = Window(
        max_span=None if max_span is None else parse_duration(max_span),
        end_lag=parse_duration(end_lag),
        overlap=parse_duration(overlap),
        history=None if history is None else parse_duration(history),
    )

    def mark(method: M) -> M:
        method.__crmkit_stream__ = spans  # type: ignore[attr-defined]
        return method

    return mark
