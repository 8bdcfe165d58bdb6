"""Preferences: the page says what dispatch does, and changes what its reader changed and nothing else."""

import re
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from crmkit.core.records import Buyer
from crmkit.store import customers
from crmkit.store import tables as t
from tests.web.conftest import NOON, Town

ANN = Buyer(external_id="ann", name="Ann", email="ann@buyers.example", phone="+1 202 555 0123")
BOTH = """
[[channels.email]]
use = "post"
[[channels.sms]]
use = "text"
"""
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def town(migrated_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    """A town that sends mail and text messages."""
    found = Town(tmp_path / "town", migrated_url, BOTH)
    async with found.client:
        yield found
    found.store.close()


@pytest.fixture
def path(town: Town) -> str:
    town.order(buyer=ANN)
    return town.path("preferences", town.profile())


def boxes(page: httpx.Response) -> dict[str, bool]:
    """{what a box is for: whether it is checked}."""
    found = re.findall(r'type="checkbox" name="is" value="([^"]+)"( checked)?', page.text)
    return {name: bool(checked) for name, checked in found}


def form(page: httpx.Response, **changes: bool) -> dict[str, list[str]]:
    """The form as a browser sends it, after these boxes were set (`email_marketing=True`)."""
    shown = boxes(page)
    now = {**shown, **{name.replace("_", "."): value for name, value in changes.items()}}
    hidden = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.text)
    sent: dict[str, list[str]] = {}
    for name, value in hidden:
        sent.setdefault(name, []).append(value)
    sent["is"] = [name for name, checked in now.items() if checked]
    return {**sent, "speak": re.findall(r'<option value="([^"]*)"[^>]* selected', page.text)}


async def post(town: Town, path: str, data: Mapping[str, Any]) -> httpx.Response:
    """Send the form; the page it leads to."""
    answer = await town.client.post(path, data=data)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith(f"{path}?")
    assert answer.headers["cache-control"] == "no-store"
    return await town.client.get(answer.headers["location"])


def ledger(town: Town) -> list[tuple[str, ...]]:
    rows = town.rows(t.consent)
    return [("address" if row["address"] else "profile", row["channel"], row["purpose"], row["state"]) for row in rows]


async def test_it_shows_what_holds(town: Town, path: str):
    page = await town.client.get(path)
    assert boxes(page) == {
        "email.transactional": True,
        "email.marketing": False,
        "sms.transactional": True,
        "sms.marketing": False,
    }
    assert "a•••@buyers.example" in page.text
    assert "ann@buyers.example" not in page.text
    assert "5550123" not in page.text
    assert (await town.client.head(path)).status_code == 200


async def test_a_grant_is_an_opt_in_with_the_words_it_was_given_to(town: Town, path: str):
    page = await town.client.get(f"{path}?lang=zh-CN")
    answer = await post(town, path, data=form(page, email_marketing=True))
    assert boxes(answer)["email.marketing"]
    assert "您的选择已保存" in answer.text
    row = town.one(t.consent)
    assert (row["profile_id"], row["channel"], row["purpose"], row["state"]) == (1, "email", "marketing", "granted")
    assert (row["source"], row["actor"], row["occurred_at"]) == ("page", "customer", NOON)
    assert row["wording"] == "我希望接收Tea House的： 优惠邮件"
    assert "优惠邮件" in page.text
    assert town.one(t.interaction, type="consent-changed")["payload"]["state"] == "granted"


async def test_saving_twice_or_without_a_change_writes_nothing_new(town: Town, path: str):
    page = await town.client.get(path)
    await post(town, path, data=form(page))
    assert ledger(town) == []
    for _ in range(3):
        town.now += MINUTE
        answer = await post(town, path, data=form(page, email_marketing=True, sms_transactional=False))
        assert "Your choices are saved." in answer.text
    assert ledger(town) == [
        ("profile", "email", "marketing", "granted"),
        ("profile", "sms", "transactional", "withdrawn"),
        ("address", "sms", "transactional", "withdrawn"),
    ]
    assert town.one(t.consent, address="+12025550123")["state"] == "withdrawn"


async def test_a_form_is_not_taken_once_something_else_was_changed(town: Town, path: str):
    stale = await town.client.get(path)
    await post(town, path, data=form(stale, email_marketing=True))
    town.now += MINUTE
    await post(town, path, data=form(await town.client.get(path), email_marketing=False))
    before = ledger(town)
    town.now += MINUTE
    for changes in ({"email_marketing": True}, {"sms_marketing": True, "email_marketing": True}):
        answer = await post(town, path, data=form(stale, **changes))
        assert "nothing of it was saved" in answer.text
        assert "<title>Not saved · " in answer.text
        assert boxes(answer)["email.marketing"] is False
    assert ledger(town) == before
    town.now += MINUTE
    await post(town, path, data={**form(stale), "none": "1"})  # that is taken from a form of any age
    assert ("profile", "*", "*", "withdrawn") in ledger(town)


async def test_what_was_done_is_said_once_and_first(town: Town, path: str):
    page = await town.client.get(path)
    done = await post(town, path, data=form(page, email_marketing=True))
    assert "<title>Saved · " in done.text
    assert "done=" not in "".join(re.findall(r'href="([^"]*)"', done.text))
    odd = await town.client.get(f"{path}?done=<script>")
    assert "<script" not in odd.text
    assert "Saved" not in odd.text


