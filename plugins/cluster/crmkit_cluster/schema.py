"""Procrastinate's tables and ours, in a schema of their own, and the triggers on the core's tables that tell of work.

A trigger tells in the transaction that makes the work: whoever commits it, a sync by hand, a webhook's door or another
worker, needs to know nothing of workers. `crmkit cluster setup` makes all this and brings it up to date; a worker only
looks whether it is so.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import psycopg
from procrastinate.schema import SchemaManager

from crmkit import DatabaseError
from crmkit.engine.steps import PRESENCE, SOON
from crmkit_cluster.address import SCHEMA, conninfo, settings

#: The version of what is ours here.
OURS = "2"
#: What workers listen to for work.
CHANNEL = "crmkit_work"

#: Whoever writes may have a clock that is ahead of the server's by so much.
_NOW = f"clock_timestamp() + interval '{SOON} seconds'"
_PENDING = f"NEW.parked_at IS NULL AND NEW.due_at <= {_NOW}"
_MESSAGE = (
    "NEW.state = 'queued' AND (NEW.reason IS NULL OR NEW.reason NOT IN ('paused', 'opt-outs-unknown'))"
    f" AND NEW.gateway IS NOT NULL AND NEW.not_before <= {_NOW}"
)
#: {table: what happens to it, and which work that makes}. What happens later is not told: the tick finds it.
_TRIGGERS = {
    "pending": ("INSERT", _PENDING, "'decide'"),
    "pending_moved": ("UPDATE OF due_at, parked_at", _PENDING, "'decide'"),
    "message": ("INSERT", _MESSAGE, "'deliver ' || NEW.gateway"),
    "message_moved": ("UPDATE OF state, reason, not_before, gateway", _MESSAGE, "'deliver ' || NEW.gateway"),
    "hint": ("INSERT", "true", "'follow'"),
}

_TABLES = f"""
CREATE TABLE IF NOT EXISTS {SCHEMA}.version (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE IF NOT EXISTS {SCHEMA}.worker (
    name text PRIMARY KEY,
    host text NOT NULL,
    pid bigint NOT NULL,
    version text NOT NULL,
    concurrency bigint NOT NULL,
    started_at timestamptz NOT NULL,
    beat_at timestamptz NOT NULL,
    doing text[] NOT NULL DEFAULT '{{}}',
    fenced text
);
ALTER TABLE {SCHEMA}.worker ADD COLUMN IF NOT EXISTS fenced text;
"""


def _migrations() -> list[Path]:
    return sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql"))


def wanted() -> dict[str, str]:
    """The versions this program needs."""
    return {"crmkit-cluster": OURS, "procrastinate": _migrations()[-1].stem}


def found(url: str) -> dict[str, str]:
    """The versions a database has; empty where it was never set up."""
    with psycopg.connect(conninfo(url), **settings("crmkit cluster")) as connection:
        return _found(connection)


def _found(connection: psycopg.Connection[Any]) -> dict[str, str]:
    is_there = connection.execute("SELECT to_regclass(%s)", (f"{SCHEMA}.version",)).fetchone()
    if is_there is None or is_there[0] is None:
        return {}
    return dict(connection.execute("SELECT name, value FROM version").fetchall())


def check(url: str) -> None:
    """Refuse a database that is not set up for this program's workers.

    Raises:
        DatabaseError: it was never, or is of another version.
    """
    there, needed = found(url), wanted()
    if not there:
        raise DatabaseError("is not set up for workers", who="cluster", do="run `crmkit cluster setup`")
    _refuse_newer(there, needed)
    if there != needed:
        other = [name for name in sorted(needed) if there.get(name) != needed[name]]
        told = ", ".join(f"{name} {there.get(name, 'none')} and not {needed[name]}" for name in other)
        raise DatabaseError(f"is set up for another version: {told}", who="cluster", do="run `crmkit cluster setup`")


def set_up(url: str) -> dict[str, str]:
    """Make what workers need, or bring it up to date; nothing is done twice.

    Returns:
        The versions before.

    Raises:
        DatabaseError: it is of a newer version, or workers are at work.
    """
    with psycopg.connect(conninfo(url), **settings("crmkit cluster setup")) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('crmkit cluster setup'))")
        before, needed = _found(connection), wanted()
        _refuse_newer(before, needed)
        core = _core(url)
        if before == needed:
            return before
        _be_alone(connection)
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        connection.execute(_TABLES)
        if "procrastinate" not in before:
            connection.execute(cast(Any, SchemaManager.get_schema()))
        for path in _migrations() if "procrastinate" in before else ():
            if path.stem > before["procrastinate"]:
                connection.execute(path.read_bytes())
        if before.get("crmkit-cluster") != OURS:
            _set_triggers(connection, core)
        for name, value in needed.items():
            told = "INSERT INTO version VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
            connection.execute(told, (name, value))
        return before


def take_down(url: str) -> None:
    """Take away all that `set_up` made; the core's tables stay as they are."""
    with psycopg.connect(conninfo(url), **settings("crmkit cluster setup")) as connection:
        _be_alone(connection)
        connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")  # and with its functions their triggers


def _core(url: str) -> str:
    """The schema the core's tables are in, as the core finds them."""
    with psycopg.connect(conninfo(url)) as connection:
        where = "SELECT quote_ident(relnamespace::regnamespace::text) FROM pg_class WHERE oid = to_regclass('pending')"
        row = connection.execute(where).fetchone()
    if row is None:
        raise DatabaseError("there is no database of crmkit yet", who="cluster setup", do="run `crmkit db upgrade`")
    return str(row[0])


def _set_triggers(connection: psycopg.Connection[Any], core: str) -> None:
    for name, (happens, condition, payload) in _TRIGGERS.items():
        function, trigger = f"{SCHEMA}.tell_{name}", f"crmkit_tell_{name}"
        table = f"{core}.{name.removesuffix('_moved')}"
        connection.execute(
            f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN PERFORM pg_catalog.pg_notify('{CHANNEL}', {payload}); RETURN NULL; END $$"
        )
        connection.execute(f"DROP TRIGGER IF EXISTS {trigger} ON {table}")
        connection.execute(
            f"CREATE TRIGGER {trigger} AFTER {happens} ON {table} FOR EACH ROW WHEN ({condition})"
            f" EXECUTE FUNCTION {function}()"
        )


def _be_alone(connection: psycopg.Connection[Any]) -> None:
    taken = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (PRESENCE,)).fetchone()
    if taken is None or not taken[0]:
        names = connection.execute(
            "SELECT DISTINCT application_name FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'crmkit worker %' ORDER BY 1"
        ).fetchall()
        at_work = ", ".join(name for (name,) in names) or "somebody"
        what, do = f"still at work are: {at_work}", "stop them, and run it again"
        raise DatabaseError(what, who="cluster setup", do=do)


def _refuse_newer(there: dict[str, str], needed: dict[str, str]) -> None:
    newer = [name for name, value in there.items() if name in needed and value > needed[name]]
    if newer:
        told = ", ".join(f"{name} {there[name]}" for name in newer)
        what = f"is set up for a newer version ({told}; here is procrastinate {version('procrastinate')})"
        raise DatabaseError(what, who="cluster", do="upgrade crmkit-cluster and procrastinate")
