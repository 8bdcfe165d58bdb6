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


def watch(engine: sa.Engine, where: str) -> None:
    """Errors of a database say which it was, and what to do: `place` and `remedy`."""

    @event.listens_for(engine, "handle_error")
    def _name(context: Any) -> None:
        error = context.sqlalchemy_exception
        if error is not None:
            error.place, error.remedy = where, remedy(context.original_exception)


def remedy(error: BaseException) -> str | None:
    """What to do about the driver's own error; None: it is not the machine's."""
    name = (getattr(error, "sqlite_errorname", None) or "").removeprefix("SQLITE_")
    state = getattr(error, "sqlstate", None) or ""
    for what, do in _REMEDIES.items():
        if (name and what.isalpha() and name.startswith(what)) or (state and state.startswith(what)):
            return do
    return None
