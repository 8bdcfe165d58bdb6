"""Lines of the log that tell what a transaction does: said once it is committed, and not at all if it is not."""

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection

from crmkit.core.log import Line

_KEY = "crmkit lines"


@dataclass(slots=True)
class _Waiting:
    """What is to be said, and how much of it there was at each savepoint."""

    lines: list[tuple[Line, dict[str, Any]]] = field(default_factory=list)
    marks: dict[str, int] = field(default_factory=dict)


def later(tx: Connection, line: Line, **facts: Any) -> None:
    """Say a line once this transaction, and the savepoint it is in, are committed; a rehearsal says nothing."""
    if line.is_wanted:
        waiting: _Waiting | None = tx.info.get(_KEY)
        if waiting is not None:
            waiting.lines.append((line, facts))


def begin(tx: Connection) -> None:
    """From here on lines are gathered."""
    tx.info[_KEY] = _Waiting()


def end(tx: Connection, *, is_committed: bool) -> None:
    """Say what was gathered, if it is so."""
    waiting: _Waiting | None = tx.info.pop(_KEY, None)
    if waiting is not None and is_committed:
        for line, facts in waiting.lines:
            line.say(**facts)


def watch(engine: sa.Engine) -> None:
    """What is rolled back to a savepoint is not said."""

    @event.listens_for(engine, "savepoint")
    def _mark(tx: Connection, name: str) -> None:
        waiting: _Waiting | None = tx.info.get(_KEY)
        if waiting is not None:
            waiting.marks[name] = len(waiting.lines)

    @event.listens_for(engine, "rollback_savepoint")
    def _back(tx: Connection, name: str, _: Any) -> None:
        # Of a connection that is gone nothing is said; to ask it would hide what became of it behind another error.
        waiting: _Waiting | None = None if tx.invalidated else tx.info.get(_KEY)
        if waiting is not None and name in waiting.marks:
            del waiting.lines[waiting.marks[name] :]
