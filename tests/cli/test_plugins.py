"""`crmkit plugins list` and `show`, and what is loaded in safe mode."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from crmkit.core.quota import Quota
from crmkit.store import quotas
from crmkit.store.engine import Store

from .conftest import CONFIG, NOW, Place

PLAY = '''
"""Thanks everybody."""
from pydantic import BaseModel, Field, SecretStr
from crmkit import OrderPlaced, PluginSettings, Policy, Send, hookimpl, on

class Reward(BaseModel):
    #: how much it is worth
    worth: int
    code: SecretStr | None = None

class Settings(PluginSettings):
    #: how people are addressed,
    #: in one word
    greeting: str = "hello"
    limit: int = 3  #: at the most
    tone: str = Field("warm", description="how it sounds")
    rewards: list[Reward] = []
    by_country: dict[str, Reward] = {}

@on(OrderPlaced)
def thank(event, crm): ...

@hookimpl
def crmkit_handlers(): yield thank

@hookimpl
def crmkit_policies(): yield Policy("never", lambda outgoing, crm: None)
'''


def listed(place: Place, *before: str) -> dict[str, dict[str, Any]]:
    rows = place.run("plugins", "list", "--json", before=before).stdout.splitlines()
    return {row["name"]: row for row in map(json.loads, rows)}


@pytest.fixture
def thanks(place: Place) -> Place:
    (place.folder / "thanks.py").write_text(PLAY)
    place.config.write_text(CONFIG.replace('use = ["care"]', 'use = ["care", "./thanks.py"]'))
    return place


def test_the_list_says_version_kind_and_what_each_can_do(tmp_path: Path) -> None:
    rows = listed(Place(tmp_path))
    assert rows["sms.twilio"]["can"] == ["sms to phone", "looks up", "tells its balance", "webhooks"]
    assert rows["email.folder"]["can"] == ["email to email", "deduplicates"]
    assert {"re-scans", "reads by id", "webhooks"} <= set(rows["marketplace.woocommerce"]["can"])
    assert (rows["play.care"]["version"], rows["play.care"]["family"]) == ("0.1.0", "play")
    assert {row["state"] for row in rows.values()} == {""}


def test_the_list_says_what_is_used_and_creates_no_database(thanks: Place) -> None:
    rows = listed(thanks)
    used = {name for name, row in rows.items() if row["state"] == "used"}
    assert used == {"marketplace.files", "email.folder", "play.care", "play.thanks"}
    assert rows["play.thanks"]["can"] == ["1 handler", "1 policy"]
    assert not (thanks.folder / "crm.db").exists()


def test_the_list_says_what_is_paused_and_what_does_not_answer(worked: Place) -> None:
    assert listed(worked)["email.folder"]["state"] == "used"
    worked.ok("pause", "gateway", "folder", "--reason", "moving")
    row = listed(worked)["email.folder"]
    assert row["state"] == "paused"
    assert row["health"][0].startswith("folder: paused since ")
    assert row["health"][0].endswith("(moving)")
    assert "folder: paused since" in worked.run("plugins", "list").stdout
    store = Store(f"sqlite:///{worked.folder / 'crm.db'}")
    with store.begin() as tx:
        quotas.lock(tx, "folder")
        quotas.save(tx, Quota("folder", open_until=datetime(2026, 5, 9, tzinfo=UTC), error="no route"))
    store.close()
    row = listed(worked)["email.folder"]
    assert row["state"] == "down"
    assert any("does not answer (no route), tried again 2026-05-09 02:00 CEST" in text for text in row["health"])
    assert listed(worked)["marketplace.files"]["health"] == ["tea: last read to its end 2026-05-08 20:00 CEST"]


def test_settings_within_others_are_named_with_what_their_author_says(thanks: Place) -> None:
    found = json.loads(thanks.ok("plugins", "show", "thanks", "--json"))
    rows = {row["key"]: (row["type"], row["default"], row["description"]) for row in found["settings"]}
    assert rows == {
        "greeting": ("string", "hello", "how people are addressed, in one word"),
        "limit": ("integer", 3, "at the most"),
        "tone": ("string", "warm", "how it sounds"),
        "rewards": ("list of table", None, None),
        "rewards[].worth": ("integer", "required", "how much it is worth"),
        "rewards[].code": ("secret", None, None),
        "by_country": ("table", None, None),
        "by_country.*.worth": ("integer", "required", "how much it is worth"),
        "by_country.*.code": ("secret", None, None),
    }
    assert "how people are addressed, in one word" in thanks.ok("plugins", "show", "thanks")
    schema = json.loads(thanks.ok("plugins", "show", "thanks", "--schema"))
    assert schema["properties"]["limit"]["default"] == 3


def test_a_plugin_is_shown_with_all_it_registers(thanks: Place) -> None:
    found = json.loads(thanks.ok("plugins", "show", "thanks", "--json"))
    assert (found["about"], found["handlers"], found["policies"]) == (
        "Thanks everybody.",
        ["thank on order-placed"],
        ["never"],
    )
    care = json.loads(thanks.ok("plugins", "show", "care", "--json"))
    assert "order-shipped (email: en, zh-CN; sms: en, zh-CN)" in care["templates"]
    (gateway,) = json.loads(thanks.ok("plugins", "show", "twilio", "--json"))["gateways"]
    assert (gateway["channel"], gateway["reaches"], gateway["looks_up"]) == ("sms", ["phone"], True)
    assert "looks up" in thanks.ok("plugins", "show", "twilio")
    (source,) = json.loads(thanks.ok("plugins", "show", "woocommerce", "--json"))["sources"]
    assert (source["rescans"], source["streams"]) == ("30d", ["orders", "customers", "reviews"])


# --- safe mode --------------------------------------------------------------------------------------------------------

#: Every command that loads plugins, in a place where each has something to do.
COMMANDS = [
    ("doctor", "--offline"),
    ("config", "check"),
    ("config", "show"),
    ("config", "schema"),
    ("plugins", "list"),
    ("plugins", "show", "smtp"),
    ("plugins", "trace", "1"),
    ("plugins", "check", "thanks.py"),
    ("db", "status"),
    ("db", "upgrade"),
    ("sync",),
    ("sync", "--plan"),
    ("dispatch",),
    ("dispatch", "--plan"),
    ("pause",),
    ("resume",),
    ("shops", "list"),
    ("customers", "find", "ada"),
    ("interactions", "list"),
    ("messages", "list"),
    ("messages", "test", "order-shipped"),
    ("inbox", "list"),
    ("tokens", "list"),
    ("quarantine", "list"),
    ("consent", "show", "1"),
    ("explain", "customer", "1"),
    ("links", "preferences", "1"),
    ("connect", "tea"),
    ("bombs",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("before", [("--no-plugins",), ("--only-plugins", "care")], ids="-".join)
def test_in_safe_mode_a_playbook_that_was_left_out_is_not_imported(
    worked: Place, command: tuple[str, ...], before: tuple[str, ...]
) -> None:
    ticked = worked.folder / "ticked"
    (worked.folder / "bomb.py").write_text(f"open({str(ticked)!r}, 'a').close()\nraise SystemExit(9)\n")
    worked.config.write_text(CONFIG.replace('use = ["care"]', 'use = ["care", "./bomb.py"]'))
    worked.run(*command, now=NOW, before=before)
    assert not ticked.exists()
    worked.run("config", "check")
    assert ticked.exists()


def test_in_safe_mode_nothing_is_imported_that_is_not_in_use(thanks: Place) -> None:
    rows = listed(thanks, "--no-plugins")
    assert rows["play.care"]["can"] == []
    assert rows["email.smtp"]["can"] == []
    assert rows["email.folder"]["can"] == ["email to email", "deduplicates"]


def test_what_a_left_out_playbook_would_decide_waits_for_it(thanks: Place) -> None:
    thanks.run("sync", now=NOW)
    told = thanks.run("dispatch", "--json", now=NOW, before=("--no-plugins",))
    assert json.loads(told.stdout)["messages"] == {}
    assert json.loads(thanks.run("dispatch", "--json", now=NOW).stdout)["messages"] == {"queued": 2, "suppressed": 1}


def test_a_plugins_command_reads_as_its_handlers_do(thanks: Place) -> None:
    (thanks.folder / "thanks.py").write_text(
        PLAY
        + "import click\nfrom crmkit import with_crm\n"
        + "@click.command()\n@click.argument('word')\n@with_crm\n"
        + "def thanks(crm, word):\n    click.echo(f'{crm.settings.greeting} {word} {crm.now:%Y}')\n"
        + "@hookimpl\ndef crmkit_commands(): yield thanks\n"
    )
    assert "does not exist yet" in thanks.run("thanks", "Ann").stderr
    thanks.run("sync", now=NOW)
    assert thanks.run("thanks", "Ann", now=NOW).stdout == "hello Ann 2026\n"
