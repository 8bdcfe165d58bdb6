"""`crmkit plugins new` writes packages, and `check` says what of one is not as it should be."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Place

KINDS = {"sms": "sms.heron", "email": "email.heron", "source": "marketplace.heron", "playbook": "play.heron"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_package_is_written(tmp_path: Path, kind: str) -> None:
    shown = Place(tmp_path).ok("plugins", "new", kind, "heron", "--into", str(tmp_path))
    folder = tmp_path / "crmkit-heron"
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["crmkit"] == {KINDS[kind]: "crmkit_heron"}
    assert project["dependencies"][0].endswith(">=0.1")
    for name in ("README.md", "CHANGELOG.md", ".gitignore", "crmkit_heron/py.typed", "tests/test_contract.py"):
        assert (folder / name).is_file(), name
    assert f"cd {folder} && pip install -e ." in shown
    for path in folder.rglob("*"):
        assert "$" not in path.name
        if path.is_file():
            text = path.read_text("utf-8")
            assert "$slug" not in text
            assert "${" not in text
            if path.suffix == ".py":
                compile(text, str(path), "exec")
            if path.suffix == ".json":
                json.loads(text)


@pytest.mark.parametrize("name", ["ab", "abcdefghijk_mnopqrstuvwx"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_in_style_whatever_it_is_called(tmp_path: Path, kind: str, name: str) -> None:
    Place(tmp_path).ok("plugins", "new", kind, name, "--into", str(tmp_path))
    (folder,) = tmp_path.iterdir()
    ruff: list[str | Path] = [Path(sys.executable).with_name("ruff"), "check", "--no-cache", "."]
    done = subprocess.run(ruff, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("sms", "Heron", "write a-z, 0-9 and _, a letter first: heron"),
        ("sms", "my-heron", "a letter first: my_heron"),
        ("sms", "MyHeron", "a letter first: my_heron"),
        ("sms", "1st", "a letter first: st"),
        ("sms", "heron_of_the_northern_lakes", "a letter first: heron_of_the_northern_la"),
        ("sms", "../x", "cannot be the name of a plugin"),
        ("sms", "class", "cannot be the name of a plugin"),
        ("sms", "match", "cannot be the name of a plugin"),
        ("sms", "x" * 60, "cannot be the name of a plugin"),
        ("sms", "twilio", "the plugin sms.twilio is installed already, from crmkit-sms"),
        ("sms", "email", "there is a package crmkit_email already"),
        ("sms", "voice", "there is a package crmkit_voice already"),
        ("playbook", "care", "the plugin play.care is installed already"),
        ("playbook", "shops", "'shops' is a section of crmkit.toml"),
        ("playbook", "webhooks", "'webhooks' is a path of crmkit's own pages"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(tmp_path: Path, kind: str, name: str, said: str) -> None:
    result = Place(tmp_path).run("plugins", "new", kind, name, "--into", str(tmp_path / "there"))
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "there").exists()


def test_what_lies_there_is_left_alone(tmp_path: Path) -> None:
    place, folder = Place(tmp_path), tmp_path / "crmkit-heron"
    folder.mkdir()
    place.ok("plugins", "new", "sms", "heron", "--into", str(tmp_path))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = place.run("plugins", "new", "playbook", "heron", "--into", str(tmp_path))
    assert (result.exit_code, "is there already, and not empty" in result.stderr) == (2, True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_what_cannot_be_written_whole_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.write_text

    def full(self: Path, *given: Any, **options: Any) -> int:
        if self.name == "README.md":
            raise OSError(28, "No space left on device", str(self))
        return real(self, *given, **options)

    monkeypatch.setattr(Path, "write_text", full)
    result = Place(tmp_path).run("plugins", "new", "sms", "heron", "--into", str(tmp_path))
    assert (result.exit_code, "No space left on device" in result.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


# --- check ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def heron(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Writes a package of a kind, and installs it as an editable one."""
    before = set(sys.modules)

    def write(kind: str) -> Path:
        Place(tmp_path).ok("plugins", "new", kind, "heron", "--into", str(tmp_path))
        folder = tmp_path / "crmkit-heron"
        info = folder / "crmkit_heron-0.1.0.dist-info"
        info.mkdir()
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        facts = ["Metadata-Version: 2.4", "Name: crmkit-heron", "Version: 0.1.0", "License-Expression: Apache-2.0"]
        facts += ["Requires-Python: >=3.11", *(f"Requires-Dist: {one}" for one in project["dependencies"])]
        (info / "METADATA").write_text("\n".join(facts) + "\n\n" + (folder / "README.md").read_text())
        (info / "entry_points.txt").write_text(f"[crmkit]\n{KINDS[kind]} = crmkit_heron\n")
        (info / "direct_url.json").write_text(json.dumps({"url": folder.as_uri(), "dir_info": {"editable": True}}))
        monkeypatch.syspath_prepend(str(folder))
        return folder

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("crmkit_heron"):
            del sys.modules[name]


