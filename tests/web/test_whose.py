"""Which pages a message leads to: what is said of a customer as a whole is given to addresses of theirs alone."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from crmkit.core.contact import code_of
from crmkit.core.records import Address, Buyer
from crmkit.flow.contact import leave, prove
from crmkit.store import facts, orders
from crmkit.store import tables as t
from tests.web import stall
from tests.web.conftest import NOON, Town

TELLER = """
from crmkit import OrderPlaced, Send, hookimpl, on


@on(OrderPlaced)
def tell(event, crm):
    yield Send("by-mail", via=("email",))
    yield Send("by-text", via=("sms",))
    yield Send("offers", via=("email",))


@hookimpl
def crmkit_handlers():
    yield tell
"""
TEXT = "{% for name in links | sort %}{{ name }} {% endfor %}"
MORE = '[plugins]\nuse = ["./teller.py"]\n[[channels.email]]\nuse = "post"\n[[channels.sms]]\nuse = "text"\n'
OF_THE_ORDER = {"order", "contact", "unsubscribe"}
OF_THE_CUSTOMER = OF_THE_ORDER | {"preferences", "statement"}
VICTIM, PHONE = "ann@buyers.example", "+12025550123"


@pytest.fixture
async def town(migrated_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    """A town whose messages say which links they were given."""
    folder = tmp_path / "town"
    (folder / "templates").mkdir(parents=True)
    (folder / "teller.py").write_text(TELLER, "utf-8")
    for name, purpose, channel in (
        ("by-mail", "transactional", "email"),
        ("by-text", "transactional", "sms"),
        ("offers", "marketing", "email"),
    ):
        subject = 'subject = "S"\n' if channel == "email" else ""
        front = f'---\npurpose = "{purpose}"\n{subject}---\n'
        (folder / "templates" / f"{name}.en.{channel}.txt").write_text(f"{front}{TEXT}\n", "utf-8")
    found = Town(folder, migrated_url, MORE)
    yield found
    found.store.close()


@pytest.fixture(autouse=True)
def nothing_taken() -> Iterator[None]:
    stall.Post.taken.clear()
    stall.Text.taken.clear()
    yield


async def given(town: Town) -> dict[tuple[str, str], set[str]]:
    """{(template, address): the links it was given}."""
    await town.local.dispatch(now=town.now)
    rows = [row for row in town.rows(t.message) if row["text"] is not None]
    return {(row["template"], row["address"]): set(row["text"].split()) for row in rows}


async def test_a_guest_with_somebodys_address_and_ones_own_phone_is_given_only_that_order(town: Town):
    town.order("1001", Buyer(external_id="ann", email=VICTIM))
    town.order("666", Buyer(email=VICTIM, phone=PHONE))
    assert len({row["family_id"] for row in town.rows(t.profile)}) == 1
    links = await given(town)
    assert links["by-text", PHONE] == OF_THE_ORDER
    assert links["by-mail", VICTIM] == OF_THE_CUSTOMER


async def test_news_of_an_account_lead_to_all_of_it_only_at_addresses_of_that_account(town: Town):
    town.order("666", Buyer(email=VICTIM, phone=PHONE))
    town.order("1001", Buyer(external_id="ann", email=VICTIM))
    links = {}
    await given(town)
    for row in town.rows(t.message):
        if row["order_id"] == town.one(t.orders, external_id="1001")["id"] and row["text"] is not None:
            links[row["address"]] = set(row["text"].split())
    assert links[VICTIM] == OF_THE_CUSTOMER
    assert links[PHONE] == OF_THE_ORDER


async def test_a_guest_is_given_all_where_the_address_is_who_they_are(town: Town):
    town.order("1", Buyer(phone=PHONE))
    assert (await given(town))["by-text", PHONE] == OF_THE_CUSTOMER


async def test_a_proven_address_is_given_only_that_order(town: Town):
    buyer = Buyer(external_id="ann", addresses=(Address(kind="order_token", value="tok-1"),))
    number = town.order("1001", buyer)
    key = town.links.keys[0]
    with town.store.begin() as tx:
        customer = facts.customers_of(tx, [town.profile()])[town.profile()]
        order = orders.of_customer(tx, number, customer.id)
        choices = {"transactional": "news?", "marketing": "offers?"}
        told = {"listened": (), "now": town.now}
        assert leave(tx, customer, order, "email", "eve@found.example", choices, locale="en", **told)
        [row] = tx.execute(t.contact.select()).mappings()
        assert prove(tx, customer, code_of(dict(row), key), [key], **told)
    links = await given(town)
    assert links["by-mail", "eve@found.example"] == OF_THE_ORDER
    assert links["offers", "eve@found.example"] == OF_THE_ORDER
    later = town.now + timedelta(hours=1)
    assert later > NOON
    town.order("1002", buyer, placed_at=later, updated_at=later)
    town.now = later
    await given(town)
    second = town.one(t.orders, external_id="1002")["id"]
    of_second = [row for row in town.rows(t.message, order_id=second) if row["purpose"] == "transactional"]
    assert {row["address"] for row in of_second} == {None}
