"""Metrics: every value is what an independent count of the database gives, whoever did the work."""

import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from crmkit.core.token import hash_of, new_token
from crmkit.store import metrics as counted
from crmkit.store import silences, tokens
from crmkit.store import tables as t
from crmkit.store.engine import Store
from crmkit.web import metrics
from tests.web.booth import Courier
from tests.web.conftest import NOON, Town
from tests.web.trade import call, open_town, placed

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
async def town(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    monkeypatch.setattr(metrics, "FRESH", 0.0)
    found = open_town(tmp_path / "town", migrated_url, monkeypatch)
    async with found.client:
        yield found
    found.store.close()


def token(town: Town, *scopes: str) -> dict[str, str]:
    made = new_token()
    with town.store.begin() as tx:
        tokens.make(tx, "-".join(scopes), hash_of(made), scopes, expires_at=NOON + timedelta(days=1), now=NOON)
    return {"authorization": f"Bearer {made}"}


def measured(town: Town) -> Values:
    text = town.app.state.meter.text().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(values: Values, name: str, **labels: str) -> float:
    return values[name, frozenset(labels.items())]


def of(values: Values, name: str) -> dict[frozenset[tuple[str, str]], float]:
    return {labels: value for (known, labels), value in values.items() if known == name and value}


def labelled(counts: Counter[Any], *names: str) -> dict[frozenset[tuple[str, str]], float]:
    return {frozenset(zip(names, map(str, key), strict=True)): float(count) for key, count in counts.items()}


async def trade(town: Town) -> None:
    """A day of it: what is taken, refused, broken, put off, in doubt, suppressed; receipts, a stranger, a hint."""
    Courier.answers[:] = ["take", "refuse", "break", "take", "doubt", "later"]
    for number in range(8):
        await call(town, "booth", placed(str(number)))
    await call(town, "booth", {"refused": "x"})
    await call(town, "booth", placed("90", email=""))
    await town.local.dispatch(now=NOON + timedelta(minutes=1))
    sent = [row for row in town.rows(t.message) if row["state"] == "sent"]
    for row, state in zip(sent[:3], ("delivered", "bounced", "delivered"), strict=True):
        said = {"id": f"r{row['id']}", "state": state, "message": row["vendor_id"], "at": NOON.isoformat()}
        await call(town, "courier", said)
    await town.client.post("/webhooks/booth", content=b"{}", headers={"content-type": "application/json"})
    await town.client.post("/webhooks/nobody", content=b"{}")


async def test_every_total_is_what_the_tables_hold(town: Town):
    await trade(town)
    await town.local.take_in(now=NOON + timedelta(minutes=2))
    values = measured(town)
    names = {row["id"]: row["name"] for row in town.rows(t.account)}
    interactions = Counter((row["type"], names.get(row["shop_id"], "other")) for row in town.rows(t.interaction))
    assert of(values, "crmkit_interactions_total") == labelled(interactions, "type", "account")
    webhooks = Counter((names[row["account_id"]],) for row in town.rows(t.inbox))
    assert of(values, "crmkit_webhooks_total") == labelled(webhooks, "account")
    messages = Counter((row["channel"], row["purpose"]) for row in town.rows(t.message))
    assert of(values, "crmkit_messages_total") == labelled(messages, "channel", "purpose")
    suppressed = Counter((row["reason"],) for row in town.rows(t.message) if row["state"] == "suppressed")
    assert suppressed
    assert of(values, "crmkit_suppressed_total") == labelled(suppressed, "reason")
    tries = town.rows(t.attempt)
    outcomes = Counter((row["gateway"], row["outcome"]) for row in tries)
    assert len(outcomes) >= 3
    assert of(values, "crmkit_deliveries_total") == labelled(outcomes, "gateway", "outcome")
    errors = Counter((row["gateway"], row["reason"] or "other") for row in tries if row["outcome"] != "accepted")
    assert of(values, "crmkit_delivery_errors_total") == labelled(errors, "gateway", "reason")
    assert value(values, "crmkit_delivery_seconds_count", gateway="courier") == len(tries)
    receipts = Counter((row["account"], row["state"]) for row in town.rows(t.receipt))
    assert of(values, "crmkit_receipts_total") == labelled(receipts, "account", "state")
    decided = sum(row["counts"]["decided"] for row in town.rows(t.run, command="dispatch"))
    assert value(values, "crmkit_decided_total") == decided > 0
    assert value(values, "crmkit_quarantine_open", account="booth") == 1
    assert value(values, "crmkit_webhooks_refused_total", account="booth", status="401") == 1
    assert value(values, "crmkit_webhooks_refused_total", account="other", status="404") == 1


async def test_what_waits_is_told_by_how_long(town: Town):
    await call(town, "booth", placed("1"))
    town.now = NOON + timedelta(minutes=3)
    values = measured(town)
    assert value(values, "crmkit_webhooks_waiting", account="booth") == 1
    assert value(values, "crmkit_webhooks_lag_seconds", account="booth") == 180
    assert value(values, "crmkit_webhooks_waiting", account="stall") == 0
    await town.local.take_in(now=town.now)
    values = measured(town)
    assert value(values, "crmkit_webhooks_waiting", account="booth") == 0
    assert (value(values, "crmkit_decisions_due"), value(values, "crmkit_decisions_lag_seconds")) == (1, 180)
    assert value(values, "crmkit_messages_due", gateway="courier") == 0


async def test_a_silence_is_told_by_how_long_it_lasts(town: Town):
    """Each of the three kinds, as the doctor's own events told of them; what is usual, or off, is no silence."""
    await trade(town)
    await town.local.take_in(now=NOON + timedelta(minutes=2))
    await town.local.dispatch(now=NOON + timedelta(minutes=20))
    numbers = {row["name"]: row["id"] for row in town.rows(t.account)}
    looked = {"looked_at": NOON, "watched_from": NOON, "last_at": NOON}
    rows = [
        {"account_id": numbers["booth"], "kind": "orders", "silent_since": NOON, "noticed_at": NOON, **looked},
        {"account_id": numbers["booth"], "kind": "webhooks", "silent_since": None, **looked},
        {"account_id": numbers["courier"], "kind": "receipts", "silent_since": NOON + timedelta(minutes=1), **looked},
        {"account_id": 99, "kind": "orders", "silent_since": NOON, **looked},  # whose account is gone
    ]
    with town.store.begin() as tx:
        silences.save(tx, rows)
    town.now = NOON + timedelta(hours=3)
    labels = ("account", "kind")
    names = {number: name for name, number in numbers.items()}
    expected = {
        frozenset(zip(labels, (names[row["account_id"]], row["kind"]), strict=True)): (
            town.now - row["silent_since"]
        ).total_seconds()
        for row in town.rows(t.rhythm)
        if row["silent_since"] is not None and row["account_id"] in names
    }
    assert sorted(expected.values()) == [10_740.0, 10_800.0]
    found = measured(town)
    assert of(found, "crmkit_silence_seconds") == expected
    assert value(found, "crmkit_silence_seconds", account="booth", kind="webhooks") == 0
    town.now = NOON - timedelta(hours=1)  # a clock that is behind tells no time below nothing
    assert of(measured(town), "crmkit_silence_seconds") == {}


async def test_totals_go_on_where_another_process_works_and_after_a_restart(town: Town):
    await trade(town)
    before = of(measured(town), "crmkit_interactions_total")
    await call(town, "booth", placed("55"))
    await town.local.take_in(now=NOON + timedelta(minutes=3))
    after = of(measured(town), "crmkit_interactions_total")
    assert sum(after.values()) > sum(before.values())
    fresh = counted.Totals(town.store)
    fresh.refresh()
    assert fresh.interactions.counts == town.app.state.meter.totals.interactions.counts


async def test_a_message_that_the_last_look_suppresses_is_counted_then(town: Town):
    await call(town, "booth", placed("1"))
    await call(town, "booth", placed("2"))
    await town.local.dispatch(now=NOON + timedelta(minutes=1))
    with town.store.begin() as tx:  # one waits, one is held
        tx.execute(sa.update(t.message).values(state="queued", reason=None))
        tx.execute(sa.update(t.message).where(t.message.c.id == 2).values(state="held"))
    totals = counted.Totals(town.store)
    totals.refresh(0.0)
    assert totals.suppressed.counts.total() == 0
    first, second = (row["id"] for row in town.rows(t.message))
    with town.store.begin() as tx:
        stale = sa.update(t.message).values(state="suppressed", reason="stale")
        tx.execute(stale.where(t.message.c.id == first))
    for at in (1.0, 100.0, 200.0):
        totals.refresh(at)
        assert totals.suppressed.counts == {("stale",): 1}
    with town.store.begin() as tx:
        tx.execute(stale.where(t.message.c.id == second))
    totals.refresh(300.0)
    assert totals.suppressed.counts == {("stale",): 2}


async def test_a_row_that_is_committed_late_is_counted(town: Town):
    """Of two transactions that drew numbers, the one with the lower ones may end last."""
    totals = counted.Totals(town.store)
    row = {"type": "note", "actor": "shop", "occurred_at": NOON, "recorded_at": NOON}

    def add(number: int) -> None:
        with town.store.begin() as tx:
            tx.execute(sa.insert(t.interaction).values(id=number, **row))

    add(10)
    totals.refresh(0.0)
    if town.store.engine.dialect.name != "sqlite":  # which has one writer
        add(5)
    add(11)
    totals.refresh(1.0)
    totals.refresh(200.0)
    totals.refresh(201.0)
    assert totals.interactions.counts.total() == len(town.rows(t.interaction))


async def test_metrics_need_a_token_of_their_own(town: Town):
    assert (await town.client.get("/metrics")).status_code == 401
    assert (await town.client.get("/metrics", headers=token(town, "thanks:*"))).status_code == 403
    answer = await town.client.get("/metrics", headers=token(town, "metrics"))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == metrics.EXPOSITION
    assert "process_resident_memory_bytes" in answer.text


async def test_metrics_say_nothing_personal_and_only_what_is_declared(town: Town):
    await trade(town)
    text = town.app.state.meter.text().decode()
    assert "buyers.example" not in text
    assert "Buyer" not in text
    shown = set(re.findall(r"^# TYPE (crmkit_\w+?)(?:_total|_info)? \w+$", text, re.M))
    assert shown == set(metrics.MEASURES)


@pytest.mark.bench
def test_what_measuring_costs_with_many_rows(migrated_url: str, capsys: pytest.CaptureFixture[str]):
    """10^5 interactions, messages and tries: the first count, one that finds nothing new, one after a hundred more."""
    store, many = Store(migrated_url), 100_000
    told = {"type": "order-placed", "actor": "shop", "occurred_at": NOON, "recorded_at": NOON, "shop_id": 1}
    sent = {"plugin": "p", "template": "x", "purpose": "transactional", "channel": "email", "gateways": ["g"]}
    sent |= {"decided_at": NOON, "not_before": NOON, "gateway": "g", "tries": 1}
    tried = {"number": 1, "gateway": "g", "started_at": NOON, "finished_at": NOON + timedelta(milliseconds=80)}

    def add(first: int, last: int) -> None:
        from crmkit.store import bulk

        with store.begin() as tx:
            numbers = range(first, last)
            bulk.insert(tx, t.interaction, [{"id": n, **told} for n in numbers])
            states = ("sent", "suppressed", "queued", "delivered")
            rows = [{"id": n, "key": str(n), "state": states[n % 4], "reason": "stale", **sent} for n in numbers]
            bulk.insert(tx, t.message, rows)
            bulk.insert(tx, t.attempt, [{"id": n, "message_id": n, "outcome": "accepted", **tried} for n in numbers])

    add(1, many + 1)
    totals, took = counted.Totals(store), []
    for step in range(3):
        if step == 2:
            add(many + 1, many + 101)
        began = time.perf_counter()
        totals.refresh()
        took.append(time.perf_counter() - began)
    assert totals.interactions.counts.total() == many + 100
    with capsys.disabled():
        print(json.dumps({"database": store.engine.dialect.name, "seconds": [round(one, 3) for one in took]}))  # noqa: T201
    store.close()
