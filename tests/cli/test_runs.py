"""`crmkit runs`: what ran, and an import undone."""

import json

from tests.cli.conftest import NOW, Place


def test_runs_are_listed_with_what_they_brought(worked: Place) -> None:
    said = worked.ok("runs", "list")
    assert "tea: 4 customer" in said or "5 order" in said
    rows = [json.loads(line) for line in worked.ok("runs", "list", "--json").splitlines()]
    assert [(row["id"], row["command"], row["outcome"]) for row in rows] == [
        (1, "sync", "done"),
        (2, "dispatch", "done"),
    ]


def test_a_sync_is_undone_and_said_first(place: Place, terminal: None) -> None:
    place.run("sync", now=NOW)
    planned = json.loads(place.ok("runs", "undo", "1", "--plan", "--json"))
    assert planned["gone"]["orders"] == 5
    assert "a plan: nothing was written" in place.ok("runs", "undo", "1", "--plan")
    asked = place.run("runs", "undo", "1", input="n\n")
    assert (asked.exit_code, "5 orders would go" in asked.output) == (1, True), asked.output
    assert "5 orders went" in place.ok("runs", "undo", "1", "--yes")
    assert place.ok("interactions", "list", "--json") == ""
    assert "undone" in place.ok("runs", "list")
    assert place.run("runs", "undo", "1", "--yes").exit_code == 2


def test_what_was_told_cannot_be_taken_back(worked: Place) -> None:
    said = worked.run("runs", "undo", "1", "--yes")
    assert (said.exit_code, "messages came of it" in said.output or "messages, " in said.output) == (2, True), (
        said.output
    )


def test_an_import_of_consent_is_undone(worked: Place) -> None:
    (worked.folder / "old.csv").write_text("address,state\nbo@buyers.example,granted\n")
    worked.ok("consent", "import", str(worked.folder / "old.csv"), now=NOW)
    number = json.loads(worked.ok("runs", "list", "--json").splitlines()[-1])["id"]
    assert json.loads(worked.ok("runs", "undo", str(number), "--yes", "--json"))["gone"] == {"consent": 1}
