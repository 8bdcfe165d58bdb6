"""The source `files`: cursors, joins, and what comes of bad rows."""

import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crmkit import ConfigError, PayloadError, Ref

HEAD = "id,placed,status,total\n"
ORDERS = """
[orders]
file = "orders*.csv"
[orders.columns]
external_id = "id"
placed_at = "placed"
status = { column = "status", values = { open = "placed", sent = "shipped" } }
total = "total"
"""
JOINED = (
    ORDERS
    + """
[orders.columns.items_total]
sum = "lines.price"
[lines]
file = "lines.csv"
order = "order"
[lines.columns]
external_id = "no"
sku = "sku"
unit_price = "price"
"""
)
LINES = "order,no,sku,price\nA,1,red,1.50\nA,2,blue,2.25\nB,1,red,1.50\n"


def rows(count: int, start: int = 0) -> str:
    return "".join(f"o{number},2024-03-01 10:00:00,open,{number}.50\n" for number in range(start, start + count))


def test_an_order_is_read_with_its_place_and_the_time_its_file_was_written(shop: Any) -> None:
    shop.write("orders.csv", HEAD + "A,2024-03-01 10:00:00,sent,12.50\n", at=1_710_000_000)
    result = shop.read(ORDERS)
    (order,) = result.records
    assert (order.external_id, order.status, order.vendor_status) == ("A", "shipped", "sent")
    assert (order.total, order.currency) == (Decimal("12.50"), "EUR")
    assert order.placed_at == datetime(2024, 3, 1, 10, tzinfo=UTC)
    assert order.observed_at == datetime.fromtimestamp(1_710_000_000, UTC)
    assert "paid_at" not in order.model_fields_set
    assert result.places == ["orders.csv:2"]
    assert result.pages[-1].total == 1


def test_an_empty_cell_says_empty_and_an_unlisted_value_is_unknown(shop: Any) -> None:
    shop.write("orders.csv", HEAD + "A,2024-03-01,lost,\n")
    (order,) = shop.read(ORDERS).records
    assert (order.status, order.vendor_status) == ("unknown", "lost")
    assert order.total is None and "total" in order.model_fields_set


def test_times_without_a_zone_are_the_shops(shop: Any) -> None:
    shop.timezone = "Asia/Shanghai"
    shop.write("orders.csv", HEAD + "A,2024-03-01 10:00:00,open,1\nB,2024-03-01T10:00:00+01:00,open,1\n")
    assert [order.placed_at.hour for order in shop.read(ORDERS).records] == [2, 9]


def test_a_second_read_of_the_same_files_reads_nothing(shop: Any) -> None:
    shop.write("orders.csv", HEAD + rows(3))
    cursor = shop.read(ORDERS).cursor
    assert cursor["done"] and cursor["row"] == 3
    assert shop.read(ORDERS, cursor=cursor).pages == []


def test_a_changed_mapping_reads_again(shop: Any) -> None:
    shop.write("orders.csv", HEAD + rows(3))
    cursor = shop.read(ORDERS).cursor
    assert len(shop.read(ORDERS + 'number = "id"\n', cursor=cursor).records) == 3


def test_a_grown_file_is_read_from_the_start(shop: Any) -> None:
    shop.write("orders.csv", HEAD + rows(3))
    first = shop.read(ORDERS)
    shop.write("orders.csv", HEAD + rows(5), at=1_700_000_500)
    again = shop.read(ORDERS, cursor=first.cursor)
    assert [order.content_hash() for order in again.records][:3] == [order.content_hash() for order in first.records]
    assert len(again.records) == 5


