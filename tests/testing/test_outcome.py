"""Who rewrites fixtures is told which outcomes changed, and how many fixtures were looked at."""

from typing import Any

import pytest

from crmkit.testing.outcome import change, short, summary

TAKEN: dict[str, Any] = {"receipt": {"outcome": "accepted", "vendor_id": "v1"}}
PAID = {"record": "order", "external_id": "17", "status": "paid"}


@pytest.mark.parametrize(
    ("came", "told"),
    [
        (TAKEN, "accepted v1"),
        ({"receipt": None}, "not there"),
        ({"receipts": [{"outcome": "accepted"}, None, {"outcome": "accepted"}]}, "2 accepted, 1 nothing"),
        ({"records": [PAID, {"reread": "order"}], "refused": [{}]}, "1 order, 1 hint, 1 refused"),
        ({"records": []}, "no records"),
        ({"error": {"error": "RetryableError", "retry_after": 60}}, "RetryableError in 60 s"),
        ({"error": "AuthError"}, "AuthError"),
        ({"problems": [], "warnings": ["x"]}, "no problems, 1 warnings"),
        ({"said": None}, "may be said"),
        ({"cancelled": False, "kept": {"token": "t"}}, "not cancelled, keeps token"),
        ({}, "nothing"),
    ],
)
def test_an_outcome_has_few_words(came: dict[str, Any], told: str) -> None:
    assert short(came) == told


def test_a_change_shows_what_it_was_and_is() -> None:
    assert change(TAKEN, dict(TAKEN)) == ""
    assert change(TAKEN, {"error": "DoubtError"}) == "accepted v1 -> DoubtError"
    assert change({}, TAKEN) == "nothing -> accepted v1"


def test_a_change_within_shows_the_first_place() -> None:
    other = {**PAID, "status": "placed", "number": "7"}
    said = change({"records": [PAID]}, {"records": [other]})
    assert said == "1 order: records 0 status: 'placed' instead of 'paid', and 1 more"


def test_the_end_of_a_run_counts_what_was_looked_at() -> None:
    assert summary([]) == []
    noted = [("b", ""), ("a", "accepted -> rejected"), ("b", "")]
    assert summary(noted) == ["a: accepted -> rejected", "2 looked at, 1 changed"]


CONTRACT = """
from pathlib import Path
from crmkit import Gateway, GatewaySettings
from crmkit.testing import GatewayContract

class Finch(Gateway):
    name, channel, reaches = "finch", "sms", ("phone",)

    class Settings(GatewaySettings):
        pass

    async def deliver(self, message):
        if message.text == "ask":
            await self.call("deliver", "POST", "https://finch.example/send", json={"to": message.address})
        return message.accepted(vendor_id=message.text)

class TestFinch(GatewayContract):
    adapter = Finch
    fixtures = Path(__file__).parent / "finch"
"""


@pytest.mark.e2e
def test_update_says_which_outcomes_it_changed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    place = pytester.path / "finch"
    place.mkdir()
    same = '{"message": {"text": "v1"}, "receipt": {"outcome": "accepted", "vendor_id": "v1"}}'
    (place / "same.json").write_text(same)
    (place / "other.json").write_text(same.replace('"v1"', '"v2"', 1))
    (place / "asks.json").write_text('{"message": {"text": "ask"}, "receipt": {"outcome": "accepted"}}')
    (place / "asks.http").write_text("POST /other\n---\nHTTP/1.1 200 OK\n\n{}\n")
    pytester.makepyfile(test_finch=CONTRACT)
    quick = ["-q", "-p", "no:hypothesispytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", "gives_its_requests"]
    first = pytester.runpytest_subprocess(*quick, "--update")
    first.stdout.fnmatch_lines(
        [
            "finch/asks: accepted -> accepted ask; its requests are written anew",
            "finch/other: accepted v1 -> accepted v2",
            "3 looked at, 2 changed",
        ],
        consecutive=True,
    )
    again = pytester.runpytest_subprocess(*quick, "--update")
    again.stdout.fnmatch_lines(["3 looked at, 0 changed"])
    again.stdout.no_fnmatch_line("finch/*")
    pytester.runpytest_subprocess(*quick).assert_outcomes(passed=3, deselected=None)