def checked(place: Place, *arguments: str, notes: bool = False) -> tuple[int, list[str]]:
    result = place.run("plugins", "check", *arguments, "--json")
    rows = list(map(json.loads, result.stdout.splitlines()))
    return result.exit_code, [row["text"] for row in rows if row["is_note"] == notes]


@pytest.mark.parametrize("kind", ["sms", "email", "source"])
def test_nothing_is_to_be_mended_in_what_was_just_written(heron: Callable[[str], Path], kind: str) -> None:
    folder = heron(kind)
    place = Place(folder.parent)
    for named in {"sms": (str(folder), "heron"), "email": ("crmkit-heron",)}.get(kind, (KINDS[kind],)):
        assert checked(place, named, "--no-tests") == (0, [])


def test_what_is_wrong_is_said_a_line_each(heron: Callable[[str], Path]) -> None:
    folder = heron("sms")
    code = folder / "crmkit_heron" / "__init__.py"
    text = code.read_text()
    text = text.replace(
        "        #: what signs in, from the vendor's console\n        token: SecretStr", "        key_token: str"
    )
    text = text.replace('    """Sends text messages through Heron."""\n\n    name', "    name")
    code.write_text(text)
    (folder / "crmkit_heron" / "py.typed").unlink()
    (folder / "crmkit_heron" / "templates").mkdir()
    (folder / "crmkit_heron" / "templates" / "x.en.sms.txt").write_text("no front matter")
    (folder / "tests" / "test_contract.py").write_text("def test_it():\n    assert False\n")
    info = folder / "crmkit_heron-0.1.0.dist-info" / "METADATA"
    lines = info.read_text().replace("crmkit>=0.1", "crmkit\nRequires-Dist: nowhere>=1").splitlines()
    info.write_text("\n".join(line for line in lines if not line.startswith("License")) + "\n")
    status, found = checked(Place(folder.parent), str(folder))
    assert status == 1
    told = "\n".join(found)
    for expected in (
        "has no licence",
        "requires crmkit of any version; say from which one on",
        "requires nowhere>=1 (it is not installed)",
        "HeronGateway has no docstring",
        "the setting key_token is not described",
        "the setting key_token sounds like a secret and is shown",
        "has no py.typed",
        "has no front matter",
        "no test holds HeronGateway to GatewayContract of crmkit.testing",
        "its tests: tests/test_contract.py::test_it fails: assert False",
    ):
        assert expected in told, told


HELD = """
import pytest
from pathlib import Path
from crmkit.testing import GatewayContract
from crmkit_heron import HeronGateway

{before}
class TestHeron(GatewayContract):
    adapter = {adapter}
    settings = {{"token": "t0ken-0123456789", "webhook_secret": "wh-0123456789abcdef", "sender": "TEAHOUSE"}}
    fixtures = Path(__file__).parent / "heron"
    {within}
"""


@pytest.mark.parametrize(
    ("contract", "said"),
    [
        ("# GatewayContract\ndef test_it(): pass\n", "no test holds HeronGateway to GatewayContract"),
        (
            HELD.format(before='@pytest.mark.skip(reason="later")', adapter="HeronGateway", within=""),
            "test_contract.TestHeron holds HeronGateway to GatewayContract, and all of it is skipped",
        ),
        (
            HELD.format(before="class Other(HeronGateway): pass\n", adapter="Other", within=""),
            "no test holds HeronGateway to GatewayContract",
        ),
    ],
    ids=["only named", "skipped", "of another"],
)
def test_a_plugin_that_is_held_to_nothing_is_not_well(heron: Callable[[str], Path], contract: str, said: str) -> None:
    folder = heron("sms")
    (folder / "tests" / "test_contract.py").write_text(contract)
    status, found = checked(Place(folder.parent), str(folder), "--no-tests")
    assert status == 1
    assert any(said in one for one in found), found