def test_a_file_that_grows_while_it_is_read_is_read_again(shop: Any) -> None:
    import asyncio

    from crmkit import Start

    path = shop.write("orders.csv", HEAD + rows(1_200))
    source, pages = shop.source(ORDERS), []

    async def run() -> None:
        async for page in source.orders(Start()):
            pages.append(page)
            with path.open("a") as file:
                file.write(rows(1, 5_000 + len(pages)))

    asyncio.run(run())
    assert shop.read(ORDERS, cursor=pages[-1].cursor).records


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stop=st.integers(1, 4), bad=st.sets(st.integers(0, 1_599), max_size=8))
def test_going_on_after_any_page_gives_the_same_records(shop: Any, stop: int, bad: set[int]) -> None:
    lines = rows(1_600).splitlines(keepends=True)
    for number in bad:
        lines[number] = f"o{number},no date,open,1\n"
    shop.write("orders.csv", HEAD + "".join(lines))
    whole = shop.read(ORDERS)
    first = shop.read(ORDERS, pages=stop)
    rest = shop.read(ORDERS, cursor=first.cursor)
    assert first.records + rest.records == whole.records
    assert first.refused + rest.refused == whole.refused
    assert len(whole.refused) == len(bad)
    assert rest.pages == [] or rest.cursor == whole.cursor


def test_since_gives_what_changed_then_and_moves_no_cursor(shop: Any) -> None:
    shop.write("orders.csv", HEAD + "A,2024-03-01,open,1\nB,2024-03-05,open,1\n")
    result = shop.read(ORDERS, since=datetime(2024, 3, 2, tzinfo=UTC))
    assert [order.external_id for order in result.records] == ["B"]
    assert result.cursor is None


def test_read_gives_the_records_asked_for(shop: Any) -> None:
    shop.write("orders.csv", HEAD + "A,2024-03-01,open,1\nB,2024-03-05,open,1\n")
    shop.write("lines.csv", LINES)
    (order,) = shop.ask(JOINED, [Ref("order", "B"), Ref("order", "none")])
    assert (order.ref, order.lines[0].sku) == ("B", "red")


def test_lines_travel_in_their_order_and_are_added_up(shop: Any) -> None:
    shop.write("orders.csv", HEAD + "A,2024-03-01,open,1\nC,2024-03-05,open,1\nB,2024-03-05,open,1\n")
    shop.write("lines.csv", LINES, at=1_700_000_900)
    a, c, b = shop.read(JOINED).records
    assert [(line.external_id, line.sku) for line in a.lines] == [("1", "red"), ("2", "blue")]
    assert (a.items_total, b.items_total, c.items_total, c.lines) == (Decimal("3.75"), Decimal("1.50"), None, ())
    assert a.observed_at == datetime.fromtimestamp(1_700_000_900, UTC)


def test_a_bad_line_harms_only_itself(shop: Any) -> None:
    shop.write("orders.csv", HEAD + "A,2024-03-01,open,1\n")
    shop.write(
        "lines.csv",
        "order,no,sku,price\n" + "A,1,red,cheap\nA,2,blue,2\nX,1,red,1\nA,2,green,2\nA,2,blue,2\n,1,red,1\n",
    )
    result = shop.read(JOINED)
    (order,) = result.records
    assert [line.external_id for line in order.lines] == ["2"]
    assert "items_total" not in order.model_fields_set
    assert sorted((refused.place, refused.kind, refused.ref) for refused in result.refused) == [
        ("lines.csv:2", "line", "A"),
        ("lines.csv:4", "line", "X"),
        ("lines.csv:5", "line", "A"),
        ("lines.csv:7", "line", None),
    ]
    reasons = {refused.place: refused.reason for refused in result.refused}
    assert reasons["lines.csv:2"] == "price 'cheap' is no amount"
    assert reasons["lines.csv:4"] == 'there is no order "X"'
    assert reasons["lines.csv:5"].endswith("the first is at lines.csv:3")


