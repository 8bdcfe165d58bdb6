"""Webhooks at the door: what is verified is kept before it is answered, whatever else comes in."""

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from crmkit.adapters.adapter import Account, Adapter
from crmkit.adapters.door import Call, Hmac, Reply, SecretPath, StandardWebhooks, Verified, fingerprint
from crmkit.core.errors import RetryableError
from crmkit.core.events import EVENTS
from crmkit.engine import together
from crmkit.engine.together import Together
from crmkit.flow import inbox as door
from crmkit.flow.ingest import ingest
from crmkit.store import inbox
from crmkit.store import tables as t
from crmkit.store.engine import Store
from crmkit.web import webhooks
from crmkit.web.app import create
from crmkit.web.limit import Limits, Rate
from tests.dump import canonical
from tests.flow.test_ingest_join import in_turn, outcome
from tests.strategies import NOW, SHOPS, Said, retold, worlds
from tests.web.conftest import NOON, URL, Town
from tests.web.stall import SECRETS, Stall

JSON = {"content-type": "application/json"}


def said(number: str = "7") -> bytes:
    return json.dumps({"id": number, "buyer": "ann", "at": NOON.isoformat()}).encode()


def signed(body: bytes, secret: str = SECRETS[0], **headers: str) -> dict[str, str]:
    return {**JSON, "x-signature": Hmac("x-signature", secret="secret").written(secret, body), **headers}


async def call(town: Town, body: bytes, path: str = "/webhooks/stall", **headers: str) -> httpx.Response:
    return await town.client.post(path, content=body, headers=signed(body, **headers))


@contextmanager
def gate(town: Town, **limits: Any) -> Iterator[httpx.AsyncClient]:
    """A client of the same town behind other limits."""
    app = create(town.local, lambda: town.now, Limits(**limits))
    yield httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL)


# --- kept -------------------------------------------------------------------------------------------------------------


async def test_a_verified_call_is_kept_as_it_came_before_it_is_answered(town: Town):
    # SEMANTICS 30
    body = b'  {"id": "7",\r\n "buyer": "\xc3\xa4nn \xff\x00", "at": 1}\n'
    answer = await call(town, body)
    assert answer.status_code == 200
    kept = town.one(t.inbox)
    assert (kept["body"], kept["state"], kept["received_at"]) == (body, "waiting", NOON)
    assert len(kept["correlation_id"]) == 16
    assert answer.headers["x-request-id"] == kept["correlation_id"]


async def test_every_call_has_an_id_of_its_own(town: Town):
    answers = [await call(town, said(), path=path) for path in ("/webhooks/stall", "/webhooks/stall", "/webhooks/none")]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3


async def test_the_answer_is_what_the_vendor_wants_to_hear(town: Town, monkeypatch: pytest.MonkeyPatch):
    # SEMANTICS 30
    monkeypatch.setattr(Stall, "accepts_with", Reply(202, b'{"code":0}', "application/json"))
    answer = await call(town, said())
    assert (answer.status_code, answer.json(), answer.headers["content-type"]) == (202, {"code": 0}, "application/json")


