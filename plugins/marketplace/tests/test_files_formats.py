"""How files are written: separators, encodings, quotes, JSON lines, spreadsheets, and what a cell may hold."""

import builtins
import io
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook

from crmkit import ConfigError
from crmkit_marketplace.files import cells
from crmkit_marketplace.files.cells import CellError

MAPPING = """
[orders]
file = "orders.*"
[orders.columns]
external_id = "id"
placed_at = "placed"
note = "note"
"""


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found_out(shop: Any, separator: str) -> None:
    text = f'id{separator}placed{separator}note\nA{separator}2024-03-01{separator}"x, y; z"\n'
    shop.write("orders.csv", text)
    assert shop.read(MAPPING).records[0].note == "x, y; z"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_the_encoding_is_found_out(shop: Any, encoding: str) -> None:
    shop.write("orders.csv", '"id",placed,note\nA,2024-03-01,请尽快发货\n'.encode(encoding))
    assert shop.read(MAPPING).records[0].note == "请尽快发货"


def test_latin_text_is_not_taken_for_chinese(shop: Any) -> None:
    shop.write("orders.csv", "id,placed,note\nA,2024-03-01,Péres\n".encode("latin-1"))
    assert "no utf-8 text at orders.csv:2" in str(shop.read(MAPPING).error)
    (order,) = shop.read(MAPPING.replace("[orders.columns]", 'encoding = "latin-1"\n[orders.columns]')).records
    assert order.note == "Péres"


def test_a_place_is_the_line_a_row_begins_in(shop: Any) -> None:
    shop.write("orders.csv", 'id,placed,note\nA,2024-03-01,"one\ntwo"\n\nB,never,x\n')
    result = shop.read(MAPPING)
    assert (result.places, result.refused[0].place) == (["orders.csv:2"], "orders.csv:5")


def test_a_quote_that_is_never_closed_takes_only_its_own_line(shop: Any) -> None:
    rest = "".join(f'o{number},2024-03-01,"fine, {number}"\n' for number in range(40))
    shop.write("orders.csv", 'id,placed,note\nA,2024-03-01,"never closed\n' + rest)
    result = shop.read(MAPPING)
    assert len(result.records) == 40
    assert [refused.place for refused in result.refused] == ["orders.csv:2"]
    assert result.places[0] == "orders.csv:3"
    shop.write("orders.csv", "id,placed,note\n" + rest + 'Z,2024-03-01,"half a ro')
    result = shop.read(MAPPING)
    assert len(result.records) == 40 and "not closed" in result.refused[0].reason


def test_json_lines_say_what_they_hold_and_leave_unset_what_they_do_not(shop: Any) -> None:
    shop.write(
        "orders.jsonl",
        '{"id": 1001, "placed": "2024-03-01", "sum": 12.30, "buyer": {"mail": "a@b.example"}}\n'
        '{"id": "1002", "placed": "2024-03-01", "sum": null}\n'
        "{half\n"
        '["a list"]\n'
        '{"id": "\\ud800", "placed": "2024-03-01"}\n',
    )
    mapping = MAPPING.replace('note = "note"', 'total = "sum"\nbuyer.email = "buyer.mail"')
    result = shop.read(mapping)
    first, second = result.records
    assert (first.external_id, first.total, first.buyer.email) == ("1001", Decimal("12.30"), "a@b.example")
    assert second.total is None and "total" in second.model_fields_set
    assert "buyer" not in second.model_fields_set
    assert [refused.place for refused in result.refused] == [f"orders.jsonl:{line}" for line in (3, 4, 5)]


def spreadsheet(*rows: tuple[Any, ...], title: str = "Orders") -> bytes:
    book, out = Workbook(), io.BytesIO()
    book.active.title = "Notes"
    sheet = book.create_sheet(title)
    for row in rows:
        sheet.append(row)
    book.save(out)
    return out.getvalue()


SHEET = MAPPING.replace("[orders.columns]", 'sheet = "Orders"\ndecimal = ","\n[orders.columns]\ntotal = "sum"')


def test_a_spreadsheet_keeps_ids_whole_and_dates_dates(shop: Any) -> None:
    head = ("id", "placed", "note", "sum")
    shop.write(
        "orders.xlsx",
        spreadsheet(head, (1001.0, datetime(2024, 3, 1, 10), "x", 12.3), (), (1002, date(2024, 3, 2), None, "1.234,5")),
    )
    result = shop.read(SHEET)
    first, second = result.records
    assert (first.external_id, first.placed_at, first.total) == (
        "1001",
        datetime(2024, 3, 1, 10, tzinfo=UTC),
        Decimal("12.3"),
    )
    assert (second.external_id, second.note, second.total) == ("1002", None, Decimal("1234.5"))
    assert result.places == ["orders.xlsx:2", "orders.xlsx:4"]


