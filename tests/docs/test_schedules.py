"""The schedules of the page on plugins do what it says of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import SQLModel

from crmkit.testing import a_buyer
from tests.docs.snippet import DOCS, fences, play

BIRTHDAY = '---\npurpose = "transactional"\nsubject = "Happy birthday"\n---\nA cup on us.\n'
WEEK = '---\npurpose = "transactional"\nsubject = "A new week"\n---\nGood morning.\n'
CONFIG = """
[crm]
timezone = "Europe/Berlin"

[[staff]]
name = "Chen"
teams = ["care"]
email = "chen@teahouse.example"
"""


@pytest.fixture
def morning(tmp_path: Path) -> Iterator[Path]:
    """The file of the page, and no trace of its table: it may be read more than once in a process."""
    [fence] = [one for one in fences((DOCS / "plugins.md").read_text("utf-8")) if "crmkit_morning.py" in one.info]
    play(fence, tmp_path)
    _forget_table()
    yield tmp_path / "crmkit_morning.py"
    _forget_table()


def _forget_table() -> None:
    table = SQLModel.metadata.tables.get("morning_birthday")
    if table is not None:
        SQLModel.metadata.remove(table)


def test_customers_are_greeted_on_their_birthdays_and_the_team_each_monday(
    journey: Callable[..., Any], morning: Path
) -> None:
    tea = journey(morning, templates={"birthday.en.email": BIRTHDAY, "week.en.email": WEEK}, config=CONFIG)
    table = SQLModel.metadata.tables["morning_birthday"]
    with tea.crmkit.store.begin() as tx:
        table.create(tx)
    tea.until("2026-03-27T12:00+01:00")
    tea.order("1", buyer=a_buyer("Ann"))
    tea.order("2", buyer=a_buyer("Bob"))
    days = {"ann@buyers.example": "03-29", "bob@buyers.example": "04-02"}
    rows = [{"customer_id": tea.crmkit.customer(who).id, "day": day} for who, day in days.items()]
    with tea.crmkit.store.begin() as tx:
        tx.execute(table.insert(), rows)
    before = len(tea.told())
    tea.passes("8d")
    assert [(f"{one.at:%m-%d %H:%M}", one.to) for one in tea.told()[before:]] == [
        ("03-29 07:00", "ann@buyers.example"),
        ("03-30 06:00", "chen@teahouse.example"),
        ("04-02 07:00", "bob@buyers.example"),
    ]
