"""Marketing waits until it is known who wanted none before crmkit, shop by shop; what is no marketing does not."""

import json
from pathlib import Path

import pytest

from crmkit.core.actions import Send
from crmkit.core.events import OrderPlaced
from crmkit.core.hooks import on
from crmkit.flow import opt_outs
from crmkit.flow.setup import Rules
from crmkit.store import accounts, bulk
from crmkit.store import tables as t
from tests.cli.conftest import CONFIG, NOW, ORDERS, Place
from tests.play import HOUR, NOON, Play, buyer, order
from tests.scripted import Scripted, accept, send


@pytest.fixture
def two_shops(play: Play) -> Play:
    """Each buyer is sent an offer and news; of neither shop it is known who opted out before."""
    names = {1: "tea", 2: "silk"}
    rows = [
        {"id": n, "name": name, "kind": "shop", "adapter": "files", "announce_from": NOON, "created_at": NOON}
        for n, name in names.items()
    ]
    play.write(lambda tx: bulk.insert(tx, t.account, rows))
    play.shop(2)
    play.more["rules"] = Rules(marketing_default="allow")
    both = [Send("offer", via=("email",)), Send("news", via=("email",))]
    play.plugin("one", on(OrderPlaced)(lambda event, crm: both))
    for shop in names:
        play.take(order("1", buyer(f"ann{shop}")), shop=shop)
    play.decide()
    return play


def know(play: Play, *shops: int) -> int:
    with play.store.begin() as tx:
        return opt_outs.know(tx, shops, NOON, actor="ann", how="imported")


def waiting(play: Play) -> list[int]:
    return [row["shop_id"] for row in play.rows(t.message, reason="opt-outs-unknown", state="queued")]


# SEMANTICS 17
async def test_marketing_waits_and_news_does_not(two_shops: Play) -> None:
    assert waiting(two_shops) == [1, 2]
    await send(two_shops, Scripted(accept), NOON + HOUR)
    assert two_shops.count(t.message, state="sent", template="news") == 2
    assert waiting(two_shops) == [1, 2]


async def test_what_waited_leaves_once_it_is_known_of_its_shop(two_shops: Play) -> None:
    assert know(two_shops, 1) == 1
    assert waiting(two_shops) == [2]
    await send(two_shops, Scripted(accept), NOON + HOUR)
    assert [row["shop_id"] for row in two_shops.rows(t.message, state="sent", template="offer")] == [1]
    row = two_shops.one(t.account, id=1)
    assert (row["opt_outs_known_at"], row["opt_outs_told"]) == (NOON, "imported, said by ann")


async def test_what_is_of_no_shop_waits_for_all_of_them(two_shops: Play) -> None:
    two_shops.write(lambda tx: tx.execute(t.message.update().values(shop_id=None, reason=None)))
    await send(two_shops, Scripted(accept), NOON + HOUR)
    assert len(waiting(two_shops)) == 2
    assert know(two_shops, 1) == 0
    assert know(two_shops, 2) == 2


async def test_a_shop_that_is_new_has_old_opt_outs_of_its_own(two_shops: Play) -> None:
    know(two_shops, 1, 2)
    fresh = {"id": 3, "name": "salt", "kind": "shop", "adapter": "files", "created_at": NOON}
    two_shops.write(lambda tx: bulk.insert(tx, t.account, [fresh]))
    two_shops.shop(3)
    two_shops.take(order("1", buyer("di")), shop=3)
    two_shops.decide()
    assert waiting(two_shops) == [3]


def test_a_source_is_no_shop(play: Play) -> None:
    row = {"id": 1, "name": "survey", "kind": "source", "adapter": "files", "created_at": NOON}
    play.write(lambda tx: bulk.insert(tx, t.account, [row]))
    with play.store.read() as tx:
        assert accounts.opt_outs(tx) == {}


OFFER = '---\npurpose = "marketing"\nsubject = "Offer"\n---\nTea for less.\n'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A shop that sends offers."""
    for name in ("exports", "templates"):
        (tmp_path / name).mkdir()
    (tmp_path / "exports" / "orders.csv").write_text(ORDERS)
    (tmp_path / "templates" / "offer.en.email.txt").write_text(OFFER)
    config = CONFIG.replace('send = "order-shipped"', 'send = "offer"')
    (tmp_path / "crmkit.toml").write_text(f'{config}\n[policy]\nmarketing_default = "allow"\n')
    place = Place(tmp_path)
    place.run("sync", now=NOW)
    return place


def test_dispatch_and_doctor_say_what_marketing_waits_for(place: Place) -> None:
    line = (
        "2 marketing messages wait: who opted out of tea before crmkit is not known; run `crmkit consent import FILE`"
    )
    assert line in place.run("dispatch", now=NOW).output
    assert line in place.run("doctor", "--offline", now=NOW).output


def test_an_import_ends_it_unless_something_of_it_was_refused(place: Place) -> None:
    place.run("dispatch", now=NOW)
    (place.folder / "old.csv").write_text("address,state\nbo@buyers.example,withdrawn\nnobody,withdrawn\n")
    said = place.run("consent", "import", str(place.folder / "old.csv"), "--json", now=NOW)
    assert (said.exit_code, json.loads(said.stdout)["freed"]) == (1, 0)
    (place.folder / "old.csv").write_text("address,state,occurred_at\nbo@buyers.example,withdrawn,2025-01-01\n")
    assert json.loads(place.ok("consent", "import", str(place.folder / "old.csv"), "--json", now=NOW))["freed"] == 2
    place.run("dispatch", now=NOW)
    told = [json.loads(line) for line in place.ok("messages", "list", "--template", "offer", "--json").splitlines()]
    assert {(row["state"], row["reason"]) for row in told if row["address"]} == {
        ("sent", None),
        ("suppressed", "opted-out"),
    }


def test_a_list_without_rows_says_nothing_of_who_opted_out(place: Place) -> None:
    place.run("dispatch", now=NOW)
    for text in ("", "address,state\n"):
        (place.folder / "old.csv").write_text(text)
        for more in ([], ["--plan"]):
            said = place.run("consent", "import", str(place.folder / "old.csv"), *more, now=NOW)
            assert (said.exit_code, "crmkit consent none-before" in said.output) == (2, bool(text)), said.output
    place.run("dispatch", now=NOW)
    assert "who opted out of tea before crmkit is not known" in place.run("doctor", "--offline", now=NOW).output


def test_a_person_may_say_that_there_are_none(place: Place) -> None:
    place.run("dispatch", now=NOW)
    assert place.run("consent", "none-before").exit_code == 2
    assert place.run("consent", "none-before", "--reason", "new", "--shop", "silk").exit_code == 2
    said = place.ok("consent", "none-before", "--reason", "a new shop", now=NOW)
    assert said == "nobody opted out before of tea; 2 messages waited for this\n"
    assert "marketing message" not in place.run("dispatch", now=NOW).output
