"""Tokens: hashed at rest, scoped, expiring, revocable; and the commands that make them."""

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from crmkit.cli import cli
from crmkit.core.token import PREFIX, allows, hash_of, is_scope, new_token
from crmkit.host.catalogue import Catalogue
from crmkit.host.plugins import Plugins
from crmkit.store import tables as t
from crmkit.store import tokens
from crmkit.web.limit import Buckets, Rate
from tests.web.conftest import INSTALLED, NOON, Town


class Desk:
    """A town with a plugin that has pages, and the program run beside its server."""

    def __init__(self, town: Town) -> None:
        self.town = town

    def run(self, *arguments: str, at: datetime = NOON) -> Result:
        config = str(self.town.folder / "crmkit.toml")
        return CliRunner().invoke(cli, ["--config", config, "--now", at.isoformat(), "tokens", *arguments])

    def token(self, name: str, *scopes: str, life: timedelta = timedelta(days=1), at: datetime = NOON) -> str:
        made = new_token()
        with self.town.store.begin() as tx:
            assert tokens.make(tx, name, hash_of(made), scopes, expires_at=at + life, now=at)
        return made

    async def get(self, token: str | None, path: str = "/points/anything", **options: Any) -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}".encode()}
        return await self.town.client.get(path, headers={**headers, **options.pop("headers", {})}, **options)


@pytest.fixture
def desk(plugged: Town, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr("crmkit.host.host.Plugins", lambda: Plugins(Catalogue(INSTALLED)))
    return Desk(plugged)


async def test_a_token_opens_what_it_allows_and_nothing_else(desk: Desk) -> None:
    reader = desk.token("reader", "points:read")
    assert (await desk.get(reader)).status_code == 200
    refused = await desk.town.client.post("/points/points", headers={"Authorization": f"Bearer {reader}"})
    assert refused.status_code == 403
    assert refused.headers["www-authenticate"] == (
        'Bearer realm="crmkit", error="insufficient_scope", scope="points:give"'
    )
    assert (await desk.get(desk.token("all", "points:*"))).status_code == 200
    assert (await desk.get(desk.token("metrics", "metrics"))).status_code == 403


async def test_none_unknown_expired_and_revoked_get_the_same_answer(desk: Desk) -> None:
    expired, revoked = desk.token("old", "points:*", life=timedelta(seconds=1)), desk.token("gone", "points:*")
    with desk.town.store.begin() as tx:
        tokens.revoke(tx, "gone", NOON)
    desk.town.now = NOON + timedelta(seconds=1)
    answers = [await desk.get(one) for one in (None, "", "x", new_token(), expired, revoked, "é")]
    said = {(one.status_code, one.text, one.headers["www-authenticate"]) for one in answers}
    assert said == {(401, '{"detail":"a token is needed"}', 'Bearer realm="crmkit"')}
    assert desk.town.one(t.token, name="gone")["used_at"] is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Basic {}"},
        {"Authorization": "{}"},
        {"Authorization": "Bearer {}x"},
        {"Authorization": "Bearer{}"},
        {"X-Authorization": "Bearer {}"},
        {"Cookie": "token={}; Authorization=Bearer {}"},
        {"X-Api-Key": "{}"},
    ],
    ids=str,
)
async def test_a_token_is_shown_in_one_way_only(desk: Desk, headers: dict[str, str]) -> None:
    token = desk.token("reader", "points:read")
    shown = {name: value.replace("{}", token) for name, value in headers.items()}
    assert (await desk.town.client.get("/points/x", headers=shown)).status_code == 401
    assert (await desk.get(token)).status_code == 200


async def test_a_token_in_the_address_opens_nothing(desk: Desk) -> None:
    token = desk.token("reader", "points:read")
    for name in ("token", "access_token", "authorization", "bearer"):
        assert (await desk.get(None, params={name: token})).status_code == 401


async def test_of_two_tokens_none_counts(desk: Desk) -> None:
    token = desk.token("reader", "points:read")
    several = [("Authorization", f"Bearer {token}"), ("Authorization", "Bearer other")]
    assert (await desk.town.client.get("/points/x", headers=several)).status_code == 401


