"""A database is created and upgraded by command, and refused where it is of another version."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine import Connection

from crmkit.core.errors import DatabaseError
from crmkit.store import accounts
from crmkit.store import tables as t
from crmkit.store.engine import Store
from crmkit.store.migrate import absent, check, is_empty, upgrade, versions
from tests.dump import everything
from tests.play import NOON


def test_the_migrations_make_the_tables_of_the_models(store: Store) -> None:
    ours = {table.name for table in t.CORE}
    core = sa.MetaData()
    for table in t.CORE:
        table.to_metadata(core)
    options = {"compare_type": True, "version_table": "crmkit_version", "include_name": _only(ours)}
    with store.read() as tx:
        assert compare_metadata(MigrationContext.configure(tx, opts=options), core) == []


def test_each_database_is_an_installation_of_its_own_for_ever(tmp_path: Path) -> None:
    def mark(name: str) -> str:
        upgrade(f"sqlite:///{tmp_path / name}")
        store = Store(f"sqlite:///{tmp_path / name}")
        try:
            with store.begin() as tx:
                return accounts.installation(tx, NOON)
        finally:
            store.close()

    first, second = mark("shop.db"), mark("trial.db")
    assert first != second
    assert (mark("shop.db"), mark("trial.db")) == (first, second)


def test_who_asks_at_once_which_installation_it_is_is_told_the_same(store: Store) -> None:
    def ask() -> str:
        with store.begin() as tx:
            return accounts.installation(tx, NOON)

    with ThreadPoolExecutor(4) as threads:
        assert len({asked.result() for asked in [threads.submit(ask) for _ in range(8)]}) == 1


def _only(ours: set[str]):  # type: ignore[no-untyped-def]
    return lambda name, kind, parents: kind != "table" or name in ours


def test_partial_indexes_are_partial_on_both_databases(store: Store) -> None:
    def where(index: sa.Index) -> str | None:
        condition = index.dialect_options[store.engine.dialect.name].get("where")
        return None if condition is None else str(condition)

    with store.read() as tx:
        inspector = sa.inspect(tx)
        for table in t.CORE:
            stored = {index["name"]: index for index in inspector.get_indexes(table.name)}
            for index in table.indexes:
                options = stored[index.name]["dialect_options"]
                found = options.get(f"{store.engine.dialect.name}_where")
                assert (found is None) == (where(index) is None), index.name


def test_upgrading_twice_changes_nothing(database_url: str) -> None:
    assert [version.current for version in upgrade(database_url)] == [None]
    (before,) = upgrade(database_url)
    assert before.is_current
    store = Store(database_url)
    check(store)
    store.close()


def test_a_database_that_is_not_there_is_named_with_the_command(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'none.db'}")
    assert is_empty(store)
    with pytest.raises(DatabaseError, match=r"none\.db does not exist yet.*crmkit"):
        check(store)
    assert not (tmp_path / "none.db").exists()
    store.close()


def test_an_empty_database_is_named_with_the_command(database_url: str) -> None:
    store = Store(database_url)
    with store.begin():
        pass
    assert is_empty(store)
    with pytest.raises(DatabaseError, match=r"version none.*run `crmkit db upgrade`"):
        check(store)
    store.close()


def test_a_newer_database_is_refused_and_left_alone(migrated_url: str) -> None:
    store = Store(migrated_url)
    with store.begin() as tx:
        tx.exec_driver_sql("UPDATE crmkit_version SET version_num = '9999'")
    for step in (lambda: check(store), lambda: upgrade(migrated_url)):
        with pytest.raises(DatabaseError, match=r"version 9999.*newer than this program knows.*upgrade crmkit"):
            step()
    with store.read() as tx:
        assert versions(tx)[0].current == "9999"
    store.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:////nowhere-at-all/crm.db", "cannot be opened.*its folder exists"),
        ("mysql://x/y", "kind of database|not installed"),
        ("nonsense", "address cannot be read"),
        ("postgresql://nobody@127.0.0.1:1/none", "cannot be opened.*server runs"),
    ],
)
def test_a_database_that_cannot_be_opened_is_named(url: str, says: str) -> None:
    with pytest.raises(DatabaseError, match=says):
        upgrade(url)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseError, match=r"cannot be opened.*its folder exists"):
        upgrade(f"sqlite:///{tmp_path / 'file' / 'crm.db'}")


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "crm.db").write_text("once upon a time " * 100)
    with pytest.raises(DatabaseError, match="not a database"):
        upgrade(f"sqlite:///{tmp_path / 'crm.db'}")


def test_a_rehearsal_leaves_nothing_behind(store: Store) -> None:
    row = {"id": 1, "command": "sync", "started_at": NOON}
    with store.read() as tx:
        before = everything(tx)
    with store.rehearse() as tx:
        tx.execute(t.run.insert(), row)
        with tx.begin_nested():
            tx.execute(t.run.insert(), {**row, "id": 2})
        assert tx.execute(sa.select(sa.func.count()).select_from(t.run)).scalar() == 2
    with pytest.raises(RuntimeError), store.rehearse() as tx:
        tx.execute(t.run.insert(), row)
        raise RuntimeError
    with store.read() as tx:
        assert everything(tx) == before


def test_a_transaction_that_raises_leaves_nothing_behind(store: Store) -> None:
    with pytest.raises(RuntimeError), store.begin() as tx:
        tx.execute(t.run.insert(), {"id": 1, "command": "sync", "started_at": NOON})
        raise RuntimeError
    with store.read() as tx:
        assert tx.execute(sa.select(t.run)).first() is None


FIRST = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "1", None, None, None


def upgrade():
    op.create_table("points_entry", sa.Column("id", sa.Integer(), primary_key=True))
"""
SECOND = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "2", "1", None, None


def upgrade():
    op.add_column("points_entry", sa.Column("points", sa.Integer()))
"""


def test_a_plugins_tables_have_a_history_of_their_own_and_are_left_alone_without_it(
    database_url: str, tmp_path: Path
) -> None:
    # SEMANTICS 35
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "versions" / "a.py").write_text(FIRST)
    upgrade(database_url, {"points": folder})
    store = Store(database_url)
    try:
        with store.begin() as tx:
            tx.execute(sa.text("INSERT INTO points_entry (id) VALUES (7)"))
        (folder / "versions" / "b.py").write_text(SECOND)
        upgrade(database_url)  # the plugin is not loaded
        with store.read() as tx:
            assert absent(tx) == ["points"]
            assert absent(tx, {"points": folder}) == []
            assert versions(tx, {"points": folder})[1].current == "1"
        upgrade(database_url, {"points": folder})
        with store.read() as tx:
            assert tx.execute(sa.text("SELECT id, points FROM points_entry")).all() == [(7, None)]
            assert [one.is_current for one in versions(tx, {"points": folder})] == [True, True]
    finally:
        store.close()


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_two_that_waited_for_each_other_are_both_done(migrated_url: str) -> None:
    # SEMANTICS 34
    one, other = Store(migrated_url), Store(migrated_url)
    both = threading.Barrier(2)
    tried: list[int] = []

    def step(tx: Connection, first: int, second: int) -> None:
        tried.append(first)
        tx.execute(sa.text("SELECT pg_advisory_xact_lock(:n)"), {"n": first})
        if len(tried) <= 2:
            both.wait(5)
        tx.execute(sa.text("SELECT pg_advisory_xact_lock(:n)"), {"n": second})

    try:
        await asyncio.gather(one.run(step, 1, 2), other.run(step, 2, 1))
    finally:
        one.close()
        other.close()
    assert len(tried) == 3
