"""Sync: pull each stream of a source, page by page, into ingest. The next page is fetched while one is stored."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, TypeVar

from crmkit.adapters.source import Source
from crmkit.adapters.stream import Page, Ref, Start
from crmkit.core.account import Shop
from crmkit.core.errors import AuthError, CrmkitError, PluginError
from crmkit.flow.ingest import Tally, ingest
from crmkit.store import accounts

T = TypeVar("T")

#: Runs a step in a write transaction in the database thread.
Run = Callable[..., Awaitable[Any]]
#: Told after every page: stream, records so far, records in all (None: unknown).
Progress = Callable[[str, int, int | None], None]


async def pull(
    source: Source,
    shop: Shop,
    run: Run,
    *,
    listened: Collection[str],
    now: datetime,
    since: datetime | None = None,
    progress: Progress | None = None,
) -> tuple[Tally, list[CrmkitError]]:
    """Read every stream of a source from where it stopped.

    Args:
        source: an open source.
        shop: the account it reads.
        run: runs a step in a write transaction.
        listened: wire names of the events somebody handles.
        now: the run's clock.
        since: read what changed since then instead; the live cursors stay where they are.
        progress: told after every page.

    Returns:
        What was done, and what stopped a stream before its end. Streams are apart: one that stops does not stop the
        next, unless the credentials were refused.
    """
    tally = Tally()
    errors: list[CrmkitError] = []
    for name in source.streams():
        cursor = None if since is not None else await run(accounts.cursor, shop.id, name)
        pages: AsyncIterator[Page] = getattr(source, name)(Start(cursor=cursor, since=since))
        try:
            await _store(
                pages, shop, run, tally, stream=name, listened=listened, now=now, live=since is None, progress=progress
            )
        except AuthError as error:
            errors.append(error)
            break
        except CrmkitError as error:
            errors.append(error)
    return tally, errors


async def read(
    source: Source, shop: Shop, run: Run, refs: Sequence[Ref], *, listened: Collection[str], now: datetime
) -> Tally:
    """Read these records again, by id; no cursor moves."""
    tally = Tally()
    pages = source.read(refs)
    await _store(pages, shop, run, tally, stream="read", listened=listened, now=now, live=False, progress=None)
    return tally


async def _store(
    pages: AsyncIterator[Page],
    shop: Shop,
    run: Run,
    tally: Tally,
    *,
    stream: str,
    listened: Collection[str],
    now: datetime,
    live: bool,
    progress: Progress | None,
) -> None:
    done = 0
    async with aclosing(pages) as reading:  # type: ignore[type-var]
        coming = asyncio.ensure_future(_next(reading, shop, stream))
        try:
            while (page := await coming) is not None:
                coming = asyncio.ensure_future(_next(reading, shop, stream))
                tally.add(await run(ingest, shop, page, stream=stream, listened=listened, now=now, live=live))
                done += len(page.records) + len(page.refused)
                if progress is not None:
                    progress(stream, done, page.total)
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
