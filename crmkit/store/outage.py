"""What is wrong with a database or its machine, in words: which one, and what to do about it.

What was committed is there whatever happens to the machine; what was not is done again. So the remedy is always the
machine's, and then to go on.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

#: By SQLite's names of errors, the longest first, and by PostgreSQL's states.
_REMEDIES = {
    "FULL": "free space on its disk, and run it again: what was committed is kept",
    "IOERR": "look whether its disk is full or failing, and run it again: what was committed is kept",
    "READONLY": "let this user write the file and its folder",
    "CANTOPEN": "let this user read and write the file and its folder",
    "BUSY": "another process has held it for a minute: let that end, and run it again",
    "LOCKED": "another process has held it for a minute: let that end, and run it again",
    "CORRUPT": "restore a backup",
    "NOTADB": "restore a backup, or name another file",
    "53100": "free space on the server's disk, and run it again: what was committed is kept",
    "53": "the server has no room left for this: look at its connections, memory and disk",
    "42501": "grant this user the tables: they may be another user's",
    "25006": "it is a replica, or set read-only: name the server that takes writes",
    "57": "the server is ending or coming up: run it again when it runs",
    "08": "check that the server runs and lets this user in, and run it again",
}


#: After these SQLite may have rolled the whole transaction back by itself, savepoints and all.
_ROLLED_BACK = ("FULL", "IOERR", "NOMEM", "BUSY", "INTERRUPT")
_KEY = "crmkit_outage"


def watch(engine: sa.Engine, where: str) -> None:
    """Errors of a database say which it was, and what to do: `place` and `remedy`.

    Where SQLite has rolled the transaction back, the savepoint that is to be rolled back to is gone. That is no error
    of its own: the first is raised again, so that nobody goes on after the savepoint, without a transaction.
    """

    @event.listens_for(engine, "handle_error", retval=True)
    def _name(context: Any) -> BaseException | None:
        error, original = context.sqlalchemy_exception, context.original_exception
        if error is None:
            return None
        error.place, error.remedy = where, remedy(original)
        if context.connection is None:  # there was none to be had, and a driver may not say why
            error.remedy = error.remedy or _REMEDIES["08"]
            return None
        if _sqlite(original).startswith(_ROLLED_BACK):
            context.connection.info[_KEY] = error
        elif str(original).startswith("no such savepoint"):
            first: BaseException | None = context.connection.info.get(_KEY)
            return first
        return None

    @event.listens_for(engine, "begin")
    def _forget(connection: sa.Connection) -> None:
        connection.info.pop(_KEY, None)


def _sqlite(error: BaseException) -> str:
    return (getattr(error, "sqlite_errorname", None) or "").removeprefix("SQLITE_")


def remedy(error: BaseException) -> str | None:
    """What to do about the driver's own error; None: it is not the machine's."""
    name = _sqlite(error)
    state = getattr(error, "sqlstate", None) or ""
    for what, do in _REMEDIES.items():
        if (name and what.isalpha() and name.startswith(what)) or (state and state.startswith(what)):
            return do
    return None
