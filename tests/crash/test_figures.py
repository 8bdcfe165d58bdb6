"""The table at the end of `make crash`: what went wrong is in it, and in the test that played it."""

from collections import Counter

import pytest
from crashkit.figures import MOST_WRONG, Figures, table

pytestmark = pytest.mark.crash


def test_a_round_that_goes_wrong_is_counted_and_the_next_is_played() -> None:
    figures, counts = Figures(), Counter[str]()
    with figures.round("SQLite", 0, counts):
        counts.update(lost=2, left=5)
        raise AssertionError("two are lost")
    with figures.round("SQLite", 1, counts):
        counts["left"] += 7
    with pytest.raises(AssertionError, match=r"SQLite, round 0 \(CRMKIT_CRASH_SEED=0\): two are lost"):
        figures.end()
    head, _, line, total = table(figures.properties()).splitlines()
    titles, cells = head.split("|")[2:-2], line.split("|")[2:-2]
    found = {title.strip(): cell.strip() for title, cell in zip(titles, cells, strict=True)}
    assert {name: found[name] for name in found if found[name] != "0"} == {
        "rounds": "2",
        "messages sent": "12",
        "lost": "2",
        "rounds gone wrong": "1",
    }
    assert total.replace("all", "SQLite") == line


def test_once_too_many_rounds_went_wrong_no_more_are_played() -> None:
    figures = Figures()
    with pytest.raises(AssertionError, match="round 0"):
        for number in range(MOST_WRONG + 1):
            with figures.round("SQLite", number):
                raise AssertionError("again")
    assert figures.played == MOST_WRONG
