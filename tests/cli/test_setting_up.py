import json
import os
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from .conftest import CONFIG, Place


def test_init_writes_a_configuration_that_is_right(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / "exports").mkdir()
    shown = place.ok("init", "--yes", "--shop", "tea", "--title", 'Tea "House"', "--timezone", "Asia/Shanghai")
    assert "sync --plan" in shown
    written = tomllib.loads(place.config.read_text())
    assert written["crm"]["title"] == 'Tea "House"'
    assert written["shops"]["tea"]["use"] == "files"
    assert written["channels"]["email"] == [{"use": "folder", "path": "outbox"}]
    assert written["plugins"]["use"] == ["care"]
    assert place.run("config", "check").exit_code == 0


def test_init_makes_a_secret_and_keeps_one_that_is_there(tmp_path: Path) -> None:
    place, file = Place(tmp_path), tmp_path / "crmkit.key"
    place.ok("init", "--yes")
    key = file.read_text()
    assert len(key.strip()) >= 40
    assert file.stat().st_mode & 0o077 == 0
    assert key.strip() not in place.ok("config", "show")
    place.config.unlink()
    assert "crmkit.key is there already and kept" in place.ok("init", "--yes")
    assert file.read_text() == key


def test_init_writes_nothing_where_the_secret_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, really = Place(tmp_path), os.open

    def refused(path: Any, *more: Any, **named: Any) -> int:
        if str(path).endswith("crmkit.key"):
            raise PermissionError(13, "Permission denied", str(path))
        return really(path, *more, **named)

    monkeypatch.setattr(os, "open", refused)
    result = place.run("init", "--yes")
    assert result.exit_code == 2
    assert "crmkit.key: cannot be written (Permission denied)" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_leaves_no_secret_where_the_configuration_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, really = Place(tmp_path), Path.open

    def full(self: Path, *more: Any, **named: Any) -> Any:
        if self.name == "crmkit.toml":
            raise OSError(28, "No space left on device")
        return really(self, *more, **named)

    monkeypatch.setattr(Path, "open", full)
    result = place.run("init", "--yes")
    assert result.exit_code == 2
    assert "crmkit.toml: cannot be written" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    place, file = Place(tmp_path), tmp_path / "crmkit.key"
    place.ok("init", "--yes")
    (tmp_path / "exports").mkdir()
    assert "can read the key" not in place.run("config", "check").output
    file.chmod(0o644)
    result = place.run("config", "check")
    assert result.exit_code == 0
    assert f"every user of this machine can read the key in {file}" in result.output
    assert f"chmod o-rwx {file}" in result.output


def test_init_leaves_a_file_alone(place: Place) -> None:
    result = place.run("init", "--yes")
    assert result.exit_code == 2
    assert "is there already" in result.stderr
    assert place.config.read_text() == CONFIG


def test_init_asks_for_shops_and_channels(tmp_path: Path) -> None:
    place = Place(tmp_path)
    answers = [
        "Tea House",
        "zh-CN",
        "Asia/Shanghai",
        "flagship",
        "files",
        "olist",
        "data",
        "n",  # another shop
        "y",  # e-mail
        "smtp",
        "shop@tea.example",
        "mail.tea.example",
        "587",
        "tea",
        "plain-secret",
        "env:TEA_PASSWORD",
        "n",  # sms
        "y",  # care
    ]
    result = place.run("init", input="\n".join(answers) + "\n")
    assert result.exit_code == 0, result.output
    written = tomllib.loads(place.config.read_text())
    assert written["shops"]["flagship"] == {"use": "files", "preset": "olist", "path": "data"}
    (mail,) = written["channels"]["email"]
    assert mail["password"] == "env:TEA_PASSWORD"
    assert mail["port"] == 587
    assert "plain-secret" not in place.config.read_text()
    assert "TEA_PASSWORD is not set" in result.stderr


def test_config_check_says_file_line_key_found_and_right(place: Place) -> None:
    place.config.write_text(CONFIG.replace('zone = "Europe/Berlin"', 'zone = "Europe/Berln"'))
    result = place.run("config", "check")
    assert result.exit_code == 2
    assert f'error: {place.config}:3: crm.timezone: found "Europe/Berln"; should be a zone' in result.stdout
    (found,) = map(json.loads, place.run("config", "check", "--json").stdout.splitlines())
    assert (found["line"], found["key"], found["level"]) == (3, "crm.timezone", "error")


def test_an_unknown_adapter_says_what_to_install_or_what_was_meant(place: Place) -> None:
    place.config.write_text('[shops.a]\nuse = "filse"\n[[channels.chat]]\nuse = "whatsapp"\n')
    shown = place.run("config", "check").stdout
    assert 'did you mean "files"?' in shown
    assert "install the distribution that brings it" in shown


