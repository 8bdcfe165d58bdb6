"""`crmkit plugins check`: our own plugins are as they should be, and what it makes of settings and of one file."""

import importlib
import json
from pathlib import Path

import pytest

from crmkit import GatewaySettings
from crmkit.cli.package import package_of
from crmkit.cli.setting import open_keys, settings_of
from crmkit.cli.soundness import findings
from crmkit.host.plugins import Plugins

from .conftest import Place

OWN = sorted(path.parent.name for path in Path(__file__).parents[2].glob("plugins/*/pyproject.toml"))


@pytest.mark.parametrize("family", OWN)
def test_nothing_of_our_own_plugins_is_to_be_mended(family: str) -> None:
    """Their tests are run by tests/e2e/test_own_plugins.py."""
    assert list(findings(package_of(f"crmkit-{family}"), Plugins(), "leave")) == []


def test_an_engine_that_lacks_what_it_is_asked_for_is_to_be_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_engine.py").write_text('"""Half an engine."""\n\n\ndef check_every(every): ...\n')
    about = tmp_path / "acme_engine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-engine\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)

    def told(points: str) -> list[str]:
        (about / "entry_points.txt").write_text(f"[crmkit.engine]\n{points}\n")
        return [one.text for one in findings(package_of("acme-engine"), Plugins(), "leave") if "engine" in one.text]

    assert told("cluster = half_engine") == ["its engine has no set_up, take_down, work, standing"]
    assert told("clusters = half_engine") == [
        "the entry point 'clusters' in the group crmkit.engine is asked for by nobody; call it 'cluster'"
    ]
    assert told("cluster = no_such_engine")[0].startswith("its engine cannot be loaded: ModuleNotFoundError")


# --- settings ---------------------------------------------------------------------------------------------------------


class Inner(GatewaySettings):
    """Where things lie.

    And more of it.
    """


class Described(GatewaySettings):
    """As whom.

    Attributes:
        one, other: keys of the account;
            both or neither.
        both: said here,

    Not of any field: nothing.
    """

    one: str
    other: str
    #: said above
    both: str
    inner: Inner = Inner()
    silent: str


def test_a_setting_is_described_by_its_class_too() -> None:
    said = {row["key"]: row["description"] for row in settings_of(Described)}
    keys = ("one", "other", "both", "inner", "silent")
    both = "keys of the account; both or neither."
    assert [said[key] for key in keys] == [both, both, "said above", "Where things lie.", None]


def test_what_is_no_secret_though_it_sounds_so_is_said_by_its_author() -> None:
    settings = importlib.import_module("crmkit_sms.twilio_settings").TwilioSettings
    assert open_keys(settings) == {"api_key"}
    assert open_keys(Described) == set()


# --- one file ---------------------------------------------------------------------------------------------------------

MINE = """\
\"\"\"Thanks everybody.\"\"\"
from crmkit import hookimpl

@hookimpl
def crmkit_handlers():
    return ()
"""


def checked(folder: Path) -> tuple[int, list[tuple[bool, str]]]:
    (folder / "mine.py").write_text(MINE)
    result = Place(folder).run("plugins", "check", str(folder / "mine.py"), "--json")
    return result.exit_code, [(row["is_note"], row["text"]) for row in map(json.loads, result.stdout.splitlines())]


def test_a_file_without_tests_is_well_and_that_none_were_run_is_said(tmp_path: Path) -> None:
    status, [(is_note, text)] = checked(tmp_path)
    assert (status, is_note) == (0, True)
    assert text.startswith("no tests were run: there is neither test_mine.py nor a folder tests beside it")


@pytest.mark.e2e
@pytest.mark.parametrize("place", ["test_mine.py", "tests/test_mine.py", "tests/test_of_another_name.py"])
def test_tests_beside_a_file_are_run(tmp_path: Path, place: str) -> None:
    test = tmp_path / place
    test.parent.mkdir(exist_ok=True)
    test.write_text("import mine\n\ndef test_it():\n    assert mine.__doc__ == 'Thanks nobody.'\n")
    status, [(is_note, text)] = checked(tmp_path)
    assert (status, is_note) == (1, False)
    assert text.startswith(f"its tests: {place}::test_it fails: AssertionError: assert 'Thanks everybody.'")
    test.write_text("import mine\n\ndef test_it():\n    assert mine.__doc__ == 'Thanks everybody.'\n")
    assert checked(tmp_path) == (0, [])


def test_a_test_of_its_own_is_run_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_mine.py").write_text("def test_it(): pass\n")
    (tmp_path / "tests" / "test_other.py").write_text("def test_it(): assert False\n")
    assert checked(tmp_path) == (0, [])
