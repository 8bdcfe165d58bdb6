"""A copied database that is to send: to `dispatch` it would be one that only plans (`crmkit db adopt`)."""

import secrets
from datetime import UTC, datetime

import sqlalchemy as sa

from crmkit.core.instance import Note
from crmkit.engine.notes import Notes, state_folder
from crmkit.store import instance
from crmkit.store import tables as t
from crmkit.store.engine import Store


def take_on(url: str) -> None:
    """A copy is a database of its own from now on, whose messages may leave: named anew, and noted.

    Args:
        url: of a copy that nobody has open.
    """
    store, notes = Store(url), state_folder()
    name = secrets.token_hex(6)
    try:
        with store.begin() as tx:
            found = instance.read(tx) if sa.inspect(tx).has_table(t.instance.name) else None
            if found is None:
                return  # nothing ever left it: it is as good as new
            instance.settle_here(tx, found.here)
            instance.change(tx, name=name)
            sequence = instance.sequence(tx)
        if notes is not None:
            Notes(notes).rise(Note(name, found.epoch, sequence, datetime.now(UTC)))
    finally:
        store.close()