async def test_a_call_that_comes_again_is_answered_as_the_first_and_kept_once(town: Town):
    # SEMANTICS 30
    answers = await asyncio.gather(*(call(town, said()) for _ in range(20)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(200, b"")}
    assert len(town.rows(t.inbox)) == 1


HINT = b'{"hint": "7"}'


async def test_a_hint_that_comes_again_once_it_was_taken_in_is_news(town: Town):
    # SEMANTICS 30
    for count in (1, 2, 3):
        town.now = NOON + timedelta(hours=count)
        answers = [await call(town, HINT) for _ in range(3)]
        assert {answer.status_code for answer in answers} == {200}
        kept = town.one(t.inbox)
        assert (kept["state"], kept["received_at"], kept["body"]) == ("waiting", town.now, HINT)
        assert (kept["correlation_id"], kept["tries"]) == (answers[0].headers["x-request-id"], count - 1)
        assert town.local.doors.news.is_set()
        town.local.doors.news.clear()
        await town.local.take_in(now=town.now)
        assert town.one(t.hint)["seen_at"] == town.now
        with town.store.begin() as tx:
            tx.execute(sa.delete(t.hint))
    assert town.one(t.inbox)["tries"] == 3


@pytest.mark.parametrize("is_fingerprint", [True, False])
@pytest.mark.parametrize("state", ["done", "failed", "expired"])
async def test_a_call_that_comes_again_is_taken_in_again_unless_its_vendor_says_that_it_is_the_same(
    town: Town, monkeypatch: pytest.MonkeyPatch, state: str, is_fingerprint: bool
):
    monkeypatch.setattr(Stall, "verify", lambda self, call: Verified("delivery 1", is_fingerprint=is_fingerprint))
    body = said() if state == "done" else b"no order"
    await call(town, body)
    await town.local.take_in(now=NOON)
    if state == "expired":
        await town.local.expire(now=NOON + timedelta(days=31))
    assert town.one(t.inbox)["state"] == state
    town.now = NOON + timedelta(days=40)
    await call(town, said("8"), path="/webhooks/stall?again=1")
    kept = town.one(t.inbox)
    if state == "done" and not is_fingerprint:
        assert (kept["state"], kept["body"], kept["query"]) == ("done", said(), "")
        return
    assert (kept["state"], kept["body"], kept["query"]) == ("waiting", said("8"), "again=1")
    assert (kept["error"], kept["settled_at"], kept["received_at"]) == (None, None, town.now)
    assert kept["headers"] == {"content-type": "application/json"}
    await town.local.take_in(now=town.now)
    assert (town.one(t.inbox)["state"], town.rows(t.orders)[-1]["external_id"]) == ("done", "8")


async def test_a_call_is_known_by_the_id_its_vendor_signed(town: Town, monkeypatch: pytest.MonkeyPatch):
    signs = StandardWebhooks("secret")
    key = "whsec_" + base64.b64encode(b"k" * 24).decode()
    monkeypatch.setattr(Stall, "verifies", signs)
    found = await town.local.doors.open(town.host.shops["stall"], NOON)
    monkeypatch.setattr(found.adapter, "settings", Stall.Settings(secret=[SecretStr(key)]))
    for number, name in enumerate(("m1", "m2", "m1")):
        at = f"{int(NOON.timestamp()) + number}"
        signature = signs.written(key, f"{name}.{at}.".encode() + HINT)
        headers = {**JSON, "webhook-id": name, "webhook-timestamp": at, "webhook-signature": signature or ""}
        assert (await town.client.post("/webhooks/stall", content=HINT, headers=headers)).status_code == 200
        await town.local.take_in(now=NOON)
    assert [(row["state"], row["tries"]) for row in town.rows(t.inbox)] == [("done", 1)] * 2


async def test_two_secrets_hold_while_the_vendor_changes_over(town: Town):
    for number, secret in enumerate(SECRETS):
        body = said(f"{number}")
        answer = await town.client.post("/webhooks/stall", content=body, headers=signed(body, secret))
        assert answer.status_code == 200
    assert len(town.rows(t.inbox)) == 2


async def test_a_vendor_that_signs_nothing_is_given_a_secret_path(town: Town, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Stall, "verifies", SecretPath("secret"))
    for path, status in ((f"/{SECRETS[0]}", 200), (f"/{SECRETS[1]}", 200), ("/wrong", 401), ("", 401), ("/", 401)):
        answer = await town.client.post(f"/webhooks/stall{path}", content=said(path), headers=JSON)
        assert answer.status_code == status, path
    assert len(town.rows(t.inbox)) == 2


async def test_a_signature_covers_the_address_the_vendor_was_given(town: Town, monkeypatch: pytest.MonkeyPatch):
    urls: list[str] = []
    monkeypatch.setattr(Stall, "verify", lambda self, call: urls.append(call.url) or Reply(401))
    await town.client.post("/webhooks/stall/a%20b?x=1&y=%20", headers={**JSON, "host": "evil.example"})
    assert urls == [f"{URL}/webhooks/stall/a%20b?x=1&y=%20"]


@pytest.mark.parametrize(("minutes", "status"), [(0, 200), (-4, 200), (4, 200), (-6, 401), (6, 401)])
async def test_a_call_from_another_time_is_not_the_vendors(
    town: Town, monkeypatch: pytest.MonkeyPatch, minutes: int, status: int
):
    stamped = Hmac(
        "x-signature", secret="secret", timestamp="x-at", signs=lambda c: c.headers["x-at"].encode() + c.body
    )
    monkeypatch.setattr(Stall, "verifies", stamped)
    at = f"{int((NOON + timedelta(minutes=minutes)).timestamp())}"
    headers = {**JSON, "x-at": at, "x-signature": stamped.written(SECRETS[0], at.encode() + said())}
    answer = await town.client.post("/webhooks/stall", content=said(), headers=headers)
    assert answer.status_code == status


async def test_a_vendor_may_ask_for_a_handshake_with_get_where_its_adapter_says_so(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    def verify(self: Stall, call: Call) -> Reply:
        return Reply(200, call.query.removeprefix("challenge=").encode()) if call.method == "GET" else Reply(401)

    refused = await town.client.get("/webhooks/stall")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    monkeypatch.setattr(Stall, "methods", ("GET", "POST"))
    monkeypatch.setattr(Stall, "verify", verify)
    answer = await town.client.get("/webhooks/stall?challenge=abc")
    assert (answer.status_code, answer.text, answer.headers["x-content-type-options"]) == (200, "abc", "nosniff")
    assert town.rows(t.inbox) == []


# --- turned away ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda body, headers: (body, {**headers, "x-signature": "Zm9yZ2Vk"}),
        lambda body, headers: (body, {**headers, "x-signature": ""}),
        lambda body, headers: (body, JSON),
        lambda body, headers: (body[:-1], headers),
        lambda body, headers: (body + b" ", headers),
        lambda body, headers: (b"", headers),
        lambda body, headers: (body, signed(body, "another secret")),
    ],
    ids=["forged", "empty", "stripped", "truncated", "longer", "no body", "another secret"],
)
async def test_of_what_is_not_the_vendors_nothing_is_kept_but_a_counter(
    town: Town, change: Callable[[bytes, dict[str, str]], tuple[bytes, dict[str, str]]]
):
    # SEMANTICS 30
    body, headers = change(said(), signed(said()))
    for _ in range(3):
        answer = await town.client.post("/webhooks/stall", content=body, headers=headers)
        assert (answer.status_code, answer.text) == (401, "unverified")
    assert (town.rows(t.inbox), town.rows(t.stranger)) == ([], [])  # a flood costs no writes
    await town.local.doors.note_strangers()
    await call(town, b"x", **{"x-signature": "no"})
    await town.local.doors.close()
    counted = town.one(t.stranger)
    assert (counted["account_id"], counted["day"], counted["count"]) == (town.shop_id, NOON.date(), 4)


