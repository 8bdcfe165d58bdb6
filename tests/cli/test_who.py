"""Who is who, by hand: merging, reviewing, forgetting; shops by their names."""

import json
import os
from typing import Any

import pytest

from .conftest import NOW, ORDERS, Place
from .test_way_through import rows

TWIN = "T7,paid,2026-05-07T14:00Z,2026-05-07T14:05Z,,c9,Ada,ada@buyers.example,5.00,2026-05-07T14:05Z\n"


def sync(place: Place) -> None:
    assert place.run("sync", now=NOW).exit_code in {0, 1}  # one order cannot be read


def with_a_twin(place: Place) -> None:
    """Ada has two buyer ids at one shop."""
    (place.folder / "exports" / "orders.csv").write_text(ORDERS + TWIN)
    sync(place)


def test_a_customer_is_exported_into_a_file_that_only_its_owner_reads(worked: Place) -> None:
    file = worked.folder / "ada.json"
    said = worked.ok("customers", "export", "ada@buyers.example", str(file))
    printed = json.loads(worked.ok("customers", "export", "ada@buyers.example"))
    written = json.loads(file.read_text("utf-8"))
    count = sum(len(rows) for rows in written["rows"].values())
    assert said == f"{count} rows of customer #{written['customer']} written to {file}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert printed["rows"] == written["rows"]
    assert [row["external_id"] for row in written["rows"]["orders"]] == ["T1", "T2"]
    assert "bo@buyers.example" not in file.read_text("utf-8")
    again = worked.run("customers", "export", "ada@buyers.example", str(file))
    assert (again.exit_code, "is there already" in again.output) == (2, True), again.output
    nowhere = worked.run("customers", "export", "ada@buyers.example", str(worked.folder / "no" / "x.json"))
    assert (nowhere.exit_code, "cannot be written" in nowhere.output) == (2, True), nowhere.output


