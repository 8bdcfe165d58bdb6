"""Health: what is asked is answered at once, and says what it is."""

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from anyio.to_thread import current_default_thread_limiter, run_sync
from sqlalchemy.exc import OperationalError

from crmkit.core.errors import AuthError
from crmkit.store import accounts, migrate
from crmkit.store import tables as t
from crmkit.web import health, server
from crmkit.web.site import Site
from tests.web.conftest import NOON, Town
from tests.web.stall import Stall


@pytest.fixture(autouse=True)
def asked_anew_and_in_no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "FRESH", 0.0)
    monkeypatch.setattr(health, "PATIENCE", 30.0)


async def ready(town: Town) -> tuple[int, dict[str, Any]]:
    answer = await town.client.get("/readyz")
    return answer.status_code, answer.json()


async def test_a_process_that_lives_says_so_without_the_database(town: Town, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(town.store, "read", lambda: pytest.fail("asked"))
    answer = await town.client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"state": "live"})


async def test_an_installation_that_is_up_to_date_is_ready(town: Town):
    status, said = await ready(town)
    assert status == 200
    assert said == {
        "state": "ready",
        "database": "ok",
        "lag": {"webhooks": 0.0, "decisions": 0.0, "messages": 0.0},
        "synced": {"stall": None},
    }


async def test_what_waits_long_is_told_and_stays_in_service(town: Town):
    row = {"id": 1, "account_id": town.shop_id, "dedupe_key": "k", "body": b"", "received_at": NOON}
    with town.store.begin() as tx:
        tx.execute(sa.insert(t.inbox).values(row))
        accounts.set_synced(tx, town.shop_id, NOON)
    town.now = NOON + timedelta(minutes=10)
    status, said = await ready(town)
    assert (status, said["state"], said["lag"]["webhooks"], said["synced"]) == (200, "ready", 600.0, {"stall": 600.0})
    town.now = NOON + timedelta(minutes=20)
    status, said = await ready(town)
    assert (status, said["state"], said["lag"]["webhooks"]) == (200, "lagging", 1200.0)


async def test_an_account_counts_as_synced_when_it_was_read_to_its_end_without_an_error(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    town.now = NOON + timedelta(hours=2)
    with monkeypatch.context() as wrong:

        async def refused(self: Stall) -> None:
            raise AuthError("refused", who="stall", operation="open")

        wrong.setattr(Stall, "open", refused)
        await town.local.sync(now=NOON)
    assert (await ready(town))[1]["synced"] == {"stall": None}
    await town.local.sync(now=NOON)
    await town.local.sync(since=NOON, now=NOON + timedelta(hours=1))
    with town.store.begin() as tx:
        for _ in range(300):
            accounts.end_run(tx, accounts.begin_run(tx, "dispatch", NOON), "done", {}, NOON)
    assert (await ready(town))[1]["synced"] == {"stall": 7200.0}


async def test_an_account_that_is_off_is_not_late(town: Town, monkeypatch: pytest.MonkeyPatch):
    await town.local.sync(now=NOON)
    with town.store.begin() as tx:
        row = {"id": 1, "account_id": town.shop_id, "dedupe_key": "k", "body": b"", "received_at": NOON}
        tx.execute(sa.insert(t.inbox).values(row))
    town.now = NOON + timedelta(hours=1)
    assert (await ready(town))[1]["state"] == "lagging"
    monkeypatch.setattr(town.host, "shops", {})
    _, said = await ready(town)
    assert (said["state"], said["lag"]["webhooks"], said["synced"]) == ("ready", 0.0, {})


async def test_decisions_and_messages_that_are_late_are_told(town: Town):
    town.order("1001")
    with town.store.begin() as tx:
        tx.execute(sa.insert(t.pending).values(id=900, interaction_id=1, due_at=NOON))
        tx.execute(
            sa.insert(t.pending).values(id=901, interaction_id=1, due_at=NOON - timedelta(days=9), parked_at=NOON)
        )
    town.now = NOON + timedelta(hours=1)
    _, said = await ready(town)
    assert (said["state"], said["lag"]) == ("lagging", {"webhooks": 0.0, "decisions": 3600.0, "messages": 0.0})


async def test_a_database_that_is_gone_or_old_is_not_ready(town: Town, monkeypatch: pytest.MonkeyPatch):
    def gone(*_: Any) -> None:
        raise OperationalError("SELECT", {}, Exception("no route to host"))

    with monkeypatch.context() as away:
        away.setattr(town.store, "read", gone)
        assert await ready(town) == (503, {"state": "unready", "database": "unreachable", "synced": {}})
    with town.store.begin() as tx:
        tx.execute(sa.text("UPDATE crmkit_version SET version_num = 'earlier'"))
    assert await ready(town) == (503, {"state": "unready", "database": "old", "synced": {}})


async def test_a_database_that_does_not_answer_is_not_waited_for(town: Town, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health, "PATIENCE", 0.1)
    looks = []

    def slow(*_: Any) -> None:
        looks.append(1)
        time.sleep(0.5)

    monkeypatch.setattr(migrate, "check", slow)
    began = time.monotonic()
    answers = await asyncio.gather(*(ready(town) for _ in range(10)))
    assert time.monotonic() - began < 0.4
    assert {status for status, _ in answers} == {503}
    assert len(looks) == 1
    await asyncio.sleep(0.6)


async def test_pages_that_take_all_threads_do_not_make_it_unready(town: Town):
    go = threading.Event()
    limiter = current_default_thread_limiter()
    pages = [asyncio.create_task(run_sync(go.wait, 5)) for _ in range(int(limiter.total_tokens) + 5)]
    try:
        await asyncio.sleep(0.1)
        assert limiter.borrowed_tokens == limiter.total_tokens
        assert (await ready(town))[0] == 200
    finally:
        go.set()
        await asyncio.gather(*pages)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_who_asks_for_the_head_alone_gets_it(town: Town, path: str):
    answer = await town.client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    town.app.state.health.end()
    assert (await town.client.head("/readyz")).status_code == 503


async def test_many_who_ask_cause_one_look(town: Town, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health, "FRESH", 10.0)
    looks = []
    real = migrate.check
    monkeypatch.setattr(migrate, "check", lambda *given: (looks.append(1), real(*given)))
    for _ in range(5):
        await asyncio.gather(*(ready(town) for _ in range(10)))
    assert len(looks) == 1


async def test_a_server_that_ends_is_not_ready(town: Town):
    served = server.Server(town.app, "127.0.0.1", 0, ending=town.app.state.health.end)
    stop = asyncio.Event()
    serving = asyncio.create_task(served.run(stop))
    assert (await ready(town))[0] == 200
    stop.set()
    await serving
    assert await ready(town) == (503, {"state": "ending", "synced": {}})
    assert (await town.client.get("/healthz")).status_code == 200


async def test_readiness_says_nothing_personal(town: Town):
    town.order("1001")
    answer = await town.client.get("/readyz")
    assert "ann" not in answer.text.lower()
    assert isinstance(town.app.state.health.site, Site)
