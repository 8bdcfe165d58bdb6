"""Golden files: compared, rewritten when asked to, and never in silence."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crmkit import Buyer
from crmkit.testing.golden import Golden

# What these inner runs do not need costs more than they do.
QUICKLY = ["-q", "-p", "no:hypothesispytest", "-p", "no:respx", "-p", "no:cacheprovider", "-p", "no:xdist"]
TEST = """
def test_story(golden):
    golden("story.txt", "once\\nupon a time")
    golden("facts.json", {"b": [1], "a": "ü"})
"""


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


def test_a_missing_file_fails_with_the_command_that_writes_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=TEST)
    result = pytester.runpytest(*QUICKLY)
    result.assert_outcomes(failed=1)
    command = "pytest --update 'test_it.py::test_story'"
    result.stdout.fnmatch_lines([f"*there is no golden/story.txt yet; write it with: {command}"])


def test_update_writes_and_tells_what_it_wrote(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=TEST)
    result = pytester.runpytest(*QUICKLY, "--update")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["written: *golden/facts.json", "written: *golden/story.txt", "2 written, 0 unchanged"])
    assert (pytester.path / "golden/story.txt").read_text("utf-8") == "once\nupon a time\n"
    assert (pytester.path / "golden/facts.json").read_text("utf-8") == '{\n  "b": [\n    1\n  ],\n  "a": "ü"\n}\n'
    pytester.runpytest(*QUICKLY).assert_outcomes(passed=1)
    pytester.runpytest(*QUICKLY, "--update").stdout.fnmatch_lines(["0 written, 2 unchanged"])


def test_what_differs_is_shown(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=TEST)
    pytester.mkdir("golden").joinpath("story.txt").write_text("once\nthere was\n", "utf-8")
    result = pytester.runpytest(*QUICKLY)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*golden/story.txt says otherwise; if it is outdated: *", "*-there was", "*+upon a time"]
    )


def test_nothing_is_rewritten_where_nobody_looks(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(test_it=TEST)
    monkeypatch.setenv("CI", "true")
    result = pytester.runpytest(*QUICKLY, "--update")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--update rewrites what tests are held to; not where CI is set*"])
    assert not (pytester.path / "golden").exists()


def test_another_plugin_may_have_an_update_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=TEST)
    pytester.makepyfile(other="def pytest_addoption(parser):\n    parser.addoption('--update', action='store_true')\n")
    result = pytester.runpytest_subprocess(*QUICKLY, "-p", "other", "--crmkit-update")
    result.assert_outcomes(passed=1)
    assert (pytester.path / "golden/story.txt").exists()


@dataclass
class Point:
    x: int
    at: datetime


def test_whatever_json_can_say_is_compared(tmp_path: Path) -> None:
    golden = Golden(tmp_path, "-", is_updating=True)
    at = datetime(2026, 3, 2, 12, tzinfo=UTC)
    golden("all.json", {"point": Point(1, at), "buyer": Buyer(name="Ann"), "set": {"b", "a"}})
    assert (tmp_path / "all.json").read_text("utf-8").split() == (
        '{ "point": { "x": 1, "at": "2026-03-02T12:00:00+00:00" }, "buyer": { "name": "Ann" }, "set": [ "a", "b" ] }'
    ).split()
    golden("raw.bin", b"\x00\xff")
    assert (tmp_path / "raw.bin").read_bytes() == b"\x00\xff"
    with pytest.raises(AssertionError, match="compared twice in one test"):
        golden("raw.bin", b"")
