"""The database is full or read-only in the middle of work: what it refuses then is nobody's fault, and done later."""

import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from sqlalchemy.exc import DBAPIError

from crmkit.cli import cli
from crmkit.cli.call import told
from crmkit.flow.claim import sweep
from crmkit.store import outage
from crmkit.store import tables as t
from crmkit.store.engine import Store, is_out_of_order
from tests.play import HOUR, NOON, Play, entry, order
from tests.scripted import Deduplicating, Scripted, accept, queue, send


@contextmanager
def full(store: Store, table: str, rows: int) -> Iterator[None]:
    """No room for more than so many rows of a table.

    A SQLite file may not grow by more pages than that takes. On PostgreSQL a trigger raises what a server with a full
    disk does: the server itself cannot be filled here.
    """
    if store.file is None:
        with store.begin() as tx:
            tx.exec_driver_sql(
                f"CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                f" IF (SELECT count(*) FROM {table}) >= {rows} THEN"
                f" RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';"
                f" END IF; RETURN NEW; END $$"
            )
            tx.exec_driver_sql(
                f"CREATE TRIGGER full_disk BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION full_disk()"
            )
        yield
        with store.begin() as tx:
            tx.exec_driver_sql(f"DROP TRIGGER full_disk ON {table}")
            tx.exec_driver_sql("DROP FUNCTION full_disk()")
        return
    with store.begin() as tx:
        pages = int(tx.exec_driver_sql("PRAGMA page_count").scalar_one())
        free = int(tx.exec_driver_sql("PRAGMA freelist_count").scalar_one())
    most = max(pages, pages - free + rows // 20)

    def bound(connection: Any, *_: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={most}")

    sa.event.listen(store.engine, "connect", bound)
    store.engine.dispose()
    try:
        yield
    finally:
        sa.event.remove(store.engine, "connect", bound)
        store.engine.dispose()


@contextmanager
def read_only(store: Store) -> Iterator[None]:
    """Nothing can be written."""
    name = store.engine.url.database

    def refuse(connection: Any, *_: Any) -> None:
        connection.execute("PRAGMA query_only=ON")

    if store.file is not None:
        sa.event.listen(store.engine, "connect", refuse)
    else:
        with store.begin() as tx:
            tx.exec_driver_sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    store.engine.dispose()
    try:
        yield
    finally:
        if store.file is not None:
            sa.event.remove(store.engine, "connect", refuse)
        else:
            with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as tx:
                tx.exec_driver_sql("SET default_transaction_read_only = off")
                tx.exec_driver_sql(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        store.engine.dispose()


def must_fail(caught: pytest.ExceptionInfo[DBAPIError], store: Store, do: str) -> None:
    """It is the machine's fault, and the error says which database it is, and what to do."""
    error: Any = caught.value
    assert is_out_of_order(error)
    assert error.place == store.where
    assert do in error.remedy


def test_on_a_full_disk_no_record_is_called_wrong_and_all_come_in_later(play: Play) -> None:
    records = [order(str(number), note="x" * 2000) for number in range(300)]
    with full(play.store, "orders", 20), pytest.raises(DBAPIError) as caught:
        play.take(*records)
    must_fail(caught, play.store, "free space")
    assert play.count(t.quarantine) == play.count(t.orders) == 0, "all or nothing"
    play.take(*records)
    assert (play.count(t.orders), play.count(t.quarantine)) == (300, 0)


def test_where_nothing_can_be_written_no_record_is_called_wrong(play: Play) -> None:
    with read_only(play.store), pytest.raises(DBAPIError) as caught:
        play.take(order("1"))
    must_fail(caught, play.store, "write")
    play.take(order("1"))
    assert (play.count(t.orders), play.count(t.quarantine)) == (1, 0)


# SEMANTICS 22
@pytest.mark.parametrize("kind", [Scripted, Deduplicating])
async def test_a_disk_that_is_full_in_the_middle_of_sending_doubles_nothing(play: Play, kind: type[Scripted]) -> None:
    """What was marked when its result could not be kept is in doubt, and no other."""
    play.channels = {"email": [entry(kind, "mail")]}
    queue(play, 120)
    long = "x" * 3000

    def answer(message: Any) -> Any:
        return message.accepted(vendor_id=f"v{message.id}{long}")

    gateway = kind(answer)
    with full(play.store, "attempt", 30), pytest.raises(DBAPIError) as caught:
        await send(play, gateway)
    must_fail(caught, play.store, "free space")
    first = Counter(gateway.asked)
    assert first and set(first.values()) == {1}

    later = NOON + HOUR
    with play.store.begin() as tx:
        sweep(tx, play.setup, later, later)
    doubted = {row["key"] for row in play.rows(t.message) if row["doubted_at"] is not None}
    known = {row["key"] for row in play.rows(t.message, state="sent")}
    assert set(first) <= doubted | known, "what was asked is known, or in doubt"
    again = kind(accept)
    await send(play, again, later)
    await send(play, again, later + timedelta(days=2))
    repeated = set(again.asked) & set(first)
    assert repeated == (doubted & set(first) if kind is Deduplicating else set())
    assert set(again.asked) | set(first) | doubted == {row["key"] for row in play.rows(t.message)}, "nothing is lost"
    states = Counter(row["state"] for row in play.rows(t.message))
    assert states["sent"] == (120 if kind is Deduplicating else 120 - len(doubted))
    assert states["in-doubt"] == (0 if kind is Deduplicating else len(doubted))


def test_on_a_full_disk_nothing_is_decided_by_halves(play: Play) -> None:
    queue(play, 5)
    play.take(*(order(f"more {number}", at=NOON) for number in range(200)))
    before = play.count(t.message)
    with full(play.store, "message", before), pytest.raises(DBAPIError) as caught:
        play.decide()
    must_fail(caught, play.store, "free space")
    assert (play.count(t.message), play.count(t.pending, parked_at=None)) == (before, 200), "no handler is blamed"
    play.decide()
    assert (play.count(t.message), play.count(t.pending)) == (before + 200, 0)


def test_a_server_that_lets_nobody_in_is_named(tmp_path: Path) -> None:
    engine = sa.create_engine(f"postgresql+psycopg://me@/shop?host={tmp_path}")
    outage.watch(engine, "the shop's database")
    with pytest.raises(DBAPIError) as caught:
        engine.connect()
    error: Any = caught.value
    assert (error.place, error.remedy) == ("the shop's database", outage.remedy(_Stated("08006")))


class _Stated(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_a_server_that_cannot_be_reached_again_is_named(play: Play) -> None:
    """Its connection was lost, and whoever asks on over it is connected anew."""

    def down(*_: Any) -> None:
        raise psycopg.OperationalError("the database system is in recovery mode")

    with play.store.engine.connect() as tx:
        tx.invalidate()
        sa.event.listen(play.store.engine, "do_connect", down)
        with pytest.raises(DBAPIError) as caught:
            tx.exec_driver_sql("SELECT 1")
    sa.event.remove(play.store.engine, "do_connect", down)
    said, code = told(caught.value)
    assert (said.startswith(f"database {play.store.where}: the database system is in"), code) == (True, 2), said


def test_the_program_tells_the_error_and_not_what_follows_from_it(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("psycopg")
    for _ in range(2):  # what it filters, it filters once
        CliRunner().invoke(cli, ["db", "--help"])
    assert len(logger.filters) == 1
    logger.warning("error ignored terminating %r: %s", "a pipeline", "it was aborted")
    logger.warning("something else")
    assert caplog.messages == ["something else"]


def test_who_opens_a_database_without_the_program_hears_all_that_its_driver_says() -> None:
    code = "import logging, crmkit.store.engine; print(logging.getLogger('psycopg').filters)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
