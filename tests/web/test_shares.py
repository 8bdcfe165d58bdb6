"""One address, however it behaves, shuts out nobody else, nor the vendor who calls from there as well."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from crmkit.engine.local import Local
from crmkit.host.catalogue import Catalogue
from crmkit.host.host import Host
from crmkit.host.plugins import Plugins
from crmkit.store import tables as t
from crmkit.web import server, webhooks
from crmkit.web.app import create
from crmkit.web.limit import Rate
from crmkit.web.server import Patience
from tests.web.conftest import INSTALLED, Town
from tests.web.stall import Stall
from tests.web.test_webhooks import JSON, call, gate, said, signed

FORGED = {**JSON, "x-signature": "no"}


async def test_a_vendor_is_heard_whoever_calls_from_its_address(town: Town):
    statuses = [(await call(town, said(), **FORGED)).status_code for _ in range(35)]
    assert statuses == [401] * 30 + [429] * 5
    assert (await call(town, said())).status_code == 200
    assert len(town.rows(t.inbox)) == 1


async def test_a_vendors_question_is_answered_whoever_calls_from_its_address(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Stall, "methods", ("GET", "POST"))
    monkeypatch.setattr(Stall, "verify", lambda self, call: webhooks.Reply(200 if call.query == "a" else 403, b"a"))
    asked = [(await town.client.get("/webhooks/stall?b")).status_code for _ in range(32)]
    assert asked == [403] * 30 + [429] * 2
    assert [(await town.client.get("/webhooks/stall?a")).status_code for _ in range(40)] == [200] * 40


async def body(size: int, *, stalls: float = 0.0) -> AsyncIterator[bytes]:
    """A body that is begun, and ends late."""
    for _ in range(size // 50_000):
        yield b"x" * 50_000
    await asyncio.sleep(stalls)
    yield b"x"


async def stalled(town: Town, client: object = None, count: int = 10, **headers: str) -> list[int]:
    """What bodies are answered that stop before their end."""
    asking = (client or town.client).post  # type: ignore[attr-defined]
    bodies = (
        asking("/webhooks/stall", content=body(100_000, stalls=0.4), headers=JSON | headers) for _ in range(count)
    )
    return [answer.status_code for answer in await asyncio.gather(*bodies)]


@pytest.mark.parametrize("address", ["203.0.113.9", "2001:db8::9"])
async def test_bodies_of_one_address_take_their_share_of_the_room_only(
    town: Town, monkeypatch: pytest.MonkeyPatch, address: str
):
    monkeypatch.setattr(webhooks, "ROOM", 3_300_000)
    stalling = asyncio.create_task(stalled(town, **{"x-forwarded-for": address}))
    await asyncio.sleep(0.1)
    assert town.app.state.gate.held <= 3_300_000 // 8
    other = {"x-forwarded-for": "203.0.113.10"}
    large = said() + b" " * 300_000
    assert (await call(town, large, **other)).status_code == 200
    statuses = await stalling
    assert statuses.count(503) == 6
    assert (town.app.state.gate.held, dict(town.app.state.gate.held_of)) == (0, {})
    assert (await call(town, large, **{"x-forwarded-for": address})).status_code == 200


async def test_a_proxy_that_names_nobody_is_no_single_caller(town: Town, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(webhooks, "ROOM", 3_200_000)
    assert 503 not in await stalled(town)


async def test_bodies_that_do_not_end_or_are_too_large_are_counted(town: Town):
    with gate(town, body_within=0.05, strangers=Rate(0.001, 3)) as client:
        assert sorted(await stalled(town, client, 5)) == [408] * 3 + [429] * 2
        heard = await client.post("/webhooks/stall", content=said(), headers=signed(said()))
        assert heard.status_code == 200
    with gate(town, strangers=Rate(0.001, 3)) as client:
        told = [await client.post("/webhooks/stall", content=body(1_200_000), headers=JSON) for _ in range(5)]
    assert [one.status_code for one in told] == [413] * 3 + [429] * 2
    assert {one.headers["connection"] for one in told} == {"close"}


async def test_an_address_that_ends_in_a_slash_is_the_one_without(town: Town):
    assert (await call(town, said(), "/webhooks/stall/")).status_code == 200
    assert (await call(town, said(), "/webhooks/stall//")).status_code == 404


async def test_the_configuration_says_how_many_are_heard(town: Town, monkeypatch: pytest.MonkeyPatch):
    place = town.folder / "crmkit.toml"
    said = '[web]\nwebhooks = "600/m"\nconnections = 80\nproxies = []\n'
    place.write_text(place.read_text("utf-8").replace("[web]\n", said), "utf-8")
    local = Local(Host.open(place, plugins=Plugins(Catalogue(INSTALLED))), town.store)
    assert create(local).state.gate.limits.calls == Rate(10, 100)
    made: list[Patience] = []
    monkeypatch.setattr(server, "Server", lambda *given, **_: made.append(given[3]))
    server.of(local, "127.0.0.1", 0)
    assert (made[0].connections, made[0].share) == (80, 10)
