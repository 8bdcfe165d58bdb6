"""Unsubscribing by one click: opening the link does nothing, posting does, and it holds."""

import asyncio
import email.policy
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from email.message import EmailMessage
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiosmtpd.smtp import SMTP, Envelope

from crmkit.core.records import Address, Buyer
from crmkit.engine.local import Local
from crmkit.host.catalogue import Catalogue
from crmkit.host.host import Host
from crmkit.host.plugins import Plugins
from crmkit.store import tables as t
from tests.web import conftest, stall
from tests.web.conftest import NOON, URL, Town

HOUR = timedelta(hours=1)
OFFER = """
from datetime import timedelta
from crmkit import Audience, Broadcast, OrderPlaced, hookimpl, on


@on(OrderPlaced)
def offer(event, crm):
    yield Broadcast(Audience(), "offer", via=("email",), not_before=crm.now + timedelta(hours=1))


@hookimpl
def crmkit_handlers():
    yield offer
"""
TEMPLATE = """---
purpose = "marketing"
subject = "Half price"
---
Everything at half price.
"""
ANN = Buyer(external_id="ann", name="Ann", email="ann@buyers.example", marketing_consent=True)


@pytest.fixture
def path(town: Town) -> str:
    town.order()
    return town.path("unsubscribe", town.profile(), word="email")


async def test_opening_the_link_only_asks(town: Town, path: str):
    answer = await town.client.get(path)
    assert answer.status_code == 200
    assert "Stop receiving e-mails with offers from Tea House?" in answer.text
    assert town.rows(t.consent) == []


async def test_one_click_from_a_mail_program_unsubscribes(town: Town, path: str):
    answer = await town.client.post(path, data={"List-Unsubscribe": "One-Click"})
    assert answer.status_code == 200
    told = {(row["profile_id"], row["address"]): row for row in town.rows(t.consent)}
    assert set(told) == {(town.profile(), None), (None, "ann@buyers.example")}
    for row in told.values():
        assert (row["channel"], row["purpose"], row["state"], row["source"]) == (
            "email",
            "marketing",
            "withdrawn",
            "page",
        )
        assert row["wording"] == "one-click (List-Unsubscribe)"
    assert [row["type"] for row in town.rows(t.interaction, type="consent-changed")] == ["consent-changed"]


async def test_twice_is_once(town: Town, path: str):
    for _ in range(3):
        assert (await town.client.post(path)).status_code == 200
    assert len(town.rows(t.consent)) == 2


@pytest.mark.parametrize(("language", "heading"), [("en", "Unsubscribe"), ("zh-CN", "退订")])
async def test_it_speaks_the_readers_language(town: Town, path: str, language: str, heading: str):
    answer = await town.client.get(path, headers={"Accept-Language": f"{language},fr;q=0.3"})
    assert f">{heading}</h1>" in answer.text
    assert f'<html lang="{language}">' in answer.text


async def test_what_a_reader_answers_is_kept_in_the_words_of_the_page(town: Town, path: str):
    town.host.config.crm.locale = "zh-CN"
    await town.client.post(path)
    assert {row["wording"][:2] for row in town.rows(t.consent)} == {"不再"}


async def test_another_channel_is_asked_about_by_its_name(town: Town):
    town.order()
    path = town.path("unsubscribe", town.profile(), word="whatsapp")
    assert "Stop receiving offers from Tea House (whatsapp)?" in (await town.client.get(path)).text
    assert "no more offers from Tea House (whatsapp)" in (await town.client.post(path)).text
    assert all("whatsapp" in row["wording"] for row in town.rows(t.consent))


@pytest.mark.parametrize(
    "sent", [{"json": {}}, {"content": b"x" * 70_000}, {"content": b"\xff", "headers": {"Content-Type": "text/plain"}}]
)
async def test_whatever_is_sent_unsubscribes(town: Town, path: str, sent: dict[str, Any]):
    assert (await town.client.post(path, **sent)).status_code == 200
    assert len(town.rows(t.consent)) == 2


@pytest.mark.parametrize("multipart", [False, True])
async def test_a_mail_programs_call_needs_no_cookie_and_is_led_nowhere_else(town: Town, path: str, multipart: bool):
    # RFC 8058: POST, urlencoded or multipart, without cookies or other credentials, no redirect
    said: dict[str, Any] = {"List-Unsubscribe": "One-Click"}
    sent: dict[str, Any] = (
        {"files": {name: (None, value) for name, value in said.items()}} if multipart else {"data": said}
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(town.app), base_url=URL) as program:
        answer = await program.post(path, **sent, headers={"User-Agent": "", "Accept": "*/*"})
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert len(town.rows(t.consent)) == 2


