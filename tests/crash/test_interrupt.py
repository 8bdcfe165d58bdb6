"""Ctrl-C in the middle of sync and of dispatch: exit code 130, nothing lost or in doubt, and the next run goes on."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from crashkit import shop
from crashkit.check import MAIL, Offered, World, check, difference
from crashkit.process import Process

from crmkit.store.engine import Store
from crmkit.testing.ledger import Ledger

pytestmark = pytest.mark.crash

CRMKIT = str(Path(sys.executable).with_name("crmkit"))


@pytest.fixture
def slow_port(ledgers: Path) -> Iterator[int]:
    """Of a mail server that takes its time over each mail."""
    sink = Process("crashkit.sink", str(ledgers), "0.05")
    yield int(sink.first)
    sink.stop()


def crmkit(folder: Path, step: str) -> subprocess.Popen[str]:
    clock = shop.DAYS[0].isoformat()
    command = [CRMKIT, "--config", str(folder / "crmkit.toml"), "--now", clock, step]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_listens_to_ctrl_c
    )


def _listens_to_ctrl_c() -> None:
    """A test run in the background of a shell ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(folder: Path, step: str) -> str:
    process = crmkit(folder, step)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    return out


def interrupt(folder: Path, step: str, when: Callable[[], bool]) -> str:
    """Run a step and press Ctrl-C as soon as `when` holds."""
    process = crmkit(folder, step)
    until = time.monotonic() + 60
    while not when():
        assert process.poll() is None, f"{step} was done before it was interrupted: {process.communicate()}"
        assert time.monotonic() < until
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "Traceback" not in err, err
    return err


def count(folder: Path, what: str) -> int:
    """Rows of a table, seen from beside; 0 where there is no table yet."""
    path = folder / "crm.db"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as database:
        try:
            return int(database.execute(f"SELECT count(*) FROM {what}").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def world(folder: Path, port: int, orders: int) -> tuple[Path, str, str]:
    """A shop in a folder: where, its database, its sender."""
    url, sender = f"sqlite:///{folder / 'crm.db'}", f"{folder.name}@crash.example"
    shop.write(folder, database=url, port=port, sender=sender, orders=orders, spoiled=False)
    return folder, url, sender


def dump(url: str) -> dict[str, list[str]]:
    store = Store(url)
    try:
        with store.read() as tx:
            return World(tx).dump()
    finally:
        store.close()


def test_sync_goes_on_after_ctrl_c(fast: Path, port: int) -> None:
    whole, whole_url, _ = world(fast / "whole", port, 2400)
    run(whole, "sync")
    folder, url, _ = world(fast / "cut", port, 2400)
    assert "interrupted" in interrupt(folder, "sync", lambda: count(folder, "orders") > 0)
    assert 0 < count(folder, "orders") < count(whole, "orders")
    run(folder, "sync")
    assert difference(dump(whole_url), dump(url)) == ""


def test_dispatch_goes_on_after_ctrl_c(fast: Path, ledgers: Path, port: int, slow_port: int) -> None:
    folder, url, sender = world(fast / "mail", slow_port, 200)
    run(folder, "sync")
    assert "interrupted" in interrupt(folder, "dispatch", lambda: count(folder, "message WHERE state = 'sent'") > 5)
    assert count(folder, "message WHERE state = 'sent'") >= 6
    assert count(folder, "message WHERE state = 'queued'") > 0
    assert count(folder, "message WHERE state IN ('sending', 'in-doubt')") == 0, "what was not sent is not in doubt"
    (folder / "crmkit.toml").write_text((folder / "crmkit.toml").read_text().replace(f"= {slow_port}", f"= {port}"))
    run(folder, "dispatch")
    found = check(url, {MAIL: Ledger(ledgers / sender)}, Offered())
    assert found.wrong == []
    assert found.counts["doubt"] == 0
    assert found.counts["left"] > 50
