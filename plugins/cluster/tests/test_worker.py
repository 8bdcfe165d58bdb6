"""Workers as they are run: woken at once, ended in good order, told apart and counted."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psycopg
import pytest

from crmkit.store.presence import NUMBER
from crmkit.testing.database import PostgresServer
from crmkit_cluster.address import conninfo
from plugins.cluster.tests.shop import Shop, until


# SEMANTICS 13
def test_what_is_stored_by_another_process_is_decided_and_sent_at_once(shop: Shop) -> None:
    with shop.worker() as one, shop.worker():
        shop.paid("T1", "T2")
        shop.run("sync")
        assert until(lambda: shop.sent == 2) < 30  # beside what else this machine does
        shop.paid("T3")
        shop.run("sync")
        until(lambda: shop.sent == 3)
        found = shop.status()
        assert [worker["state"] for worker in found["workers"]] == ["at work", "at work"]
        assert one.pid in [worker["pid"] for worker in found["workers"]]
        assert found["decide"]["due"] == 0
        assert found["deliver"]["folder"]["due"] == 0
        said = shop.run("cluster", "status")
        assert "deliver folder" in said
        refused = shop.run("cluster", "setup", "--remove", code=2)
        assert f":{one.pid}" in refused
        one.send_signal(signal.SIGTERM)
        _, said = one.communicate(timeout=60)
        assert one.returncode == 0, said
        assert "stopped" in said
        assert len(shop.status()["workers"]) == 1


@pytest.mark.e2e
def test_workers_read_a_shop_by_themselves_and_one_that_dies_is_told_of(shop: Shop) -> None:
    shop.paid("T1")
    with shop.worker() as worker:
        until(lambda: shop.sent == 1)
        worker.kill()
        worker.wait()
    with psycopg.connect(conninfo(shop.url)) as connection:
        connection.execute("UPDATE crmkit_cluster.worker SET beat_at = now() - interval '1 minute'")
    assert "lost" in shop.run("cluster", "status", code=1)


def test_a_fenced_worker_does_not_begin_and_says_why(shop: Shop, tmp_path: Path) -> None:
    with shop.worker():
        shop.paid("T1")
        shop.run("sync")
        until(lambda: shop.sent == 1)
        elsewhere = {**os.environ, "CRMKIT_STATE": str(tmp_path / "another machine")}
        said = subprocess.run(shop.command("worker"), env=elsewhere, capture_output=True, text=True, timeout=60)
        assert said.returncode == 2, said.stderr
        assert "it may not send: nothing here has sent for" in said.stderr
        assert "Traceback" not in said.stderr
        assert [one["state"] for one in shop.status()["workers"]] == ["at work"]


# SEMANTICS 13
@pytest.mark.e2e
def test_a_worker_that_is_fenced_while_it_runs_leaves_what_would_be_sent_to_others(shop: Shop) -> None:
    def behind(why: str | None) -> None:
        with psycopg.connect(conninfo(shop.url)) as connection:
            connection.execute("UPDATE instance SET behind = %s", (why,))

    with shop.worker():
        shop.paid("T1")
        shop.run("sync")
        until(lambda: shop.sent == 1)
        behind("it is older than what left")
        shop.paid("T2")
        shop.run("sync")
        until(lambda: [one["state"] for one in shop.status()["workers"]] == ["fenced"])
        assert "fenced" in shop.run("cluster", "status", code=1)
        waiting = "crmkit_cluster.procrastinate_jobs WHERE status = 'todo' AND task_name = 'decide'"
        until(lambda: shop.count(waiting) == 1, 10)
        time.sleep(1)
        assert shop.count(waiting) == 1, "whoever may takes it"
        behind(None)
        assert until(lambda: shop.sent == 2) < 30
        until(lambda: [one["state"] for one in shop.status()["workers"]] == ["at work"], 10)


@pytest.mark.e2e
def test_workers_let_old_things_go_once_a_day_however_many_they_are(shop: Shop) -> None:
    shop.run("sync")
    with psycopg.connect(conninfo(shop.url), autocommit=True) as connection:
        connection.execute("UPDATE run SET started_at = started_at - interval '5 years'")
    shop.run("sync")
    assert shop.count("run WHERE started_at < now() - interval '1 year'") == 1
    with shop.worker(), shop.worker(), psycopg.connect(conninfo(shop.url), autocommit=True) as connection:
        for _ in range(3):
            connection.execute("NOTIFY crmkit_work, 'tick'")
            until(lambda: shop.count("run WHERE command = 'prune' AND outcome = 'done'") == 1, 30)
        until(lambda: shop.count("run WHERE started_at < now() - interval '1 year'") == 0, 10)
        assert shop.count("run WHERE command = 'prune'") == 1


def test_a_worker_begins_nothing_while_its_place_is_lost(shop: Shop) -> None:
    shop.paid("T1")
    with shop.worker(), psycopg.connect(conninfo(shop.url), autocommit=True) as upgrade:
        until(lambda: shop.sent == 1)
        places = "pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND objid = %s"
        objid = NUMBER & 0xFFFFFFFF
        upgrade.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM {places}".encode(), (objid,))
        upgrade.execute("SELECT pg_advisory_lock(%s)", (NUMBER,))
        shop.paid("T2")
        shop.run("sync")
        time.sleep(2)
        assert shop.sent == 1
        upgrade.execute("SELECT pg_advisory_unlock(%s)", (NUMBER,))
        until(lambda: shop.sent == 2, 60)


# SEMANTICS 13
@pytest.mark.e2e
def test_a_shop_whose_reader_lost_its_place_is_read_again_and_not_a_day_later(shop: Shop) -> None:
    sooner = "import crmkit_cluster.post as post; post.BEAT = 0.2"
    alone = "pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND objsubid = 1 AND granted"
    alone += " AND (classid::bigint << 32) + objid::bigint = hashtextextended('crmkit sync tea', 0)"
    every = (sooner, "--every", "1d")
    with psycopg.connect(conninfo(shop.url), autocommit=True) as connection, shop.worker(*every) as worker:
        shop.paid("T1")
        with connection.transaction():
            connection.execute("LOCK TABLE run IN ACCESS EXCLUSIVE MODE")  # a sync gets no further
            with psycopg.connect(conninfo(shop.url), autocommit=True) as other:

                def is_reading() -> bool:
                    other.execute("NOTIFY crmkit_work, 'sync tea'")
                    time.sleep(0.5)
                    return shop.count(alone) == 1

                until(is_reading, 30)
                time.sleep(1)  # nothing waits beside it
                places = "pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND objid = %s"
                objid = NUMBER & 0xFFFFFFFF
                other.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM {places}".encode(), (objid,))
            time.sleep(1)  # it is noticed
        until(lambda: shop.sent == 1, 60)
        worker.send_signal(signal.SIGTERM)
        _, said = worker.communicate(timeout=60)
        assert worker.returncode == 0, said


# SEMANTICS 13
@pytest.mark.e2e
def test_a_shop_a_frozen_worker_was_reading_is_read_by_another(shop: Shop) -> None:
    sooner = "import crmkit_cluster.post as post; post.BEAT, post.LOST = 0.5, 4.0"
    alone = "pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND objsubid = 1 AND granted"
    beats = "crmkit_cluster.worker WHERE name LIKE %s AND beat_at > now() - interval '2 seconds'"

    def is_read(count: int) -> bool:
        """Asked for each half second, and not each minute."""
        with psycopg.connect(conninfo(shop.url), autocommit=True) as asking:
            asking.execute("NOTIFY crmkit_work, 'sync tea'")
        time.sleep(0.5)
        return shop.sent == count

    with psycopg.connect(conninfo(shop.url), autocommit=True) as connection:
        name = connection.execute("SELECT quote_ident(current_database())").fetchone()
        assert name is not None  # what it was in the middle of ends soon
        connection.execute(f"ALTER DATABASE {name[0]} SET idle_in_transaction_session_timeout = '2s'".encode())
        with shop.worker(sooner) as frozen:
            shop.paid("T1")
            until(lambda: is_read(1))
            shop.paid("T2")
            with connection.transaction():
                connection.execute("LOCK TABLE run IN ACCESS EXCLUSIVE MODE")  # a sync gets no further
                until(lambda: is_read(1) and shop.count(alone) == 1)
                frozen.send_signal(signal.SIGSTOP)
            with shop.worker(sooner) as other_worker:
                until(lambda: is_read(2))
                frozen.send_signal(signal.SIGCONT)
                until(lambda: shop.count(beats, f"%:{frozen.pid}") == 1, 30)
                shop.paid("T3")
                until(lambda: is_read(3))
                for worker in (frozen, other_worker):
                    worker.send_signal(signal.SIGTERM)
                    _, said = worker.communicate(timeout=60)
                    assert worker.returncode == 0, said
    assert shop.sent == 3


@pytest.mark.e2e
def test_a_restart_of_the_server_ends_no_worker(tmp_path: Path) -> None:
    from crmkit.store import migrate
    from crmkit_cluster import schema

    server = PostgresServer()
    try:
        url = server.url(server.create())
        migrate.upgrade(url)
        schema.set_up(url)
        shop = Shop(tmp_path, url)
        with shop.worker() as worker:
            shop.paid("T1")
            until(lambda: shop.sent == 1, 90)
            server.restart()
            shop.paid("T1", "T2")
            shop.run("sync")
            until(lambda: shop.sent == 2, 90)
            assert shop.count("crmkit_cluster.worker") == 1
            worker.send_signal(signal.SIGTERM)
            worker.communicate(timeout=60)
            assert worker.returncode == 0
    finally:
        server.stop()


def test_a_second_signal_ends_it_at_once(shop: Shop) -> None:
    with psycopg.connect(conninfo(shop.url)) as connection, shop.worker() as worker:
        connection.execute("LOCK TABLE account IN ACCESS EXCLUSIVE MODE")  # no step comes to its end
        with psycopg.connect(conninfo(shop.url), autocommit=True) as other:
            other.execute("NOTIFY crmkit_work, 'decide'")
        until(
            lambda: shop.count("pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()") > 0
        )
        worker.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert worker.poll() is None, "a transaction is under way, and may end"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 130


def test_a_file_is_no_database_for_workers(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "sqlite:///crm.db")
    for words in (("worker",), ("cluster", "setup"), ("cluster", "status")):
        said = shop.run(*words, code=2)
        assert "several machines cannot share it; use `crmkit run`" in said


def test_a_span_that_is_no_schedule_is_refused(shop: Shop) -> None:
    assert "what divides an hour or a day" in shop.run("worker", "--every", "7m", code=2)


def test_a_worker_whose_connection_is_ended_while_it_starts_starts_once_more(shop: Shop) -> None:
    shop.paid("T1")
    shop.run("sync")
    cut = """\
from crmkit.engine.fence import Fence
enter, cut = Fence.enter, []
def cut_once(self, tx, now):
    if not cut:
        cut.append(now)
        tx.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
    return enter(self, tx, now)
Fence.enter = cut_once
"""
    with shop.worker(cut):
        until(lambda: shop.sent == 1, 60)
