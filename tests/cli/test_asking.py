"""A command that asks first: it is answered, or nobody is there to answer."""

from pathlib import Path

import pytest

from tests.cli.conftest import Place

_ASKING = [
    ("db adopt", "adopt it?"),
    ("runs undo 3", "undo run 3?"),
    ("customers merge c1 c2", "Are they one customer?"),
    ("customers forget c1", "Forget this customer?"),
]


@pytest.fixture
def asking(worked: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Place:
    """A place where each of these commands has something to ask about."""
    (worked.folder / "old.csv").write_text("address,state\nbo@buyers.example,granted\n")
    worked.ok("consent", "import", str(worked.folder / "old.csv"))
    monkeypatch.setenv("CRMKIT_STATE", str(tmp_path / "another-machine"))
    return worked


@pytest.mark.parametrize(("command", "question"), _ASKING)
def test_where_nobody_can_be_asked_it_says_what_to_add_and_does_nothing(
    asking: Place, command: str, question: str
) -> None:
    named = " ".join(command.split()[:2])
    said = asking.run(*command.split())
    assert said.exit_code == 2, said.output
    assert said.stderr.endswith(f"error: {named}: nobody can be asked here; add --yes\n")
    assert asking.run(*command.split(), "--yes").exit_code == 0


@pytest.mark.parametrize(("command", "question"), _ASKING)
def test_who_says_no_is_told_that_nothing_was_changed(
    asking: Place, command: str, question: str, terminal: None
) -> None:
    for answer in ("n\n", "\n"):
        said = asking.run(*command.split(), input=answer)
        assert (said.exit_code, question in said.stderr) == (1, True), said.output
        assert said.stderr.endswith("nothing was changed\n")
    assert asking.run(*command.split(), input="y\n").exit_code == 0


def test_many_messages_are_asked_about_in_the_same_way(
    worked: Place, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crmkit.cli.intervention._MANY", 1)
    command = ("messages", "cancel", "--state", "sent")
    said = worked.run(*command)
    told = "error: messages cancel: 2 messages would be cancelled, and nobody can be asked here; add --yes\n"
    assert (said.exit_code, said.stderr) == (2, told)
    request.getfixturevalue("terminal")
    said = worked.run(*command, input="n\n")
    assert (said.exit_code, said.stderr.endswith("nothing was changed\n")) == (1, True), said.output
    assert "did not take them back" in worked.run(*command, input="y\n").stderr