@pytest.mark.e2e
def test_tests_that_are_skipped_as_they_run_hold_nothing(heron: Callable[[str], Path]) -> None:
    folder = heron("sms")
    skips = "@pytest.fixture(autouse=True)\n    def later(self): pytest.skip('later')"
    text = HELD.format(before="", adapter="HeronGateway", within=skips)
    (folder / "tests" / "test_contract.py").write_text(text)
    _, found = checked(Place(folder.parent), str(folder))
    assert found == ["test_contract.TestHeron holds HeronGateway to GatewayContract, and all of it is skipped"]


@pytest.mark.e2e
def test_what_replaces_a_test_of_the_contract_is_noted(heron: Callable[[str], Path]) -> None:
    folder = heron("sms")
    text = HELD.format(before="", adapter="HeronGateway", within="def test_settings_hide_their_secrets(self): pass")
    (folder / "tests" / "test_contract.py").write_text(text)
    status, found = checked(Place(folder.parent), str(folder), "--no-tests", notes=True)
    assert status == 0
    assert any("test_settings_hide_their_secrets of its own in place of the contract's" in one for one in found)


@pytest.mark.e2e
def test_what_is_to_be_filled_in_is_noted_and_a_setting_that_is_gone_is_wrong(heron: Callable[[str], Path]) -> None:
    folder = heron("sms")
    _, notes = checked(Place(folder.parent), "heron", "--no-tests", notes=True)
    assert [one.partition(", line")[0] for one in notes] == ["FILL IN is still written in __init__.py"]
    info = folder / "crmkit_heron-0.1.0.dist-info" / "METADATA"
    info.write_text(info.read_text().replace("| `sender` |", "| `from` |"))
    _, found = checked(Place(folder.parent), "heron", "--no-tests")
    assert "its README describes the setting from, which there is not" in found


def test_a_package_without_its_source_has_no_tests_to_run(heron: Callable[[str], Path]) -> None:
    folder = heron("sms")
    (folder / "crmkit_heron-0.1.0.dist-info" / "direct_url.json").unlink()
    assert checked(Place(folder.parent), "heron") == (0, [])
    _, notes = checked(Place(folder.parent), "heron", notes=True)
    assert "its tests are not here (its source)" in notes[-1]


@pytest.mark.e2e
def test_a_contract_that_is_deselected_holds_nobody(heron: Callable[[str], Path]) -> None:
    folder = heron("sms")
    project = folder / "pyproject.toml"
    project.write_text(project.read_text().replace('"-rfEs"', '"-k", "test_no_such"'))
    _, found = checked(Place(folder.parent), str(folder))
    assert "TestHeron holds HeronGateway to GatewayContract, and all of it is left out" in found[0]


@pytest.mark.e2e
def test_a_broken_one_is_said_to_be(heron: Callable[[str], Path]) -> None:
    folder = heron("source")
    (folder / "crmkit_heron" / "__init__.py").write_text("import no_such_module")
    status, found = checked(Place(folder.parent), "heron", "--no-tests")
    assert status == 1
    assert "cannot be imported: ModuleNotFoundError" in found[0]


def test_a_file_is_checked_too(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / "mine.py").write_text("from crmkit import hookimpl\n@hookimpl\ndef crmkit_handlers(): return ()\n")
    assert checked(place, str(tmp_path / "mine.py")) == (1, ["its module has no docstring"])


@pytest.mark.parametrize("named", ["no-such-thing", "."])
def test_what_is_not_there_is_said(tmp_path: Path, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Place(tmp_path).run("plugins", "check", named).exit_code == 2


def test_migrations_that_lag_behind_the_models_are_said(tmp_path: Path) -> None:
    versions = tmp_path / "lag_migrations" / "versions"
    versions.mkdir(parents=True)
    (versions / "0001.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\nrevision, down_revision = '0001', None\n"
        "def upgrade():\n    op.create_table('lag_one', sa.Column('id', sa.Integer, primary_key=True))\n"
    )
    (tmp_path / "lag.py").write_text(
        '"""Lags."""\nfrom crmkit import Tables, hookimpl\nfrom sqlmodel import Field, SQLModel\n'
        "class LagOne(SQLModel, table=True):\n    __tablename__ = 'lag_one'\n"
        "    id: int = Field(primary_key=True)\n    name: str = ''\n"
        "class LagTwo(SQLModel, table=True):\n    __tablename__ = 'lag_two'\n    id: int = Field(primary_key=True)\n"
        "@hookimpl\ndef crmkit_tables():\n    yield Tables((LagOne, LagTwo), 'lag_migrations')\n"
    )
    assert checked(Place(tmp_path), str(tmp_path / "lag.py"))[1] == [
        "its table lag_one: the column name is not in its migrations",
        "no migration makes its table lag_two",
    ]