async def test_revoking_holds_from_the_next_request_on(desk: Desk) -> None:
    said = desk.run("new", "reader", "--scope", "points:read")
    token = said.stdout.strip()
    assert (await desk.get(token)).status_code == 200
    assert desk.run("revoke", "reader").stdout == "reader is revoked\n"
    assert (await desk.get(token)).status_code == 401
    assert desk.run("revoke", "reader").stdout == "reader was revoked before\n"


async def test_a_token_ends_at_its_moment(desk: Desk) -> None:
    token = desk.token("short", "points:*", life=timedelta(hours=1))
    desk.town.now = NOON + timedelta(minutes=59, seconds=59)
    assert (await desk.get(token)).status_code == 200
    desk.town.now = NOON + timedelta(hours=1)
    assert (await desk.get(token)).status_code == 401


async def _used(desk: Desk, name: str, expected: datetime | None) -> None:
    for _ in range(100):
        if desk.town.one(t.token, name=name)["used_at"] == expected:
            return
        await asyncio.sleep(0.01)
    assert desk.town.one(t.token, name=name)["used_at"] == expected


async def test_when_it_was_used_is_kept_once_a_minute(desk: Desk) -> None:
    token = desk.token("reader", "points:read")
    await _used(desk, "reader", None)
    await desk.get(token)
    await _used(desk, "reader", NOON)
    desk.town.now = NOON + timedelta(seconds=59)
    await asyncio.gather(*(desk.get(token) for _ in range(20)))
    await _used(desk, "reader", NOON)
    desk.town.now = NOON + timedelta(seconds=60)
    await desk.get(token)
    await _used(desk, "reader", NOON + timedelta(seconds=60))


async def test_who_guesses_is_refused_for_a_while_and_others_are_not(desk: Desk) -> None:
    token, clock = desk.token("reader", "points:read"), [0.0]
    desk.town.app.state.guard.guesses = Buckets(Rate(1 / 60, 5), lambda: clock[0])
    other = httpx.AsyncClient(
        transport=httpx.ASGITransport(desk.town.app, client=("192.0.2.7", 1)), base_url="http://x"
    )
    assert [(await desk.get(new_token())).status_code for _ in range(7)] == [401] * 5 + [429] * 2
    refused = await desk.get(new_token())
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert (await desk.get(token)).status_code == 200  # worth something, whoever else calls from there
    async with other:
        there = await other.get("/points/x", headers={"Authorization": f"Bearer {new_token()}"})
        assert there.status_code == 401
    clock[0] = 60.0
    assert (await desk.get(new_token())).status_code == 401


async def test_who_guesses_is_known_by_the_last_a_proxy_of_ours_says_in_however_many_lines(desk: Desk) -> None:
    desk.town.app.state.guard.guesses = Buckets(Rate(1 / 60, 2))
    answers = []
    for number in range(4):
        lines = [("X-Forwarded-For", f"6.6.6.{number}"), ("X-Forwarded-For", "198.51.100.1")]
        headers = [*lines, ("Authorization", f"Bearer {new_token()}")]
        answers.append((await desk.town.client.get("/points/x", headers=headers)).status_code)
    assert answers == [401, 401, 429, 429]


async def test_what_came_without_a_token_is_no_guess(desk: Desk) -> None:
    desk.town.app.state.guard.guesses = Buckets(Rate(1 / 60, 2))
    assert [(await desk.get(None)).status_code for _ in range(5)] == [401] * 5


# the commands


async def test_a_token_is_shown_once_and_only_a_hash_is_kept(desk: Desk) -> None:
    said = desk.run("new", "reader", "--scope", "points:read", "--scope", "metrics", "--expires", "30d")
    token = said.stdout.strip()
    assert token.startswith(PREFIX)
    assert "reader: metrics, points:read, until 2026-04-01 12:00 UTC; keep it now" in said.stderr
    kept = dict(desk.town.one(t.token, name="reader"))
    assert kept["hash"] == hash_of(token)
    assert token not in str(kept)
    listed = desk.run("list", "--json")
    assert token not in listed.stdout
    assert kept["hash"] not in listed.stdout
    shown = json.loads(listed.stdout)
    assert (shown["name"], shown["scopes"], shown["state"]) == ("reader", ["metrics", "points:read"], "live")
    assert "reader   metrics, points:read " in desk.run("list").stdout