def test_bad_rows_are_refused_with_their_place_and_the_rest_lands(shop: Any) -> None:
    bad = [
        "A,soon,open,1\n",
        'B,2024-03-01,open,"1.234,56"\n',
        "C,2024-03-01\n",
        "D,2024-03-01,open,1,2\n",
        "E\x00,2024-03-01,open,1\n",
        ",2024-03-01,open,1\n",
        "F,,open,1\n",
        'G,2024-03-01,open,"1,234"\n',
    ]
    shop.write("orders.csv", HEAD + "".join(bad) + rows(2))
    result = shop.read(ORDERS)
    assert [order.external_id for order in result.records] == ["o0", "o1"]
    assert [refused.place for refused in result.refused] == [f"orders.csv:{line}" for line in range(2, 10)]
    reasons = [refused.reason for refused in result.refused]
    assert reasons[0].startswith("placed 'soon' is no date I know; say how it is written")
    assert 'set decimal = ","' in reasons[1]
    assert reasons[2] == "2 cells where the header has 4"
    assert reasons[3] == "5 cells where the header has 4"
    assert reasons[4] == "holds a NUL character"
    assert reasons[5] == "it has no id: id is empty"
    assert reasons[6] == "an order needs placed_at, updated_at or another time"
    assert 'decimal = "." or decimal = ","' in reasons[7]
    assert json.loads(result.refused[0].raw) == {"id": "A", "placed": "soon", "status": "open", "total": "1"}
    assert result.refused[0].ref == "A" and result.refused[0].kind == "order"


def test_two_orders_with_one_id_are_told_apart_by_the_first_line(shop: Any) -> None:
    shop.write("orders.csv", HEAD + "A,2024-03-01,open,1\nA,2024-03-01,open,1\nA,2024-03-01,open,2\n")
    result = shop.read(ORDERS)
    assert len(result.records) == 1
    (refused,) = result.refused
    assert refused.place == "orders.csv:4"
    assert refused.reason == 'a second order "A" that differs; the first is at orders.csv:2'


def test_mail_and_phone_are_passed_on_as_they_are(shop: Any) -> None:
    shop.write("orders.csv", "id,placed,mail,phone,name\nA,2024-03-01,a@@b,+00 12 nonsense,Zoë 🦊\n")
    mapping = """
    [orders]
    file = "orders.csv"
    [orders.columns]
    external_id = "id"
    placed_at = "placed"
    buyer.email = "mail"
    buyer.phone = "phone"
    buyer.name = "name"
    """
    (order,) = shop.read(mapping).records
    assert (order.buyer.email, order.buyer.phone, order.buyer.name) == ("a@@b", "+00 12 nonsense", "Zoë 🦊")


def test_a_value_the_record_does_not_take_is_explained_in_a_line(shop: Any) -> None:
    shop.write("reviews.csv", "id,stars,at\nr1,7,2024-03-01\n")
    mapping = """
    [reviews]
    file = "reviews.csv"
    [reviews.columns]
    external_id = "id"
    rating = "stars"
    posted_at = "at"
    """
    (refused,) = shop.read(mapping, "reviews").refused
    assert refused.reason == "rating (column stars) '7': input should be less than or equal to 5"


