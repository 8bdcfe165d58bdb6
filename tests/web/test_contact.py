"""Contact capture: an address is left, a code proves it, and only then is it linked, with what its owner allowed."""

import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from crmkit.core.actions import Send
from crmkit.core.contact import Contact
from crmkit.core.errors import PluginError
from crmkit.core.events import ContactLeft, OrderPlaced
from crmkit.core.records import Address, Buyer
from crmkit.flow import consent, policy, preference
from crmkit.flow.effect import _check_left
from crmkit.flow.forget import forget
from crmkit.flow.setup import Plugin
from crmkit.store import contacts, customers, facts
from crmkit.store import tables as t
from tests.web import stall
from tests.web.conftest import NOON, Town

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
ANN = Buyer(external_id="ann", name="Ann Hushed", addresses=(Address(kind="order_token", value="tok-1"),))
BOTH = """
[plugins]
use = ["care"]
[policy]
quiet_hours = "00:00-23:59"
[[channels.email]]
use = "post"
[[channels.sms]]
use = "text"
"""
WANTED = {"address": "Ann@Home.example", "transactional": "1", "marketing": "1", "language": "en"}


def made(folder: Path, url: str, more: str = BOTH) -> Town:
    """A town whose shop is in the United States."""
    town = Town(folder, url, f'region = "US"\n{more}')
    return town


@pytest.fixture(autouse=True)
def nothing_taken() -> Iterator[None]:
    stall.Post.taken.clear()
    stall.Text.taken.clear()
    yield