async def test_neither_get_nor_head_unsubscribes(town: Town, path: str):
    for answer in (await town.client.head(path), await town.client.get(f"{path}?List-Unsubscribe=One-Click")):
        assert answer.status_code == 200
    assert (await town.client.put(path)).status_code == 405
    assert town.rows(t.consent) == []


async def test_it_holds_for_every_address_mail_may_have_gone_to(town: Town):
    relay = Address(kind="relay_email", value="x@relay.example", valid_until=NOON + HOUR)
    town.order(buyer=Buyer(external_id="ann", email="ann@buyers.example", phone="+12025550123", addresses=(relay,)))
    path = town.path("unsubscribe", town.profile(), word="email")
    town.now += 2 * HOUR
    await town.client.post(path)
    told = {row["address"] for row in town.rows(t.consent)}
    assert told == {None, "ann@buyers.example", "x@relay.example"}


async def test_who_wants_to_stop_more_is_led_to_the_preferences(town: Town, path: str):
    done = await town.client.post(path)
    [link] = re.findall(r'href="(https://[^"]+)"', done.text)
    assert link.startswith(f"{URL}/p/")
    assert (await town.client.get(link)).status_code == 200


# --- the way of a mail


def prepared(folder: Path) -> Path:
    """The folder of a town that sends an offer to everybody, an hour after somebody orders."""
    (folder / "templates").mkdir(parents=True)
    (folder / "offers.py").write_text(OFFER, "utf-8")
    (folder / "templates" / "offer.en.email.txt").write_text(TEMPLATE, "utf-8")
    return folder


async def test_mail_that_waits_is_not_sent_once_its_reader_has_unsubscribed(migrated_url: str, tmp_path: Path):
    folder = prepared(tmp_path / "town")
    town = Town(folder, migrated_url, '[plugins]\nuse = ["./offers.py"]\n[[channels.email]]\nuse = "post"\n')
    stall.Post.taken.clear()
    town.order(buyer=ANN)
    town.order("1002", Buyer(external_id="bob", email="bob@buyers.example", marketing_consent=True))
    await town.local.dispatch(now=NOON)
    waiting = {row["address"]: row for row in town.rows(t.message, state="queued")}
    assert set(waiting) == {"ann@buyers.example", "bob@buyers.example"}
    link = waiting["ann@buyers.example"]["headers"]["List-Unsubscribe"].strip("<>")
    async with town.client:
        answer = await town.client.post(link, data={"List-Unsubscribe": "One-Click"})
    assert answer.status_code == 200
    await town.local.dispatch(now=NOON + HOUR)
    row = town.rows(t.message, address="ann@buyers.example")[0]
    assert (row["state"], row["reason"]) == ("suppressed", "opted-out")
    assert {message.address for message in stall.Post.taken} == {"bob@buyers.example"}
    town.store.close()


@asynccontextmanager
async def mail_server() -> AsyncIterator[tuple[int, list[EmailMessage]]]:
    """A mail server on this machine: its port, and what it took."""
    taken: list[EmailMessage] = []

    class Taker:
        async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
            content = envelope.content
            assert isinstance(content, bytes)
            found = email.message_from_bytes(content, policy=email.policy.default)
            assert isinstance(found, EmailMessage)
            taken.append(found)
            return "250 taken"

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Taker(), hostname="localhost", loop=loop), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], taken
    finally:
        server.close()


@pytest.mark.parametrize("has_pages", [True, False])
async def test_marketing_mail_says_where_one_click_unsubscribes(
    migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_pages: bool
):
    monkeypatch.setattr(
        conftest, "INSTALLED", [*conftest.INSTALLED, EntryPoint("email.smtp", "crmkit_email.smtp", "crmkit")]
    )
    async with mail_server() as (port, taken):
        own = 'unsubscribe = "https://old.tea.example/u?k={key}"'
        smtp = f'use = "smtp"\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\nsender = "shop@tea.example"\n{own}\n'
        folder = prepared(tmp_path / "town")
        town = Town(folder, migrated_url, f'[plugins]\nuse = ["./offers.py"]\n[[channels.email]]\n{smtp}')
        local = town.local
        if not has_pages:
            file = folder / "crmkit.toml"
            file.write_text(re.sub(r"\[web\]\n.*\n.*\n", "", file.read_text("utf-8")), "utf-8")
            local = Local(Host.open(file, plugins=Plugins(Catalogue(conftest.INSTALLED))), town.store)
        town.order(buyer=ANN)
        await local.dispatch(now=NOON + HOUR)
    [mail] = taken
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = mail["List-Unsubscribe"]
    assert link.startswith(f"<{URL}/u/" if has_pages else "<https://old.tea.example/u?k=")
    if has_pages:
        async with town.client:
            await town.client.post(link.strip("<>"), data={"List-Unsubscribe": "One-Click"})
        assert {row["state"] for row in town.rows(t.consent, source="page")} == {"withdrawn"}
    town.store.close()
