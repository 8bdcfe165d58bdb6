"""The doctor says of each shop and gateway what came last, what is silent, what ends and what runs out."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from crmkit.core.quota import Quota
from crmkit.host.vault import Vault
from crmkit.store import accounts, bulk, inbox, log, quotas, silences
from crmkit.store import tables as t
from crmkit.store.engine import Store
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
    assert "last webhook never" in shop["text"]
    assert shop["facts"]["last_order_at"] == "2026-05-07T13:00:00+00:00"
    assert shop["facts"]["last_webhook_at"] is None
    (gateway,) = of(worked, "gateway folder")
    assert (gateway["level"], gateway["text"]) == ("ok", "last receipt never, last webhook never")
    assert gateway["facts"] == {"last_receipt_at": None, "last_webhook_at": None, "token_ends_at": None}


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
    assert bad["text"] == f"{what} (ConfigError in customers); {do}"


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
