"""A database is copied while it is used, put back when nobody uses it, and what was there is kept."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crmkit.core.errors import ConfigError, DatabaseError
from crmkit.store import backup as copies
from crmkit.store.migrate import upgrade
from tests.cli.conftest import CONFIG, NOW, ORDERS, Place

#: Writes two rows a transaction, which belong together, for as long as it runs.
WRITER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
db.execute("PRAGMA synchronous=OFF")
print("ready", flush=True)
number = 1_000_000
while True:
    number += 1
    db.execute("BEGIN IMMEDIATE")
    for table in ("one", "two"):
        db.execute(f"INSERT INTO {table} VALUES (?, ?)", (number, "x" * 500))
    db.execute("COMMIT")
"""
#: Has the database open, as a service does between its rounds.
HOLDER = """
import sys
from crmkit.store.engine import Store
store = Store(sys.argv[1])
with store.read() as tx:
    tx.exec_driver_sql("SELECT count(*) FROM account")
print("ready", flush=True)
sys.stdin.readline()
"""


def begun(program: str, *arguments: str) -> subprocess.Popen[str]:
    """A program of its own, once it says that it is ready."""
    command = [sys.executable, "-c", program, *arguments]
    found = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert found.stdout is not None
    assert found.stdout.readline() == "ready\n"
    return found


def once_more_is_written(file: Path) -> int:
    """How many rows there are, once there are more than there were."""
    with closing(sqlite3.connect(file)) as database:
        end, counts = time.monotonic() + 60, list[int]()
        while not counts or counts[-1] == counts[0]:
            assert time.monotonic() < end, "nothing was written for a minute"
            counts += database.execute("SELECT count(*) FROM one").fetchone()
        return counts[-1]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database with some megabytes in it."""
    upgrade(f"sqlite:///{tmp_path / 'crm.db'}")
    with closing(sqlite3.connect(tmp_path / "crm.db", isolation_level=None)) as database:
        for table in ("one", "two"):
            database.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, text TEXT)")
            rows = ((number, "x" * 500) for number in range(40_000))
            database.execute("BEGIN")
            database.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)
            database.execute("COMMIT")
    return tmp_path / "crm.db"


def test_a_backup_is_of_one_moment_while_others_write(file: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    begins: list[int] = []
    meanwhile: list[int] = []

    def watch(done: int, total: int) -> None:
        told.append((done, total))
        if len(meanwhile) < len(begins):  # the copy has begun, and is not done before something else is written
            meanwhile.append(once_more_is_written(file))

    writer = begun(WRITER, str(file))
    try:
        for number in range(5):
            begins.append(once_more_is_written(file))
            copies.backup(file, tmp_path / f"{number}.db", progress=watch)
    finally:
        writer.kill()
        writer.wait()
    found = []
    for number in range(5):
        with closing(sqlite3.connect(tmp_path / f"{number}.db")) as copy:
            counts = [copy.execute(f"SELECT count(*), max(id) FROM {table}").fetchone() for table in ("one", "two")]
        assert counts[0] == counts[1]
        found.append(counts[0][0])
    assert all(begin <= count for begin, count in zip(begins, found, strict=True))
    assert found[0] < meanwhile[0] <= found[-1]
    assert found == sorted(found)
    assert len(told) > 10
    assert told[-1][0] == told[-1][1] > 0
    assert not list(tmp_path.glob("*.part*"))


def test_a_backup_is_its_owners_and_replaces_none_unasked(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "kept.db"
    kept = copies.backup(file, target)
    assert target.stat().st_mode & 0o777 == 0o600
    assert kept.size == target.stat().st_size
    with pytest.raises(ConfigError, match="is there already"):
        copies.backup(file, target)
    copies.backup(file, target, force=True)
    with pytest.raises(ConfigError, match="name a file that can be written"):
        copies.backup(file, tmp_path / "no folder" / "kept.db")
    assert {one.name for one in tmp_path.iterdir()} >= {"crm.db", "kept.db"}
    assert not [one for one in tmp_path.iterdir() if one.name.startswith("kept.db.")]


def test_a_database_that_is_not_sound_becomes_no_backup(file: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [[size]] = database.execute("PRAGMA page_size")
    with file.open("r+b") as stream:
        for page in range(2_000, 2_050):
            stream.seek(page * size)
            stream.write(b"\x17" * size)
    with pytest.raises(DatabaseError, match=r"is not sound|cannot be read"):
        copies.backup(file, tmp_path / "kept.db")
    assert not (tmp_path / "kept.db").exists()


# --- by command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A shop that told its buyers."""
    monkeypatch.setenv("CRMKIT_STATE", str(tmp_path / "state"))
    (tmp_path / "shop" / "exports").mkdir(parents=True)
    (tmp_path / "shop" / "exports" / "orders.csv").write_text(ORDERS)
    (tmp_path / "shop" / "crmkit.toml").write_text(CONFIG)
    found = Place(tmp_path / "shop")
    found.run("sync", now=NOW)
    return found


def test_what_was_there_is_kept_and_what_was_restored_does_not_send_again(place: Place) -> None:
    # SEMANTICS 29
    database, kept = place.folder / "crm.db", place.folder / "kept.db"
    assert "sound" in place.ok("db", "backup", str(kept))
    place.run("dispatch", now=NOW)
    said = place.ok("db", "restore", str(kept))
    assert "nothing was changed" not in said
    [aside] = [one for one in place.folder.iterdir() if ".before-" in one.name]
    with closing(sqlite3.connect(aside)) as old, closing(sqlite3.connect(database)) as new:
        assert old.execute("SELECT count(*) FROM attempt").fetchone()[0] > 0
        assert new.execute("SELECT count(*) FROM attempt").fetchone()[0] == 0
    assert "older than what left" in said  # though nothing had left by then
    assert place.run("dispatch", now=NOW).exit_code == 1


