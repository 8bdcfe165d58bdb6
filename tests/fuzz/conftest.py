"""Fuzzing is not part of `make test`; what ran is printed at the end."""

import pytest

from tests.fuzz.tally import RAN, REACHED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many examples of what ran."""
    if RAN:
        terminalreporter.section("examples that ran")
        for what, count in sorted(RAN.items()):
            terminalreporter.write_line(f"{count:>8,}  {what}")
        terminalreporter.write_line(f"{RAN.total():>8,}  in all")
    if REACHED:
        terminalreporter.section("what forms came to")
        for what, count in sorted(REACHED.items()):
            terminalreporter.write_line(f"{count:>8,}  {what}")
