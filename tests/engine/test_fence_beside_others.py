"""The fence where several processes send at once, each noting in the one folder what it delivered."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from crmkit.core.instance import Note
from crmkit.engine.fence import Fence
from crmkit.host.host import Host
from crmkit.store import bulk, instance
from crmkit.store import tables as t
from crmkit.store.engine import Store

#: On SQLite there is one writer at a time: nobody delivers while another enters; and a file is where it is.
on_a_server = pytest.mark.parametrize("database_kind", ["postgresql"])
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def fence(tmp_path: Path, migrated_url: str) -> Fence:
    path = tmp_path / "crmkit.toml"
    path.write_text(f'[crm]\ndatabase = "{migrated_url}"\n')
    host = Host.open(path)
    return Fence(host, Store(migrated_url), {"CRMKIT_STATE": str(tmp_path / "state")})


def deliver(store: Store, number: int) -> None:
    try_ = {"id": number, "message_id": 1, "number": number, "gateway": "mail", "outcome": "accepted"}
    with store.begin() as tx:
        bulk.insert(tx, t.attempt, [{**try_, "started_at": NOW, "finished_at": NOW}])


@pytest.fixture
def busy(fence: Fence, migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fence]:
    """Another process delivers, and notes it, whenever this one is about to read the note."""
    with fence.store.begin() as tx:
        assert fence.enter(tx, NOW) is None
        name = instance.name(tx)
    assert name is not None
    assert fence.notes is not None
    notes, read, other, numbers = fence.notes, fence.notes.read, Store(migrated_url), count(7)

    def meanwhile(named: str) -> Note | None:
        number = next(numbers)
        deliver(other, number)
        notes.rise(Note(named, 0, number, NOW))
        return read(named)

    monkeypatch.setattr(notes, "read", meanwhile)
    yield fence
    other.close()
    fence.store.close()


# SEMANTICS 29
@on_a_server
def test_what_another_delivers_and_notes_while_one_enters_fences_nobody(busy: Fence) -> None:
    with busy.store.begin() as tx:
        assert busy.enter(tx, NOW) is None


# SEMANTICS 29
def test_what_another_delivers_and_notes_while_one_looks_fences_nobody(busy: Fence) -> None:
    found = busy.standing()
    assert found.fenced is None
    assert (found.note and found.note.sequence, found.instance and found.instance.sequence) == (7, 7)


# SEMANTICS 29
def test_a_database_that_is_adopted_under_another_name_while_one_looks_fences_nobody(
    fence: Fence, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fence.store.begin() as tx:
        assert fence.enter(tx, NOW) is None
    assert fence.notes is not None
    read, names = fence.notes.read, ["another"]

    def meanwhile(named: str) -> Note | None:
        note = read(named)
        if names:
            fence.adopt(names.pop(), None, NOW)
        return note

    monkeypatch.setattr(fence.notes, "read", meanwhile)
    found = fence.standing()
    assert (found.fenced, found.instance and found.instance.name) == (None, "another")
    fence.store.close()


# SEMANTICS 29
def test_a_database_that_is_behind_is_so_for_who_looks_too(fence: Fence) -> None:
    with fence.store.begin() as tx:
        assert fence.enter(tx, NOW) is None
        name = instance.name(tx)
    assert fence.notes is not None
    assert name is not None
    fence.notes.rise(Note(name, 0, 7, NOW))
    found = fence.standing().fenced
    assert found is not None
    assert found.kind == "behind"
    fence.store.close()


@on_a_server
def test_a_server_that_does_not_answer_is_not_elsewhere(fence: Fence) -> None:
    with fence.store.begin() as tx:
        assert fence.enter(tx, NOW) is None
    with pytest.raises(OperationalError), fence.store.begin() as tx:

        @sa.event.listens_for(tx, "before_cursor_execute")
        def cut(connection: sa.Connection, cursor: object, statement: str, *_: object) -> None:
            if "pg_control_system" in statement:
                other = Store(fence.host.config.database)
                with other.begin() as ending:
                    (pid,) = connection.connection.cursor().execute("SELECT pg_backend_pid()").fetchone()
                    ending.exec_driver_sql("SELECT pg_terminate_backend(%s, 5000)", (pid,))
                other.close()

        fence.enter(tx, NOW)
    with fence.store.begin() as tx:
        assert fence.enter(tx, NOW) is None


# SEMANTICS 29
@on_a_server  # on SQLite one enters at a time
def test_who_begins_while_another_names_the_database_is_not_fenced(
    fence: Fence, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, other = instance.name, Fence(fence.host, Store(fence.host.config.database), fence._env)

    def meanwhile(tx: sa.Connection) -> str | None:
        monkeypatch.setattr(instance, "name", real)
        found = real(tx)
        with other.store.begin() as naming:
            assert other.enter(naming, NOW) is None
        deliver(other.store, 7)
        return found

    monkeypatch.setattr(instance, "name", meanwhile)
    with fence.store.begin() as tx:
        assert fence.enter(tx, NOW) is None
    other.store.close()