def test_config_show_masks_secrets(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEA_USER", "tea-user")
    monkeypatch.setenv("DB", "postgresql://me:hush@localhost/crm")
    text = CONFIG.replace('"sqlite:///crm.db"', '"env:DB"')
    smtp = 'use = "smtp"\nhost = "mail.example"\nusername = "env:TEA_USER"\npassword = "hush"\n'
    place.config.write_text(text.replace('use = "folder"\npath = "outbox"\n', smtp))
    shown = place.ok("config", "show")
    assert "hush" not in shown
    assert "tea-user" not in shown
    values = tomllib.loads(shown)
    assert values["crm"]["database"] == "env:DB"
    assert values["channels"]["email"][0]["username"] == "env:TEA_USER"
    assert values["channels"]["email"][0]["port"] == 587
    assert json.loads(place.ok("config", "show", "--json"))["shops"]["tea"]["preset"] == "crmkit"
    checked = place.run("config", "check")
    assert checked.exit_code == 0
    assert "warning: " in checked.stdout
    assert "a secret is written in the file" in checked.stdout


def test_config_schema_is_a_schema_of_what_is_used(place: Place) -> None:
    schema = json.loads(place.ok("config", "schema"))
    assert schema["properties"]["care"]["properties"]["rules"]
    (case,) = schema["properties"]["channels"]["properties"]["email"]["items"]["allOf"]
    assert case["if"]["properties"]["use"]["const"] == "folder"


def test_plugins_are_listed_without_a_configuration(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in Place(tmp_path).ok("plugins", "list", "--json").splitlines()]
    assert {"email.folder", "email.smtp", "marketplace.files", "play.care"} <= {row["name"] for row in rows}


def test_a_plugin_is_shown(place: Place) -> None:
    shown = place.ok("plugins", "show", "care")
    assert "order-shipped" in shown
    found = json.loads(place.ok("plugins", "show", "email.smtp", "--json"))
    assert {"key": "password", "type": "secret", "default": None, "description": None} in found["settings"]
    result = place.run("plugins", "show", "cear")
    assert (result.exit_code, 'did you mean "care"?' in result.stderr) == (2, True)


def test_a_broken_playbook_is_named_and_skipped(place: Place) -> None:
    (place.folder / "broken.py").write_text("raise ValueError('no good')\n")
    place.config.write_text(CONFIG.replace('use = ["care"]', 'use = ["care", "./broken.py"]'))
    result = place.run("plugins", "list")
    assert result.exit_code == 1
    assert "ValueError: no good" in result.stderr
    assert "warning: plugin play.broken" in place.run("sync").stderr
    assert place.run("config", "check").exit_code == 2


def test_the_database_is_created_when_asked_and_says_its_version(place: Place) -> None:
    status = json.loads(place.ok("db", "status", "--json"))
    assert (status["exists"], status["counts"]["customers"]) == (False, 0)
    assert not (place.folder / "crm.db").exists()
    assert "was created" in place.ok("db", "upgrade")
    assert "already" in place.ok("db", "upgrade")
    status = json.loads(place.ok("db", "status", "--json"))
    assert status["exists"]
    assert all(version["is_current"] for version in status["versions"])


def test_counts_have_the_shape_that_others_rely_on(worked: Place) -> None:
    counts = json.loads(worked.ok("db", "status", "--json"))["counts"]
    assert counts["customers"] == 4
    assert counts["orders"] == 5
    assert (counts["order_lines"], counts["reviews"], counts["quarantined"]) == (0, 0, 1)
    assert counts["interactions"]["order-shipped"] == 4
    assert counts["messages"]["sent"] == 2
    assert counts["messages"]["suppressed"] == 1
    assert counts["messages"]["in-doubt"] == 0


def test_a_database_of_a_newer_version_is_left_alone(worked: Place) -> None:
    with closing(sqlite3.connect(worked.folder / "crm.db")) as connection:
        connection.execute("UPDATE crmkit_version SET version_num = '9999'")
        connection.commit()
    for command in (["sync"], ["dispatch"], ["customers", "find", "x"], ["db", "upgrade"], ["db", "status"]):
        result = worked.run(*command)
        assert result.exit_code == 2, command
        assert "newer than this program knows" in result.stderr
        assert "upgrade crmkit" in result.stderr
    assert worked.run("doctor").exit_code == 2


def test_reading_creates_no_database(place: Place) -> None:
    result = place.run("customers", "find", "ada")
    assert result.exit_code == 2
    assert "does not exist yet" in result.stderr
    assert not (place.folder / "crm.db").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into a read-only folder")
def test_a_folder_that_cannot_be_written_is_one_line(place: Place) -> None:
    place.folder.chmod(0o500)
    try:
        result = place.run("sync")
    finally:
        place.folder.chmod(0o700)
    assert result.exit_code == 2
    assert "database" in result.stderr


def test_a_database_in_a_folder_that_is_not_there_is_one_line(place: Place) -> None:
    place.config.write_text(CONFIG.replace("sqlite:///crm.db", "sqlite:///no/such/folder/crm.db"))
    result = place.run("sync")
    assert result.exit_code == 2
    assert "check that its folder exists" in result.stderr
