"""A busy year makes nothing dearer: the same statements, and of no growing table more rows are touched.

How long it takes is `python -m benchmarks year`.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from benchmarks import house, year
from benchmarks.house import House
from crmkit.store.engine import Store
from crmkit.testing.copy import take_on

SEED, NEW, TIMES = 60, 40, 60


@contextmanager
def told(store: Store) -> Iterator[list[tuple[str, Any]]]:
    """What a database is told within, with the parameters."""
    said: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        said.append((statement, parameters[0] if many else parameters))

    sa.event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        sa.event.remove(store.engine, "before_cursor_execute", note)


def work(place: House) -> list[tuple[str, Any]]:
    """What a sync and a dispatch of some new orders say to the database."""
    house.load(SEED + NEW)
    with place.engine() as engine, told(engine.store) as said:
        [run] = asyncio.run(engine.sync(now=house.shop.NOW))
        assert not run.errors
        done = asyncio.run(engine.dispatch())
        assert done.fenced is None
        assert done.delivered.states["sent"] >= NEW // 2
    return said


def counted(said: list[tuple[str, Any]]) -> Counter[str]:
    """How often each kind of statement was said, whatever the numbers in it."""
    return Counter(" ".join(re.sub(r"\d+", "0", statement).split())[:80] for statement, _ in said)


@pytest.fixture
def place(tmp_path: Path, database_url: str) -> House:
    """A shop that told its buyers of some orders."""
    found = House(tmp_path / "house", channel=year.CHANNEL, url=database_url)
    house.load(SEED)
    found.create()
    found.sync()
    found.dispatch()
    return found


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_no_statement_looks_through_a_growing_table(place: House) -> None:
    with place.engine() as engine, engine.store.begin() as tx:
        year.fill(tx, TIMES)
    take_on(place.url)
    growing = "|".join(table.name for table in year.GROWING)
    through: set[str] = set()
    said = work(place)
    with place.engine() as engine, engine.store.read() as tx:
        for statement, parameters in said:
            if not statement.lstrip().upper().startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
                continue
            for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", tuple(parameters)):
                if re.fullmatch(rf"SCAN ({growing})( AS \w+)?", row[3]):
                    through.add(f"{row[3]}: {statement[:300]}")
    assert not through, "\n".join(sorted(through))


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_no_more_rows_are_touched_after_a_busy_year(place: House, tmp_path: Path, postgres_server: Any) -> None:
    name = sa.engine.make_url(place.url).database
    copy = postgres_server.create(name)
    full = House(tmp_path / "full", channel=year.CHANNEL, url=postgres_server.url(copy))
    try:
        with full.engine() as engine:
            with engine.store.begin() as tx:
                year.fill(tx, TIMES)
            with engine.store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("ANALYZE")
                for each in (name, copy):  # a table of few pages is read whole by choice; here only where it must
                    for choice in ("seqscan", "hashjoin", "mergejoin"):
                        connection.exec_driver_sql(f"ALTER DATABASE {each} SET enable_{choice} = off")
        take_on(full.url)
        said: dict[str, Counter[str]] = {}
        touched: dict[str, dict[str, int]] = {}
        for which, one in (("nothing", place), ("year", full)):
            one.dispatch()  # what is usual at a shop is learnt once a day, of some weeks
            before = rows_touched(one)
            said[which] = counted(work(one))
            after = rows_touched(one)
            touched[which] = {table: after[table] - before[table] for table in after}
        assert said["year"] == said["nothing"]
        for table in year.GROWING:
            few, many = touched["nothing"][table.name], touched["year"][table.name]
            assert many <= 1.5 * few + 500, (table.name, few, many)
    finally:
        postgres_server.drop(copy)


def rows_touched(place: House) -> dict[str, int]:
    """Rows the server has read so far, of each table."""
    with place.engine() as engine, engine.store.begin() as tx:
        tx.exec_driver_sql("SELECT pg_stat_force_next_flush()")
    with place.engine() as engine, engine.store.read() as tx:
        rows = tx.exec_driver_sql(
            "SELECT relname, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables"
        )
        return {name: int(count) for name, count in rows}