def test_a_later_backup_is_fenced_when_it_is_restored(place: Place) -> None:
    # SEMANTICS 29
    kept = place.folder / "kept.db"
    place.run("dispatch", now="2026-05-08T10:30+02:00")
    place.ok("db", "backup", str(kept))
    place.run("dispatch", now=NOW)
    said = json.loads(place.ok("db", "restore", str(kept), "--json"))
    assert "older than what left" in said["fenced"]
    assert place.run("dispatch", now=NOW).exit_code == 1
    assert "older than what left" in place.run("dispatch", now=NOW).output


def test_a_database_in_use_is_not_restored(place: Place) -> None:
    kept, database = place.folder / "kept.db", place.folder / "crm.db"
    place.ok("db", "backup", str(kept))
    before = database.stat().st_ino
    holder = begun(HOLDER, f"sqlite:///{database}")
    try:
        result = place.run("db", "restore", str(kept))
        assert result.exit_code == 2
        assert "is in use by another process; stop" in result.output
        assert database.stat().st_ino == before
        assert not [one for one in place.folder.iterdir() if "before" in one.name or "restored" in one.name]
    finally:
        holder.communicate("\n")
    place.ok("db", "restore", str(kept))
    assert database.stat().st_ino != before


@pytest.mark.parametrize(
    "name", ["crm.db", "./crm.db", "link", "hard", "crm.db-wal", "crm.db-shm", "round", "link-wal"]
)
def test_the_database_is_no_place_for_its_backup_and_no_backup_of_itself(place: Place, name: str) -> None:
    database = place.folder / "crm.db"
    (place.folder / "link").symlink_to("crm.db")
    (place.folder / "link-wal").symlink_to("crm.db-wal")
    (place.folder / "round").symlink_to(".")
    (place.folder / "hard").hardlink_to(database)
    file = f"{place.folder}/{name}" + ("/crm.db" if name == "round" else "")
    before = database.stat().st_ino
    for command in (("backup", "--force"), ("restore",)):
        refused = place.run("db", *command, file)
        assert refused.exit_code == 2, refused.output
        assert f"{Path(file)}: belongs to the database itself; name " in refused.stderr
    assert database.stat().st_ino == before
    assert not [one for one in place.folder.iterdir() if one.name.endswith((".part", ".restored"))]
    place.ok("db", "status")


def test_what_is_written_beside_a_place_is_not_the_database_or_the_backup(place: Place) -> None:
    database = place.folder / "crm.db"
    kept = place.folder / "crm.db.restored"
    place.ok("db", "backup", str(kept))
    assert place.run("db", "restore", str(kept)).exit_code == 2
    assert kept.exists()
    part = place.folder / "other.part"
    place.config.write_text(place.config.read_text().replace("crm.db", part.name))
    database.rename(part)
    assert place.run("db", "backup", str(place.folder / "other")).exit_code == 2
    place.ok("db", "status")


def test_a_database_that_cannot_be_read_is_put_aside_for_its_backup(place: Place) -> None:
    kept, database = place.folder / "kept.db", place.folder / "crm.db"
    place.ok("db", "backup", str(kept))
    database.write_bytes(b"not a database at all" * 1000)
    place.ok("db", "restore", str(kept))
    place.run("dispatch", now=NOW)
    assert "sent" in place.ok("messages", "list")


def test_what_is_no_backup_is_not_put_anywhere(place: Place, tmp_path: Path) -> None:
    before = (place.folder / "crm.db").stat().st_ino
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE theirs (id INTEGER)")
    (tmp_path / "text.db").write_text("hello " * 1000)
    (tmp_path / "empty.db").touch()
    for name in ("missing.db", "other.db", "text.db", "empty.db"):
        result = place.run("db", "restore", str(tmp_path / name))
        assert result.exit_code == 2, result.output
        assert str(tmp_path / name) in result.output
        assert ".restored" not in result.output
    newer = tmp_path / "newer.db"
    place.ok("db", "backup", str(newer))
    with closing(sqlite3.connect(newer)) as other:
        other.execute("UPDATE crmkit_version SET version_num = '9999'")
        other.commit()
    result = place.run("db", "restore", str(newer))
    assert result.exit_code == 2
    assert f"{newer} is of version 9999" in result.output
    assert "newer than this program knows" in result.output
    assert (place.folder / "crm.db").stat().st_ino == before


def test_a_restored_file_is_for_whom_the_old_one_was(place: Place) -> None:
    kept, database = place.folder / "kept.db", place.folder / "crm.db"
    place.ok("db", "backup", str(kept))
    os.chmod(database, 0o640)  # noqa: PTH101
    place.ok("db", "restore", str(kept))
    assert database.stat().st_mode & 0o777 == 0o640
    place.run("sync", now=NOW)


def test_two_restores_keep_both(place: Place) -> None:
    kept = place.folder / "kept.db"
    place.ok("db", "backup", str(kept))
    for second in (1, 2):
        now = datetime(2026, 5, 9, 12, 0, second, tzinfo=UTC)
        copies.restore(kept, place.folder / "crm.db", now, lambda copy: None)
    assert len([one for one in place.folder.iterdir() if ".before-" in one.name]) == 2
