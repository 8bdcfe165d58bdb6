"""Sync and dispatch for ever: standing connections are heard at once, and what is in flight may end."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from crmkit.adapters.stream import Page
from crmkit.core.errors import RetryableError
from crmkit.engine import service
from crmkit.engine.local import Local
from crmkit.engine.service import Service
from crmkit.store import tables as t
from tests.engine.test_inward import Stage, Vendor
from tests.play import NOON, Play, order

HOUR = timedelta(hours=1)


class Log:
    def __init__(self) -> None:
        self.rounds = 0
        self.failures: list[str] = []
        self.accounts: list[str] = []

    def synced(self, runs: Any) -> None:
        self.rounds += 1

    def dispatched(self, run: Any) -> None: ...

    def heard(self, account: str, tally: Any) -> None:
        self.accounts.append(account)

    def failed(self, what: str, error: Exception) -> None:
        self.failures.append(f"{what}: {error}")


def served(play: Play, log: Log, until: Any, every: timedelta = HOUR) -> None:
    """Run the service until something holds."""

    async def main() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(Service(Local(Stage(play), play.store), every, log).run(stop))  # type: ignore[arg-type]
        for _ in range(500):
            if until() or running.done():
                break
            await asyncio.sleep(0.01)
        stop.set()
        await running

    asyncio.run(main())
    assert until(), vars(log)


def test_what_a_standing_connection_says_is_taken_in_and_answered_at_once(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SEMANTICS 32
    async def listen(self: Vendor) -> AsyncIterator[Page]:
        yield Page([order("heard")])
        await asyncio.sleep(3600)

    monkeypatch.setattr(Vendor, "listen", listen)
    log = Log()
    served(play, log, lambda: log.accounts == ["tea"] and log.rounds >= 2)
    assert [row["external_id"] for row in play.rows(t.orders)] == ["heard"]


def test_a_connection_that_breaks_is_made_again(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    # SEMANTICS 32
    made: list[int] = []

    async def listen(self: Vendor) -> AsyncIterator[Page]:
        made.append(len(made))
        yield Page([order(f"{len(made)}")])
        raise RetryableError("gone") if len(made) < 3 else OSError("broken")

    monkeypatch.setattr(Vendor, "listen", listen)
    monkeypatch.setattr(service, "FIRST_PAUSE", timedelta(milliseconds=1))
    log = Log()
    served(play, log, lambda: len(made) >= 4)
    assert log.failures[:2] == ["tea: gone", "tea: gone"]
    assert "OSError at test_service.py" in log.failures[2]


def test_who_has_nothing_to_hear_is_not_listened_to(play: Play) -> None:
    log = Log()
    served(play, log, lambda: log.rounds >= 3, every=timedelta(milliseconds=1))
    assert log.failures == []


PROGRAM = "from crmkit.cli import main; main()"


def test_trouble_with_the_database_ends_no_service(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []

    async def sync(self: Local, *_: Any) -> list[Any]:
        rounds.append(1)
        raise OperationalError("SELECT", {}, Exception("server closed the connection"))

    monkeypatch.setattr(Local, "sync", sync)
    log = Log()
    served(play, log, lambda: len(rounds) >= 3, every=timedelta(milliseconds=1))
    assert "server closed the connection" in log.failures[0]


CONFIG = """\
[crm]
database = "sqlite:///crm.db"

[shops.tea]
use = "files"
preset = "crmkit"
path = "exports"
"""
ORDERS = f"external_id,status,placed_at\nT1,placed,{NOON.isoformat()}\n"


def test_the_service_ends_when_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "orders.csv").write_text(ORDERS)
    (tmp_path / "crmkit.toml").write_text(CONFIG)
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        "--config",
        str(tmp_path / "crmkit.toml"),
        "run",
        "--every",
        "1s",
        "--log",
        "text",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    assert first == "tea: 1 customer-created, 1 order-placed\n" or first == "tea: 1 order-placed\n"
    assert (process.returncode, said) == (0, "stopped\n")
    assert time.monotonic() - began < 10
