"""One bad record harms only itself: it is kept with its reason, the rest lands, and it is closed once it lands."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from crmkit.adapters.stream import Page, Refused
from crmkit.core.records import Buyer, CustomerRecord, OrderRecord, PaymentRecord
from crmkit.flow.inbox import _Said, _take
from crmkit.flow.ingest import Tally, ingest
from crmkit.store import inbox
from crmkit.store import tables as t
from crmkit.store.accounts import Stood
from crmkit.store.engine import refusal
from tests.play import HOUR, NOON, Play, buyer, order


def forged(number: str, **fields: Any) -> OrderRecord:
    """An order as validation would never let it through."""
    known = order(number, buyer(f"b{number}"))
    values = {name: getattr(known, name) for name in known.model_fields_set}
    return OrderRecord.model_construct(_fields_set={*values, *fields}, **{**values, **fields})


UNFIT = {
    "a number beyond 64 bits": {"total": Decimal(10) ** 30, "currency": "USD"},
    "what is no JSON": {"extras": {"amount": object()}},
    "half a character": {"note": "\ud800"},
    "half a character in its id": {"external_id": "7\ud800"},
    "a time without a zone": {"promised_at": NOON.replace(tzinfo=None)},
}


def take(play: Play, page: Page) -> Tally:
    with play.store.begin() as tx:
        return ingest(tx, play.shops[1], page, stream="orders", listened=(), now=NOON, stood=Stood(None))


def opened(play: Play) -> list[Mapping[str, Any]]:
    return play.rows(t.quarantine, resolved_at=None)


@pytest.mark.parametrize("what", UNFIT)
def test_a_record_the_database_refuses_harms_only_itself(play: Play, what: str) -> None:
    # SEMANTICS 7
    records: list[Any] = [order(str(number), buyer(f"b{number}")) for number in range(9)]
    records[7] = forged("7", **UNFIT[what])
    tally = take(play, Page(records, cursor={"at": 1}, places={7: "orders.csv:8"}))
    assert tally.records["order"] == {"created": 8, "refused": 1}
    assert [row["external_id"] for row in play.rows(t.orders)] == [str(n) for n in range(9) if n != 7]
    assert play.count(t.profile) == 8
    row = play.one(t.quarantine)
    assert (row["kind"], row["scope"], row["place"], row["resolved_at"]) == ("order", "record", "orders.csv:8", None)
    assert row["reason"]
    assert "b7@example.com" in row["raw"]
    assert play.one(t.cursor)["value"] == {"at": 1}


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_a_nul_is_refused_where_the_database_takes_none(play: Play) -> None:
    take(play, Page([order("1"), forged("2", note="a\x00b"), forged("3", external_id="3\x00")]))
    assert play.count(t.orders) == 1
    assert [row["ref"] for row in opened(play)] == ["2", "3\\x00"]


def test_what_the_source_refuses_is_kept_whatever_is_in_it(play: Play) -> None:
    # SEMANTICS 7
    refused = Refused("order", "o.csv:2", "total is no number: 'a\x00'", "1;a\x00\ud800;x", "1")
    take(play, Page([], [refused]))
    assert play.one(t.quarantine)["raw"] == "1;a\\x00\\ud800;x"


def test_refused_twice_is_one_row(play: Play) -> None:
    for _ in range(2):
        take(play, Page([order("1"), forged("7", **UNFIT["half a character"])], [Refused("order", "x", "y", "z", "8")]))
    assert sorted(row["ref"] for row in opened(play)) == ["7", "8"]


def test_what_lands_later_is_closed(play: Play) -> None:
    bad = forged("7", **UNFIT["half a character"])
    take(play, Page([bad], [Refused("payment", "p.csv:1", "no amount", "p1;", "7")]))
    take(play, Page([order("7"), PaymentRecord(external_id="p1", order_external_id="7")]))
    assert opened(play) == []
    assert all(row["resolved_at"] == NOON for row in play.rows(t.quarantine))


def test_what_was_closed_and_is_refused_again_is_open_again(play: Play) -> None:
    bad = forged("7", **UNFIT["half a character"])
    take(play, Page([bad]))
    take(play, Page([order("7")]))
    take(play, Page([bad]))
    assert len(opened(play)) == 1


def test_a_flaw_lets_the_record_land_without_the_field(play: Play) -> None:
    bad = Buyer(external_id="ann", name="Ann", email="a@@b", phone="12")
    take(play, Page([order("1", bad)]))
    assert (play.one(t.orders)["profile_id"], play.one(t.profile)["name"], play.count(t.address)) == (1, "Ann", 0)
    assert [(row["scope"], row["ref"], row["reason"].split()[0]) for row in opened(play)] == [
        ("field", "1", "email"),
        ("field", "1", "phone"),
    ]


def test_one_flaw_in_two_records_is_two(play: Play) -> None:
    bad = Buyer(external_id="ann", email="a@@b")
    take(play, Page([order("1", bad), order("2", bad)]))
    assert [row["ref"] for row in opened(play)] == ["1", "2"]


def test_a_flaw_is_closed_when_the_record_comes_without_it_and_stays_so(play: Play) -> None:
    bad = order("1", Buyer(external_id="ann", email="a@@b"))
    take(play, Page([bad]))
    take(play, Page([order("1", at=NOON + HOUR)]))
    assert opened(play) == []
    take(play, Page([bad]))  # the old news again
    assert opened(play) == []


def test_a_customers_flaw_is_closed_when_it_is_mended(play: Play) -> None:
    def record(email: str) -> CustomerRecord:
        return CustomerRecord(external_id="ann", buyer=Buyer(email=email), updated_at=NOON)

    take(play, Page([record("a@@b")]))
    assert len(opened(play)) == 1
    take(play, Page([record("ann@example.com")]))
    assert opened(play) == []


def called(play: Play, number: int, refused: list[Refused]) -> None:
    """A webhook that was kept is read, for the first time or again, and this of it is refused."""
    with play.store.begin() as tx:
        call = {"account_id": 1, "dedupe_key": f"call {number}", "headers": {}, "query": "", "body": b"[]"}
        if inbox.keep(tx, [{**call, "received_at": NOON}]) == [False]:
            inbox.again(tx, [number])
        assert _take(tx, play.shops[1], {number: _Said(refused=refused)}, (), NOON) is not None


def lines(*numbers: int) -> list[Refused]:
    return [Refused("receipt", f"webhook:{number}", "neither a receipt nor a reply", "{}") for number in numbers]


def test_what_is_refused_of_a_webhook_and_has_no_id_is_told_apart_by_its_place(play: Play) -> None:
    called(play, 1, lines(*range(40)))
    assert len(opened(play)) == 40
    called(play, 1, lines(*range(40)))
    assert len(opened(play)) == 40
    assert {row["inbox_id"] for row in opened(play)} == {1}
    take(play, Page([], [Refused("order", f"orders.csv:{line}", "no id", ";;;") for line in (3, 4)]))
    assert len(opened(play)) == 41, "in a file that has grown a row stands elsewhere"


def test_what_a_webhook_that_is_read_again_does_not_refuse_any_more_is_settled(play: Play) -> None:
    called(play, 1, lines(0, 1, 2))
    called(play, 2, lines(7, 8))
    called(play, 1, lines(1))
    assert sorted(row["place"] for row in opened(play)) == ["webhook:1", "webhook:7", "webhook:8"]
    called(play, 1, [])
    called(play, 2, [])
    assert opened(play) == []
    called(play, 2, lines(8))
    assert [row["place"] for row in opened(play)] == ["webhook:8"]


def test_a_row_is_not_blamed_for_what_is_the_databases_own_trouble(play: Play) -> None:
    class Full(Exception):
        sqlite_errorname = "SQLITE_FULL"
        sqlstate = "53100"

    class Odd(Exception):
        sqlite_errorname = "SQLITE_ERROR"
        sqlstate = "42P01"

    assert refusal(OperationalError("insert", {}, Full("disk full"))) is None
    assert refusal(OperationalError("insert", {}, Odd("no such table"))) == "the database refused it: no such table"
    assert refusal(OverflowError("too large")) is not None
    assert refusal(KeyError("a bug of ours")) is None
