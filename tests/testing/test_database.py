import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from crmkit.testing import database
from crmkit.testing.database import MigratedTemplates, PostgresServer

SEEN: list[str] = []
MIGRATIONS: list[str] = []


@contextmanager
def connection(url: str) -> Iterator:
    engine = create_engine(url)
    try:
        with engine.begin() as open_connection:
            yield open_connection
    finally:
        engine.dispose()


@pytest.fixture(scope="session")
def migrate() -> Callable[[str], None]:
    """A small migration of this file's own, which also leaves a connection lying about as a careless one would."""
    careless = []

    def migrate(url: str) -> None:
        MIGRATIONS.append(url)
        engine = create_engine(url)
        with engine.begin() as open_connection:
            open_connection.execute(text("CREATE TABLE shelf (id integer PRIMARY KEY, label text)"))
            open_connection.execute(text("INSERT INTO shelf VALUES (1, 'first')"))
        careless.append(engine)

    return migrate


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_database_is_empty_and_ones_own(database_url: str, attempt: int) -> None:
    assert database_url not in SEEN
    SEEN.append(database_url)
    with connection(database_url) as open_connection:
        assert inspect(open_connection).get_table_names() == []
        open_connection.execute(text("CREATE TABLE dust (id integer)"))


def test_the_urls_name_the_driver(database_url: str, database_kind: str) -> None:
    start = {"sqlite": "sqlite:///", "postgresql": "postgresql+psycopg://"}[database_kind]
    assert database_url.startswith(start)


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_migrated_database_is_a_copy(migrated_url: str, attempt: int) -> None:
    assert migrated_url not in MIGRATIONS
    with connection(migrated_url) as open_connection:
        assert open_connection.execute(text("SELECT label FROM shelf")).scalars().all() == ["first"]
        open_connection.execute(text("INSERT INTO shelf VALUES (2, 'mine')"))


def test_the_template_is_migrated_once(
    migrate: Callable[[str], None], postgres_server: PostgresServer, tmp_path: Path
) -> None:
    templates = MigratedTemplates(tmp_path)
    before = len(MIGRATIONS)
    urls = {templates.sqlite(migrate, tmp_path / f"{n}.db") for n in range(3)}
    names = [templates.postgresql(migrate, postgres_server) for _ in range(3)]
    for name in names:
        postgres_server.drop(name)
    assert len(urls) == len(set(names)) == 3
    assert len(MIGRATIONS) - before == 2


def test_a_sqlite_copy_keeps_the_journal_mode_and_what_was_in_the_log(tmp_path: Path) -> None:
    kept_open = []

    def migrate(url: str) -> None:
        writer = sqlite3.connect(url.removeprefix("sqlite:///"))
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE shelf (id integer)")
        writer.commit()
        kept_open.append(writer)

    MigratedTemplates(tmp_path).sqlite(migrate, tmp_path / "copy.db")
    copy = sqlite3.connect(tmp_path / "copy.db")
    assert copy.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert copy.execute("SELECT name FROM sqlite_master").fetchall() == [("shelf",)]
    copy.close()
    kept_open[0].close()


def test_a_dropped_database_is_gone_even_while_somebody_is_connected(postgres_server: PostgresServer) -> None:
    name = postgres_server.create()
    engine = create_engine(postgres_server.url(name))
    with engine.connect():
        postgres_server.drop(name)
    engine.dispose()
    with connection(postgres_server.url("postgres")) as open_connection:
        names = open_connection.execute(text("SELECT datname FROM pg_database")).scalars().all()
    assert name not in names


KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from crmkit.testing import database

database._fast_folder = lambda: Path(sys.argv[1])
server = database.PostgresServer()
print((server._folder / "data" / "postmaster.pid").read_text().split()[0], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_left_behind_is_swept() -> None:
    parent = Path(tempfile.mkdtemp(prefix="crmkit-sweep-"))
    try:
        killed = subprocess.run([sys.executable, "-c", KILLED_RUN, parent], stdout=subprocess.PIPE, text=True)
        assert killed.returncode == -signal.SIGKILL
        server_pid = int(killed.stdout)
        os.kill(server_pid, 0)
        (left,) = parent.iterdir()

        database._sweep(parent)
        assert left.exists(), "it may be just starting"

        os.utime(left, (0, 0))
        database._sweep(parent)
        assert not left.exists()
        with pytest.raises(ProcessLookupError):
            os.kill(server_pid, 0)
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def test_a_server_in_use_is_not_swept(postgres_server: PostgresServer) -> None:
    folder = postgres_server._folder
    os.utime(folder, (0, 0))
    database._sweep(folder.parent)
    with connection(postgres_server.url("postgres")) as open_connection:
        assert open_connection.execute(text("SELECT 1")).scalar() == 1