def test_a_sheet_that_is_not_there_is_named_with_those_that_are(shop: Any) -> None:
    shop.write("orders.xlsx", spreadsheet(("id",), title="Order"))
    error = shop.read(SHEET).error
    assert isinstance(error, ConfigError) and "Notes, Order; did you mean 'Order'" in str(error)


def test_half_a_spreadsheet_is_an_error(shop: Any) -> None:
    whole = spreadsheet(("id", "placed", "note", "sum"), (1, 2, 3, 4))
    shop.write("orders.xlsx", whole[: len(whole) // 2])
    assert "half of one" in str(shop.read(SHEET).error)


def test_without_openpyxl_the_error_says_what_to_install(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.write("orders.xlsx", spreadsheet(("id",)))
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("openpyxl"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    error = shop.read(SHEET).error
    assert isinstance(error, ConfigError) and "pip install 'crmkit-marketplace[xlsx]'" in str(error)


@pytest.mark.parametrize(
    ("cell", "decimal", "value"),
    [
        ("12.5", None, "12.5"),
        ("1,234.50", None, "1234.50"),
        ("1.234,50", ",", "1234.50"),
        ("1.234", ",", "1234"),
        ("-3,5", ",", "-3.5"),
        ("1 234,50 €", ",", "1234.50"),
        ("€ 12", None, "12"),
        ("1,234", ".", "1234"),
    ],
)
def test_amounts_as_people_write_them(cell: str, decimal: str | None, value: str) -> None:
    assert cells.amount(decimal)(cell) == Decimal(value)


@pytest.mark.parametrize(
    ("cell", "decimal"),
    [
        ("1.234,56", None),
        ("1,234", None),
        ("1,5", None),
        ("12.34", ","),
        ("1e5", None),
        ("NaN", None),
        ("12 USD", None),
    ],
)
def test_amounts_that_are_not_guessed(cell: str, decimal: str | None) -> None:
    with pytest.raises(CellError):
        cells.amount(decimal)(cell)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**12), max_value=10**12))
def test_amounts_survive_being_written_either_way(value: Decimal) -> None:
    written = f"{value:,.2f}"
    assert cells.amount(".")(written) == value
    assert cells.amount(",")(written.translate(str.maketrans(",.", ".,"))) == value


@pytest.mark.parametrize(
    ("cell", "formats", "value"),
    [
        ("2024-03-01", (), "2024-03-01T03:00"),
        ("2024/3/1 9:05", (), "2024-03-01T12:05"),
        ("2024-03-01 10:15:30 -0500", (), "2024-03-01T15:15:30"),
        ("2024-03-01T10:15:30Z", (), "2024-03-01T10:15:30"),
        ("2024-03-01 10:15:30 UTC", (), "2024-03-01T10:15:30"),
        ("01.03.2024 10:00", ("%d.%m.%Y", "%d.%m.%Y %H:%M"), "2024-03-01T13:00"),
        ("1709287200", ("epoch",), "2024-03-01T10:00"),
        ("1709287200000", ("epoch-ms",), "2024-03-01T10:00"),
    ],
)
def test_times_as_exports_write_them(cell: str, formats: tuple[str, ...], value: str) -> None:
    read = cells.moment(ZoneInfo("America/Sao_Paulo"), formats)
    assert read(cell) == datetime.fromisoformat(value).replace(tzinfo=UTC)


@pytest.mark.parametrize("cell", ["01/03/2024", "1709287200", "1512120112345", "2024-02-30", "2024-13-01", "tomorrow"])
def test_times_that_are_not_guessed(cell: str) -> None:
    with pytest.raises(CellError):
        cells.moment(UTC)(cell)


@pytest.mark.parametrize("cell", ["0000-00-00 00:00:00", "9999-12-31"])
def test_dates_that_stand_for_none(cell: str) -> None:
    assert cells.moment(UTC)(cell) is None
    assert cells.day_end(UTC)(cell) is None


def test_a_promised_day_ends_at_the_next_local_midnight() -> None:
    zone = ZoneInfo("America/Sao_Paulo")
    assert cells.day_end(zone)("2018-05-09 00:00:00") == datetime(2018, 5, 10, 3, tzinfo=UTC)
    assert cells.day_end(zone)("2018-05-10T01:00:00Z") == datetime(2018, 5, 10, 3, tzinfo=UTC)
    # On 4 November 2018 the clocks of that zone went from midnight to one: the day before ended at the jump.
    assert cells.day_end(zone)("2018-11-03").astimezone(UTC) == datetime(2018, 11, 4, 3, tzinfo=UTC)
