"""What is paused does not leave, also in the middle of a run; resumed, exactly the remainder leaves, in order."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from crmkit.adapters.gateway import GatewaySettings
from crmkit.core.actions import Send
from crmkit.core.errors import AuthError
from crmkit.core.events import OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.message import Message, Receipt
from crmkit.flow.claim import claim, sweep
from crmkit.flow.deliver import deliver
from crmkit.flow.pause import fingerprint, pause, resume
from crmkit.flow.setup import Entry
from crmkit.store import outbox
from crmkit.store import tables as t
from crmkit.store.engine import Store
from tests.play import DAY, HOUR, NOON, Play, buyer, entry, order
from tests.scripted import Scripted, accept, queue, send

SCOPES = [("all", ""), ("channel", "email"), ("template", "news"), ("gateway", "mail")]


def states(play: Play) -> Counter[tuple[str, str | None]]:
    return Counter((row["state"], row["reason"]) for row in play.rows(t.message))


def paused(play: Play, scope: str = "all", name: str = "", **fields: Any) -> None:
    play.write(lambda tx: pause(tx, play.setup, scope, name, NOON, actor="ann", **fields))


def resumed(play: Play, scope: str = "all", name: str = "") -> int | None:
    with play.store.begin() as tx:
        return resume(tx, play.setup, scope, name, NOON)


@pytest.mark.parametrize(("scope", "name"), SCOPES)
async def test_what_is_paused_waits_and_says_why(play: Play, scope: str, name: str) -> None:
    queue(play, 3)
    paused(play, scope, name, reason="wrong price")
    gateway = Scripted(accept)
    await send(play, gateway, NOON + HOUR)
    assert (gateway.asked, states(play)) == ([], {("queued", "paused"): 3})
    assert play.rows(t.message)[0]["detail"].endswith("is paused by ann: wrong price")
    assert {row["not_before"] for row in play.rows(t.message)} == {NOON}
    assert resumed(play, scope, name) == 3
    assert states(play) == {("queued", None): 3}
    await send(play, gateway, NOON + HOUR)
    assert gateway.asked == [row["key"] for row in play.rows(t.message)]


@pytest.mark.parametrize(("scope", "name"), [("channel", "sms"), ("template", "offer"), ("gateway", "spare")])
async def test_what_another_pause_is_about_leaves(play: Play, scope: str, name: str) -> None:
    queue(play, 2)
    paused(play, scope, name)
    await send(play, Scripted(accept))
    assert states(play) == {("sent", None): 2}


@pytest.mark.parametrize(("scope", "name"), SCOPES)
async def test_deciding_goes_on_and_new_messages_wait(play: Play, scope: str, name: str) -> None:
    paused(play, scope, name)
    queue(play, 2)
    if scope != "gateway":  # which may not be the one it goes by in the end
        assert states(play) == {("queued", "paused"): 2}
    await send(play, Scripted(accept), NOON + DAY)
    assert states(play) == {("queued", "paused"): 2}


async def test_what_is_claimed_and_not_marked_does_not_leave(play: Play) -> None:
    queue(play, 3)
    with play.store.begin() as tx:
        ids = [row["id"] for row in claim(tx, play.setup, "mail", "me", NOON, 10).rows]
    assert await play.store.run(outbox.mark, ids[:1], "me", NOON, NOON + HOUR) == set(ids[:1])
    paused(play)
    assert await play.store.run(outbox.mark, ids[1:], "me", NOON, NOON + HOUR) == set()


async def test_one_pause_after_the_other_is_lifted_alone(play: Play) -> None:
    queue(play, 2)
    paused(play, "all")
    paused(play, "channel", "email")
    assert resumed(play, "all") == 0
    assert states(play) == {("queued", "paused"): 2}
    assert resumed(play, "all") is None
    assert resumed(play, "channel", "email") == 2


async def test_a_paused_gateway_leaves_its_messages_to_the_next(play: Play) -> None:
    play.channels = {"email": [entry(Scripted, "mail"), entry(Scripted, "spare")]}
    queue(play, 2)
    paused(play, "gateway", "mail")
    assert {row["gateway"] for row in play.rows(t.message)} == {"spare"}
    paused(play, "gateway", "spare")
    assert states(play) == {("queued", "paused"): 2}
    resumed(play, "gateway", "mail")
    await send(play, Scripted(accept), name="spare")
    await send(play, Scripted(accept))
    assert {(row["state"], row["gateway"]) for row in play.rows(t.message)} == {("sent", "mail")}


async def test_a_thousand_paused_in_the_middle_leave_once_each_and_in_order(play: Play) -> None:
    """Two processes deliver; the pause comes from a third."""
    play.template("news.en.email", 'purpose = "transactional"\nsubject = "News"\n---\nNews')
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]))
    play.take(*(order(str(number), buyer(f"b{number}")) for number in range(1000)))
    play.decide()
    url = play.store.engine.url.render_as_string(hide_password=False)
    others = [Store(url), Store(url)]
    at_pause: list[int] = []
    asked: list[str] = []

    class Counting(Scripted):
        async def deliver(self, message: Message) -> Receipt:
            asked.append(message.key)
            await asyncio.sleep(0)
            if len(asked) == 400:
                await others[1].run(pause, play.setup, "all", "", NOON, actor="ann")
                at_pause.append(len(asked))
            return await super().deliver(message)

    stores = [play.store, others[0]]
    gateways = [Counting(accept, concurrency=4) for _ in stores]
    pairs = list(zip(stores, gateways, strict=True))
    await asyncio.gather(*(deliver(s.run, play.setup, "mail", g, lambda: NOON) for s, g in pairs))
    left = len(asked)
    assert left - at_pause[0] <= 2 * (64 + 8)  # what was marked, and what was being marked
    assert states(play) == {("sent", None): left, ("queued", "paused"): 1000 - left}
    waiting = [row["key"] for row in play.rows(t.message, state="queued")]
    await send(play, Scripted(accept))
    assert states(play)["sent", None] == left
    assert resumed(play) == 1000 - left
    last = Scripted(accept, concurrency=1)
    await send(play, last)
    for store in others:
        store.close()
    assert last.asked == waiting
    assert len(asked) + len(last.asked) == len({*asked, *last.asked}) == 1000
    assert states(play) == {("sent", None): 1000}


class Secret(GatewaySettings):
    password: SecretStr


def secret(password: str) -> Entry:
    return Entry("mail", "email", Scripted, Secret(password=SecretStr(password)))


async def test_new_credentials_lift_the_pause_that_refused_ones_made(play: Play) -> None:
    play.channels = {"email": [secret("old")]}
    queue(play, 3)
    await send(play, Scripted(AuthError("535"), concurrency=1))
    await play.store.run(sweep, play.setup, NOON)
    assert (play.count(t.pause), states(play)) == (1, {("queued", "paused"): 3})
    play.channels = {"email": [secret("new")]}
    await play.store.run(sweep, play.setup, NOON)
    assert (play.count(t.pause), states(play)) == (0, {("queued", None): 3})


async def test_new_credentials_do_not_lift_what_a_person_paused(play: Play) -> None:
    play.channels = {"email": [secret("old")]}
    queue(play)
    paused(play, "gateway", "mail")
    play.channels = {"email": [secret("new")]}
    await play.store.run(sweep, play.setup, NOON)
    assert play.one(t.pause)["actor"] == "ann"


def test_a_fingerprint_tells_settings_apart_and_does_not_hold_them(tmp_path: Path) -> None:
    prints = {fingerprint(secret(word), b"salt") for word in ("a", "a", "b")}
    assert len(prints) == 2
    assert fingerprint(secret("a"), b"other") not in prints
