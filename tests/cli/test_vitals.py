"""The doctor says of each shop and gateway what came last, what is silent, what ends and what runs out."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from crmkit.cli import enquiry
from crmkit.core.errors import AuthError, RetryableError
from crmkit.core.quota import Quota
from crmkit.engine.accounts import Accounts
from crmkit.host.host import Host
from crmkit.host.vault import Vault
from crmkit.store import accounts, bulk, inbox, log, quotas, silences
from crmkit.store import tables as t
from crmkit.store.engine import Store
from crmkit_marketplace.taobao.source import TaobaoSource
from crmkit_sms.twilio import TwilioGateway
from tests.cli.conftest import Place

#: What the clock of these tests shows; the last run was two hours before.
NOW = datetime(2026, 5, 8, 20, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def findings(place: Place, now: datetime = NOW) -> list[dict[str, Any]]:
    result = place.run("doctor", "--offline", "--json", now=now.isoformat())
    return [json.loads(line) for line in result.stdout.splitlines()]


def of(place: Place, part: str, level: str = "", now: datetime = NOW) -> list[dict[str, Any]]:
    return [one for one in findings(place, now) if one["part"] == part and level in one["level"]]


def store_of(place: Place) -> Store:
    return Store(f"sqlite:///{place.folder / 'crm.db'}")


def test_each_shop_and_gateway_has_a_line(worked: Place) -> None:
    (shop,) = of(worked, "shop tea")
    assert shop["level"] == "ok"
    assert "last order 2026-05-07 15:00" in shop["text"]
    assert "last webhook never, no token end known, last read to its end 2026-05-08 20:00" in shop["text"]
    assert shop["facts"]["last_order_at"] == "2026-05-07T13:00:00+00:00"
    assert shop["facts"]["last_webhook_at"] is None
    (gateway,) = of(worked, "gateway folder")
    said = "last sent 2026-05-08 12:00 CEST, last receipt never, last webhook never, no token end known"
    assert (gateway["level"], gateway["text"]) == ("ok", said)
    assert gateway["facts"] == {
        "last_sent_at": "2026-05-08T10:00:00+00:00",
        "last_receipt_at": None,
        "last_webhook_at": None,
        "token_ends_at": None,
    }


def test_a_channels_line_says_when_its_last_receipt_came(worked: Place) -> None:
    store = store_of(worked)
    row = {"external_id": "r1", "state": "delivered", "occurred_at": NOW, "received_at": NOW}
    with store.begin() as tx:
        bulk.insert(tx, t.receipt, [{"id": bulk.next_ids(tx, t.receipt, 1)[0], "account": "folder", **row}])
    store.close()
    (gateway,) = of(worked, "gateway folder", "ok")
    assert "last receipt 2026-05-08 22:00 CEST" in gateway["text"]
    assert gateway["facts"]["last_receipt_at"] == "2026-05-08T20:00:00+00:00"
    (before,) = of(worked, "gateway folder", "ok", NOW - HOUR)
    assert "last receipt never" in before["text"]  # as of the clock that is given


def test_what_is_silent_is_named(worked: Place) -> None:
    store = store_of(worked)
    with store.begin() as tx:
        found = accounts.find(tx, "tea")
        assert found is not None
        silences.save(
            tx,
            [
                {
                    "account_id": found["id"],
                    "kind": "orders",
                    "rhythm": {"rates": [0.0] * 168, "bound": 9.0, "longest": 5 * 3600, "count": 99},
                    "learnt_at": NOW,
                    "looked_at": NOW,
                    "watched_from": NOW,
                    "last_at": NOW - 2 * DAY,
                    "silent_since": NOW - 2 * DAY,
                    "noticed_at": NOW - DAY,
                }
            ],
        )
    store.close()
    (bad,) = of(worked, "shop tea", "bad")
    assert bad["text"].startswith("no order since 2026-05-06 22:00 CEST; in the weeks before it was silent for 5 hours")
    assert bad["facts"]["silent"] == "orders"


def test_a_gateway_is_down_since(worked: Place) -> None:
    store = store_of(worked)
    down = Quota("folder")
    down.trip(NOW - 3 * HOUR, "no route")
    down.trip(NOW - HOUR, "no route")
    with store.begin() as tx:
        quotas.lock(tx, "folder")
        quotas.save(tx, down)
    store.close()
    (bad,) = of(worked, "gateway folder", "bad")
    assert bad["text"].startswith("does not answer since 2026-05-08 19:00 CEST: no route")
    assert bad["facts"] == {"down_since": "2026-05-08T17:00:00+00:00"}


@pytest.mark.parametrize(("spent", "level"), [("70", ""), ("85", "note"), ("100", "bad")])
def test_a_budget_that_runs_out_is_named(worked: Place, spent: str, level: str) -> None:
    text = worked.config.read_text()
    limits = 'use = "folder"\nbudget = "100 EUR/day"\nprice = "0.05 EUR"'
    worked.config.write_text(text.replace('use = "folder"', limits))
    store = store_of(worked)
    with store.begin() as tx:
        quotas.lock(tx, "folder")
        quotas.save(tx, Quota("folder", period="2026-05-08", day="2026-05-08", spent=spent))
    store.close()
    found = [one for one in findings(worked) if "budget" in one.get("facts", {})]
    assert [one["level"] for one in found] == ([level] if level else [])
    if level == "note":
        assert found[0]["text"].startswith("15 of 100 EUR are left of this day")
    tomorrow = [one for one in findings(worked, NOW + DAY) if "budget" in one.get("facts", {})]
    assert not tomorrow


def test_work_that_waits_for_nobody_is_named(worked: Place) -> None:
    store = store_of(worked)
    with store.begin() as tx:
        number = bulk.next_ids(tx, t.interaction, 1)[0]
        row = {"id": number, "type": "note", "actor": "crmkit", "occurred_at": NOW - 30 * timedelta(minutes=1)}
        bulk.insert(tx, t.interaction, [{**row, "recorded_at": NOW, "depth": 0}])
        log.add_pending(tx, [row])
    store.close()
    (bad,) = of(worked, "work")
    assert bad["level"] == "bad"
    assert bad["text"].startswith(
        "1 decision waiting since 2026-05-08 21:30 CEST, and nobody at work: the last run began"
    )
    assert bad["facts"]["waiting"] == {"decision": 1}
    store = store_of(worked)
    with store.begin() as tx:
        accounts.begin_run(tx, "dispatch", NOW - 10 * timedelta(minutes=1))
    store.close()
    assert not of(worked, "work")


def test_a_shop_that_could_not_be_read_is_named(worked: Place) -> None:
    worked.config.write_text(worked.config.read_text().replace('path = "exports"', 'path = "nowhere"'))
    assert worked.run("sync", now=NOW.isoformat()).exit_code != 0
    (bad,) = of(worked, "shop tea", "bad")
    what, do = "could not be read when it was last tried", "`crmkit sync tea` says what, and what to do"
    assert bad["text"] == f"{what} (ConfigError); {do}"


TAOBAO = """
[shops.tmall]
use = "taobao"
app_key = "1"
app_secret = "s"
"""


@pytest.mark.parametrize(
    ("kept", "level", "says"),
    [
        ({"expires_at": NOW + 30 * DAY}, "ok", "token ends 2026-06-07"),
        ({"expires_at": NOW + 5 * DAY}, "bad", "ends 2026-05-13"),
        ({"expires_at": NOW - DAY}, "bad", "ended 2026-05-07"),
        ({"expires_at": NOW + 5 * DAY, "refresh_token": "r"}, "", ""),
        ({"expires_at": NOW + 5 * DAY, "refresh_token": "r", "renewable_until": NOW + 9 * DAY}, "", ""),
        (
            {"expires_at": NOW + 5 * DAY, "refresh_token": "r", "renewable_until": NOW + 5 * DAY},
            "bad",
            "ends 2026-05-13",
        ),
    ],
)
def test_a_token_that_ends_within_a_week_is_named(
    worked: Place, kept: dict[str, Any], level: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "a key that is long enough for tests of it"
    monkeypatch.setenv("CRMKIT_KEY", key)
    worked.config.write_text(worked.config.read_text() + TAOBAO)
    store = store_of(worked)
    with store.begin() as tx:
        number, _ = accounts.meet(
            tx, name="tmall", kind="shop", adapter="taobao", vendor_account="9", announce_from=NOW, now=NOW
        )
        values = {name: at if isinstance(at, str) else at.isoformat() for name, at in kept.items()}
        vault = Vault(SecretStr(key))
        inbox.remember(tx, number, vault.lock("tmall", {"session": "x", **values}), NOW)
    store.close()
    found = of(worked, "shop tmall")
    text = " | ".join(one["text"] for one in found)
    assert says in text
    assert any(one["level"] == "bad" for one in found) == (level == "bad")
    if level == "bad":
        assert "run `crmkit connect tmall`" in text
        ends = next(one["facts"]["ends_at"] for one in found if "ends_at" in one.get("facts", {}))
        assert datetime.fromisoformat(ends) == kept["expires_at"]


async def test_what_a_token_is_exchanged_for_while_the_doctor_asks_is_kept(
    worked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vendor takes what a token is renewed with once: an exchange that nobody keeps shuts the account out."""
    monkeypatch.setenv("CRMKIT_KEY", "a key that is long enough for tests of it")
    worked.config.write_text(worked.config.read_text() + TAOBAO)

    async def check(self: TaobaoSource) -> list[str]:
        await self.memory.keep(session="new", refresh_token="next")
        return []

    monkeypatch.setattr(TaobaoSource, "check", check)
    host = Host.open(worked.config)
    found = await enquiry.asked(host, has_database=True)
    assert [one.level for one in found if one.part == "shop tmall"] == ["ok"]
    store = store_of(worked)
    own = Accounts(host, store)
    adapter = own.made(own.named()["tmall"])
    with store.read() as tx:
        own.reminded(adapter, "tmall", tx)
    store.close()
    assert dict(adapter.memory) == {"session": "new", "refresh_token": "next"}
    await adapter.http.aclose()