async def test_strangers_are_written_down_once_the_database_is_there_again(town: Town, monkeypatch: pytest.MonkeyPatch):
    await call(town, said(), **{"x-signature": "no"})
    with monkeypatch.context() as away:
        away.setattr(inbox, "add_strangers", lambda *_: (_ for _ in ()).throw(RetryableError("away")))
        with pytest.raises(RetryableError):
            await town.local.doors.note_strangers()
    await call(town, said(), **{"x-signature": "no"})
    await town.local.doors.note_strangers()
    assert town.one(t.stranger)["count"] == 2


async def test_of_an_account_that_is_not_there_not_even_a_counter_is_kept(town: Town):
    answer = await call(town, said(), "/webhooks/another")
    assert answer.status_code == 404
    await town.local.doors.close()
    assert town.rows(t.stranger) == []


async def test_an_account_that_takes_no_webhooks_has_no_door(migrated_url: str, tmp_path: Path):
    town = Town(tmp_path / "town", migrated_url, '[[channels.email]]\nuse = "post"\n')
    assert (await call(town, said(), "/webhooks/post")).status_code == 404
    assert (await call(town, said(), "/webhooks/stall")).status_code == 200
    town.store.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"content-type": "application/vnd.stall.order+json"}, 200),
        ({"content-type": "APPLICATION/X-WWW-FORM-URLENCODED"}, 200),
        ({"content-type": ""}, 200),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": "text/html"}, 415),
        ({"content-encoding": "gzip"}, 415),
        ({"content-encoding": "identity"}, 200),
    ],
)
async def test_a_body_of_another_type_is_turned_away(town: Town, headers: dict[str, str], status: int):
    assert (await call(town, said(), **headers)).status_code == status


async def test_an_adapter_says_what_it_takes(town: Town, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Stall, "content_types", ("multipart/form-data",))
    monkeypatch.setattr(Stall, "largest_body", 100)
    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert [(await call(town, b"x" * size, **kind)).status_code for size in (100, 101)] == [200, 413]
    assert (await call(town, said())).status_code == 415


async def test_a_body_that_is_too_large_is_read_no_further(town: Town):
    read: list[int] = []

    async def body(chunks: int) -> AsyncIterator[bytes]:
        for number in range(chunks):
            read.append(number)
            yield b"x" * 65_536

    answer = await town.client.post("/webhooks/stall", content=body(100), headers=JSON)
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")
    assert len(read) <= 18
    told = await town.client.post("/webhooks/stall", content=b"", headers={**JSON, "content-length": "1048577"})
    assert told.status_code == 413


