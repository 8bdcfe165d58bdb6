"""What workers need in a database is made by a command, once, and looked at by whoever needs it."""

import asyncio
from datetime import timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import psycopg
import pytest
from procrastinate.schema import SchemaManager

from crmkit import DatabaseError
from crmkit.store import migrate as migrations
from crmkit.store import presence
from crmkit.store.engine import Store
from crmkit_cluster import jobs, schema
from crmkit_cluster.address import SCHEMA, conninfo, settings
from crmkit_cluster.jobs import Wake
from crmkit_cluster.line import Connector
from crmkit_cluster.schedule import cron_of


def connect(url: str, **more: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(conninfo(url), autocommit=True, **settings("test"), **more)


def test_a_database_is_set_up_once_and_taken_down_without_a_trace(plain_url: str) -> None:
    with pytest.raises(DatabaseError, match="not set up for workers; run `crmkit cluster setup`"):
        schema.check(plain_url)
    assert schema.set_up(plain_url) == {}
    schema.check(plain_url)
    assert schema.set_up(plain_url) == schema.wanted()
    schema.take_down(plain_url)
    with connect(plain_url) as connection:
        left = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'crmkit%'"
        assert connection.execute(left).fetchone() == (0,)
        assert connection.execute("SELECT to_regnamespace(%s)", (SCHEMA,)).fetchone() == (None,)


def test_an_older_schema_of_procrastinate_is_brought_up_to_date(url: str) -> None:
    older = "03.03.00_01_pre_priority_lock_fetch_job"
    files = sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql"))
    with psycopg.connect(conninfo(url), **settings("test")) as connection:
        connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
        connection.execute(f"CREATE SCHEMA {SCHEMA}")
        for path in files:
            if path.stem <= older:
                connection.execute(path.read_bytes())
        connection.execute(schema._TABLES)
        connection.execute("INSERT INTO version VALUES ('procrastinate', %s)", (older,))
    with pytest.raises(DatabaseError, match=r"another version: .*procrastinate 03\.03\.00"):
        schema.check(url)
    assert schema.set_up(url) == {"procrastinate": older}
    schema.check(url)
    with connect(url) as connection:
        assert connection.execute("SELECT to_regproc('procrastinate_retry_job_v2') IS NOT NULL").fetchone() == (True,)


def test_a_newer_schema_is_refused(url: str) -> None:
    with connect(url) as connection:
        connection.execute("UPDATE version SET value = '99.00.00_01_pre_none' WHERE name = 'procrastinate'")
    for refuses in (schema.check, schema.set_up):
        with pytest.raises(DatabaseError, match="newer version"):
            refuses(url)


def test_work_is_told_when_it_is_committed_and_not_before(url: str) -> None:
    message = (
        "INSERT INTO message (id, key, depth, plugin, template, purpose, channel, gateways, decided_at, not_before,"
        " state, tries, gateway, look_ups) VALUES (%s, %s, 0, 'p', 't', 'transactional', 'sms', '[]', now(),"
        " now() + %s, %s, 0, 'text', 0)"
    )
    pending = "INSERT INTO pending (id, interaction_id, due_at, tries) VALUES (%s, %s, now() + %s, 0)"
    now, later = timedelta(0), timedelta(hours=1)
    with connect(url) as hearing, psycopg.connect(conninfo(url)) as working:
        hearing.execute(f"LISTEN {schema.CHANNEL}")
        working.execute(pending, (1, 1, now))
        working.execute(pending, (2, 2, now))
        working.execute(message, (1, "a", now, "queued"))
        working.execute("INSERT INTO hint VALUES (1, 'order', 'x', now(), 0, NULL)")
        assert list(hearing.notifies(timeout=0.2)) == []
        working.commit()
        told = [said.payload for said in hearing.notifies(timeout=5, stop_after=3)]
        assert sorted(told) == ["decide", "deliver text", "follow"], "each once in a transaction"
        working.execute(pending, (3, 3, later))
        working.execute(message, (2, "b", later, "queued"))
        working.execute(message, (3, "c", now, "suppressed"))
        working.execute("UPDATE message SET state = 'sending' WHERE id = 1")
        working.commit()
        assert list(hearing.notifies(timeout=0.2)) == [], "nothing of it can be done now"
        working.execute("UPDATE message SET state = 'queued' WHERE id = 1")
        working.commit()
        assert [said.payload for said in hearing.notifies(timeout=5, stop_after=1)] == ["deliver text"]


def test_a_clock_ahead_of_the_servers_and_a_reason_that_is_lifted_wake_workers_too(url: str) -> None:
    message = (
        "INSERT INTO message (id, key, depth, plugin, template, purpose, channel, gateways, decided_at, not_before,"
        " state, reason, tries, gateway, look_ups) VALUES (%s, %s, 0, 'p', 't', 'transactional', 'sms', '[]', now(),"
        " clock_timestamp() + %s, 'queued', %s, 0, 'text', 0)"
    )
    with connect(url) as hearing, psycopg.connect(conninfo(url), autocommit=True) as working:

        def told() -> list[str]:
            return [said.payload for said in hearing.notifies(timeout=0.3)]

        hearing.execute(f"LISTEN {schema.CHANNEL}")
        working.execute(message, (1, "a", timedelta(seconds=0.7), None))
        assert told() == ["deliver text"]
        for number, reason in ((2, "paused"), (3, "opt-outs-unknown")):
            working.execute(message, (number, reason, timedelta(0), reason))
            assert told() == [], "a person lifts it"
            working.execute("UPDATE message SET detail = 'x' WHERE id = %s", (number,))
            assert told() == []
            working.execute("UPDATE message SET reason = NULL, detail = NULL WHERE id = %s", (number,))
            assert told() == ["deliver text"]
            working.execute("UPDATE message SET reason = %s WHERE id = %s", (reason, number))
            assert told() == [], "it waits again"


def test_what_an_earlier_version_made_is_brought_up_to_date(url: str) -> None:
    with connect(url) as connection:
        connection.execute("ALTER TABLE worker DROP COLUMN fenced")
        connection.execute("UPDATE version SET value = '1' WHERE name = 'crmkit-cluster'")
    with pytest.raises(DatabaseError, match="crmkit-cluster 1 and not 2; run `crmkit cluster setup`"):
        schema.check(url)
    schema.set_up(url)
    schema.check(url)
    with connect(url) as connection:
        assert connection.execute("SELECT count(fenced) FROM worker").fetchone() == (0,)


async def test_wake_ups_do_not_pile_up(url: str) -> None:
    connector = Connector(conninfo(url), settings("test"), 2)
    await connector.open_async()
    try:
        wakes = {Wake("decide"), Wake("deliver", "mail"), Wake("deliver", "x" * 60), Wake("sync", "茶")}
        await asyncio.gather(*(jobs.defer(connector.pool, wakes) for _ in range(5)))
        with connect(url) as connection:
            rows = connection.execute("SELECT queueing_lock, queue_name FROM procrastinate_jobs").fetchall()
            assert {lock for lock, _ in rows} == {str(one) for one in wakes}
            assert len(rows) == len(wakes)
            connection.execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE queueing_lock = 'decide'")
            await jobs.defer(connector.pool, wakes)
            found = connection.execute("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'decide'").fetchone()
            assert found == (2,), "one that is being answered keeps no other from waiting"
            assert await jobs.forget(connector.pool, 60.0, 60.0) == 1, "nobody answers it: its worker is gone"
    finally:
        await connector.close_async()


# SEMANTICS 13
async def test_what_a_lost_worker_was_reading_is_read_by_another_unless_that_waits_already(url: str) -> None:
    connector = Connector(conninfo(url), settings("test"), 2)
    await connector.open_async()
    known = [Wake("sync", name) for name in ("tea", "coffee", "cake")]
    try:
        await jobs.defer(connector.pool, {*known, Wake("sync", "closed"), Wake("decide")})
        with connect(url) as connection:
            lost = "UPDATE procrastinate_jobs SET status = 'doing', args = args || '{\"timestamp\": 1}'"
            connection.execute(lost)
            await jobs.defer(connector.pool, {Wake("sync", "coffee")})
            at_work = connection.execute("INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id").fetchone()
            mine = "UPDATE procrastinate_jobs SET worker_id = %s WHERE queueing_lock = 'sync cake'"
            connection.execute(mine, at_work)
            assert await jobs.forget(connector.pool, 60.0, 60.0, again=known) == 4
            found = "SELECT queueing_lock, queue_name, task_name, args, status FROM procrastinate_jobs ORDER BY 1"
            assert connection.execute(found).fetchall() == [
                ("sync cake", "sync", "sync", {"wake": "sync cake", "timestamp": 1}, "doing"),
                ("sync coffee", "sync", "sync", {"wake": "sync coffee"}, "todo"),
                ("sync tea", "sync", "sync", {"wake": "sync tea"}, "todo"),
            ]
    finally:
        await connector.close_async()


def test_a_queue_of_any_gateway_can_be_listened_to() -> None:
    for name in ("mail", "x" * 100, "邮件"):
        queue = Wake("deliver", name).queue
        assert len(f"procrastinate_queue_v1#{queue}".encode()) < 64
    assert Wake.of("deliver two words") == Wake("deliver", "two words")
    assert Wake.of("decide") == Wake("decide")


@pytest.mark.parametrize(
    ("minutes", "cron"),
    [(1, "* * * * *"), (5, "*/5 * * * *"), (60, "0 * * * *"), (360, "0 */6 * * *"), (1440, "0 0 * * *")],
)
def test_a_span_is_a_schedule_that_is_the_same_everywhere(minutes: int, cron: str) -> None:
    assert cron_of(timedelta(minutes=minutes)) == cron


@pytest.mark.parametrize("seconds", [0, 30, 90, 420, 50 * 3600])
def test_a_span_that_divides_nothing_is_refused(seconds: int) -> None:
    with pytest.raises(ValueError, match="say 1m"):
        cron_of(timedelta(seconds=seconds))


def another_version(folder: Path) -> dict[str, Path]:
    """Migrations of a plugin that this database does not have yet."""
    (folder / "versions").mkdir(parents=True)
    (folder / "versions" / "first.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        'revision, down_revision, branch_labels, depends_on = "1", None, None, None\n'
        'def upgrade():\n    op.create_table("new_one", sa.Column("id", sa.Integer(), primary_key=True))\n'
    )
    assert module_from_spec(spec_from_file_location("first", folder / "versions" / "first.py"))  # type: ignore[arg-type]
    return {"new": folder}


def test_no_database_is_upgraded_under_a_worker(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "be_alone", lambda tx, who: _be_alone(tx, who, timedelta(seconds=0.3)))
    histories = another_version(tmp_path)
    at_work = psycopg.connect(conninfo(url), autocommit=True, application_name="crmkit worker tea:7")
    at_work.execute("SELECT pg_advisory_lock_shared(%s)", (presence.NUMBER,))
    with pytest.raises(DatabaseError, match=r"db upgrade: still at work are: crmkit worker tea:7; stop them"):
        migrations.upgrade(url, histories)
    migrations.upgrade(url)  # there is nothing to do
    with pytest.raises(DatabaseError, match="still at work"):
        schema.take_down(url)
    store = Store(url)
    with store.read() as tx:
        assert presence.at_work(tx) == ["crmkit worker tea:7"]
    store.close()
    at_work.close()
    assert [one.history for one in migrations.upgrade(url, histories) if not one.is_current] == ["new"]


_be_alone = presence.be_alone
