"""Sync: pull what a source has into ingest, page by page: hints, each stream, and the open orders on a rolling scan."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from crmkit.adapters.adapter import Adapter
from crmkit.adapters.source import Source
from crmkit.adapters.stream import Page, Ref, Start
from crmkit.core.account import Shop
from crmkit.core.errors import AuthError, CrmkitError, PluginError
from crmkit.flow.ingest import Tally, ingest
from crmkit.store import accounts, inbox, orders

T = TypeVar("T")

#: Records read again by id in one go, and open orders in one sync.
REREAD = 100
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
) -> tuple[Tally, list[CrmkitError]]:
    """Read what webhooks hinted at, every stream from where it stopped, and a few of the orders that are still open.

    Args:
        adapter: an open source, or a gateway with streams.
        shop: the account it reads.
        run: runs a step in a write transaction.
        listened: wire names of the events somebody handles.
        now: the run's clock.
        since: read the streams' changes since then instead; the live cursors stay where they are.
        progress: told after every page.

    Returns:
        What was done, and what stopped a stream before its end. Streams are apart: one that stops does not stop the
        next, unless the credentials were refused.
    """
    reading = _Reading(adapter, shop, run, listened, now, since, progress)
    steps: list[Callable[[], Awaitable[None]]] = []
    if isinstance(adapter, Source) and since is None:
        steps.append(reading.hinted)
    steps += [partial(reading.stream, name) for name in adapter.streams()]
    if isinstance(adapter, Source) and since is None and adapter.rescans is not None:
        steps.append(partial(reading.rescan, adapter.rescans))
    errors: list[CrmkitError] = []
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
    tally: Tally = field(default_factory=Tally)

    async def stream(self, name: str) -> None:
        """Read one stream to its end."""
        method, spans = getattr(self.adapter, name), self.adapter.window(name)
        cursor = None if self.since is not None else await self.run(accounts.cursor, self.shop.id, name)
        if spans is None:
            await self._store(method(Start(cursor=cursor, since=self.since)), name, live=self.since is None)
            return
        until = None if cursor is None else datetime.fromisoformat(cursor["until"])
        for start, end in spans.spans(until, self.now, self.since):
            await self._store(method(start, end), name, live=False)
            if self.since is None:  # the watermark moves once the span is exhausted
                moved = {"until": end.isoformat()}
                await self.run(accounts.move_cursor, self.shop.id, name, moved, self.now)

    async def hinted(self) -> None:
        """Read again what webhooks hinted at; what cannot be read now stays hinted at."""
        while hints := await self.run(inbox.hints, self.shop.id, REREAD):
            await self.again([Ref(row["kind"], row["external_id"]) for row in hints])
            await self.run(inbox.drop_hints, hints)
            if len(hints) < REREAD:
                break

    async def rescan(self, back: timedelta) -> None:
        """Read some of the open orders again, the next ones each time, round and round."""
        cursor = await self.run(accounts.cursor, self.shop.id, RESCAN) or {"after": 0}
        rows = await self.run(orders.open_after, self.shop.id, cursor["after"], self.now - back, REREAD)
        if rows:
            await self.again([Ref("order", row["external_id"]) for row in rows])
        after = rows[-1]["id"] if len(rows) == REREAD else 0
        await self.run(accounts.move_cursor, self.shop.id, RESCAN, {"after": after}, self.now)

    async def again(self, refs: Sequence[Ref]) -> None:
        """Read these records by id."""
        if isinstance(self.adapter, Source):
            await self._store(self.adapter.read(refs), "read", live=False)

    async def _store(self, pages: AsyncIterator[Page], stream: str, *, live: bool) -> None:
        """Store pages as they come; the next is fetched while one is stored."""
        done = 0
        async with aclosing(pages) as reading:  # type: ignore[type-var]
            coming = asyncio.ensure_future(_next(reading, self.shop, stream))
            try:
                while (page := await coming) is not None:
                    coming = asyncio.ensure_future(_next(reading, self.shop, stream))
                    stored = {"stream": stream, "listened": self.listened, "now": self.now, "live": live}
                    self.tally.add(await self.run(ingest, self.shop, page, **stored))
                    done += len(page.records) + len(page.refused)
                    if self.progress is not None:
                        self.progress(stream, done, page.total)
            finally:
                if not coming.done():
                    coming.cancel()
                await asyncio.wait([coming])
                if not coming.cancelled():
                    coming.exception()


async def _next(pages: AsyncIterator[Page], shop: Shop, stream: str) -> Page | None:
    return await guarded(anext(pages, None), who=shop.name, operation=f"read {stream}")


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
        what = f"{type(error).__name__}: {error}"
        raise PluginError(what, who=who, operation=operation, do="its author has to mend that") from error
