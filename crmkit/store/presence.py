"""Who is at work on a server's database: nobody brings it to another version under them.

Workers hold a lock together, each over a connection of its own that lasts as long as it works; an upgrade holds it
alone.
"""

import time
from datetime import timedelta

from sqlalchemy.engine import Connection

from crmkit.core.errors import DatabaseError
from crmkit.store.bulk import lock_number

#: The lock's number: held together by who is at work, alone by who upgrades.
NUMBER = lock_number("crmkit at work")
#: An upgrade waits so long for the last of them to end, and looks so often, in seconds.
WAIT, LOOK = timedelta(seconds=10), 0.2

_WHO = """\
SELECT DISTINCT activity.application_name
FROM pg_locks AS held JOIN pg_stat_activity AS activity ON activity.pid = held.pid
WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1 AND held.mode = 'ShareLock'
AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND (held.classid::bigint << 32) + held.objid::bigint = %s
ORDER BY 1
"""


def at_work(tx: Connection) -> list[str]:
    """What those who are at work call themselves. None on SQLite, where every writer waits for every other."""
    return [] if tx.dialect.name == "sqlite" else list(tx.exec_driver_sql(_WHO, (NUMBER,)).scalars())


def be_alone(tx: Connection, who: str, wait: timedelta = WAIT) -> None:
    """Keep everybody from beginning to work until this transaction ends.

    Args:
        who: the operation, for the error.
        wait: for so long for those who are at work to end.

    Raises:
        DatabaseError: some are still at work; it names them.
    """
    if tx.dialect.name == "sqlite":
        return
    until = time.monotonic() + wait.total_seconds()
    while not tx.exec_driver_sql("SELECT pg_try_advisory_xact_lock(%s)", (NUMBER,)).scalar():
        if time.monotonic() >= until:
            names = ", ".join(at_work(tx)) or "somebody"
            raise DatabaseError(f"still at work are: {names}", who=who, do="stop them, and run it again")
        time.sleep(LOOK)