TWILIO = """
[[channels.sms]]
use = "twilio"
account_sid = "AC00000000000000000000000000000001"
auth_token = "t0ken-0123456789"
sender = "+15005550006"
base_url = "{url}"
{more}
"""


class Vendor(BaseHTTPRequestHandler):
    """Twilio, as far as the doctor asks it: a list of messages, and what is left."""

    left: ClassVar[tuple[int, str]] = (200, '{"balance": "12.50", "currency": "USD"}')

    def do_GET(self) -> None:
        is_balance = urlsplit(self.path).path.endswith("/Balance.json")
        status, body = self.left if is_balance else (200, '{"messages": [], "next_page_uri": null}')
        if status == 0:  # nothing is ever answered
            time.sleep(1)
            return
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(enquiry, "BALANCE", 0.5)
    monkeypatch.setattr("crmkit.adapters.http.READ_PAUSE", 0.0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def asked(place: Place) -> tuple[int, list[dict[str, Any]]]:
    result = place.run("doctor", "--json", now=NOW.isoformat())
    found = [json.loads(line) for line in result.stdout.splitlines()]
    return result.exit_code, [one for one in found if one["part"] == "gateway twilio" and "account" in one["text"]]


@pytest.mark.parametrize(
    ("low", "level", "says"),
    [
        ("", "ok", "12.50 USD left on its account"),
        ('balance_low = "20 USD"', "bad", "12.50 USD left on its account, less than 20 USD (balance_low); pay in"),
        ('balance_low = "12.5 USD"', "ok", "12.50 USD left on its account"),
        ('balance_low = "20 EUR"', "note", "and balance_low is 20 EUR; write it in USD"),
        ("balance_low = 500", "note", "and balance_low is 500 messages; write it in USD"),
    ],
)
def test_what_is_left_at_a_vendor_is_told(worked: Place, vendor: str, low: str, level: str, says: str) -> None:
    worked.config.write_text(worked.config.read_text() + TWILIO.format(url=vendor, more=low))
    code, [one] = asked(worked)
    assert (one["level"], one["facts"]) == (level, {"balance": "12.50", "currency": "USD"})
    assert says in one["text"]
    assert code == 1  # without [web] url no receipts come in, which is a fault of its own


@pytest.mark.parametrize(
    ("left", "says"),
    [
        ((0, ""), "did not tell within 0.5 seconds what is left on its account"),
        ((503, ""), "what is left on its account is not known: twilio ask what is left: "),
        ((403, '{"code": 20003}'), "what is left on its account is not known: twilio ask what is left: "),
        ((200, "{}"), "what is left on its account is not known: twilio ask what is left: "),
    ],
)
def test_that_a_vendor_could_not_be_asked_is_said_and_fails_nothing(
    worked: Place, vendor: str, left: tuple[int, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Vendor, "left", left)
    more = 'balance_low = "20 USD"'
    worked.config.write_text(worked.config.read_text() + TWILIO.format(url=vendor, more=more))
    _, [one] = asked(worked)
    assert one["level"] == "note"
    assert one["text"].startswith(says)


@pytest.mark.parametrize("fails", ["opens", "does not open", "has no answer", "breaks", "is refused", "is slow"])
def test_who_did_not_open_and_answer_is_not_asked_what_is_left(
    worked: Place, vendor: str, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    errors = {"has no answer": RetryableError("no route"), "breaks": KeyError("sid"), "is refused": AuthError("no")}
    monkeypatch.setattr(enquiry, "PATIENCE", 2.0)

    async def broken(self: TwilioGateway) -> None:
        raise RetryableError("no route")

    async def check(self: TwilioGateway) -> list[str]:
        if fails == "is slow":
            await asyncio.sleep(60)
        if fails in errors:
            raise errors[fails]
        return []

    if fails == "does not open":
        monkeypatch.setattr(TwilioGateway, "open", broken)
    monkeypatch.setattr(TwilioGateway, "check", check)
    worked.config.write_text(worked.config.read_text() + TWILIO.format(url=vendor, more=""))
    assert len(asked(worked)[1]) == (fails == "opens")


def test_an_adapter_that_cannot_be_made_is_a_finding_among_others(
    worked: Place, vendor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: TwilioGateway, *_: Any) -> None:
        raise KeyError("sid")

    worked.config.write_text(worked.config.read_text() + TWILIO.format(url=vendor, more=""))
    host = Host.open(worked.config)
    monkeypatch.setattr(TwilioGateway, "__init__", broken)
    found = {one.part: one for one in asyncio.run(enquiry.asked(host, has_database=True))}
    assert (found["gateway twilio"].level, found["gateway folder"].level) == ("bad", "ok")
    assert "cannot be set up: KeyError: 'sid'" in found["gateway twilio"].text


def test_who_tells_no_balance_has_none_that_could_be_low(worked: Place) -> None:
    text = worked.config.read_text()
    worked.config.write_text(text.replace('use = "folder"', 'use = "folder"\nbalance_low = "5 EUR"'))
    told = worked.ok("config", "check")
    assert "folder does not tell what is left on its account; leave it out" in told
    worked.config.write_text(text.replace('use = "folder"', 'use = "folder"\nbalance_low = "little"'))
    refused = worked.run("config", "check")
    assert refused.exit_code == 2
    assert 'should be an amount of money like "20 USD", or a number of messages like 500' in refused.output


def test_a_shop_that_could_not_be_read_in_one_table_is_named_with_it(worked: Place) -> None:
    worked.config.write_text(worked.config.read_text() + '\n[shops.tea.refunds]\nfile = "none.csv"\noptional = false\n')
    assert worked.run("sync", now=NOW.isoformat()).exit_code != 0
    (told,) = (one for one in of(worked, "shop tea", "bad") if "could not be read" in one["text"])
    assert "(ConfigError in refunds)" in told["text"]