async def test_many_large_bodies_at_once_are_not_all_held(town: Town, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(webhooks, "ROOM", 1_500_000)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 100_000
            await asyncio.sleep(0.01)

    answers = await asyncio.gather(
        *(town.client.post("/webhooks/stall", content=body(), headers=JSON) for _ in range(5))
    )
    assert {answer.status_code for answer in answers} >= {503}
    assert (await call(town, said())).status_code == 200


async def test_a_body_that_does_not_come_is_not_waited_for(town: Town):
    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(1)
        yield b"x"

    with gate(town, body_within=0.05) as client:
        answer = await client.post("/webhooks/stall", content=body(), headers=JSON)
    assert (answer.status_code, answer.headers["connection"]) == (408, "close")


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_who_cannot_show_who_he_is_may_not_go_on_trying(town: Town, monkeypatch: pytest.MonkeyPatch):
    tried: list[Call] = []
    monkeypatch.setattr(Stall, "verify", lambda self, call: tried.append(call) or Reply(401))
    answers = [await call(town, said(), **{"x-forwarded-for": "203.0.113.9"}) for _ in range(32)]
    assert [answer.status_code for answer in answers] == [401] * 30 + [429] * 2
    assert 0 < int(answers[-1].headers["retry-after"]) <= 2
    assert len(tried) == 32  # the vendor may call from there as well
    other = await call(town, said(), **{"x-forwarded-for": "203.0.113.10"})
    assert other.status_code == 401


async def test_strangers_do_not_use_up_what_the_vendor_may(town: Town):
    with gate(town, calls=Rate(0.001, 3)) as client:
        for _ in range(10):
            assert (await client.post("/webhooks/stall", content=said(), headers=JSON)).status_code == 401
        answers = [await client.post("/webhooks/stall", content=said(), headers=signed(said())) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert int(answers[-1].headers["retry-after"]) > 60


# --- before the first sync --------------------------------------------------------------------------------------------


async def test_a_stranger_leaves_nothing_of_an_account_that_was_never_met(new_town: Town):
    # SEMANTICS 30
    for _ in range(3):
        assert (await call(new_town, said(), **{"x-signature": "no"})).status_code == 401
    await new_town.local.doors.close()
    assert [new_town.rows(table) for table in (t.account, t.inbox, t.stranger)] == [[], [], []]
    assert new_town.app.state.meter.refused == {("stall", 401): 3}


async def test_the_first_sync_decides_from_when_a_shop_announces_whoever_called_before(new_town: Town):
    # SEMANTICS 1
    await call(new_town, said("0"), **{"x-signature": "no"})
    answers = await asyncio.gather(*(call(new_town, said(number)) for number in "123"))
    assert {answer.status_code for answer in answers} == {200}
    await new_town.local.take_in(now=NOON)
    assert new_town.one(t.account)["announce_from"] is None
    late = NOON + timedelta(days=4)
    await new_town.local.sync(now=late)
    assert new_town.one(t.account)["announce_from"] == late
    await call(new_town, said("4"), **{"x-signature": "no"})
    await new_town.local.sync(now=late + timedelta(days=1))
    assert new_town.one(t.account)["announce_from"] == late


def announces_from(town: Town) -> datetime:
    """From when the shop announces, as it is decided by."""
    with town.store.read() as tx:
        return town.local.setup(tx).shops[town.one(t.account)["id"]].announce_from


async def test_what_came_by_webhook_before_the_first_sync_announces_nothing(new_town: Town):
    # SEMANTICS 1
    await call(new_town, said("1"))
    await new_town.local.take_in(now=NOON)
    [placed] = new_town.rows(t.interaction, type="order-placed")
    assert placed["occurred_at"] < announces_from(new_town) > NOON + timedelta(days=999)
    [customer] = new_town.rows(t.interaction, type="customer-created")
    assert customer["occurred_at"] <= NOON
    await new_town.local.sync(now=NOON + timedelta(hours=1))
    assert placed["occurred_at"] < announces_from(new_town) == NOON + timedelta(hours=1)


async def test_connecting_an_account_decides_nothing_of_what_it_announces(
    new_town: Town, monkeypatch: pytest.MonkeyPatch
):
    # SEMANTICS 1
    async def connect(self: Stall, ask: Any) -> None: ...

    monkeypatch.setattr(Stall, "connect", connect)
    await new_town.local.connect("stall", None, now=NOON)  # type: ignore[arg-type]
    assert new_town.one(t.account)["announce_from"] is None


# --- trouble ----------------------------------------------------------------------------------------------------------


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Somebody else writes, and does not come to an end."""
    with store.begin() as tx:
        if tx.dialect.name != "sqlite":
            tx.execute(sa.text("LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE"))
        yield


async def test_what_cannot_be_kept_now_is_asked_for_again_and_kept_once(town: Town, monkeypatch: pytest.MonkeyPatch):
    await call(town, said("first"))
    monkeypatch.setattr(town.local.doors._keeping, "within", 0.1)
    with locked(town.store):
        answers = [await call(town, said()) for _ in range(2)]
    assert [(answer.status_code, answer.headers["retry-after"]) for answer in answers] == [(503, "10")] * 2
    assert (await call(town, said())).status_code == 200
    assert len(town.rows(t.inbox)) == 2


async def test_a_database_that_is_gone_is_no_yes(town: Town, monkeypatch: pytest.MonkeyPatch):
    await call(town, said("first"))

    def gone(*_: Any) -> Any:
        raise sa.exc.OperationalError("INSERT", {"body": "ann@buyers.example"}, Exception("gone"))

    with monkeypatch.context() as away:
        away.setattr(town.store, "begin", gone)
        answer = await call(town, said())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")


async def test_a_broken_door_harms_only_its_own_call(
    town: Town, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with monkeypatch.context() as broken:
        broken.setattr(Stall, "verify", lambda self, call: {}["ann@buyers.example"])
        answer = await call(town, said())
    assert (answer.status_code, answer.text) == (500, "broken")
    assert "account=stall status=500 operation=verify error=PluginError from KeyError" in caplog.text
    assert "ann@" not in caplog.text
    assert town.rows(t.inbox) == []
    assert (await call(town, said())).status_code == 200


@pytest.mark.parametrize(
    "found",
    [None, True, Verified(5), Verified(None), Reply("200"), Reply(99), Reply(200, "x"), Reply(200, b"", "a\r\nb: c")],  # type: ignore[arg-type]
)
async def test_a_door_that_finds_what_is_no_answer_is_broken_and_says_so(
    town: Town, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, found: Any
):
    # SEMANTICS 30
    verify = Stall.verify
    monkeypatch.setattr(Stall, "verify", lambda self, call: found if b"bad" in call.body else verify(self, call))
    answers = await asyncio.gather(*(call(town, said(number)) for number in ("0", "bad", "1", "bad", "2")))
    assert [answer.status_code for answer in answers] == [200, 500, 200, 500, 200]
    assert {answer.text for answer in answers} == {"", "broken"}
    assert all(len(answer.headers["x-request-id"]) == 16 for answer in answers)
    assert "status=500 operation=verify error=PluginError from TypeError" in caplog.text
    assert town.app.state.meter.refused == {("stall", 500): 2}
    assert len(town.rows(t.inbox)) == 3


async def test_whatever_breaks_behind_a_door_is_answered_counted_and_said(
    town: Town, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async def hear(*_: Any, **__: Any) -> Any:
        raise AttributeError("ann@buyers.example")

    monkeypatch.setattr(town.local.doors, "hear", hear)
    answer = await call(town, said())
    assert (answer.status_code, answer.text, len(answer.headers["x-request-id"])) == (500, "broken", 16)
    assert "error=AttributeError" in caplog.text and "ann@" not in caplog.text
    assert town.app.state.meter.refused == {("stall", 500): 1}


# --- kept together ----------------------------------------------------------------------------------------------------


def row(number: int, **other: Any) -> dict[str, Any]:
    return {
        "account_id": 1,
        "dedupe_key": f"{number}",
        "headers": {},
        "query": "",
        "body": b"x",
        "received_at": NOON,
        **other,
    }


async def test_what_comes_at_once_shares_a_commit(store: Store):
    sizes: list[int] = []

    async def run(step: Any, rows: Any) -> Any:
        sizes.append(len(rows))
        return await store.run(step, rows)

    keeping: Together[Any, bool] = Together(run, inbox.keep)
    assert (
        await asyncio.gather(*(keeping.store(row(number % 150)) for number in range(200)))
        == [True] * 150 + [False] * 50
    )
    assert sizes == [together.BATCH] * 4
    assert await keeping.store(row(1_000)) is True


async def test_a_row_that_cannot_be_stored_keeps_no_other_from_it(store: Store):
    keeping: Together[Any, bool] = Together(store.run, inbox.keep)
    rows = [row(number, **({"body": None} if number == 3 else {})) for number in range(6)]
    results = await asyncio.gather(*(keeping.store(one) for one in rows), return_exceptions=True)
    assert [one is True for one in results] == [True, True, True, False, True, True]
    assert isinstance(results[3], sa.exc.IntegrityError)


async def test_a_row_that_breaks_the_step_itself_keeps_no_other_from_it(store: Store):
    keeping: Together[Any, bool] = Together(store.run, inbox.keep)
    rows = [row(number, **({"dedupe_key": 5} if number == 3 else {})) for number in range(6)]
    results = await asyncio.gather(*(keeping.store(one) for one in rows), return_exceptions=True)
    assert [one is True for one in results] == [True, True, True, False, True, True]
    assert isinstance(results[3], AttributeError)


async def test_who_no_longer_waits_holds_up_nobody(store: Store):
    begun, go = threading.Event(), threading.Event()
    keeping: Together[Any, bool] = Together(store.run, inbox.keep)
    blocking = asyncio.create_task(store.run(lambda tx: (begun.set(), go.wait(5))))
    await asyncio.to_thread(begun.wait, 5)
    waiting = [asyncio.create_task(keeping.store(row(number))) for number in range(3)]
    await asyncio.sleep(0.01)
    waiting[1].cancel()
    go.set()
    assert [await waiting[0], await waiting[2]] == [True, True]
    await blocking


async def test_too_many_that_wait_are_turned_away(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(together, "MOST", 3)
    keeping: Together[Any, bool] = Together(store.run, inbox.keep)
    results = await asyncio.gather(*(keeping.store(row(number)) for number in range(5)), return_exceptions=True)
    assert results[:3] == [True] * 3
    assert all(isinstance(one, RetryableError) for one in results[3:])


# --- taken in ---------------------------------------------------------------------------------------------------------


class Told(Adapter):
    """Says the records a test numbers."""

    name = "told"

    def __init__(self, world: list[Said], shop: int) -> None:
        super().__init__(None, Account("told", "UTC", None, None, None), None)  # type: ignore[arg-type]
        self.world, self.shop = world, shop

    def verify(self, call: Call) -> Verified:
        return Verified(fingerprint(call.body))

    def records(self, call: Call) -> list[Any]:
        return [self.world[int(number)][1] for number in call.body.split(b",")]


def check_ways(store: Store, data: st.DataObject) -> None:
    """Facts come by webhook or by pull, in any order, more than once, taken in whenever: it comes out the same."""
    world = data.draw(worlds, label="world")
    numbered = [(shop, number) for number, (shop, _) in enumerate(world)]
    pages = data.draw(retold(numbered), label="pages")  # type: ignore[arg-type]
    ways = data.draw(st.lists(st.sampled_from("wwwpt"), min_size=len(pages), max_size=len(pages)), label="ways")
    adapters = {number: Told(world, number) for number in SHOPS}

    async def main() -> Any:
        with store.rehearse() as tx:

            async def run(step: Any, *args: Any, **more: Any) -> Any:
                return step(tx, *args, **more)

            async def keep(account: int, row: Any) -> bool:
                return inbox.keep(tx, [{**row, "account_id": account}])[0]

            async def take() -> None:
                for shop in SHOPS.values():
                    await door.take(adapters[shop.id], shop, run, listened=EVENTS, now=NOW)

            for page, way in zip(pages, ways, strict=True):
                shop = SHOPS[page[0][0]]
                if way == "p":
                    records = [world[number][1] for _, number in page]
                    ingest(tx, shop, door.Page(records), stream="all", listened=EVENTS, now=NOW)
                    continue
                body = ",".join(str(number) for _, number in page).encode()
                call = Call(body, received_at=NOW)
                await door.accept(adapters[shop.id], call, partial(keep, shop.id))
                if way == "t":
                    await take()
            await take()
            return canonical(tx)

    assert asyncio.run(main()) == outcome(store, in_turn(world))


# SEMANTICS 9
@pytest.mark.parametrize(("database_kind", "share"), [("sqlite", 1), ("postgresql", 0.1)])
def test_webhooks_and_pulls_in_any_order_and_number_leave_the_same(store: Store, share: float):
    @settings(max_examples=int(settings().max_examples * share))
    @given(data=st.data())
    def held(data: st.DataObject) -> None:
        check_ways(store, data)

    held()
