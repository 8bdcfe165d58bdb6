"""What the commands show, on both databases."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from crmkit.adapters.stream import Page, Refused
from crmkit.core.account import Shop
from crmkit.core.records import Buyer, LineRecord, OrderRecord, OrderStatus, ReviewRecord
from crmkit.flow.consent import enter
from crmkit.flow.ingest import ingest
from crmkit.store import accounts, report, search
from crmkit.store.engine import Store

NOW = datetime(2026, 5, 8, tzinfo=UTC)
DAY = timedelta(days=1)


def order(number: str, buyer: Buyer | None, placed: datetime = NOW - 2 * DAY) -> OrderRecord:
    return OrderRecord(
        external_id=number,
        status=OrderStatus.PLACED,
        placed_at=placed,
        updated_at=placed,
        currency="EUR",
        total=Decimal("12.50"),
        buyer=buyer,
        lines=[LineRecord(external_id="1", title="Tea", quantity=Decimal(1))],
    )


@pytest.fixture
def filled(store: Store) -> Store:
    """Three customers: Ada with two profiles, Bo, and the unnamed buyer of T4; a review whose order has not come."""
    with store.begin() as tx:
        number, _ = accounts.meet(
            tx, name="tea", kind="shop", adapter="fake", vendor_account=None, announce_from=NOW - 9 * DAY, now=NOW
        )
        shop = Shop(number, "tea", "Tea", frozenset(), NOW - 9 * DAY, "en", ZoneInfo("UTC"), "DE")
        records = [
            order("T1", Buyer(external_id="c1", name="Ada Ash", email="ada@buyers.example")),
            order("T2", Buyer(name="A. Ash", email="Ada@buyers.example", phone="+49 30 901820")),
            order("T3", Buyer(external_id="c2", name="Bo_100%", email="bo@buyers.example")),
            order("T4", None),
            ReviewRecord(external_id="R1", order_external_id="T99", rating=Decimal(4), posted_at=NOW - 2 * DAY),
        ]
        refused = [Refused("order", "orders.csv:7", "total is 'x'", "raw", "T6")]
        ingest(tx, shop, Page(records=records, refused=refused), stream="orders", listened={"order-placed"}, now=NOW)
    return store


def test_customers_are_families(filled: Store) -> None:
    with filled.read() as tx:
        counts = report.counts(tx)
    assert (counts["customers"], counts["profiles"], counts["orders"], counts["order_lines"]) == (3, 4, 4, 4)
    assert (counts["reviews"], counts["quarantined"], counts["pending"]) == (1, 1, 4)
    assert counts["interactions"]["order-placed"] == 4
    assert counts["messages"]["held"] == 0


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("c1", ["Ada Ash"]),
        ("ADA@buyers.example", ["Ada Ash"]),
        ("+49 (30) 901820", ["Ada Ash"]),
        ("T2", ["Ada Ash"]),
        ("ash", ["Ada Ash"]),
        ("BUYERS.example", ["Ada Ash", "Bo_100%"]),
        ("_100%", ["Bo_100%"]),
        ("%", ["Bo_100%"]),
        ("T4", [None]),
        ("nobody", []),
        ("", []),
    ],
)
def test_customers_are_found_by_whatever_is_known(filled: Store, text: str, names: list[str | None]) -> None:
    with filled.read() as tx:
        found = search.overview(tx, search.families_meant(tx, text))
    assert [row["name"] for row in found] == names


def test_a_dossier_holds_the_whole_family(filled: Store) -> None:
    with filled.read() as tx:
        (family,) = search.families_meant(tx, "ada@buyers.example")
        found = search.dossier(tx, family)
        (shared,) = search.shared_between(tx, family)
        assert search.families_meant(tx, f"#{family}") == [family]
        pending = search.pending_of(tx, [profile["id"] for profile in found["profiles"]])
    assert [one["external_id"] for one in found["orders"]] == ["T1", "T2"]
    assert (found["orders"][0]["lines"], found["orders"][0]["parcels"]) == (1, 0)
    assert {row["kind"] for row in found["addresses"]} == {"email", "phone"}
    assert (shared["kind"], shared["value"], len(shared["profiles"])) == ("email", "ada@buyers.example", 2)
    assert shared["families"] == [family]
    assert not shared["is_shared_by_too_many"]
    assert [row["type"] for row in pending] == ["order-placed", "order-placed"]


def test_every_customer_is_walked_over_once(filled: Store) -> None:
    seen: list[int] = []
    with filled.read() as tx:
        while chunk := search.every_family(tx, seen[-1] if seen else 0, 2):
            seen += chunk
    assert len(seen) == len(set(seen)) == 3


def test_interactions_are_filtered(filled: Store) -> None:
    with filled.read() as tx:
        assert [row["order"] for row in report.interactions(tx, types=["order-placed"], limit=2)] == ["T3", "T4"]
        assert len(report.interactions(tx, order="T1", types=["order-placed"])) == 1
        assert report.interactions(tx, since=NOW) == []
        placed = report.interactions(tx, order="T1", types=["order-placed"])[0]
        assert [row["id"] for row in report.causes(tx, placed["id"])] == [placed["id"]]
        assert report.causes(tx, None) == []


def test_what_is_stuck_is_counted(filled: Store) -> None:
    with filled.read() as tx:
        assert report.waiting(tx, NOW, DAY) == {"reviews": 1}
        assert report.waiting(tx, NOW, 3 * DAY) == {}
        assert report.overdue(tx, NOW, DAY) == 4
        assert report.parked(tx) == (0, [])
        assert report.stuck_messages(tx, NOW, DAY) == {}
        (refused,) = report.quarantined(tx)
        assert (refused["kind"], refused["scope"], refused["count"]) == ("order", "record", 1)
        assert report.integrity(tx) == []
        assert report.last_runs(tx) == {}
        assert report.message(tx, 1) is None
        assert report.messages(tx, states=["sent"], reasons=["stale"], template="x", shop=1, order="T1") == []


def test_the_last_run_of_each_command_is_told(filled: Store) -> None:
    with filled.begin() as tx:
        for outcome in ("failed", "done"):
            number = accounts.begin_run(tx, "sync", NOW)
            accounts.end_run(tx, number, outcome, {}, NOW)
        accounts.begin_run(tx, "dispatch", NOW)
    with filled.read() as tx:
        runs = report.last_runs(tx)
    assert {name: run["outcome"] for name, run in runs.items()} == {"sync": "done", "dispatch": None}


def test_consent_is_entered_once_and_told_where_it_is_news(filled: Store) -> None:
    said = {"channel": "*", "purpose": "marketing", "source": "form", "wording": None, "actor": "customer"}
    with filled.begin() as tx:
        (family,) = search.families_meant(tx, "c2")
        granted = {**said, "profile_id": family, "address": None, "state": "granted", "occurred_at": NOW}
        late = {**granted, "state": "withdrawn", "occurred_at": NOW - DAY}
        assert len(enter(tx, [granted], listened=(), now=NOW)) == 1
        assert enter(tx, [granted], listened=(), now=NOW) == []
        assert len(enter(tx, [late], listened=(), now=NOW)) == 1
        told = report.interactions(tx, types=["consent-changed"])
    assert [row["payload"]["state"] for row in told] == ["granted"]
