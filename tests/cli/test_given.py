"""What is given on the command line, and cannot be meant."""

import pytest

from tests.cli.conftest import Place

_BEYOND = str(2**63)


@pytest.mark.parametrize("number", [_BEYOND, "9" * 30, "0"])
@pytest.mark.parametrize(
    "command",
    [
        "messages show",
        "messages cancel",
        "messages retry",
        "messages release",
        "messages settle --lost",
        "explain message",
        "inbox show",
        "inbox replay",
        "runs undo",
        "plugins trace",
        "quarantine show",
        "quarantine retry",
        "interactions retry",
    ],
)
def test_a_number_that_no_record_can_have_is_refused_by_name(worked: Place, command: str, number: str) -> None:
    said = worked.run(*command.split(), number)
    assert (said.exit_code, f"nothing has the number {number}:" in said.stderr) == (2, True), said.output


@pytest.mark.parametrize("command", ["messages show", "messages cancel", "explain message", "inbox show", "runs undo"])
def test_the_largest_number_is_looked_for(worked: Place, command: str) -> None:
    said = worked.run(*command.split(), str(2**63 - 1))
    assert said.exit_code == 2
    assert said.stderr.startswith("error: ")
    assert str(2**63 - 1) in said.stderr
    assert "unexpected" not in said.stderr


@pytest.mark.parametrize(
    "command", ["messages list", "inbox list", "runs list", "interactions list", "customers find ada", "dispatch"]
)
def test_a_limit_beyond_all_is_refused(worked: Place, command: str) -> None:
    said = worked.run(*command.split(), "--limit", _BEYOND)
    assert (said.exit_code, _BEYOND in said.stderr) == (2, True), said.output


@pytest.mark.parametrize("text", ["²", "#²", _BEYOND, "9" * 30])
def test_a_customers_number_that_is_none_is_nobodys(worked: Place, text: str) -> None:
    said = worked.run("customers", "show", text)
    assert (said.exit_code, "nobody is known as" in said.stderr) == (2, True), said.output


@pytest.mark.parametrize(
    "command", ["db backup", "db restore", "customers export c1", "dispatch --plan", "dispatch --apply"]
)
def test_a_file_without_a_name_is_refused(worked: Place, command: str) -> None:
    said = worked.run(*command.split(), "")
    assert (said.exit_code, "the name of the file is empty" in said.stderr) == (2, True), said.output
