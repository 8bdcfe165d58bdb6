"""What a source's author gets from the base class."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from crmkit import Page, Ref, Source, SourceSettings, Start, stream
from crmkit.testing import make_adapter


class Both(Source):
    name = "both"

    @stream
    async def orders(self, start: Start) -> AsyncIterator[Page]:
        yield Page()

    async def not_a_stream(self) -> None: ...

    @stream
    async def reviews(self, start: Start) -> AsyncIterator[Page]:
        yield Page()


class More(Both):
    @stream
    async def orders(self, start: Start) -> AsyncIterator[Page]:
        yield Page(cursor={"of": "more"})

    @stream
    async def customers(self, start: Start) -> AsyncIterator[Page]:
        yield Page()


def test_streams_run_in_the_order_they_are_written() -> None:
    assert Both.streams() == ["orders", "reviews"]


def test_an_inherited_stream_keeps_its_place() -> None:
    assert More.streams() == ["orders", "reviews", "customers"]


def test_a_source_that_cannot_read_by_id_says_so() -> None:
    with pytest.raises(NotImplementedError, match="both cannot read by id"):
        Both.read(Both.__new__(Both), [Ref("order", "1")])


async def test_what_an_adapter_asks_for_the_time_is_the_wall_unless_a_test_sets_it() -> None:
    source = make_adapter(Both, SourceSettings())
    asked = source.now  # as a signer is handed it, before the clock is set
    assert abs(datetime.now(UTC) - asked()) < timedelta(minutes=1)
    source.clock = lambda: datetime(2026, 5, 4, 12, tzinfo=UTC)
    assert asked() == source.now() == datetime(2026, 5, 4, 12, tzinfo=UTC)
    await source.http.aclose()
