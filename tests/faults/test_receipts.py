"""Receipts from a vendor that gives them twice, the last first, or before it answered."""

import asyncio
import json
from datetime import timedelta

import httpx
import pytest

from crmkit.store import tables as t
from crmkit.testing.vendor import Vendor
from tests.faults.conftest import Town
from tests.faults.test_faults import SHORT
from tests.faults.town import NOON


async def receipts(vendor: Vendor, **query: str) -> list[dict[str, str]]:
    async with httpx.AsyncClient(trust_env=False) as http:
        found: list[dict[str, str]] = (await http.get(f"{vendor.url}/receipts", params=query)).json()
    return found


async def take_in(town: Town, found: list[dict[str, str]], minutes: int = 1) -> None:
    """Hand receipts over as a webhook each."""
    at = NOON + timedelta(minutes=minutes)
    for receipt in found:
        reply = await town.engine.accept(town.kind, {}, json.dumps([receipt]).encode(), now=at)
        assert reply.status == 200
    runs = await town.engine.take_in(now=at)
    assert not [error for run in runs for error in run.errors]


@pytest.mark.parametrize("names_keys", [True, False], ids=["by key", "by the vendor's id"])
def test_receipts_that_come_twice_and_the_last_first_count_once(town: Town, names_keys: bool) -> None:
    town.configure("plain", orders=5, more=f"names_keys = {str(names_keys).lower()}")
    town.sync()
    town.dispatch(NOON)
    found = asyncio.run(receipts(town.vendor, times="2", order="latest"))
    assert len(found) == 10
    asyncio.run(take_in(town, found))
    assert [row["state"] for row in town.rows(t.message)] == ["delivered"] * 5
    assert len(town.rows(t.receipt)) == 5
    assert town.wrong() == []


# SEMANTICS 24
def test_a_receipt_resolves_a_doubt_that_nobody_could_be_asked_about(town: Town) -> None:
    town.vendor.fail("close-taken")
    town.configure("plain")
    town.sync()
    town.dispatch(NOON)
    assert town.message["state"] == "in-doubt"
    asyncio.run(take_in(town, asyncio.run(receipts(town.vendor))))
    assert town.message["state"] == "delivered"
    assert town.wrong() == []


# SEMANTICS 24
@pytest.mark.parametrize("names_keys", [True, False], ids=["by key", "by the vendor's id"])
@pytest.mark.parametrize("kind", ["plain", "deduplicating"])
def test_a_receipt_that_comes_before_the_answer_counts(town: Town, kind: str, names_keys: bool) -> None:
    town.vendor.pause = 1.0
    town.vendor.fail("slow-taken")
    town.configure(kind, more=f"names_keys = {str(names_keys).lower()}")
    town.sync()

    async def run() -> None:
        sending = asyncio.create_task(town.engine.dispatch(now=NOON))
        async with asyncio.timeout(10):
            while not town.vendor.ledger.accepted():  # noqa: ASYNC110  it is written in another thread
                await asyncio.sleep(0.01)
        await take_in(town, await receipts(town.vendor), minutes=0)
        assert not sending.done()
        await sending

    asyncio.run(run())
    assert town.message["state"] == "delivered"
    assert town.wrong() == []


def test_a_receipt_for_what_is_to_be_sent_again_ends_it(town: Town) -> None:
    town.vendor.fail("hang-taken")
    town.configure("deduplicating", within=SHORT)
    town.sync()
    town.dispatch(NOON)
    assert town.message["state"] == "queued"
    asyncio.run(take_in(town, asyncio.run(receipts(town.vendor)), minutes=0))
    town.dispatch(NOON + timedelta(hours=2))
    assert town.message["state"] == "delivered"
    assert town.vendor.ledger.requests() == {town.message["key"]: 1}
    assert town.wrong() == []
