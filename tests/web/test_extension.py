"""Plugins' pages: under their own path, behind their scope, and broken for nobody but themselves."""

import logging
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from crmkit.core.token import hash_of, new_token
from crmkit.store import tables as t
from crmkit.store import tokens
from tests.docs.snippet import DOCS, fences
from tests.web import points
from tests.web.conftest import NOON, Town
from tests.web.wire import exactly


class Caller:
    """Calls a town's pages with a token of some scopes."""

    def __init__(self, town: Town, *scopes: str) -> None:
        self.town, token = town, new_token()
        with town.store.begin() as tx:
            made = tokens.make(
                tx, uuid.uuid4().hex, hash_of(token), scopes, expires_at=NOON + timedelta(days=1), now=NOON
            )
        assert made
        self.headers = {"Authorization": f"Bearer {token}"}

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self.town.client.request(method, path, headers=self.headers, **options)


@pytest.fixture(autouse=True)
def _forget_what_was_given() -> Iterator[None]:
    points.GIVEN.clear()
    yield
    points.GIVEN.clear()


async def test_a_page_reads_as_its_plugin(plugged: Town) -> None:
    plugged.order()
    caller = Caller(plugged, "points:read")
    said = (await caller.ask("GET", f"/points/customers/{plugged.profile()}")).json()
    assert said == {"name": "Ann", "most": 100, "now": NOON.isoformat().replace("+00:00", "Z")}
    for number in ("0", "-1", "999", "9223372036854775808", f"{10**30}"):
        assert (await caller.ask("GET", f"/points/customers/{number}")).json()["name"] is None


async def test_what_a_page_tells_happens_once_and_reaches_handlers(plugged: Town) -> None:
    plugged.order()
    who, caller = plugged.profile(), Caller(plugged, "points:give")
    said = [
        (await caller.ask("POST", "/points/points", params={"number": who, "points": 5, "key": key})).json()["is_new"]
        for key in ("monday", "monday", "tuesday")
    ]
    assert said == [True, False, True]
    assert plugged.local.doors.news.is_set()  # `crmkit run --serve` gives it to handlers at once
    rows = plugged.rows(t.interaction, type="points-given")
    assert [(row["profile_id"], row["actor"], row["occurred_at"], row["payload"]) for row in rows] == [
        (who, "plugin:points", NOON, {"points": 5})
    ] * 2
    await plugged.local.dispatch(now=NOON)
    assert [(who, 5, "plugin:points")] * 2 == points.GIVEN


async def test_what_a_page_tells_may_hold_what_no_database_takes(plugged: Town) -> None:
    plugged.order()
    what = {"number": plugged.profile(), "points": 1, "key": "a\0b", "why": "a\0b"}
    caller = Caller(plugged, "points:*")
    assert [(await caller.ask("POST", "/points/points", params=what)).json() for _ in "ab"] == [
        {"is_new": True},
        {"is_new": False},
    ]
    assert plugged.one(t.interaction, type="points-given")["payload"] == {"points": 1, "why": "a\\x00b"}


async def test_a_key_may_be_of_any_length(plugged: Town) -> None:
    plugged.order()
    what, caller = {"number": plugged.profile(), "points": 1}, Caller(plugged, "points:*")
    keys = [uuid.uuid4().hex * 150, uuid.uuid4().hex * 150]
    told = [await caller.ask("POST", "/points/points", params={**what, "key": key}) for key in (*keys, *keys)]
    assert [one.json()["is_new"] for one in told] == [True, True, False, False]


async def test_nothing_is_told_of_whom_was_forgotten(plugged: Town) -> None:
    plugged.order()
    who, caller = plugged.profile(), Caller(plugged, "points:*")
    with plugged.store.begin() as tx:
        tx.execute(t.profile.update().where(t.profile.c.id == who).values(forgotten_at=NOON, name=None))
    assert (await caller.ask("GET", f"/points/customers/{who}")).json()["name"] is None
    said = await caller.ask("POST", "/points/points", params={"number": who, "points": 1, "key": "x"})
    assert said.status_code == 200
    assert [row["profile_id"] for row in plugged.rows(t.interaction, type="points-given")] == [None]


async def test_an_async_page_that_tells_is_a_mistake_that_is_named(plugged: Town, caplog: Any) -> None:
    said = await Caller(plugged, "points:*").ask("POST", "/points/hurried")
    assert said.status_code == 500
    assert "page-failed page=play.points method=POST" in caplog.text
    assert "error=PluginError" in caplog.text


async def test_public_pages_need_no_token(plugged: Town) -> None:
    assert (await plugged.client.get("/points/hello")).json() == "hello"