def test_what_a_truncated_file_holds_lands_before_the_error(shop: Any) -> None:
    whole = gzip.compress((HEAD + rows(4_000)).encode(), 1)
    shop.write("orders.csv.gz", whole[: len(whole) // 2])
    result = shop.read(ORDERS)
    assert isinstance(result.error, PayloadError)
    assert 500 < len(result.records) < 4_000
    assert result.cursor["done"] is False and result.cursor["row"] == len(result.records)
    assert f"orders.csv.gz:{len(result.records) + 2}" in str(result.error)
    assert shop.read(ORDERS, cursor=result.cursor).records == []


def test_bytes_that_are_no_text_stop_at_their_line(shop: Any) -> None:
    shop.write("orders.csv", (HEAD + rows(20)).encode() + b"\xff\xfe\xfa,2024-03-01,open,1\n")
    result = shop.read(ORDERS)
    assert len(result.records) == 20
    assert "orders.csv:22" in str(result.error) and "UTF-8" in str(result.error)


def test_a_broken_joined_file_says_nothing_of_lines_and_holds_up_no_order(shop: Any) -> None:
    shop.write("orders.csv", HEAD + "A,2024-03-01,open,1\n")
    shop.write("lines.csv", LINES.encode() + b"B,\xff\xff\xff\n")
    result = shop.read(JOINED)
    (order,) = result.records
    assert not {"lines", "items_total"} & order.model_fields_set
    assert "lines.csv:5" in str(result.error) and result.cursor["done"] is False


def test_of_several_exports_the_newest_is_joined_and_the_older_still_tells(shop: Any) -> None:
    shop.write("orders-1.csv", HEAD + "A,2024-03-01,open,1\nB,2024-03-01,open,1\n", at=1_700_000_000)
    shop.write("orders-2.csv", HEAD + "A,2024-03-01,sent,1\n", at=1_700_000_100)
    shop.write("lines.csv", LINES, at=1_700_000_200)
    old, b, new = shop.read(JOINED).records
    assert (old.ref, old.status, "lines" in old.model_fields_set) == ("A", "placed", False)
    assert (new.ref, new.status, len(new.lines)) == ("A", "shipped", 2)
    assert old.observed_at < new.observed_at
    assert len(b.lines) == 1


CUSTOMERS = (
    ORDERS.replace('file = "orders*.csv"', 'file = "orders*.csv"\ncustomer = "status"')
    + """
buyer.phone = "total"
[customers]
file = "customers.csv"
[customers.columns]
external_id = "no"
name = "name"
email = "mail"
created_at = "since"
"""
)


def test_a_customer_list_is_joined_and_is_records_of_its_own(shop: Any) -> None:
    shop.write("orders.csv", HEAD + "A,2024-03-01,c1,555\nB,2024-03-01,c9,556\n")
    shop.write("customers.csv", "no,name,mail,since\nc1,Ann,ann@shop.example,2020-01-01\nc2,Bob,,\n")
    a, b = shop.read(CUSTOMERS).records
    assert (a.buyer.external_id, a.buyer.name, a.buyer.email, a.buyer.phone) == ("c1", "Ann", "ann@shop.example", "555")
    assert b.buyer.external_id is None and b.buyer.phone == "556"
    ann, bob = shop.read(CUSTOMERS, "customers").records
    assert (ann.ref, ann.buyer.name, ann.created_at.year) == ("c1", "Ann", 2020)
    assert bob.buyer.email is None


PARCELS = """
[parcels]
file = "parcels.csv"
order = "order"
[parcels.columns]
tracking_number = "tracking"
shipped_at = "sent"
delivered_at = "there"
"""


def test_parcels_without_an_id_are_counted_by_order(shop: Any) -> None:
    shop.write("parcels.csv", "order,tracking,sent,there\nA,t1,2024-03-01,\nB,t2,2024-03-01,\nA,t3,2024-03-02,\n")
    records = shop.read(PARCELS, "parcels").records
    assert [(parcel.ref, parcel.ordinal) for parcel in records] == [("A", 1), ("B", 1), ("A", 2)]
    assert shop.source(PARCELS).reports == {"shipped", "delivered", "parcels"}


def test_a_parcel_total_is_only_set_where_the_mapping_says_so(shop: Any) -> None:
    shop.write("orders.csv", HEAD + "A,2024-03-01,open,1\n")
    shop.write("parcels.csv", "order,tracking,sent,there,of\nA,t1,2024-03-01,,2\n")
    assert "parcel_total" not in shop.read(ORDERS + PARCELS).records[0].model_fields_set
    mapping = ORDERS + 'parcel_total = { max = "parcels.of" }\n' + PARCELS
    assert shop.read(mapping).records[0].parcel_total == 2


@pytest.mark.parametrize(
    ("files", "mapping", "says"),
    [
        ({}, ORDERS, "no file orders*.csv"),
        ({"order.csv": HEAD}, ORDERS.replace("orders*.csv", "orders.csv"), "did you mean 'order.csv'"),
        ({"orders.csv": "id,placd,status,total\n"}, ORDERS, "did you mean 'placd'"),
        ({"orders.csv": "id,placed,status,total,total\n"}, ORDERS, "two columns are called 'total'"),
        ({}, 'preset = "olst"', "did you mean 'olist'"),
        ({}, "[order]\n", "did you mean 'orders'"),
        ({}, '[orders]\nfil = "x"\n', "did you mean 'file'"),
        ({}, '[orders]\ntotal = "x"\n', "unknown key 'total' (fields belong into its `columns`)"),
        ({}, '[orders.columns]\nplaced = "x"\n', "did you mean 'placed_at'"),
        ({}, '[orders.columns]\ntotal = { colum = "x" }\n', "did you mean 'column'"),
        ({}, '[orders.columns]\ntotal = { decimal = "," }\n', "does not say where the value comes from"),
        ({}, '[orders.columns]\ntotal = { column = "x", decimal = ";" }\n', "decimal = ';'"),
        ({}, '[orders.columns]\nstatus = { column = "x", values = { a = "shiped" } }\n', "did you mean 'shipped'"),
        ({}, '[orders.columns]\nplaced_at = "x"\n', "orders have no id"),
        ({}, ORDERS + '[lines]\nfile = "x.csv"\n', "lines do not say what order they belong to"),
        ({}, ORDERS.replace("orders*", "../orders"), "outside the folder"),
        ({}, 'path = "nowhere"\n' + ORDERS, "there is no folder"),
        ({}, "", "it names no table"),
    ],
)
def test_a_wrong_mapping_is_an_error_that_says_what_to_do(
    shop: Any, files: dict[str, str], mapping: str, says: str
) -> None:
    for name, text in files.items():
        shop.write(name, text)
    with pytest.raises(ConfigError) as caught:
        if (error := shop.read(mapping).error) is not None:
            raise error
    assert says in str(caught.value)
    assert caught.value.who and caught.value.do


def test_amounts_need_a_currency(shop: Any) -> None:
    shop.currency = None
    with pytest.raises(ConfigError, match=r'say currency = "EUR" in shops\.mine'):
        shop.source(ORDERS)


def test_a_folder_that_is_missing_is_said_once_for_all_tables(shop: Any) -> None:
    (said,) = shop.check('path = "nowhere"\npreset = "crmkit"\n')
    assert said.startswith("shops.mine: there is no folder ")
    assert said.endswith("; correct shops.mine.path")


def test_a_folder_whose_files_are_called_otherwise_is_said(shop: Any) -> None:
    settings = 'path = "."\npreset = "crmkit"\n'
    assert shop.check(settings) == []
    shop.write("export.csv", HEAD)
    (said,) = shop.check(settings)
    assert "none of customers*.csv, orders*.csv" in said and "which holds export.csv; rename them" in said
    shop.write("orders-1.csv", "external_id,placed_at,status,total,currency\n")
    assert shop.check(settings) == []


def test_check_lists_what_is_missing(shop: Any) -> None:
    shop.write("orders.csv", "id,placed,status\n")
    first, second = shop.check(JOINED)
    assert "there is no column 'total'" in first and "no file lines.csv" in second


def test_an_empty_file_is_an_error_and_a_header_alone_is_not(shop: Any) -> None:
    shop.write("orders.csv", "")
    assert "it is empty" in str(shop.read(ORDERS).error)
    shop.write("orders.csv", HEAD)
    result = shop.read(ORDERS)
    assert result.error is None and result.cursor["done"]


def test_what_is_hard_on_a_parser_is_refused_by_itself(shop):
    shop.write("orders.csv", "id,placed,status,total\nA1,2026-05-01T00:00+99:99,open,1\nA2,2026-05-02,open,2\n")
    result = shop.read()
    assert [record.external_id for record in result.records] == ["A2"]
    assert ["is no date" in refused.reason for refused in result.refused] == [True]
    shop.write("orders.csv", "id" * 100_000, at=1_700_000_001)
    assert "its header cannot be read" in str(shop.read().error)
    shop.write("orders.csv", b'id,"placed\nstatus\n\x8c\n', at=1_700_000_002)
    assert "bytes that are no utf-8 text" in str(shop.read().error)
    shop.write(
        "orders.jsonl", '{"id":' * 50_000 + '\n{"id": "A3", "placed": "2026-05-03", "status": "open", "total": "3"}\n'
    )
    deep = shop.read('[orders]\nfile = "orders.jsonl"\n[orders.columns]\nexternal_id = "id"\nplaced_at = "placed"\n')
    assert [record.external_id for record in deep.records] == ["A3"]
    assert "is no JSON" in deep.refused[0].reason
