import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from crmkit.cli import cli
from crmkit.testing.copy import take_on

CONFIG = """\
[crm]
database = "sqlite:///crm.db"
timezone = "Europe/Berlin"
title = "Tea House"

[plugins]
use = ["care"]

[shops.tea]
use = "files"
preset = "crmkit"
path = "exports"
currency = "EUR"
region = "DE"
announce_from = 2026-05-07

[[channels.email]]
use = "folder"
path = "outbox"
sender = "Tea House <shop@tea.example>"

[[care.rules]]
on = "order-shipped"
send = "order-shipped"
via = ["email"]

[care.late]
enabled = false

[[staff]]
name = "Chen"
teams = ["shipping"]
email = "chen@tea.example"
"""
ORDERS = """\
external_id,status,placed_at,paid_at,shipped_at,customer_id,name,email,total,updated_at
T1,shipped,2026-05-01T10:00Z,2026-05-01T10:05Z,2026-05-02T09:00Z,c1,Ada,ada@buyers.example,10.00,2026-05-02T09:00Z
T2,shipped,2026-05-07T10:00Z,2026-05-07T10:05Z,2026-05-08T09:00Z,c1,Ada,ada@buyers.example,12.50,2026-05-08T09:00Z
T3,shipped,2026-05-07T11:00Z,2026-05-07T11:05Z,2026-05-08T10:00Z,c2,Bo,bo@buyers.example,7.00,2026-05-08T10:00Z
T4,shipped,2026-05-07T12:00Z,2026-05-07T12:05Z,2026-05-08T11:00Z,c3,Cy,,3.00,2026-05-08T11:00Z
T5,paid,2026-05-07T13:00Z,2026-05-07T13:05Z,,c4,Di,di@buyers.example,99.00,2026-05-07T13:05Z
T6,paid,not a time,,,c5,Ed,ed@buyers.example,1.00,2026-05-07T13:05Z
"""
NOW = "2026-05-08T20:00+02:00"


class Place:
    """A folder with a configuration, and the program run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "crmkit.toml"

    def run(self, *arguments: str, now: str | None = None, before: tuple[str, ...] = (), input: str = "") -> Result:
        clock = ["--now", now] if now else []
        return CliRunner().invoke(cli, ["--config", str(self.config), *clock, *before, *arguments], input=input)

    def ok(self, *arguments: str, now: str | None = None) -> str:
        result = self.run(*arguments, now=now)
        assert result.exit_code == 0, result.output
        return result.stdout


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A shop with six orders, one of which cannot be read; nothing was run yet."""
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "orders.csv").write_text(ORDERS)
    (tmp_path / "crmkit.toml").write_text(CONFIG)
    return Place(tmp_path)


@pytest.fixture(scope="module")
def _worked(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("worked")
    (folder / "exports").mkdir()
    (folder / "exports" / "orders.csv").write_text(ORDERS)
    (folder / "crmkit.toml").write_text(CONFIG)
    place = Place(folder)
    assert place.run("sync", now=NOW).exit_code == 1
    assert place.run("dispatch", now=NOW).exit_code == 0
    return place


@pytest.fixture
def worked(_worked: Place, tmp_path: Path) -> Iterator[Place]:
    """The same shop, synced and dispatched."""
    shutil.copytree(_worked.folder, tmp_path / "worked")
    take_on(f"sqlite:///{tmp_path / 'worked' / 'crm.db'}")
    yield Place(tmp_path / "worked")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody sits at a terminal, and can be asked."""
    monkeypatch.setattr("crmkit.cli.asking.is_terminal", lambda: True)