#: Ways in that are none: (method, path, the status without a token).
WAYS = [
    ("GET", "/points/anything", 401),
    ("HEAD", "/points/anything", 401),
    ("OPTIONS", "/points/anything", 401),
    ("PUT", "/points/points", 401),
    ("GET", "/points/points", 401),
    ("TRACE", "/points/anything", 401),
    ("GET", "/points/", 401),
    ("GET", "/points//", 401),
    ("GET", "/points/./anything", 401),
    ("GET", "/points//hello", 401),
    ("GET", "/points/hello/", 401),
    ("GET", "/points/HELLO", 401),
    ("GET", "/points/../points/hello", 401),
    ("GET", "/points/%2e%2e/points/hello", 401),
    ("GET", "/points/hello%2f", 401),
    ("GET", "/points/hello%00", 401),
    ("GET", "/points/hello;x=/anything", 401),
    ("GET", "/points/app/page", 401),
    ("POST", "/points/app/page", 401),
    ("GET", "/points/app/../hello", 401),
    ("GET", "/points/raw", 401),
    ("GET", "/points", 404),
    ("GET", "//points/anything", 404),
    ("GET", "/Points/anything", 404),
    ("GET", "/%2fpoints/anything", 404),
    ("GET", "/./points/anything", 404),
    ("GET", "/static/../points/anything", 404),
    ("GET", "/static/%2e%2e/points/anything", 404),
    ("GET", "/torn/anything", 503),
    ("GET", "/pointsplus/anything", 401),
    ("GET", "/pointsplu/anything", 404),
]


@pytest.mark.parametrize(("method", "path", "status"), WAYS, ids=str)
async def test_no_way_leads_in_without_a_token(plugged: Town, method: str, path: str, status: int) -> None:
    found, headers = await exactly(plugged, method, path, {})
    assert found == status
    assert headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(("method", "path", "status"), WAYS, ids=str)
async def test_no_way_leads_from_one_plugins_token_into_another(
    plugged: Town, method: str, path: str, status: int
) -> None:
    other = "pointsplus" if "/pointsplus" not in path else "points"
    caller = Caller(plugged, f"{other}:*", "metrics", "pointsplu:*", "points-:*", "point:*")
    found, _ = await exactly(plugged, method, path, caller.headers)
    assert found == (403 if status == 401 else status)


async def test_reading_does_not_allow_giving(plugged: Town) -> None:
    reader, giver = Caller(plugged, "points:read"), Caller(plugged, "points:give")
    assert (await reader.ask("POST", "/points/points")).status_code == 403
    assert (await reader.ask("POST", "/points/app/page")).status_code == 403
    assert (await giver.ask("GET", "/points/elsewhere")).status_code == 403
    assert (await giver.ask("GET", "/points/app/page")).text == "inner"
    assert (await giver.ask("GET", "/points/raw")).text == "inner"
    assert (await giver.ask("PUT", "/points/points")).status_code == 405


async def test_a_router_stays_below_its_own_path(plugged: Town) -> None:
    caller = Caller(plugged, "pointsplus:*")
    for path in ("/metrics", "/points/points", "/webhooks/stall"):
        answer = await caller.ask("GET", path)
        assert (answer.status_code == 200, "elsewhere" in answer.text, "no door" in answer.text) == (False,) * 3
    assert (await caller.ask("GET", "/pointsplus/webhooks/stall")).json() == "no door"
    assert (await caller.ask("GET", "/pointsplus/anything")).json() == "plus"


async def test_nothing_is_redirected(plugged: Town) -> None:
    caller = Caller(plugged, "points:*", "pointsplus:*")
    for path in ("/points", "/pointsplus/anything/", "/u/x/", "/static"):
        answer = await caller.ask("GET", path, follow_redirects=False)
        assert not 300 <= answer.status_code < 400, path
        assert "location" not in answer.headers