@pytest.mark.parametrize(("breaks", "code"), [(OSError(28, "No space left on device"), 2), (KeyboardInterrupt(), 130)])
def test_an_export_that_is_cut_off_leaves_no_part(
    worked: Place, monkeypatch: pytest.MonkeyPatch, breaks: BaseException, code: int
) -> None:
    file = worked.folder / "ada.json"
    fdopen = os.fdopen

    def full(number: int, *args: Any, **kwargs: Any) -> Any:
        stream = fdopen(number, *args, **kwargs)
        write = stream.write

        def halfway(text: str) -> None:
            write(text[: len(text) // 2])
            stream.flush()
            raise breaks

        stream.write = halfway
        return stream

    monkeypatch.setattr(os, "fdopen", full)
    said = worked.run("customers", "export", "ada@buyers.example", str(file))
    assert said.exit_code == code, said.output
    assert not file.exists()
    monkeypatch.undo()
    worked.ok("customers", "export", "ada@buyers.example", str(file))


def test_customers_are_merged_after_a_look_at_what_is_joined(worked: Place, terminal: None) -> None:
    asked = worked.run("customers", "merge", "c1", "c2", input="n\n")
    assert (asked.exit_code, asked.stderr.endswith("nothing was changed\n")) == (1, True), asked.output
    assert "Ada" in asked.output
    assert "different buyer ids of tea: c1, c2" in asked.output
    done = json.loads(worked.ok("customers", "merge", "c1", "c2", "--yes", "--json", "--by", "eva"))
    assert done == {"customer": 1, "merged": 1, "into": 2}
    shown = worked.ok("customers", "show", "c2")
    assert "staff:eva" in shown
    assert worked.run("customers", "merge", "c1", "c2", "--yes").exit_code == 2
    assert "are customers #1 and #2 again" in worked.ok("customers", "unmerge", "c1")
    assert worked.run("customers", "unmerge", "c1").exit_code == 2


def test_of_several_merges_the_one_meant_has_to_be_said(worked: Place) -> None:
    worked.ok("customers", "merge", "c1", "c2", "--yes")
    worked.ok("customers", "merge", "c3", "c2", "--yes")
    told = worked.run("customers", "unmerge", "bo@buyers.example")
    assert (told.exit_code, "'#1' (into #2)" in told.stderr) == (2, True)
    assert "customers #1 and #2 again" in worked.ok("customers", "unmerge", "#1")


def test_the_review_list_is_emptied_by_a_persons_word(place: Place) -> None:
    with_a_twin(place)
    (question,) = rows(place.ok("customers", "review", "--json"))
    assert question["for"] == [{"kind": "email", "value": "ada@buyers.example"}]
    assert question["against"] == ["two buyer ids of tea: c1, c9"]
    shown = place.ok("customers", "review")
    assert "not joined: two buyer ids of tea" in shown
    assert "1 question settled" in place.ok("customers", "apart", "c9")
    assert "nobody is to be reviewed" in place.ok("customers", "review")
    sync(place)
    assert "nobody is to be reviewed" in place.ok("customers", "review")
    assert "they are not to be reviewed" in place.ok("customers", "apart", "c9")


def test_forgetting_says_what_goes_and_asks(worked: Place, terminal: None) -> None:
    asked = worked.run("customers", "forget", "ada@buyers.example", input="n\n")
    assert (asked.exit_code, asked.stderr.endswith("nothing was changed\n")) == (1, True), asked.output
    assert "messages that wait" in asked.output
    assert "ada@buyers.example" in worked.ok("customers", "show", "c1")
    told = worked.ok("customers", "forget", "ada@buyers.example", "--yes")
    assert "is forgotten" in told
    assert worked.run("customers", "show", "ada@buyers.example").exit_code == 2
    assert "was forgotten" in worked.ok("explain", "customer", "#1")
    held = b"".join(path.read_bytes() for path in worked.folder.glob("crm.db*"))
    assert b"ada@buyers" not in held
    again = worked.run("sync", now=NOW)
    assert b"ada@buyers" not in b"".join(path.read_bytes() for path in worked.folder.glob("crm.db*"))
    assert again.exit_code in {0, 1}
    assert json.loads(worked.ok("dispatch", "--json", now=NOW))["handed_over"] == {}


def test_a_forgotten_customers_next_order_tells_nobody(worked: Place) -> None:
    worked.ok("customers", "forget", "c1", "--yes")
    (worked.folder / "exports" / "orders.csv").write_text(ORDERS + TWIN.replace("paid", "shipped"))
    sync(worked)
    assert json.loads(worked.ok("dispatch", "--json", now=NOW))["handed_over"] == {}
    assert b"ada@buyers" not in b"".join(path.read_bytes() for path in worked.folder.glob("crm.db*"))


# SEMANTICS 8
def test_a_renamed_shop_goes_on_where_it_was(worked: Place) -> None:
    before = json.loads(worked.ok("db", "status", "--json"))["counts"]
    worked.config.write_text(worked.config.read_text().replace("[shops.tea]", "[shops.house]"))
    assert [(row["name"], row["state"]) for row in rows(worked.ok("shops", "list", "--json"))] == [
        ("tea", "not in the configuration"),
        ("house", "never synced"),
    ]
    assert worked.run("shops", "rename", "tea", "hause").exit_code == 2
    assert worked.run("shops", "rename", "tee", "house").exit_code == 2
    assert "tea is house from now on" in worked.ok("shops", "rename", "tea", "house")
    again = worked.run("sync", now=NOW)
    assert (again.exit_code, "nothing new" in again.stdout) == (0, True)
    (worked.folder / "exports" / "orders.csv").write_text(ORDERS.replace("Ada", "Ada Lovelace"))
    sync(worked)
    assert json.loads(worked.ok("dispatch", "--json", now=NOW))["handed_over"] == {}
    after = json.loads(worked.ok("db", "status", "--json"))["counts"]
    assert after == before
    assert [(row["name"], row["state"]) for row in rows(worked.ok("shops", "list", "--json"))] == [("house", "on")]
    assert "house" in worked.ok("explain", "customer", "c1")


# SEMANTICS 38
def test_customers_are_counted_by_the_best_way_to_reach_them(worked: Place) -> None:
    worked.ok("consent", "set", "bo@buyers.example", "withdrawn", "--address", "--purpose", "*", "--channel", "email")
    worked.ok("consent", "set", "c4", "granted")
    found = json.loads(worked.ok("customers", "reach", "--json"))
    assert found == {
        "customers": 4,
        "transactional": {"email (email)": 2, "opted-out": 1, "no-address": 1},
        "marketing": {"email (email)": 1, "no-consent": 1, "opted-out": 1, "no-address": 1},
    }
    worked.ok("customers", "forget", "c1", "--yes")
    fewer = json.loads(worked.ok("customers", "reach", "--json"))
    assert (fewer["customers"], sum(fewer["marketing"].values())) == (3, 3)