@pytest.fixture
async def town(migrated_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    """A town that sends mail and text messages, and codes; it is always at night there."""
    found = made(tmp_path / "town", migrated_url)
    async with found.client:
        yield found
    found.store.close()


@pytest.fixture
def path(town: Town) -> str:
    return town.path("contact", *ordered(town))


def ordered(town: Town, number: str = "1001", buyer: Buyer = ANN) -> tuple[int]:
    town.order(number, buyer)
    return (town.profile(str(buyer.external_id)),)


def about(town: Town, number: str = "1001", key: str = "ann") -> str:
    order = town.one(t.orders, external_id=number)["id"]
    return town.path("contact", town.profile(key), subject=order)


async def left(town: Town, path: str, **fields: str) -> httpx.Response:
    """Leave an address; the page that follows."""
    answer = await town.client.post(path, data={**WANTED, **fields})
    return await town.client.get(answer.headers["location"]) if answer.status_code == 303 else answer


async def code(town: Town) -> str:
    """What is sent now, of which the last is the code."""
    await town.local.dispatch(now=town.now)
    taken = [*stall.Post.taken, *stall.Text.taken]
    [found] = re.findall(r"\b\d{6}\b", taken[-1].text)
    return str(found)


async def enter(town: Town, path: str, code: str) -> httpx.Response:
    answer = await town.client.post(f"{path}/code", data={"code": code})
    return await town.client.get(answer.headers["location"]) if answer.status_code == 303 else answer


def linked(town: Town) -> tuple[int, int, int]:
    """How many e-mail addresses and phone numbers are known, by which somebody is recognised, with what consent."""
    here = {"email", "phone"}
    reached = [row for row in town.rows(t.address) if row["kind"] in here]
    known = [row for row in town.rows(t.identity) if row["kind"] in here]
    return len(reached), len(known), len(town.rows(t.consent))


async def test_nothing_is_linked_before_the_code_is_entered(town: Town):
    ordered(town)
    path = about(town)
    page = await town.client.get(path)
    assert "Your e-mail address or phone number" in page.text
    assert "checked" not in page.text
    follows = await left(town, path)
    assert "six digits" in follows.text
    assert town.local.doors.news.is_set()  # `crmkit run --serve` sends it at once
    number = await code(town)
    assert linked(town) == (0, 0, 0)
    answer = await enter(town, path, f" {number[:3]} {number[3:]} ")
    assert answer.status_code == 200
    assert "Your address is confirmed." in answer.text
    rows = {(row["scope"], row["purposes"]) for row in town.rows(t.address, kind="email", value="ann@home.example")}
    assert rows == {(f"{town.shop_id}:1001", "transactional"), ("", "marketing")}
    assert town.rows(t.identity, kind="email") == []


async def test_consent_is_kept_with_its_words_and_its_proof(town: Town):
    ordered(town)
    path = about(town)
    await left(town, path)
    number = await code(town)
    town.now += MINUTE
    await enter(town, path, number)
    rows = {row["purpose"]: row for row in town.rows(t.consent)}
    assert set(rows) == {"transactional", "marketing"}
    for row in rows.values():
        assert (row["profile_id"], row["address"]) == (None, "ann@home.example")
        assert (row["channel"], row["state"], row["source"]) == ("email", "granted", "page")
        assert "code sent to ann@home.example" in row["wording"]
        assert number not in row["wording"]
    assert rows["marketing"]["wording"].startswith("Tea House may send offers to this address. [")
    assert "order 1001" in rows["transactional"]["wording"]
    told = town.one(t.interaction, type="contact-proven")
    assert (told["profile_id"], told["order_id"], told["payload"]) == (
        1,
        1,
        {"kind": "email", "address": "ann@home.example"},
    )
    asked = town.one(t.interaction, type="contact-left")["correlation_id"]
    assert asked and told["correlation_id"] and asked != told["correlation_id"]


async def test_only_what_was_chosen_is_allowed_and_something_has_to_be(town: Town):
    ordered(town)
    path = about(town)
    answer = await town.client.post(path, data={"address": "ann@home.example"})
    assert answer.status_code == 422
    assert "Please choose at least one." in answer.text
    assert 'value="ann@home.example"' in answer.text
    await town.client.post(path, data={"address": "ann@home.example", "marketing": "1"})
    await enter(town, path, await code(town))
    row = town.one(t.address, kind="email")
    assert (row["scope"], row["purposes"]) == ("", "marketing")
    assert [row["purpose"] for row in town.rows(t.consent)] == ["marketing"]


async def test_a_phone_number_is_read_as_in_the_shops_country(migrated_url: str, tmp_path: Path):
    town = made(tmp_path / "town", migrated_url)
    ordered(town)
    path = about(town)
    async with town.client:
        await left(town, path, address="(202) 555-0123")
        number = await code(town)
        assert stall.Text.taken[-1].address == "+12025550123"
        assert stall.Post.taken == []
        await enter(town, path, number)
    assert {row["channel"] for row in town.rows(t.consent)} == {"sms"}
    assert town.one(t.address, kind="phone", scope="")["value"] == "+12025550123"
    town.store.close()


@pytest.mark.parametrize("address", ["", "ann", "ann@", "12", "a@b@c", "\x00@x.example", "x" * 3000])
async def test_what_is_no_address_is_said_beside_it(town: Town, address: str):
    ordered(town)
    answer = await town.client.post(about(town), data={**WANTED, "address": address})
    assert answer.status_code == 422
    assert "neither an e-mail address nor a phone number" in answer.text
    assert town.rows(t.contact) == []


async def test_the_code_stands_in_no_log_and_says_nothing_of_the_customer(town: Town):
    ordered(town)
    path = about(town)
    await town.client.post(path, data={**WANTED, "language": "zh-CN"})
    number = await code(town)
    mail = stall.Post.taken[-1]
    assert "验证码" in mail.text
    assert "Hushed" not in f"{mail.subject}{mail.text}"
    row = town.one(t.message)
    assert (row["profile_id"], row["staff"], row["address"]) == (None, None, "ann@home.example")
    assert "customer" not in row["params"]
    assert "order" not in row["params"]
    for table in (t.interaction, t.contact, t.pending, t.timer):
        assert number not in str(town.rows(table))
    for table in (t.interaction, t.pending):
        assert "home.example" not in str(town.rows(table))


async def test_a_code_comes_at_night_too_and_for_half_an_hour(town: Town):
    ordered(town)
    path = about(town)
    await left(town, path)
    number = await code(town)  # the quiet hours of this town never end
    town.now += 30 * MINUTE
    assert (await enter(town, path, number)).status_code == 422
    assert stall.Post.taken[-1].expires_at == NOON + 30 * MINUTE
    assert linked(town) == (0, 0, 0)


async def test_five_wrong_codes_are_the_end_of_it(town: Town):
    ordered(town)
    path = about(town)
    await left(town, path)
    number = await code(town)
    wrong = f"{(int(number) + 1) % 1_000_000:06}"
    for _ in range(5):
        answer = await enter(town, path, wrong)
        assert answer.status_code == 422
        assert "This is not the code" in answer.text
    assert (await enter(town, path, number)).status_code == 422
    assert linked(town) == (0, 0, 0)
    town.now += MINUTE
    await left(town, path)
    assert (await enter(town, path, await code(town))).status_code == 200


@pytest.mark.parametrize("entered", ["", "x" * 9000, "１２", "ÄÖ", "\x00", "000000 OR 1=1"])
async def test_what_is_no_code_is_none(town: Town, entered: str):
    ordered(town)
    path = about(town)
    assert (await enter(town, path, entered)).status_code == 422
    await left(town, path)
    assert (await enter(town, path, entered)).status_code == 422
    assert linked(town) == (0, 0, 0)


async def test_the_code_counts_only_for_what_was_left_last_and_only_at_its_own_page(town: Town):
    ordered(town)
    ordered(town, "1002", Buyer(external_id="bob"))
    path, bobs = about(town), about(town, "1002", "bob")
    await left(town, path)
    first = await code(town)
    await left(town, bobs, address="bob@home.example")
    assert (await enter(town, bobs, first)).status_code == 422
    town.now += MINUTE
    await left(town, path, address="ann@work.example")
    assert (await enter(town, path, first)).status_code == 422
    assert linked(town) == (0, 0, 0)


async def test_entered_twice_it_is_linked_once(town: Town):
    ordered(town)
    path = about(town)
    await left(town, path)
    number = await code(town)
    for _ in range(2):
        assert (await enter(town, path, number)).status_code == 200
    assert len(town.rows(t.interaction, type="contact-proven")) == 1
    assert linked(town) == (2, 0, 2)


async def test_codes_are_few_for_a_customer_and_for_an_address(town: Town):
    ordered(town)
    ordered(town, "1002", Buyer(external_id="bob"))
    path, bobs = about(town), about(town, "1002", "bob")
    for number in range(3):
        assert (await left(town, path, address=f"a{number}@home.example")).status_code == 200
    assert (await left(town, path, address="more@home.example")).status_code == 429
    town.now += HOUR
    for _ in range(3):
        assert (await left(town, bobs, address="one@home.example")).status_code == 200
    await town.local.dispatch(now=town.now)
    sent = len(stall.Post.taken)
    assert "six digits" in (await left(town, path, address="one@home.example")).text  # others' use is not told of
    await town.local.dispatch(now=town.now)
    assert len(stall.Post.taken) == sent
    assert "one@home.example" not in str(town.rows(t.contact, profile_id=town.profile()))
    assert (await left(town, path, address="other@home.example")).status_code == 200
    for hour in range(9):
        town.now += HOUR
        for _ in range(3):
            await left(town, path, address=f"h{hour}@home.example")
    assert len(town.rows(t.contact, profile_id=town.profile())) == 10


# --- nothing is to be found out


async def test_the_pages_say_the_same_whoever_an_address_belongs_to(town: Town):
    ordered(town, "1", Buyer(external_id="known", email="known@home.example"))
    ordered(town, "2", Buyer(external_id="gone", email="gone@home.example"))
    with town.store.begin() as tx:
        customers.suppress(
            tx, channel="email", address="dead@home.example", reason="bounced", source="post", now=town.now
        )
        forget(tx, town.profile("gone"), now=town.now)
    ordered(town)
    path = about(town)
    said = []
    for name in ("new", "known", "dead", "gone"):
        town.now += HOUR
        answer = await town.client.post(path, data={**WANTED, "address": f"{name}@home.example"})
        page = await town.client.get(answer.headers["location"])
        wrong = await enter(town, path, "12345x")
        said.append((answer.status_code, answer.headers["location"], page.text, wrong.status_code, wrong.text))
        await town.local.dispatch(now=town.now)
    assert len(set(said)) == 1
    assert [mail.address for mail in stall.Post.taken] == ["new@home.example", "known@home.example"]
    assert "gone@home.example" not in str(town.rows(t.contact))
    assert "gone@home.example" not in str(town.rows(t.message))
    assert [row["reason"] for row in town.rows(t.message, state="suppressed")] == ["opted-out"]


async def test_who_asked_for_no_texts_is_sent_no_code(town: Town):
    stop = {"channel": "sms", "purpose": "*", "state": "withdrawn", "source": "gateway:text", "actor": "customer"}
    with town.store.begin() as tx:
        entry = {**stop, "address": "+12025550123", "wording": "STOP", "occurred_at": NOON}
        consent.enter(tx, [entry], listened=(), now=NOON)
    ordered(town)
    await left(town, about(town), address="+12025550123")
    await town.local.dispatch(now=town.now)
    assert stall.Text.taken == []


# --- who is who


async def test_a_proven_address_says_nothing_of_who_somebody_is(town: Town):
    town.order("900", Buyer(name="Ann", email="ann@home.example"))
    ordered(town)
    path = about(town)
    await left(town, path)
    await enter(town, path, await code(town))
    rows = town.rows(t.profile)
    assert [row["family_id"] for row in rows] == [row["id"] for row in rows]
    assert not any(row["needs_review"] for row in rows)


async def test_who_finds_an_insert_reads_nothing_of_the_buyer_and_hears_of_that_order_only(town: Town):
    finder = Buyer(name="Eve", email="eve@found.example")
    town.order("900", finder)
    town.order("1001", ANN)
    town.order("1002", ANN)
    eve = town.one(t.profile, key="email:eve@found.example")["id"]
    statement = town.path("statement", eve, subject=town.shop_id)
    path = about(town)
    await left(town, path, address="eve@found.example")
    await enter(town, path, await code(town))
    page = (await town.client.get(statement)).text
    assert "900" in page
    assert "1001" not in page
    assert "1002" not in page
    stall.Post.taken.clear()
    town.now += HOUR
    town.order("1003", ANN, placed_at=town.now, updated_at=town.now)
    with town.store.read() as tx:
        reach = facts.reach_of(tx, [town.profile()], town.now)
    mail = [row for row in reach.addresses[town.profile()] if row["kind"] == "email"]
    assert {row["scope"] for row in mail if "transactional" in row["purposes"]} == {f"{town.shop_id}:1001"}


async def test_an_inserts_link_ends_with_the_first_proof(town: Town):
    ordered(town)
    path, again = about(town), about(town)
    await left(town, path)
    await enter(town, path, await code(town))
    town.now += MINUTE
    for answer in (
        await town.client.get(again),
        await town.client.post(again, data={**WANTED, "address": "eve@found.example"}),
        await town.client.get(f"{again}/code"),
        await enter(town, again, "12345x"),
    ):
        assert answer.status_code == 410
        assert "This link has done its work" in answer.text
    assert len(town.rows(t.contact)) == 1
    ordered(town, "1002")
    assert (await town.client.get(about(town, "1002"))).status_code == 200


async def test_what_was_left_twice_is_proven_once(town: Town):
    ordered(town)
    town.order("1002", Buyer(name="Bob", email="bob@home.example"))
    path = about(town)
    await left(town, path)
    number = await code(town)
    with town.store.begin() as tx:
        tx.execute(sa.update(t.contact).values(proven_at=None))
        row = dict(town.rows(t.contact)[0])
        contacts.add(tx, {**row, "proven_at": town.now, "left_at": NOON - HOUR})
    assert (await enter(town, path, number)).status_code == 410
    assert linked(town)[0] == 1


async def test_what_the_customer_stopped_stays_stopped(town: Town):
    ordered(town)
    given: dict[str, Any] = {"wording": None, "listened": (), "now": town.now}
    with town.store.begin() as tx:
        preference.withdraw(tx, town.profile(), "*", "*", **given)
    town.now += MINUTE
    path = about(town)
    await left(town, path)
    done = await enter(town, path, await code(town))
    assert "they stay off until you allow them again" in done.text
    with town.store.read() as tx:
        reach = facts.reach_of(tx, [town.profile()], town.now)
    [channel] = [one for one in preference.channels(town.host.setup({}), reach, town.profile()) if one.name == "email"]
    assert not any(channel.allowed.values())
    assert {row["state"] for row in town.rows(t.consent) if row["profile_id"] is not None} == {"withdrawn"}


async def test_offers_allowed_at_one_address_are_allowed_at_no_other(town: Town):
    ordered(town, buyer=Buyer(external_id="ann", email="ann@old.example"))
    path = about(town)
    await left(town, path)
    await enter(town, path, await code(town))
    with town.store.read() as tx:
        setup = town.host.setup({})
        reach = facts.reach_of(tx, [town.profile()], town.now)
    rows = {row["value"]: row for row in reach.addresses[town.profile()] if row["scope"] == ""}
    asked = {
        value: policy.address(setup, reach, town.profile(), "email", "marketing", row) is None
        for value, row in rows.items()
        if row["kind"] == "email"
    }
    assert asked == {"ann@old.example": False, "ann@home.example": True}


async def test_news_of_that_order_goes_there_and_of_others_does_not(town: Town):
    ordered(town)
    path = about(town)
    await left(town, path)
    await enter(town, path, await code(town))
    ordered(town, "1002")
    with town.store.read() as tx:
        reach = facts.reach_of(tx, [town.profile()], town.now)
    mail = [row for row in reach.addresses[town.profile()] if row["kind"] == "email"]
    assert {(row["scope"], row["purposes"]) for row in mail} == {
        ("", "marketing"),
        (f"{town.shop_id}:1001", "transactional"),
    }


# --- what is left of it


async def test_what_is_not_proven_is_erased_after_a_day_with_its_message(town: Town):
    ordered(town)
    path = about(town)
    await left(town, path)
    await code(town)
    assert "home.example" in everything(town)
    town.now += timedelta(days=1)
    with town.store.begin() as tx:
        assert contacts.erase_old(tx, town.now) == 1
    assert "home.example" not in everything(town)
    assert town.one(t.message)["state"] in {"sent", "delivered"}


async def test_a_sync_erases_what_is_old(town: Town):
    ordered(town)
    await left(town, about(town))
    await town.local.sync(now=town.now + timedelta(days=2))
    assert "home.example" not in everything(town)


async def test_forgetting_reaches_what_was_left(town: Town):
    ordered(town)
    path = about(town)
    await left(town, path)
    await enter(town, path, await code(town))
    await left(town, path, address="ann@work.example")
    await code(town)
    ordered(town, "1002", Buyer(external_id="bob"))
    town.now += MINUTE
    await left(town, about(town, "1002", "bob"))  # a stranger leaves an address of hers
    await code(town)
    with town.store.begin() as tx:
        forget(tx, town.profile(), now=town.now)
    assert "home.example" not in everything(town)
    assert "work.example" not in everything(town)
    assert (await town.client.get(path)).status_code == 410


def everything(town: Town) -> str:
    """All that the database says."""
    with town.store.read() as tx:
        return str([dict(row) for table in t.CORE for row in tx.execute(sa.select(table)).mappings()])


# --- where it is not to be had


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("", "No address can be left here"),
        ('[[channels.email]]\nuse = "post"\n', "No address can be left here"),
        ('[plugins]\nuse = ["care"]\n', "No address can be left here"),
        ('[plugins]\nuse = ["care"]\n[[channels.email]]\nuse = "post"\n', "Your e-mail address<"),
        ('[plugins]\nuse = ["care"]\n[[channels.sms]]\nuse = "text"\n', "Your phone number<"),
    ],
)
async def test_only_what_a_code_can_be_sent_to_can_be_left(migrated_url: str, tmp_path: Path, more: str, says: str):
    town = made(tmp_path / "town", migrated_url, more)
    ordered(town)
    path = about(town)
    async with town.client:
        assert says in (await town.client.get(path)).text
        answers = [
            await town.client.post(path, data={**WANTED, "address": one}) for one in ("a@b.example", "2025550123")
        ]
    assert len(town.rows(t.contact)) == says.startswith("Your")
    assert {answer.status_code for answer in answers} <= {200, 303, 422}
    town.store.close()


