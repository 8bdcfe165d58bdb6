"""The files source on exports that somebody changed: rows land, are refused, or the file is said to be unreadable."""

import asyncio
import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit import Account, Record, Ref, Refused, Start
from crmkit.core.errors import CrmkitError
from crmkit_marketplace.files import FilesSource
from tests.fuzz.strange import HARD, bytes_of, changed_bytes, documents, texts
from tests.fuzz.tally import Clock, fuzzed

pytestmark = pytest.mark.fuzz

COLUMNS = ("id", "placed", "status", "total", "email", "phone", "name", "note")
ROWS = [
    ("A1", "2026-05-01T10:00Z", "sent", "12.50", "ann@buyers.example", "+49 151 12345678", "Ann", "茶"),
    ("A2", "2026-05-02 11:00", "open", "1.234,00", "bo@buyers.example", "", "Bo", 'say "hi"'),
    ("A3", "", "", "", "", "", "", ""),
]
MAPPING: dict[str, Any] = {
    "columns": {
        "external_id": "id",
        "placed_at": "placed",
        "status": {"column": "status", "values": {"open": "placed", "sent": "shipped"}},
        "total": "total",
        "buyer.email": "email",
        "buyer.phone": "phone",
        "buyer.name": "name",
        "note": "note",
    }
}


def csv_of(rows: Any) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerows([COLUMNS, *rows])
    return written.getvalue().encode("utf-8", "replace")


def jsonl_of(rows: Any) -> bytes:
    return b"\n".join(bytes_of(dict(zip(COLUMNS, row, strict=False))) for row in rows)


def xlsx_of(rows: Any) -> bytes:
    book = openpyxl.Workbook()
    for row in [COLUMNS, *rows]:
        book.active.append(list(row))
    written = io.BytesIO()
    book.save(written)
    return written.getvalue()


def read(folder: Path, name: str, body: bytes) -> int:
    """How many records and refusals a file gives; an error that is one of crmkit's own ends it."""
    (folder / name).write_bytes(body)
    settings = FilesSource.Settings.model_validate({"path": str(folder), "orders": {"file": name, **MAPPING}})
    source = FilesSource(settings, Account("mine", "Europe/Berlin", "EUR", "DE", folder), None)  # type: ignore[arg-type]
    count = 0

    async def run() -> None:
        nonlocal count
        try:
            async for page in source.orders(Start(None, None)):
                assert all(isinstance(one, Record) for one in page.records)
                assert all(isinstance(one, Refused | Ref) for one in page.refused)
                count += len(page.records) + len(page.refused)
        except CrmkitError as error:
            assert str(error)

    asyncio.run(run())
    return count


KINDS = {"orders.csv": csv_of, "orders.jsonl": jsonl_of, "orders.xlsx": xlsx_of}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_as_it_should_be_gives_its_rows(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, name, KINDS[name](ROWS)) == len(ROWS)


@pytest.mark.parametrize("name", [*KINDS, "orders.csv.gz"])
def test_a_file_that_was_changed_is_read_or_refused(tmp_path: Path, name: str) -> None:
    clock = Clock(f"files that were changed, {name.partition('.')[2]}")
    good = gzip.compress(csv_of(ROWS)) if name.endswith(".gz") else KINDS[name](ROWS)

    @fuzzed(0.4 if name.endswith("xlsx") else 1)
    @given(st.one_of(changed_bytes(good), st.sampled_from(HARD), st.binary(max_size=100)))
    def changed(body: bytes) -> None:
        if clock.goes():
            read(tmp_path, name, body)

    changed()


cells = st.one_of(texts, st.just(""), st.sampled_from([cell for row in ROWS for cell in row]))


@pytest.mark.parametrize("name", ["orders.csv", "orders.jsonl"])
def test_rows_of_anything_are_records_or_refused(tmp_path: Path, name: str) -> None:
    clock = Clock("rows of anything")

    @fuzzed()
    @given(st.lists(st.lists(cells, min_size=len(COLUMNS), max_size=len(COLUMNS)), max_size=4))
    def anything(rows: list[list[str]]) -> None:
        if clock.goes():
            read(tmp_path, name, KINDS[name](rows))

    anything()


def test_lines_of_any_json_are_records_or_refused(tmp_path: Path) -> None:
    clock = Clock("rows of anything")

    @fuzzed()
    @given(st.lists(st.one_of(documents, st.dictionaries(st.sampled_from(COLUMNS), documents)), max_size=4))
    def anything(rows: list[Any]) -> None:
        if clock.goes():
            read(tmp_path, "orders.jsonl", b"\n".join(json.dumps(row).encode() for row in rows))

    anything()
