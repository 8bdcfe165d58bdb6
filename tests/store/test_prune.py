"""What is old is let go, and what repeats are told by survives it: nobody is told anything twice."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from crmkit.core.actions import Action, Send
from crmkit.core.events import OrderPaid
from crmkit.core.hooks import on
from crmkit.core.records import ReceiptRecord
from crmkit.engine.pruning import Pruning
from crmkit.flow import callback
from crmkit.host.config import load
from crmkit.store import bulk, prune
from crmkit.store import tables as t
from crmkit.store.engine import Store
from tests.play import DAY, NOON, Play, order
from tests.scripted import Scripted, accept, send

OLD = NOON + 800 * DAY
KEEP = {name: timedelta(days=400) for name in prune.NAMES}


@on(OrderPaid)
def told(event: Any, crm: Any) -> Iterator[Action]:
    yield Send("paid", via=("email",))
    yield Send("news", via=("email",), key=f"once {event.order.external_id}")


class _Host:
    """A host that keeps everything so long."""

    def __init__(self, keep: dict[str, timedelta | None]) -> None:
        class Config:
            class retention:  # noqa: N801
                pass

        for name in prune.NAMES:
            setattr(Config.retention, name, keep[name])
        self.config = Config


def run(play: Play, now: datetime, keep: dict[str, Any] = KEEP, **given: Any) -> dict[str, int] | None:
    return asyncio.run(Pruning(_Host(keep), play.store).run(now, **given))  # type: ignore[arg-type]


RECORDS = [order(str(n), at=NOON, paid_at=NOON) for n in range(3)]


def receipt(n: int) -> ReceiptRecord:
    return ReceiptRecord(external_id=f"r{n}", vendor_id=f"v{n}", state="delivered", detail="250 ok", occurred_at=NOON)


def confirmed(play: Play, now: datetime = NOON) -> None:
    """The vendor says that every message arrived."""
    receipts = [receipt(row["id"]) for row in play.rows(t.message) if row["vendor_id"] is not None]
    play.write(lambda tx: callback.take(tx, receipts, account="mail", listened=play.setup.listened, now=now))


@pytest.fixture
def past(play: Play) -> Play:
    """Three orders were told of, twice each, long ago; the vendor confirmed them."""
    play.plugin("care", told)
    play.take(*RECORDS)
    play.decide()
    asyncio.run(send(play, Scripted(accept)))
    confirmed(play)
    assert play.count(t.message, state="delivered") == 6
    return play


def test_words_go_and_what_is_known_by_them_stays(past: Play) -> None:
    done = run(past, OLD)
    assert done is not None
    assert (done["texts"], done["receipts"], done["attempts"]) == (6, 6, 5)
    for row in past.rows(t.message):
        assert [row[name] for name in ("text", "html", "subject", "params", "headers")] == [None] * 5
        assert row["key"]
        assert row["content_hash"]
        assert row["address"]
    assert past.count(t.receipt) == 6
    assert past.count(t.attempt) == 1  # numbers go on from the newest
    again = run(past, OLD)
    assert again is not None
    assert not any(again.values())


def test_what_is_read_again_after_it_tells_nobody(past: Play) -> None:
    # SEMANTICS 12
    before = [(row["key"], row["state"]) for row in past.rows(t.message)]
    run(past, OLD)
    past.take(*RECORDS, now=OLD)
    confirmed(past, OLD)
    past.decide(OLD)
    assert [(row["key"], row["state"]) for row in past.rows(t.message)] == before
    assert past.count(t.receipt) == 6
    # told by a key of the author's own, by whichever event: still told
    later = order("1", at=NOON, paid_at=NOON, updated_at=OLD)
    past.take(later, now=OLD)
    past.decide(OLD)
    assert past.count(t.message, state="queued") == 0


def test_what_is_young_or_still_to_leave_stays(past: Play) -> None:
    past.take(order("9", at=NOON, paid_at=NOON + DAY), now=NOON + DAY)
    past.decide(NOON + DAY)
    assert past.count(t.message, state="queued") == 2
    assert not any((run(past, NOON + 399 * DAY) or {}).values())
    run(past, OLD)
    assert all(row["text"] for row in past.rows(t.message, state="queued"))


def test_ever_is_ever(past: Play) -> None:
    assert run(past, OLD, dict.fromkeys(prune.NAMES)) == {}
    assert all(row["text"] for row in past.rows(t.message))


def test_it_is_done_once_a_day_by_whoever_comes_first(past: Play) -> None:
    assert run(past, OLD, is_asked=False) is not None
    assert run(past, OLD + timedelta(hours=3), is_asked=False) is None
    assert run(past, OLD + timedelta(hours=3)) is not None
    assert run(past, OLD + timedelta(hours=25), is_asked=False) is not None


def test_a_batch_holds_few_rows(past: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "BATCH", 2)
    sizes: list[int] = []
    real = prune.let_go

    def note(tx: Any, kind: prune.Kind, numbers: list[int], before: datetime) -> int:
        sizes.append(len(numbers))
        return real(tx, kind, numbers, before)

    monkeypatch.setattr(prune, "let_go", note)
    assert (run(past, OLD) or {})["texts"] == 6
    assert max(sizes) == 2


def test_the_newest_run_of_each_command_stays(past: Play) -> None:
    rows = [
        {"id": n, "command": command, "started_at": NOON + (n - 100) * DAY}
        for n, command in enumerate(["sync", "dispatch", "sync", "dispatch", "sync"], 101)
    ]
    with past.store.begin() as tx:
        tx.execute(sa.delete(t.run))
        bulk.insert(tx, t.run, rows)
    run(past, OLD)
    assert sorted(row["command"] for row in past.rows(t.run)) == ["dispatch", "prune", "sync"]
    assert [row["id"] for row in past.rows(t.run) if row["command"] == "sync"] == [105]


def test_a_survey_says_how_much_is_old(past: Play) -> None:
    with past.store.read() as tx:
        found = {one.name: one for one in prune.survey(tx, KEEP, OLD)}
    assert set(found) == set(prune.NAMES)
    assert (found["texts"].kept, found["texts"].old, found["texts"].oldest) == (6, 6, NOON)
    assert (found["attempts"].old, found["attempts"].deletes) == (5, True)


def test_what_history_would_have_sent_is_forgotten_once_nothing_was_counted_for_long(play: Play) -> None:
    play.shop(1, announce_from=NOON + DAY)
    play.plugin("care", told)
    play.take(*RECORDS)
    play.decide(NOON + 2 * DAY)
    counted = {row["template"]: row["count"] for row in play.rows(t.quiet)}
    assert counted == {"paid": 3, "news": 3}
    play.take(order("9", at=NOON, paid_at=NOON), now=NOON + 9 * DAY)
    play.decide(NOON + 9 * DAY)
    assert {row["recorded_at"] for row in play.rows(t.quiet)} == {NOON + 9 * DAY}
    assert (run(play, NOON + 409 * DAY) or {})["history"] == 0  # not a day too early
    assert {row["count"] for row in play.rows(t.quiet)} == {4}
    with play.store.read() as tx:
        found = {one.name: one for one in prune.survey(tx, KEEP, NOON + 410 * DAY)}
    assert (found["history"].kept, found["history"].old) == (2, 2)
    assert (run(play, NOON + 410 * DAY) or {})["history"] == 2
    assert play.rows(t.quiet) == []


def test_what_is_usual_is_forgotten_of_accounts_nobody_looks_at_any_more(past: Play) -> None:
    looked = {"kind": "orders", "watched_from": NOON}
    with past.store.begin() as tx:
        old, new = {"account_id": 1, "looked_at": NOON}, {"account_id": 2, "looked_at": OLD}
        bulk.insert(tx, t.rhythm, [{**looked, **old}, {**looked, **new}])
    assert (run(past, OLD) or {})["rhythms"] == 1
    assert [row["account_id"] for row in past.rows(t.rhythm)] == [2]


def test_webhooks_that_come_again_are_known_after_their_bodies_went(store: Store) -> None:
    # SEMANTICS 12
    from crmkit.store import inbox

    call = {
        "account_id": 1, "dedupe_key": "k", "headers": {}, "query": "", "body": b"hello", "received_at": NOON,
    }  # fmt: skip
    with store.begin() as tx:
        tx.execute(sa.insert(t.account).values(id=1, name="tea", kind="shop", adapter="x", created_at=NOON))
        bulk.insert(tx, t.inbox, [{**call, "id": 1, "state": "done", "settled_at": NOON, "tries": 1}])
        assert inbox.expire(tx, OLD, 500) == 1
        rows = bulk.rows(tx, sa.select(t.inbox))
    assert [(row["state"], bytes(row["body"]), row["dedupe_key"]) for row in rows] == [("expired", b"", "k")]


def test_how_long_things_are_kept_is_written_in_days_or_for_ever(tmp_path: Path) -> None:
    (tmp_path / "crmkit.toml").write_text('[retention]\ntexts = "30d"\nruns = "ever"\n')
    kept = load(tmp_path / "crmkit.toml").retention
    assert (kept.texts, kept.runs, kept.attempts) == (timedelta(days=30), None, timedelta(days=400))
    (tmp_path / "crmkit.toml").write_text('[retention]\nattempts = "99999999d"\n')
    told = str(load(tmp_path / "crmkit.toml").problems[0])
    assert "'99999999d' is too long: 36500d is the most, in s, m, h, d or w, or \"ever\"" in told
    (tmp_path / "crmkit.toml").write_text('[retention]\ntexts = "3h"\n')
    assert "a day at least" in str(load(tmp_path / "crmkit.toml").problems[0])


def test_by_command(tmp_path: Path) -> None:
    from tests.cli.conftest import CONFIG, NOW, ORDERS, Place

    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "orders.csv").write_text(ORDERS)
    (tmp_path / "crmkit.toml").write_text(CONFIG)
    place = Place(tmp_path)
    place.run("sync", now=NOW)
    place.ok("dispatch", now=NOW)
    later = "2027-12-01T00:00+01:00"
    rows = {
        row["kind"]: row
        for row in map(json.loads, place.ok("db", "prune", "--dry-run", "--json", now=later).splitlines())
    }
    assert rows["texts"]["old"] > 0
    assert rows["texts"]["kept_for"] == "400d"
    assert "let go" in place.ok("db", "prune", now=later)
    rows = {
        row["kind"]: row
        for row in map(json.loads, place.ok("db", "prune", "--dry-run", "--json", now=later).splitlines())
    }
    assert rows["texts"]["old"] == 0
    assert place.ok("messages", "list")
    with closing(Store(f"sqlite:///{tmp_path / 'crm.db'}")) as store, store.read() as tx:
        first = tx.execute(sa.select(sa.func.min(t.message.c.id)).where(t.message.c.state == "sent")).scalar()
    assert place.ok("messages", "show", str(first))
    assert place.ok("explain", "message", str(first))
