"""One correlation id, from the webhook at the door to the receipt of the message that came of it."""

import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from crmkit.adapters.stream import Page
from crmkit.core.errors import ConfigError
from crmkit.core.log import LINES
from crmkit.core.records import Buyer, OrderRecord
from crmkit.flow import inbox
from crmkit.flow.sync import pull
from crmkit.store import tables as t
from tests.web.booth import Booth
from tests.web.conftest import NOON, Town
from tests.web.trade import Lines, call, open_town, placed


@pytest.fixture
async def town(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    found = open_town(tmp_path / "town", migrated_url, monkeypatch)
    async with found.client:
        yield found
    found.store.close()


@pytest.fixture
def lines() -> AsyncIterator[Lines]:
    logger, kept = logging.getLogger("crmkit"), Lines()
    logger.addHandler(kept)
    logger.setLevel(logging.DEBUG)
    yield kept
    logger.removeHandler(kept)
    logger.setLevel(logging.NOTSET)


async def test_one_id_leads_from_a_webhook_to_the_receipt(town: Town, lines: Lines):
    mine, other = await call(town, "booth", placed("1")), await call(town, "booth", placed("2"))
    assert mine != other
    await town.local.dispatch(now=NOON + timedelta(minutes=1))
    message = town.one(t.message, order_id=town.one(t.orders, external_id="1")["id"])
    at = (NOON + timedelta(hours=1)).isoformat()
    back = await call(town, "courier", {"id": "r1", "state": "delivered", "message": message["vendor_id"], "at": at})
    await town.local.take_in(now=NOON + timedelta(hours=2))

    assert [row["correlation_id"] for row in town.rows(t.inbox)] == [mine, other, back]
    told = {row["type"]: row["correlation_id"] for row in town.rows(t.interaction) if row["order_id"] == 1}
    assert told["order-placed"] == mine
    told = {row["type"]: row["correlation_id"] for row in town.rows(t.interaction, profile_id=message["profile_id"])}
    assert set(told.values()) == {mine}
    assert {row["order_id"]: row["correlation_id"] for row in town.rows(t.message)} == {1: mine, 2: other}
    assert town.one(t.message, id=message["id"])["state"] == "delivered"
    assert [name for name in lines.of(mine) if name != "interaction"] == [
        "webhook-heard",
        "webhook-taken",
        "message-decided",
        "message-tried",
        "receipt-taken",
    ]
    assert next(one for one in lines.said if one["line"] == "receipt-taken")["by"] == back
    assert lines.of(other) and "receipt-taken" not in lines.of(other)


async def test_an_order_that_was_hinted_at_is_of_its_webhook(town: Town, lines: Lines):
    Booth.there["7"] = placed("7")
    hint = await call(town, "booth", {"hint": "7"})
    plain = await call(town, "booth", placed("8"))
    await town.local.take_in(now=NOON)
    assert town.one(t.hint)["correlation_id"] == hint
    await town.local.sync(["booth"], now=NOON)
    found = {row["order_id"]: row["correlation_id"] for row in town.rows(t.interaction, type="order-placed")}
    numbers = {row["external_id"]: row["id"] for row in town.rows(t.orders)}
    assert found == {numbers["7"]: hint, numbers["8"]: plain}
    assert "interaction" in lines.of(hint)
    await town.local.dispatch(now=NOON + timedelta(minutes=1))
    assert town.one(t.message, order_id=numbers["7"])["correlation_id"] == hint


async def test_webhooks_about_one_order_in_one_batch_each_keep_their_own(town: Town):
    first = await call(town, "booth", placed("1"))
    second = await call(town, "booth", placed("1", paid_at=(NOON + timedelta(minutes=1)).isoformat()))
    await town.local.take_in(now=NOON)
    found = {row["type"]: row["correlation_id"] for row in town.rows(t.interaction, order_id=1)}
    assert found["order-placed"] == first
    assert found["order-paid"] == second
    assert town.one(t.interaction, type="customer-created")["correlation_id"] == first


async def test_a_page_of_a_pull_has_an_id_of_its_own(town: Town):
    class Pulled(Booth):
        async def orders(self, start: Any) -> AsyncIterator[Page]:
            """Two pages."""
            for page in ("12", "34"):
                yield Page([OrderRecord(external_id=n, buyer=Buyer(external_id=n), placed_at=NOON) for n in page])

        orders.__crmkit_stream__ = True  # type: ignore[attr-defined]

    shop = town.host.setup({"stall": (town.shop_id, NOON)}).shops[town.shop_id]
    _, errors = await pull(Pulled.__new__(Pulled), shop, town.store.run, listened=(), now=NOON)
    assert errors == []
    found = [row["correlation_id"] for row in town.rows(t.interaction, type="order-placed")]
    assert found[0] == found[1] != found[2] == found[3]


async def test_what_is_rolled_back_is_not_said(town: Town, lines: Lines, monkeypatch: pytest.MonkeyPatch):
    await call(town, "booth", placed("1"))

    def broken(*_: Any, **__: Any) -> None:
        raise ConfigError("no")

    with monkeypatch.context() as patch:
        patch.setattr(inbox.forget, "about_forgotten", broken)
        [taken] = await town.local.take_in(now=NOON)
        assert [type(error) for error in taken.errors] == [ConfigError]
    assert {one["line"] for one in lines.said} == {"webhook-heard"}
    town.local.plan(now=NOON)
    assert {one["line"] for one in lines.said} == {"webhook-heard"}
    await town.local.take_in(now=NOON)
    assert "webhook-taken" in {one["line"] for one in lines.said}


async def test_every_line_says_only_what_it_may(lines: Lines):
    for line in LINES.values():
        assert line.logger.name == f"crmkit.{line.area}"
        with pytest.raises(TypeError, match="says nothing of address"):
            line.say(address="ann@buyers.example")