async def test_what_was_stopped_can_be_wanted_again_and_stopped_again(town: Town, path: str):
    for times in range(3):
        for wanted in (True, False):
            town.now += MINUTE
            page = await town.client.get(path)
            answer = await post(town, path, data=form(page, email_marketing=wanted))
            assert boxes(answer)["email.marketing"] is wanted, times


async def test_what_unsubscribing_leads_to_only_takes_back(town: Town, path: str):
    every = {"email_marketing": True, "sms_marketing": True}
    await post(town, path, data=form(await town.client.get(path), **every))
    town.now += MINUTE
    unsubscribe = town.path("unsubscribe", town.profile(), word="email")
    done = await town.client.post(unsubscribe)
    [less] = re.findall(r'href="https://[^"/]+(/p/[^"]+)"', done.text)
    page = await town.client.get(less)
    assert boxes(page) == {"email.transactional": True, "sms.transactional": True, "sms.marketing": True}
    assert "buyers.example" not in page.text
    town.now += MINUTE
    asks = form(page, email_marketing=True, sms_marketing=False)
    answer = await post(town, less, data={**asks, "shown": [*asks["shown"], "email.marketing"], "speak": "zh-CN"})
    assert boxes(answer) == {"email.transactional": True, "sms.transactional": True}
    assert town.one(t.profile, id=town.profile())["locale"] is None
    assert boxes(await town.client.get(path))["email.marketing"] is False


async def test_what_unsubscribing_leads_to_ends_with_its_link(town: Town, path: str):
    unsubscribe = town.path("unsubscribe", town.profile(), word="email")
    town.now += timedelta(days=399)
    asked = await town.client.get(unsubscribe)
    [less] = re.findall(r'href="https://[^"/]+(/p/[^"]+)"', asked.text)
    assert (await town.client.get(less)).status_code == 200
    town.now += timedelta(days=2)
    assert (await town.client.get(less)).status_code == 410


async def test_what_a_page_says_can_be_found_in_the_log(town: Town, path: str):
    answer = await town.client.post(path, data=form(await town.client.get(path), email_marketing=True))
    told = town.one(t.interaction, type="consent-changed")
    assert told["correlation_id"] == answer.headers["x-request-id"]


async def test_stop_everything_stops_everything(town: Town, path: str):
    page = await town.client.get(path)
    for _ in range(2):
        town.now += MINUTE
        answer = await post(town, path, data={**form(page, email_marketing=True), "none": "1"})
        assert not any(boxes(answer).values())
    assert {row[1:] for row in ledger(town)} == {("*", "*", "withdrawn")}
    assert len(ledger(town)) == 3
    town.now += MINUTE
    answer = await post(town, path, data=form(answer, email_transactional=True))
    assert [name for name, checked in boxes(answer).items() if checked] == ["email.transactional"]


async def test_an_address_that_came_back_is_shown_as_such(town: Town, path: str):
    with town.store.begin() as tx:
        customers.suppress(
            tx, channel="email", address="ann@buyers.example", reason="bounced", source="post", now=town.now
        )
    page = await town.client.get(path)
    assert "messages came back" in page.text
    assert set(boxes(page)) == {"sms.transactional", "sms.marketing"}


async def test_the_language_chosen_here_goes_before_what_a_shop_says(town: Town, path: str):
    page = await town.client.get(path)
    answer = await post(town, path, data={**form(page), "speak": "zh-CN"})
    assert '<html lang="zh-CN">' in answer.text
    later = NOON + timedelta(days=1)
    speaks = Buyer(external_id="ann", email="ann@buyers.example", locale="en", name="Ann B")
    town.order("1002", speaks, placed_at=later, updated_at=later)
    row = town.one(t.profile, id=town.profile())
    assert (row["locale"], row["name"]) == ("zh-CN", "Ann B")
    again = await town.client.get(path)
    await post(town, path, data=form(again))
    assert town.one(t.profile, id=town.profile())["locale"] == "zh-CN"


async def test_a_language_is_kept_by_who_stops_everything_too(town: Town, path: str):
    page = await town.client.get(path)
    await post(town, path, data={**form(page), "speak": "zh-CN", "none": "1"})
    assert town.one(t.profile, id=town.profile())["locale"] == "zh-CN"
    assert ("profile", "*", "*", "withdrawn") in ledger(town)


async def test_nothing_is_granted_that_was_not_shown(town: Town, path: str):
    sent = {"shown": ["fax.marketing", "*.marketing"], "is": ["fax.marketing", "*.marketing", "email.marketing"]}
    await post(town, path, data=sent)
    assert ledger(town) == []


async def test_who_cannot_be_reached_has_nothing_to_choose(migrated_url: str, tmp_path: Path):
    town = Town(tmp_path / "town", migrated_url)
    town.order(buyer=ANN)
    async with town.client:
        page = await town.client.get(town.path("preferences", town.profile()))
    assert "no address by which we can reach you" in page.text
    assert boxes(page) == {}
    town.store.close()


async def test_a_forgotten_customers_page_is_gone(town: Town, path: str):
    with town.store.begin() as tx:
        tx.execute(sa.update(t.profile).values(forgotten_at=town.now))
    assert (await town.client.get(path)).status_code == 410
