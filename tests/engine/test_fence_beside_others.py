"""The fence where several processes send at once, each noting in the one folder what it delivered."""

from datetime import UTC, datetime
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
pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"])
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


# SEMANTICS 29
def test_what_another_delivers_and_notes_while_one_looks_fences_nobody(
    fence: Fence, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fence.store.begin() as tx:
        assert fence.enter(tx, NOW) is None
        name = instance.name(tx)
    assert name is not None
    assert fence.notes is not None
    notes, read, other = fence.notes, fence.notes.read, Store(migrated_url)

    def meanwhile(named: str) -> Note | None:
        deliver(other, 7)
        notes.rise(Note(named, 0, 7, NOW))
        return read(named)

    monkeypatch.setattr(notes, "read", meanwhile)
    with fence.store.read() as tx:
        assert fence.look(tx).fenced is None
    other.close()


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