async def test_nothing_is_left_about_an_order_of_a_shop_that_is_switched_off(town: Town):
    ordered(town)
    path = about(town)
    del town.host.shops["stall"]
    assert "No address can be left here" in (await town.client.get(path)).text
    assert "No address can be left here" in (await town.client.post(path, data=WANTED)).text
    assert town.rows(t.contact) == []


async def test_nobody_leaves_an_address_about_another_customers_order(town: Town):
    ordered(town)
    ordered(town, "1002", Buyer(external_id="bob"))
    bobs = town.one(t.orders, external_id="1002")["id"]
    path = town.path("contact", town.profile(), subject=bobs)
    assert (await town.client.get(path)).status_code == 404
    assert (await town.client.post(path, data=WANTED)).status_code == 404


def test_a_plugin_writes_to_no_other_address() -> None:
    contact = Contact(id=1, kind="email", value="a@b.example", locale="en", left_at=NOON, code="123456")
    here, other = contact.address, Address(kind="email", value="b@b.example")
    cases: list[Any] = [
        (ContactLeft(contact=contact), Send("x", to=other), other),
        (ContactLeft(), Send("x", to=here), here),
        (OrderPlaced(), Send("x", to=here), here),
        (ContactLeft(contact=contact), Send("x", to=here, key="k"), here),
        (ContactLeft(contact=contact), Send("x", to=here, combine=HOUR), here),
    ]
    for event, send, to in cases:
        with pytest.raises(PluginError):
            _check_left(Plugin("p"), event, send, to)
    _check_left(Plugin("p"), ContactLeft(contact=contact), Send("x", to=here), here)
