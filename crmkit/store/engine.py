"""Opens a database. All database work of a process goes through one writer thread; the event loop never waits in SQL.

SQLite is opened in WAL mode with synchronous=FULL, and every write transaction begins IMMEDIATE, so that two
processes wait for each other instead of failing half-way. PostgreSQL runs at READ COMMITTED; what must not run twice
at once takes a lock by name.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from crmkit.core.errors import DatabaseError
from crmkit.store import lines, outage

R = TypeVar("R")

_BUSY_MS = 60_000
#: So long a transaction may say nothing, where the server has no limit of its own.
_SILENT_MS = 60_000
#: Where a transaction says up to which number it recorded tries at delivering.
DELIVERED = "crmkit delivered"


def create(url: str) -> sa.Engine:
    """An engine for `sqlite:///FILE` or `postgresql://...`.

    Raises:
        DatabaseError: the address cannot be read, or its driver is not installed.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise DatabaseError(
            "the address cannot be read", who="database", do="write sqlite:///crm.db or postgresql://user@host/name"
        ) from None
    if parsed.drivername in {"postgresql", "postgres"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        if parsed.get_backend_name() != "sqlite":
            return _server(parsed)
        engine = sa.create_engine(parsed, poolclass=QueuePool, pool_size=4, connect_args={"check_same_thread": False})
    except NoSuchModuleError:
        raise DatabaseError(
            f"unknown kind of database {parsed.drivername!r}", who="database", do="use sqlite or postgresql"
        ) from None
    except ModuleNotFoundError as error:
        raise DatabaseError(
            f"{error.name} is not installed", who="database", do="pip install 'crmkit[postgres]'"
        ) from None

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA cache_size=-65536")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("crmkit_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _server(url: sa.URL) -> sa.Engine:
    """An engine on PostgreSQL, which ends a transaction whose process says nothing more: the frozen hold no locks."""
    engine = sa.create_engine(url, pool_size=4, pool_pre_ping=True)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config(name, %s, false) FROM pg_settings"
                " WHERE name = 'idle_in_transaction_session_timeout' AND setting = '0'",
                (str(_SILENT_MS),),
            )
        connection.commit()

    return engine


class Store:
    """An open database.

    Args:
        url: its address.
        key: the installation's secret, where it has one: whom it forgot is known by it (`forgotten.key_of`).

    Raises:
        DatabaseError: on first use, if it cannot be reached or written.
    """

    def __init__(self, url: str, key: bytes | None = None) -> None:
        self.engine = create(url)
        self.engine.update_execution_options(crmkit_key=key)
        #: told, once it is committed, up to which number tries at delivering were recorded
        self.delivered: Callable[[int], None] | None = None
        lines.watch(self.engine)
        outage.watch(self.engine, self.where)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="crmkit-database")

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A write transaction: committed at the end, rolled back by an exception."""
        with self._connect().execution_options(crmkit_write=True) as connection:
            lines.begin(connection)
            connection.info.pop(DELIVERED, None)
            is_committed = False
            try:
                with connection.begin():
                    yield connection
                is_committed = True
            finally:
                lines.end(connection, is_committed=is_committed)
                delivered = connection.info.pop(DELIVERED, None)
                if is_committed and delivered is not None and self.delivered is not None:
                    self.delivered(delivered)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction."""
        with self._connect() as connection, connection.begin() as transaction:
            yield connection
            transaction.rollback()

    @contextmanager
    def rehearse(self) -> Iterator[Connection]:
        """A write transaction that is always rolled back: a dry run is the run."""
        with self._connect().execution_options(crmkit_write=True) as connection:
            transaction = connection.begin()
            try:
                yield connection
            finally:
                transaction.rollback()

    async def run(self, step: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """Run `step(connection, ...)` in a write transaction in the database thread.

        Interrupted while it waits, it lets the transaction end first: what was begun is either committed or not.
        """
        waiting = asyncio.wrap_future(self._thread.submit(self._in_transaction, step, args, kwargs))
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            await asyncio.wait([waiting])
            raise

    def _in_transaction(self, step: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        tries = 1
        while True:
            try:
                with self.begin() as connection:
                    return step(connection, *args, **kwargs)
            except DBAPIError as error:  # two that waited for each other: rolled back, it can simply be done again
                if getattr(error.orig, "sqlstate", None) not in _AGAIN or tries >= TRIES:
                    raise
            tries += 1

    def _connect(self) -> Connection:
        try:
            return self.engine.connect()
        except DBAPIError as error:
            raise DatabaseError(
                f"{self.where} cannot be opened ({_first_line(error)})",
                who="database",
                do="check that its folder exists and can be written"
                if self.engine.dialect.name == "sqlite"
                else "check that the server runs and lets this user in",
            ) from error

    @property
    def where(self) -> str:
        """The database's address, without its password."""
        return self.engine.url.render_as_string(hide_password=True)

    @property
    def file(self) -> Path | None:
        """The SQLite file; None for a server."""
        name = self.engine.url.database
        return Path(name) if self.engine.dialect.name == "sqlite" and name else None

    def close(self) -> None:
        """Wait for the database thread and let every connection go."""
        self._thread.shutdown(wait=True)
        self.engine.dispose()


#: A step that lost against another transaction is done again, so often in all.
_AGAIN, TRIES = frozenset({"40001", "40P01"}), 4
#: What is wrong with the database or the machine, and not with a row: SQLite's names, PostgreSQL's classes of errors.
_OUT_OF_ORDER = ("BUSY", "CANTOPEN", "CORRUPT", "FULL", "INTERRUPT", "IOERR", "LOCKED", "NOMEM", "NOTADB", "READONLY")
_OUT_OF_ORDER_STATES = ("08", "25006", "40", "42501", "53", "55P03", "57", "58", "F0", "XX")
#: Raised where a row cannot be stored. Some are the driver's own, which SQLAlchemy hands on as they are: an integer
#: beyond 64 bits, text that is no UTF-8, a value that is no JSON.
UNSTORABLE = (DBAPIError, ArithmeticError, TypeError, ValueError)


def refusal(error: BaseException) -> str | None:
    """Why a row was refused, None if it is not the row's fault: a full disk, a lost connection, a deadlock."""
    if not isinstance(error, DBAPIError):
        return f"it cannot be stored: {_first_line(error)}" if isinstance(error, UNSTORABLE) else None
    name = (getattr(error.orig, "sqlite_errorname", None) or "").removeprefix("SQLITE_")
    state = getattr(error.orig, "sqlstate", None) or ""
    if error.connection_invalidated or name.startswith(_OUT_OF_ORDER) or state.startswith(_OUT_OF_ORDER_STATES):
        return None
    return f"the database refused it: {_first_line(error)}"


def is_out_of_order(error: BaseException) -> bool:
    """Whether the database or the machine is at fault, and not what was to be stored: another time it may be."""
    if isinstance(error, DBAPIError):
        return refusal(error) is None
    return isinstance(error, PoolTimeout | OSError | MemoryError)


def _first_line(error: BaseException) -> str:
    return str(getattr(error, "orig", error)).strip().splitlines()[0] if str(error) else type(error).__name__
