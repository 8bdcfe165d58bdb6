"""Sync: pull what a source has into ingest, page by page: hints, each stream, and the open orders on a rolling scan."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from sqlalchemy.engine import Connection

from crmkit.adapters.adapter import Adapter
from crmkit.adapters.source import Source
from crmkit.adapters.stream import Page, Ref, Refused, Start
from crmkit.core.account import Shop
from crmkit.core.correlation import correlation
from crmkit.core.errors import AuthError, CrmkitError, PluginError, RetryableError
from crmkit.core.log import place_of
from crmkit.core.records import Record
from crmkit.flow.ingest import Tally, ingest
from crmkit.store import accounts, inbox, orders
from crmkit.store.accounts import Stood

T = TypeVar("T")

#: Records read again by id in one go, and open orders in one sync; hints in one sync.
REREAD, HINTS = 100, 1_000
#: A hint that cannot be read so often is refused.
HINT_TRIES = 5
#: If this many records fail before one can be read, it is not theirs.
OUTAGE = 3
#: A vendor's clock that is farther from ours than this is no clock.
SKEW = timedelta(days=1)
#: Where the round of the open orders stands, beside the streams' cursors.
RESCAN = ":open orders"

#: Runs a step in a write transaction in the database thread.
Run = Callable[..., Awaitable[Any]]
#: Told after every page: stream, records so far, records in all (None: unknown).
Progress = Callable[[str, int, int | None], None]


async def pull(
    adapter: Adapter,
    shop: Shop,
    run: Run,
    *,
    listened: Collection[str],
    now: datetime,
    since: datetime | None = None,
    progress: Progress | None = None,
    latest: datetime | None = None,
) -> tuple[Tally, list[CrmkitError]]:
    """Read every stream from where it stopped, what webhooks hinted at, and a few of the orders that are still open.

    Args:
        adapter: an open source, or a gateway with streams.
        shop: the account it reads.
        run: runs a step in a write transaction.
        listened: wire names of the events somebody handles.
        now: the run's clock.
        since: read the streams' changes since then instead; the live cursors stay where they are.
        progress: told after every page.
        latest: what no live watermark moves past, whatever the run's clock says: the wall clock.

    Returns:
        What was done, and what stopped a stream before its end. Streams are apart: one that stops does not stop the
        next, unless the credentials were refused.
    """
    reading = _Reading(adapter, shop, run, listened, now, since, progress, latest or now)
    errors = reading.errors
    steps: list[Callable[[], Awaitable[None]]] = [partial(reading.stream, name) for name in adapter.streams()]
    if isinstance(adapter, Source) and since is None:  # once it is known that the account can be read at all
        steps.append(reading.hinted)
        if adapter.rescans is not None:
            steps.append(partial(reading.rescan, adapter.rescans))
    for step in steps:
        try:
            await step()
        except AuthError as error:
            errors.append(error)
            break
        except CrmkitError as error:
            errors.append(error)
    return reading.tally, errors


async def read(
    source: Source, shop: Shop, run: Run, refs: Sequence[Ref], *, listened: Collection[str], now: datetime
) -> Tally:
    """Read these records again, by id; no cursor moves."""
    reading = _Reading(source, shop, run, listened, now)
    await reading.again(refs)
    return reading.tally


async def hinted(
    source: Source, shop: Shop, run: Run, *, listened: Collection[str], now: datetime
) -> tuple[Tally, list[CrmkitError]]:
    """Read again what webhooks hinted at since, and nothing else; what could not be read before waits for `pull`."""
    reading = _Reading(source, shop, run, listened, now)
    try:
        await reading.hinted(only_new=True)
    except CrmkitError as error:
        reading.errors.append(error)
    return reading.tally, reading.errors


@dataclass(slots=True)
class _Reading:
    """One reading of one account."""

    adapter: Adapter
    shop: Shop
    run: Run
    listened: Collection[str]
    now: datetime
    since: datetime | None = None
    progress: Progress | None = None
    latest: datetime | None = None
    tally: Tally = field(default_factory=Tally)
    errors: list[CrmkitError] = field(default_factory=list)
    #: what is read again because of a webhook, and what that came of in logs
    hints: Mapping[Ref, str | None] = field(default_factory=dict)

    async def stream(self, name: str) -> None:
        """Read one stream to its end."""
        method, spans = getattr(self.adapter, name), self.adapter.window(name)
        cursor = None if self.since is not None else await self.run(accounts.cursor, self.shop.id, name)
        now = min(self.now, self.latest or self.now)
        stood = Stood(cursor)
        if spans is None:
            where = Start(cursor=None if cursor is None else _kept(cursor), since=self.since, now=now)
            await self._store(method(where), name, stood=stood if self.since is None else None)
            return
        until = None if cursor is None else datetime.fromisoformat(cursor["until"])
        for start, end in spans.spans(until, now, self.since):
            self.adapter.answered_at, before = None, self.tally.news
            await self._store(method(start, end), name)
            if self.since is None:  # the watermark moves once the span is exhausted
                moved = {"until": self._until(end, spans.end_lag, now).isoformat()}
                is_news = self.tally.news > before
                await self.run(accounts.move_cursor, self.shop, name, moved, self.now, stood=stood, is_news=is_news)
                stood = Stood(moved)

    def _until(self, end: datetime, lag: timedelta, now: datetime) -> datetime:
        """How far a span was read: not past the moment at which its vendor, by its own clock, began to answer."""
        began = self.adapter.answered_at
        if began is None or abs(now - began) > SKEW:
            return end
        return min(end, began - lag)

    async def hinted(self, *, only_new: bool = False) -> None:
        """Read again what webhooks hinted at; what cannot be read now stays hinted at."""
        hints = await self.run(inbox.hints, self.shop.id, HINTS, only_new=only_new)
        for first in range(0, len(hints), REREAD):
            some = {Ref(row["kind"], row["external_id"]): row for row in hints[first : first + REREAD]}
            self.hints = {ref: row["correlation_id"] for ref, row in some.items()}
            failed = await self._each(list(some))
            remain = [ref for ref in failed if some[ref]["tries"] + 1 < HINT_TRIES]
            given_up = [ref for ref in failed if ref not in remain]
            await self.run(self._refuse, {ref: failed[ref] for ref in given_up})
            await self.run(inbox.tried_hints, [some[ref] for ref in remain])
            await self.run(inbox.drop_hints, [row for ref, row in some.items() if ref not in remain])
        self.hints = {}

    def _refuse(self, tx: Connection, failed: Mapping[Ref, CrmkitError]) -> None:
        """What cannot be read however often it is asked for goes into quarantine, to be retried by hand."""
        refused = []
        for ref, error in failed.items():
            place = f"{ref.kind} {ref.external_id}"
            refused.append(Refused(ref.kind, place, str(error), place, ref.external_id))
        if refused:
            page = Page(refused=refused)
            ingest(tx, self.shop, page, stream="hint", listened=self.listened, now=self.now)

    async def rescan(self, back: timedelta) -> None:
        """Read some of the open orders again, the next ones each time, round and round."""
        stood = Stood(await self.run(accounts.cursor, self.shop.id, RESCAN))
        cursor = stood.at or {"after": 0}
        rows = await self.run(orders.open_after, self.shop.id, cursor["after"], self.now - back, REREAD)
        if rows:
            await self._each([Ref("order", row["external_id"]) for row in rows])
        after = rows[-1]["id"] if len(rows) == REREAD else 0
        moved = {"after": after}
        await self.run(accounts.move_cursor, self.shop, RESCAN, moved, self.now, stood=stood, is_news=False)

    async def _each(self, refs: Sequence[Ref]) -> dict[Ref, CrmkitError]:
        """Read these records by id; if that fails, one by one, so that who cannot be read keeps no other from it.

        Returns:
            What could not be read; told in `errors` too.

        Raises:
            RetryableError, AuthError: none of them can be: it is not theirs.
        """
        try:
            await self.again(refs)
            return {}
        except CrmkitError as error:
            if len(refs) == 1:
                self.errors.append(error)
                return {refs[0]: error}
        failed: dict[Ref, CrmkitError] = {}
        for number, ref in enumerate(refs):
            try:
                await self.again([ref])
            except CrmkitError as error:
                failed[ref] = error
                if len(failed) == number + 1 == OUTAGE and isinstance(error, RetryableError | AuthError):
                    raise
        self.errors.extend(list(failed.values())[:1])
        return failed

    async def again(self, refs: Sequence[Ref]) -> None:
        """Read these records by id."""
        if isinstance(self.adapter, Source):
            await self._store(self.adapter.read(refs), "read")

    async def _store(self, pages: AsyncIterator[Page], stream: str, *, stood: Stood | None = None) -> None:
        """Store pages as they come; the next is fetched while one is stored. None: no cursor moves with them."""
        done = 0
        async with aclosing(pages) as reading:  # type: ignore[type-var]
            coming = asyncio.ensure_future(_next(reading, self.shop, stream))
            try:
                while (page := await coming) is not None:
                    coming = asyncio.ensure_future(_next(reading, self.shop, stream))
                    stored = {"stream": stream, "listened": self.listened, "now": self.now, "stood": stood}
                    came_of = self._correlations(page)
                    self.tally.add(await self.run(ingest, self.shop, page, correlations=came_of, **stored))
                    if stood is not None and page.cursor is not None:
                        stood = Stood(page.cursor)
                    done += len(page.records) + len(page.refused)
                    if self.progress is not None:
                        self.progress(stream, done, page.total)
            finally:
                if not coming.done():
                    coming.cancel()
                await asyncio.wait([coming])
                if not coming.cancelled():
                    coming.exception()

    def _correlations(self, page: Page) -> list[str | None]:
        """What each record of a page came of: the webhook that hinted at it, or at its order; else the page itself.

        That is what its hints came of, too; they follow.
        """
        own = correlation()
        if not self.hints:
            return [own] * (len(page.records) + len(page.hints))
        found: list[str | None] = []
        for record in page.records:
            order = getattr(record, "order_external_id", None)
            of_order = self.hints.get(Ref("order", order)) if order is not None else None
            found.append(self.hints.get(Ref(record.kind, record.ref)) or of_order or own)
        return found + [own] * len(page.hints)


async def _next(pages: AsyncIterator[Page], shop: Shop, stream: str) -> Page | None:
    """The next page, with a cursor that its adapter has no hand in any more; None after the last.

    Raises:
        PluginError: the adapter broke, or this is no page.
    """
    page: object = await guarded(anext(pages, None), who=shop.name, operation=f"read {stream}")
    if page is None:
        return None
    strange = list(_strange(page)) if isinstance(page, Page) else [page]
    if isinstance(page, Page) and not strange:
        try:
            return page if page.cursor is None else replace(page, cursor=_kept(page.cursor))
        except (TypeError, ValueError) as error:
            do = "make it of texts, numbers, lists and dicts"
            what = "it yields a cursor that cannot be kept as JSON"
            raise PluginError(what, who=shop.name, operation=f"read {stream}", do=do) from error
    do = f"yield Page(records=[...]) of crmkit's records, and hints=[Reread(...)], from {stream}"
    what = f"it yields {type(strange[0]).__name__}, which is no page of records"
    raise PluginError(what, who=shop.name, operation=f"read {stream}", do=do)


def _kept(cursor: Mapping[str, Any]) -> dict[str, Any]:
    """A cursor as it is read back: a copy, since an adapter may go on with its own."""
    copy: dict[str, Any] = json.loads(json.dumps(dict(cursor), allow_nan=False))
    return copy


def _strange(page: Page) -> Iterator[object]:
    """What a page holds and should not."""
    records: Sequence[object] = page.records
    hints: Sequence[object] = page.hints
    yield from (one for one in records if not isinstance(one, Record))
    for one in hints:
        said: tuple[object, ...] = (one.kind, one.external_id) if isinstance(one, Ref) else (None,)
        yield from (one for text in said if not isinstance(text, str))


def is_interrupted() -> bool:
    """Whether we are being cancelled: a `CancelledError` that comes otherwise is an adapter's own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def guarded(call: Awaitable[T], *, who: str, operation: str) -> T:
    """Await an adapter's code: what it raises beside the errors it should raise is its author's to mend.

    Raises:
        PluginError: it broke.
    """
    try:
        return await call
    except CrmkitError:
        raise
    except Exception as error:  # a plugin's code: what it breaks is its own account only
        raise broken(error, who=who, operation=operation) from error


def broken(error: Exception, *, who: str, operation: str) -> PluginError:
    """What a plugin's code, or what it gave, broke, by class and place: its text may hold what somebody bought."""
    what = f"{type(error).__name__} at {place_of(error)}"
    return PluginError(what, who=who, operation=operation, do="its author has to mend that")
