"""Webhooks that were kept: listed, shown, read again."""

import asyncio
import base64
import hashlib
import hmac
import json
from datetime import datetime
from pathlib import Path

import pytest

from crmkit.engine.local import Local
from crmkit.host.host import Host
from tests.cli.conftest import Place

NOW = "2026-05-08T20:00+02:00"
CONFIG = """\
[crm]
database = "sqlite:///crm.db"

[shops.tea]
use = "woocommerce"
url = "https://tea.example"
consumer_key = "ck_1"
consumer_secret = "cs_1"
webhook_secret = "s3cret"
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "crmkit.toml").write_text(CONFIG)
    return Place(tmp_path)


def called(place: Place, body: bytes, topic: str) -> int:
    """A webhook comes in."""
    host = Host.open(place.config)
    store = host.store()
    local = Local(host, store)
    local.prepare()
    signature = base64.b64encode(hmac.new(b"s3cret", body, hashlib.sha256).digest()).decode()
    headers = {"X-WC-Webhook-Signature": signature, "X-WC-Webhook-Topic": topic, "X-WC-Webhook-Delivery-ID": "d1"}
    try:
        return asyncio.run(local.accept("tea", headers, body, now=datetime.fromisoformat(NOW))).status
    finally:
        store.close()


def test_kept_webhooks_are_listed_shown_and_read_again(place: Place) -> None:
    # SEMANTICS 30
    assert called(place, b'{"id": 7, "half', "order.updated") == 200
    assert called(place, b'{"id": 7}', "order.deleted") == 200
    result = place.run("dispatch", now=NOW)
    assert result.exit_code == 1
    assert "tea: 2 webhooks taken in" in result.stdout
    assert "error: tea: webhook 1 cannot be read" in result.stderr
    rows = [json.loads(line) for line in place.ok("inbox", "list", "--json").splitlines()]
    assert [(row["account"], row["state"], row["size"]) for row in rows] == [("tea", "failed", 15), ("tea", "done", 9)]
    assert '{"id": 7, "half' in place.ok("inbox", "show", "1")
    again = place.run("inbox", "replay", "--failed", now=NOW)
    assert (again.exit_code, again.stdout) == (1, "0 webhooks taken in\n")
    assert place.ok("inbox", "replay", "2", now=NOW) == "1 webhook taken in\n"
    assert place.run("inbox", "show", "9").exit_code == 2


@pytest.mark.parametrize("how", [(), ("--limit", "1"), ("--apply", "plan.jsonl")])
def test_a_database_that_may_not_send_takes_webhooks_in_all_the_same(
    place: Place,
    how: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # SEMANTICS 29
    monkeypatch.chdir(place.folder)
    place.ok("dispatch", now=NOW)
    place.ok("dispatch", "--plan", "plan.jsonl", now=NOW)
    monkeypatch.setenv("CRMKIT_STATE", str(tmp_path_factory.mktemp("another machine")))
    assert called(place, b'{"id": 7}', "order.deleted") == 200
    result = place.run("dispatch", *how, now=NOW)
    assert (result.exit_code, result.stdout) == (1, "tea: 1 webhook taken in\n")
    assert "it may not send" in result.stderr


def test_a_forged_webhook_leaves_nothing(place: Place) -> None:
    # SEMANTICS 30
    place.ok("db", "upgrade")
    host = Host.open(place.config)
    store = host.store()
    headers = {"X-WC-Webhook-Signature": "Zm9yZ2Vk", "X-WC-Webhook-Topic": "order.updated"}
    assert asyncio.run(Local(host, store).accept("tea", headers, b"{}")).status == 401
    store.close()
    assert place.ok("inbox", "list") == "no webhooks are kept\n"


def test_a_webhook_whose_body_was_let_go_says_so_and_cannot_be_read_again(place: Place) -> None:
    assert called(place, b'{"id": 7}', "order.deleted") == 200
    place.run("dispatch", now=NOW)
    for at, state in (("2026-06-07T19:00+02:00", "done"), ("2026-06-07T21:00+02:00", "expired")):
        store = Host.open(place.config).store()
        asyncio.run(Local(Host.open(place.config), store).expire(now=datetime.fromisoformat(at)))
        store.close()
        assert json.loads(place.ok("inbox", "show", "1", "--json"))["state"] == state
    assert "let go: bodies are kept for 30d" in place.ok("inbox", "show", "1")
    assert place.ok("inbox", "list", "--state", "expired").count("expired") == 1
    again = place.run("inbox", "replay", "1", now=NOW)
    assert again.exit_code == 2
    assert "webhook 1 has expired: bodies are kept for 30d; read the order again" in again.stderr


def test_the_doctor_tells_of_calls_that_could_not_show_whose_they_were(place: Place) -> None:
    assert called(place, b'{"id": 7}', "order.deleted") == 200
    host = Host.open(place.config)
    store = host.store()
    local = Local(host, store)

    async def calls() -> None:
        for _ in range(2):
            await local.accept("tea", {"X-WC-Webhook-Signature": "Zm9yZ2Vk"}, b"{}", now=datetime.fromisoformat(NOW))
        await local.doors.close()

    asyncio.run(calls())
    store.close()
    said = place.run("doctor", "--offline", now=NOW).output
    assert "webhooks of tea: 2 calls since yesterday could not show to be its vendor's" in said
    assert "compare the secret" in said


def test_an_account_that_needs_no_connecting_says_so(place: Place) -> None:
    result = place.run("connect", "tea")
    assert result.exit_code == 2
    assert "tea needs no connecting" in result.stderr
