"""The whole way through on a real marketplace's export: what comes in, and who is told what over a real SMTP server."""

import contextlib
import email
import email.policy
import hashlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import tests.olist.count as independent
from crmkit.testing.copy import take_on

HERE = Path(__file__).parent
CRMKIT = Path(sys.executable).with_name("crmkit")

pytestmark = [pytest.mark.shared, pytest.mark.e2e]


def crmkit(folder: Path, *words: str) -> str:
    command = [str(CRMKIT), "--config", str(folder / "crmkit.toml"), *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, f"{' '.join(words)}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def status(folder: Path) -> dict[str, dict[str, int] | int]:
    counts: dict[str, dict[str, int] | int] = json.loads(crmkit(folder, "db", "status", "--json"))["counts"]
    return counts


def dump(database: Path) -> dict[str, str]:
    """A hash of every table but the runs' own record, and of when an account was last read to its end."""
    found = {}
    with contextlib.closing(sqlite3.connect(database)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in sorted(set(tables) - {"run"}):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "synced_at"]
            rows = sorted(map(repr, connection.execute(f"SELECT {', '.join(columns)} FROM {table}")))
            found[table] = hashlib.blake2b("\n".join(rows).encode()).hexdigest()
    return found


SMALLEST = """
[crm]
database = "sqlite:///crm.db"

[shops.olist]
use = "files"
preset = "olist"
path = "{path}"
"""

WEEK = """
announce_from = "2018-05-07T00:00:00"

[plugins]
use = ["care"]

[[channels.email]]
use = "smtp"
host = "127.0.0.1"
port = {port}
tls = "none"
sender = "Olist <shop@olist.example>"

[[care.rules]]
on = "order-shipped"
send = "order-shipped"
via = ["email"]

[care.late]
via = ["email"]
tell = ["buyer"]
"""


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose shop announces from the simulated week on, synced once."""
    from conftest import SHARED_DATA

    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the real data sets, which are not in the repository: {SHARED_DATA} does not exist")
    folder = tmp_path_factory.mktemp("olist")
    written = SMALLEST.format(path=SHARED_DATA / "olist") + WEEK.format(port=25)
    (folder / "crmkit.toml").write_text(written)
    crmkit(folder, "sync")
    return folder


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    folder = tmp_path / "mails"
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, str(HERE / "sink.py"), str(port), str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield port, folder
    finally:
        server.kill()
        server.wait()


def test_sync_ends_with_exactly_what_the_files_hold(synced: Path, shared_data: Path) -> None:
    wanted = independent.counts(shared_data / "olist")
    counts = status(synced)
    for name in ("orders", "order_lines", "customers", "reviews"):
        assert counts[name] == wanted[name], name
    interactions = counts["interactions"]
    assert isinstance(interactions, dict)
    for name in ("order-placed", "order-paid", "order-shipped", "order-delivered", "order-cancelled"):
        assert interactions[name] == wanted[name], name
    assert interactions["review-posted"] == wanted["reviews"]
    assert counts["quarantined"] == 0


def test_three_lines_are_a_whole_configuration(shared_data: Path, tmp_path: Path) -> None:
    sample = shared_data / "olist-sample"
    (tmp_path / "crmkit.toml").write_text(SMALLEST.format(path=sample))
    crmkit(tmp_path, "sync")
    counts = status(tmp_path)
    assert {name: counts[name] for name in ("orders", "order_lines", "customers", "reviews")} == {
        name: independent.counts(sample)[name] for name in ("orders", "order_lines", "customers", "reviews")
    }
    assert isinstance(counts["messages"], dict)
    assert not any(counts["messages"].values())


def test_a_second_sync_changes_no_row(synced: Path) -> None:
    before = dump(synced / "crm.db")
    crmkit(synced, "sync")
    assert dump(synced / "crm.db") == before


def test_files_that_were_only_copied_again_change_no_row(synced: Path, shared_data: Path, tmp_path: Path) -> None:
    """Read anew from the first row to the last: every record is there already."""
    copied = tmp_path / "olist"
    shutil.copytree(shared_data / "olist", copied)
    for file in copied.iterdir():
        file.chmod(0o644)
        old = (shared_data / "olist" / file.name).stat()
        os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))
    shutil.copy(synced / "crm.db", tmp_path / "crm.db")
    text = (synced / "crmkit.toml").read_text().replace(str(shared_data / "olist"), str(copied))
    (tmp_path / "crmkit.toml").write_text(text)
    before = dump(tmp_path / "crm.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "crm.db")) as connection:
        connection.execute("DELETE FROM cursor")
        connection.commit()
    crmkit(tmp_path, "sync")
    assert {k: v for k, v in dump(tmp_path / "crm.db").items() if k != "cursor"} == {
        k: v for k, v in before.items() if k != "cursor"
    }


def test_a_week_is_told_to_exactly_those_it_concerns(
    synced: Path, shared_data: Path, tmp_path: Path, sink: tuple[int, Path]
) -> None:
    port, mails = sink
    shutil.copy(synced / "crm.db", tmp_path / "crm.db")
    take_on(f"sqlite:///{tmp_path / 'crm.db'}")
    written = (synced / "crmkit.toml").read_text()
    (tmp_path / "crmkit.toml").write_text(written.replace("port = 25", f"port = {port}"))
    planned = crmkit(tmp_path, "--now", "2018-05-14T00:00:00-03:00", "dispatch", "--plan", "--json")
    assert not list(mails.iterdir())
    crmkit(tmp_path, "--now", "2018-05-14T00:00:00-03:00", "dispatch")

    person = independent.buyers(shared_data / "olist")
    wanted = Counter(
        [
            ("order-shipped", f"{person[order]}@buyers.example")
            for order in independent.shipped_in_week(shared_data / "olist")
        ]
        + [
            ("shipment-late", f"{person[order]}@buyers.example")
            for order in independent.late_in_week(shared_data / "olist")
        ]
    )
    assert Counter(kind for kind, _ in wanted.elements()) == {"order-shipped": 404, "shipment-late": 11}

    with contextlib.closing(sqlite3.connect(tmp_path / "crm.db")) as connection:
        sent = Counter(connection.execute("SELECT template, address FROM message WHERE state = 'sent'").fetchall())
        states = dict(connection.execute("SELECT state, count(*) FROM message GROUP BY state").fetchall())
        tries = connection.execute("SELECT count(*), max(number) FROM attempt").fetchone()
    assert sent == wanted
    assert states == {"sent": 415}
    assert tries == (415, 1)

    received = Counter()
    keys = set()
    for file in mails.iterdir():
        mail = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
        received[mail["X-Recipients"]] += 1
        keys.add(mail["X-Crmkit-Key"])
    assert received == Counter(address for _, address in wanted.elements())
    assert len(keys) == 415
    leaving = [row for row in map(json.loads, planned.splitlines()) if row.get("leaves_at")]
    assert Counter((row["template"], row["address"]) for row in leaving) == wanted