async def test_a_token_lasts_ninety_days_where_nobody_says(desk: Desk) -> None:
    said = json.loads(desk.run("new", "reader", "--scope", "metrics", "--json").stdout)
    assert said["expires_at"] == (NOON + timedelta(days=90)).isoformat()
    assert json.loads(desk.run("list", "--json", at=NOON + timedelta(days=90)).stdout)["state"] == "expired"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("a", "--scope", "*"), "'*' is none"),
        (("a", "--scope", "points"), "'points' is none"),
        (("a", "--scope", "points:"), "'points:' is none"),
        (("a", "--scope", "metrics:*"), None),
        (("a", "--scope", "Points:read"), "'Points:read' is none"),
        (("a b", "--scope", "metrics"), "'a b' is no name"),
        (("a", "--scope", "metrics", "--expires", "800d"), "is not between 1s and 730d"),
        (("a", "--scope", "metrics", "--expires", "0d"), "is not between 1s and 730d"),
        (("a", "--scope", "metrics", "--expires", "soon"), "is no duration"),
        (("a",), "Missing option '--scope'"),
    ],
    ids=str,
)
async def test_what_makes_no_token_is_told(desk: Desk, arguments: tuple[str, ...], expected: str | None) -> None:
    said = desk.run("new", *arguments)
    if expected is None:  # it is a plugin's, which there is none of: worth nothing for the metrics
        assert "no plugin metrics with pages is switched on" in said.stderr
        return
    assert (said.exit_code, expected in said.output) == (2, True), said.output
    assert desk.town.rows(t.token) == []


@pytest.mark.parametrize(
    ("scope", "near"),
    [("points:raed", "points:read"), ("points:giev", "points:give"), ("points:read", None), ("points:*", None)],
)
async def test_a_token_that_would_open_nothing_is_made_with_a_warning(desk: Desk, scope: str, near: str | None) -> None:
    said = desk.run("new", "reader", "--scope", scope, "--scope", "metrics")
    assert (said.exit_code, "warning" in said.stderr) == (0, near is not None)
    if near is not None:
        assert f"no page needs {scope}, so that it opens nothing; did you mean {near}?" in said.stderr


async def test_a_name_is_one_tokens_until_that_is_worth_nothing(desk: Desk) -> None:
    first = desk.run("new", "reader", "--scope", "points:read").stdout.strip()
    again = desk.run("new", "reader", "--scope", "points:read")
    assert (again.exit_code, "there is a token 'reader'; take another name" in again.output) == (2, True)
    desk.run("revoke", "reader")
    second = desk.run("new", "reader", "--scope", "points:read").stdout.strip()
    assert (await desk.get(first)).status_code == 401
    assert (await desk.get(second)).status_code == 200


async def test_what_is_not_there_is_not_revoked(desk: Desk) -> None:
    said = desk.run("revoke", "nobody")
    assert (said.exit_code, "there is no token 'nobody'" in said.output) == (2, True)
    assert desk.run("list").stdout.startswith("there are no tokens")


SLUG = st.from_regex(r"[a-z][a-z0-9_-]{1,8}", fullmatch=True)


@given(SLUG, SLUG, SLUG, SLUG)
def test_a_scope_allows_its_own_plugin_and_action_only(a: str, b: str, act: str, other: str) -> None:
    assert is_scope(f"{a}:{act}")
    assert allows([f"{a}:*"], f"{b}:{act}") == (a == b)
    assert allows([f"{a}:{act}"], f"{b}:{other}") == ((a, act) == (b, other))
    assert not allows(["metrics"], f"{a}:{act}")
    assert not allows([f"{a}:*"], "metrics")
    assert not allows([f"{a}:*"], a)


def test_tokens_are_not_guessed() -> None:
    made = {new_token() for _ in range(1000)}
    assert len(made) == 1000
    assert min(len(one) for one in made) >= len(PREFIX) + 43  # 256 bits
