"""What a source's author gets from the base class."""

from collections.abc import AsyncIterator

import pytest

from crmkit import Page, Ref, Source, Start, stream


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
