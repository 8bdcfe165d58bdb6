"""Links by hand: each page's address for one customer, and a list of them for parcel inserts."""

import csv
import json
from datetime import UTC, datetime

import pytest

from crmkit.core.link import Links, key_of

from .conftest import NOW, ORDERS, Place

URL, KEY = "https://crm.tea.example", "a key that is long enough for tests"
AT = datetime.fromisoformat(NOW).astimezone(UTC)


@pytest.fixture
def linked(worked: Place) -> Place:
    """A shop whose customers can open pages."""
    (worked.folder / "link.key").write_text(KEY)
    web = f'[web]\nurl = "{URL}"\nlink_keys = ["file:link.key"]\n'
    worked.config.write_text(worked.config.read_text() + web)
    return worked


def read(letter: str, url: str) -> tuple[str, int, int, str]:
    assert url.startswith(f"{URL}/{letter}/")
    link = Links(URL, [key_of(KEY)]).read(letter, url.strip().rpartition("/")[2], AT)
    return link.purpose, link.profile_id, link.subject, link.word


def test_each_page_has_an_address(linked: Place) -> None:
    assert read("o", linked.ok("links", "order", "T2", now=NOW)) == ("order", 1, 2, "")
    assert read("c", linked.ok("links", "contact", "T2", "--shop", "tea", now=NOW)) == ("contact", 1, 2, "")
    assert read("s", linked.ok("links", "statement", "ada@buyers.example", now=NOW)) == ("statement", 1, 1, "")
    assert read("p", linked.ok("links", "preferences", "#2", now=NOW)) == ("preferences", 2, 0, "")
    assert read("u", linked.ok("links", "unsubscribe", "c2", now=NOW)) == ("unsubscribe", 2, 0, "email")


def test_json_says_what_it_is_for_and_how_long(linked: Place) -> None:
    told = json.loads(linked.ok("links", "statement", "Ada", "--json", now=NOW))
    assert read("s", told.pop("link")) == ("statement", 1, 1, "")
    assert told == {"purpose": "statement", "profile": 1, "shop": "tea", "until": "2026-07-07"}


def test_a_list_is_for_parcel_inserts(linked: Place) -> None:
    rows = list(
        csv.reader(linked.ok("links", "list", "contact", "--shop", "tea", "--since", "2026-05-07").splitlines())
    )
    assert rows[0] == ["order", "link"]
    assert [row[0] for row in rows[1:]] == ["T2", "T3", "T4", "T5"]
    assert read("c", rows[1][1])[:2] == ("contact", 1)
    [first, *_] = linked.ok("links", "list", "contact", "--shop", "tea", "--since", "2026-05-07", "--json").splitlines()
    assert json.loads(first)["order"] == "T2"


@pytest.mark.parametrize("number", ["=1+1", "+1", "-1", "@SUM(1)", "\uff1d1+1"])
def test_an_order_is_no_formula_in_a_spreadsheet(linked: Place, number: str) -> None:
    header, first = ORDERS.splitlines()[:2]
    more = first.replace("T1,", f"{number},").replace("05-01", "05-08")
    (linked.folder / "exports" / "orders.csv").write_text(f"{header}\n{more}\n")
    linked.run("sync", now=NOW)
    out = linked.ok("links", "list", "contact", "--shop", "tea", "--since", "2026-05-08")
    assert f'"\'{number}",' in out


def test_what_is_missing_is_named(worked: Place, linked: Place) -> None:
    for arguments, said in (
        (("order", "T99"), "no order is called 'T99'"),
        (("order", "T2", "--shop", "coffee"), "no shop is called 'coffee'; known are tea"),
        (("preferences", "nobody@buyers.example"), "nobody is known as"),
        (("unsubscribe", "#2", "--channel", "telex"), "there is no channel 'telex'; known are email"),
    ):
        result = linked.run("links", *arguments)
        assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


def test_without_an_address_or_a_key_it_says_what_to_set(worked: Place) -> None:
    result = worked.run("links", "order", "T2")
    assert (result.exit_code, "[web] url is not set" in result.stderr) == (2, True)
    worked.config.write_text(worked.config.read_text() + f'[web]\nurl = "{URL}"\n')
    result = worked.run("links", "order", "T2")
    assert (result.exit_code, "no key to sign links with" in result.stderr) == (2, True)


def test_nobody_who_was_forgotten_has_a_page(linked: Place) -> None:
    linked.ok("customers", "forget", "ada@buyers.example", "--yes")
    result = linked.run("links", "preferences", "#1")
    assert (result.exit_code, "was forgotten" in result.stderr) == (2, True)
    out = linked.ok("links", "list", "contact", "--shop", "tea", "--since", "2026-05-01")
    assert "T2" not in out
