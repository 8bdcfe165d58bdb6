"""A stream that breaks stops itself; the others, and the records before it, are in."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crmkit.adapters.adapter import Account
from crmkit.adapters.source import Source, SourceSettings
from crmkit.adapters.stream import Page, Start, stream, window
from crmkit.core.errors import AuthError, ConfigError, PluginError, RetryableError
from crmkit.flow.sync import pull
from crmkit.store import accounts
from crmkit.store import tables as t
from tests.play import DAY, NOON, Play, order


class Breaking(Source):
    """One page of orders, then what it is told to raise; then a stream that works."""

    name = "breaking"
    error: Exception = KeyError("total")

    @stream
    async def orders(self, start: Start) -> AsyncIterator[Page]:
        yield Page([order("1")], cursor={"page": 1})
        raise self.error

    @stream
    async def more(self, start: Start) -> AsyncIterator[Page]:
        yield Page([order("2")], cursor={"page": 1})


async def read(play: Play, error: Exception) -> list[Any]:
    source = Breaking(SourceSettings(), Account("tea", "UTC", None, None, Path()), None)  # type: ignore[arg-type]
    source.error = error
    _, errors = await pull(source, play.shops[1], play.store.run, listened=(), now=NOON)
    return errors


@pytest.mark.parametrize(
    "error", [KeyError("total"), OSError("disk"), RetryableError("busy"), ConfigError("no column")]
)
async def test_a_stream_that_breaks_stops_only_itself(play: Play, error: Exception) -> None:
    (found,) = await read(play, error)
    assert [row["external_id"] for row in play.rows(t.orders)] == ["1", "2"]
    assert isinstance(found, type(error) if isinstance(error, RetryableError | ConfigError) else PluginError)
    with play.store.read() as tx:
        assert accounts.cursor(tx, 1, "orders") == {"page": 1}


async def test_a_bug_is_told_with_its_place(play: Play) -> None:
    (found,) = await read(play, KeyError("total"))
    # where, not what: the text of an error may hold what somebody bought, or who
    assert re.fullmatch(
        rf"{play.shops[1].name} read orders: KeyError at test_sync.py:\d+ \(orders\); its author has to mend that",
        str(found),
    )


async def test_refused_credentials_stop_the_account(play: Play) -> None:
    await read(play, AuthError("401"))
    assert [row["external_id"] for row in play.rows(t.orders)] == ["1"]


class Telling(Source):
    """Keeps the time its stream was asked at."""

    name = "telling"

    @stream
    async def orders(self, start: Start) -> AsyncIterator[Page]:
        yield Page(cursor={"now": start.now.isoformat()})


@pytest.mark.parametrize(("latest", "told"), [(None, NOON), (NOON + DAY, NOON), (NOON - DAY, NOON - DAY)])
async def test_a_stream_is_told_the_runs_clock_and_never_one_ahead_of_the_wall(
    play: Play, latest: Any, told: Any
) -> None:
    source = Telling(SourceSettings(), Account("tea", "UTC", None, None, Path()), None)  # type: ignore[arg-type]
    await pull(source, play.shops[1], play.store.run, listened=(), now=NOON, latest=latest)
    with play.store.read() as tx:
        assert accounts.cursor(tx, 1, "orders") == {"now": told.isoformat()}


class Slow(Source):
    """Two pages of a stream, or a span, once it is let on."""

    name = "slow"
    gates: Mapping[str, asyncio.Event]

    @stream
    async def orders(self, start: Start) -> AsyncIterator[Page]:
        first = start.cursor["page"] if start.cursor is not None else 0
        for number in range(first + 1, first + 3):
            await self.gates["orders"].wait()
            yield Page([order(str(number))], cursor={"page": number})

    @window(overlap="1h")
    async def changes(self, start: datetime, end: datetime) -> AsyncIterator[Page]:
        await self.gates["changes"].wait()
        yield Page([order("9")])


# SEMANTICS 4
@pytest.mark.parametrize("place", ["orders", "changes"])
async def test_who_was_frozen_while_others_read_the_account_puts_no_cursor_back(
    play: Play, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "crmkit.sync")

    def reading(now: datetime, *waits: str) -> tuple[asyncio.Event, "asyncio.Task[Any]"]:
        source = Slow(SourceSettings(), Account("tea", "UTC", None, None, Path()), None)  # type: ignore[arg-type]
        source.gates = {name: asyncio.Event() for name in ("orders", "changes")}
        for name in source.gates.keys() - set(waits):
            source.gates[name].set()
        pulling = pull(source, play.shops[1], play.store.run, listened=(), now=now)
        return source.gates[place], asyncio.create_task(pulling)

    def stands() -> dict[str, Any]:
        with play.store.read() as tx:
            return {name: accounts.cursor(tx, 1, name) for name in ("orders", "changes")}

    gate, frozen = reading(NOON, place)
    await asyncio.sleep(0.2)
    for later in (1, 2):
        _, other = reading(NOON + later * timedelta(hours=1))
        assert (await other)[1] == []
    assert "cursor-stays" not in caplog.text
    before = stands()
    assert before["changes"] == {"until": (NOON + timedelta(hours=2)).isoformat()}
    gate.set()
    assert (await frozen)[1] == []
    assert stands()[place] == before[place]
    assert f"cursor-stays account={play.shops[1].name} stream={place}" in caplog.messages


class Mutating(Source):
    """One cursor, which it changes in place: the one it was given, if any."""

    name = "mutating"

    @stream
    async def orders(self, start: Start) -> AsyncIterator[Page]:
        cursor: Any = {"at": {"page": 0}} if start.cursor is None else start.cursor
        for _ in range(3):
            cursor["at"]["page"] += 1
            yield Page([order(str(cursor["at"]["page"]))], cursor=cursor)


# SEMANTICS 4
async def test_a_source_that_changes_its_cursor_in_place_gets_on(play: Play) -> None:
    source = Mutating(SourceSettings(), Account("tea", "UTC", None, None, Path()), None)  # type: ignore[arg-type]
    for pages in (3, 6):
        _, errors = await pull(source, play.shops[1], play.store.run, listened=(), now=NOON)
        assert errors == []
        with play.store.read() as tx:
            assert accounts.cursor(tx, 1, "orders") == {"at": {"page": pages}}
    assert [row["external_id"] for row in play.rows(t.orders)] == list("123456")


class Odd(Source):
    """A cursor that is no JSON."""

    name = "odd"

    @stream
    async def orders(self, start: Start) -> AsyncIterator[Page]:
        yield Page([order("1")], cursor={"since": start.now})


async def test_a_cursor_that_cannot_be_kept_is_its_authors_to_mend(play: Play) -> None:
    source = Odd(SourceSettings(), Account("tea", "UTC", None, None, Path()), None)  # type: ignore[arg-type]
    _, [error] = await pull(source, play.shops[1], play.store.run, listened=(), now=NOON)
    assert isinstance(error, PluginError)
    assert "read orders: it yields a cursor that cannot be kept as JSON; make it of" in str(error)
    assert play.count(t.orders) == 0, "a page and its cursor are stored together"