async def chunks(size: int, read: list[int]) -> AsyncIterator[bytes]:
    yield b'{"a": "'
    for number in range(size // 1_000):
        read.append(number)
        yield b"x" * 1_000
    yield b'"}'


async def test_a_page_is_sent_so_much_and_no_more(plugged: Town) -> None:
    kind = {"content-type": "application/json"}
    for told in (True, False):
        for size, status in ((1_000, 200), (2_000, 413), (900_000, 413)):
            read: list[int] = []
            whole = b"".join([part async for part in chunks(size, [])]) if told else chunks(size, read)
            answer = await plugged.client.post("/points/said", content=whole, headers=kind)
            assert answer.status_code == status, (told, size)
            assert len(read) <= 3
            if status == 413:
                assert (answer.headers["connection"], answer.text) == ("close", '{"detail":"too large"}')
    assert (await plugged.client.post("/points/unread", content=b"x" * 2_001)).status_code == 413


@pytest.mark.parametrize("size", [1_040_000, 1_100_000])
async def test_what_is_guarded_is_sent_no_more_either_whatever_a_page_makes_of_it(plugged: Town, size: int) -> None:
    caller, read = Caller(plugged, "points:*"), list[int]()
    answer = await caller.ask("POST", "/points/app/eats", content=chunks(size, read))
    assert answer.status_code == (200 if size < 1_048_576 else 413)
    assert (answer.text == "whatever") is False
    assert len(read) <= 1_049


async def test_a_page_that_raises_harms_only_itself_and_tells_nothing(plugged: Town, caplog: Any) -> None:
    caller = Caller(plugged, "points:*")
    with caplog.at_level(logging.ERROR, "crmkit.page"):
        answer = await caller.ask("GET", "/points/broken")
    assert answer.status_code == 500
    assert "Something went wrong" in answer.text
    assert "ann@buyers" not in answer.text + caplog.text
    assert "RuntimeError" not in answer.text
    assert "page-failed page=play.points method=GET error=RuntimeError" in caplog.text
    assert answer.headers["cache-control"] == "no-store"
    assert (await caller.ask("GET", "/points/fine")).json() == {"path": "fine"}


async def test_a_router_that_cannot_be_imported_is_listed_and_the_rest_is_served(plugged: Town) -> None:
    broken = [(one.name, str(one.error)) for one in plugged.host.broken]
    assert [name for name, _ in broken] == ["play.torn"]
    assert "the router tests.web.torn:no_such_router cannot be imported: AttributeError" in broken[0][1]
    assert any("no_such_router" in str(finding) for finding in plugged.host.findings())
    assert (await plugged.client.get("/points/hello")).status_code == 200


async def _socket(town: Town, path: str, headers: Mapping[str, str]) -> list[Any]:
    """What a web socket is told that is opened at a path."""
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "websocket", "path": path, "headers": raw, "query_string": b"", "scheme": "wss", "root_path": ""}
    said: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        said.append(message)

    await town.app({**scope, "asgi": {"version": "3.0"}, "client": ("192.0.2.9", 1)}, receive, send)
    return said


async def test_web_sockets_are_guarded_too(plugged: Town) -> None:
    for headers in ({}, Caller(plugged, "points:read").headers, Caller(plugged, "pointsplus:*").headers):
        assert await _socket(plugged, "/points/live", headers) == [{"type": "websocket.close", "code": 1008}]
    for path in ("/points", "/points/no", "/u/x", "/torn/x", "/webhooks/stall"):
        said = await _socket(plugged, path, Caller(plugged, "points:read").headers)
        assert [message["type"] for message in said] == ["websocket.close"], path
    said = await _socket(plugged, "/points/live", Caller(plugged, "points:give").headers)
    assert [message["type"] for message in said] == ["websocket.accept", "websocket.send", "websocket.close"]


async def test_a_web_socket_is_given_what_a_page_is_given(plugged: Town) -> None:
    plugged.order()
    assert plugged.profile() == 1
    said = await _socket(plugged, "/points/named", Caller(plugged, "points:give").headers)
    assert [message.get("text") for message in said] == [None, "Ann 100", None]


async def test_a_schema_shows_every_page_and_what_it_needs_and_is_not_served(plugged: Town) -> None:
    schema = plugged.app.openapi()
    paths = schema["paths"]
    assert {"/points/hello", "/points/points", "/points/customers/{number}", "/pointsplus/anything"} <= set(paths)
    assert paths["/points/points"]["post"]["security"] == [{"HTTPBearer": []}]
    assert "security" not in paths["/points/hello"]["get"]
    for path in ("/openapi.json", "/docs", "/redoc", "/points/openapi.json", "/points/docs"):
        assert (await plugged.client.get(path)).status_code in {401, 404}


async def test_the_page_of_the_documentation_works(migrated_url: str, tmp_path: Path) -> None:
    (fence,) = (one for one in fences((DOCS / "plugins.md").read_text("utf-8")) if "served" in one.info)
    assert len(fence.lines) <= 30
    folder = tmp_path / "town"
    folder.mkdir()
    (folder / "till.py").write_text("\n".join(fence.lines), "utf-8")
    town = Town(folder, migrated_url, '[plugins]\nuse = ["./till.py"]\n')
    town.order()
    who, caller = town.profile(), Caller(town, "till:note")
    visit = {"customer": who, "till": "3", "receipt": "8841"}
    async with town.client:
        assert (await town.client.post("/till/visits", params=visit)).status_code == 401
        said = [(await caller.ask("POST", "/till/visits", params=visit)).json() for _ in "ab"]
        assert (await caller.ask("POST", "/till/visits", params={**visit, "customer": 99})).status_code == 404
    assert said == [{"is_new": True}, {"is_new": False}]
    assert town.one(t.interaction, type="visit-noted")["payload"] == {"till": "3"}
    town.store.close()
