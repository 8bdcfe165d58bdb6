"""The fence: a database that was restored or copied only plans until it is adopted (`crmkit db adopt`).

Whoever is to hand messages over asks `enter` first, and from then on what is delivered is noted outside the database
(`crmkit.engine.notes`). The rules themselves are in `crmkit.core.instance`.
"""

import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.engine import Connection

from crmkit.core.instance import NAME, Fenced, Given, Instance, Note, fenced
from crmkit.core.quota import CLAIM_MOST
from crmkit.engine.notes import STATE, Notes, state_folder
from crmkit.host.host import Host
from crmkit.store import bulk, instance
from crmkit.store.engine import Store

#: The environment: the name of the database that is sent for.
INSTANCE = "CRMKIT_INSTANCE"
#: Held while a database is named or adopted.
_LOCK = "crmkit instance"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a database stands to who would send for it: its name, its note, and what keeps it from sending.

    Attributes:
        instance: None where nothing was ever to leave.
        given: the name from outside.
        place: where its note is, or would be; None where there is no place for notes.
        found: all that keeps it from sending.
    """

    instance: Instance | None
    note: Note | None
    given: Given | None
    place: Path | None
    found: tuple[Fenced, ...] = ()

    @property
    def fenced(self) -> Fenced | None:
        """What keeps it from sending, to be seen to first."""
        return self.found[0] if self.found else None

    @property
    def is_copy(self) -> bool:
        """Whether the one it was made from may still be there, and go on sending."""
        return any(one.kind in ("elsewhere", "unknown") for one in self.found)


class Fence:
    """The fence of one database, as one process stands before it.

    Args:
        host: the configuration.
        store: the open database.
        env: the environment.
    """

    def __init__(self, host: Host, store: Store, env: Mapping[str, str] | None = None) -> None:
        self.host, self.store = host, store
        self._env = os.environ if env is None else env
        folder = state_folder(self._env)
        self.notes = None if folder is None else Notes(folder)
        self._known: Instance | None = None
        self._highest = 0

    @property
    def given(self) -> Given | None:
        """The name this sender was given from outside the database."""
        if name := self._env.get(INSTANCE):
            return Given(name, INSTANCE)
        written = self.host.config.crm.instance
        if written is None:
            return None
        return Given(written, f"[crm] instance in {self.host.config.path}", proves=not self.is_beside)

    @property
    def is_beside(self) -> bool:
        """Whether the configuration lies in a folder with the database, and is copied with it."""
        return self._is_with(self.host.config.folder)

    @property
    def has_notes_beside(self) -> bool:
        """Whether notes lie in a folder with the database, and are copied or restored with it."""
        return self.notes is not None and self._is_with(self.notes.folder)

    def _is_with(self, folder: Path) -> bool:
        file, home = self.store.file, folder.resolve()
        return file is not None and (file.resolve().parent in (home, *home.parents) or home in file.resolve().parents)

    # looking

    def standing(self) -> Standing:
        """How things stand, to who only looks. Changes nothing.

        Others go on and note that. On SQLite a transaction that reads sees what there was when it began, so it begins
        after the note was read: what is noted is committed by then.
        """
        return self._stands(self.store.read)

    def look(self, tx: Connection) -> Standing:
        """How things stand, within a transaction that writes: on SQLite nobody else delivers meanwhile."""
        return self._stands(lambda: contextlib.nullcontext(tx))

    def _stands(self, reading: Callable[[], AbstractContextManager[Connection]]) -> Standing:
        """First its note is read, then how far it has come; both anew where another named it meanwhile."""
        while True:
            with reading() as tx:
                name = instance.name(tx)
            note = self.notes.read(name) if self.notes is not None and name is not None else None
            with reading() as tx:
                found = self._beside(tx, note)
            if found.instance is None or found.instance.name == name:
                return found

    def _beside(self, tx: Connection, note: Note | None) -> Standing:
        found = instance.read(tx)
        place = self.notes.folder if self.notes is not None else None
        closed = self._closed(None if found is None else found.name)
        if found is None:
            return Standing(None, None, self.given, place, (*closed, *self._of_nobody(tx)))
        why = (*closed, *fenced(found, note, self.given, self._where))
        return Standing(found, note, self.given, self.notes.file(found.name) if self.notes else None, why)

    def _closed(self, name: str | None) -> tuple[Fenced, ...]:
        """Where nothing can be noted, and no name from outside vouches, nothing may leave."""
        why = "there is no home directory" if self.notes is None else self.notes.closed(name)
        return () if why is None or self._is_vouched else (self._unnotable(why, name or "NAME"),)

    @property
    def _is_vouched(self) -> bool:
        """Whether the name from outside is enough where no note can be reached."""
        return self.given is not None and self.given.proves

    @property
    def _where(self) -> str:
        return str(self.notes.folder) if self.notes is not None else "no folder at all"

    def _of_nobody(self, tx: Connection) -> tuple[Fenced, ...]:
        """A database without a name of which something left already is none that was just made."""
        if instance.sequence(tx) == 0:
            return ()
        do = "look at what `crmkit db adopt` would take on"
        return (Fenced("unknown", "messages left it, and it has no name", do),)

    # entering

    def enter(self, tx: Connection, now: datetime) -> Fenced | None:
        """Whether this process may hand messages over: a new database is named; one that is known is noted.

        A step of the engine, asked at the beginning of every run. From then on whatever is delivered is noted.

        Returns:
            What keeps it from it; None if nothing does.
        """
        self._known = None
        self.store.delivered = None
        bad = self._unusable()
        if bad is not None:
            return bad
        standing = self.look(tx)
        if standing.fenced is not None:
            if standing.fenced.kind == "behind" and standing.instance is not None and standing.instance.behind is None:
                # others must stop too, whose own notes are older
                instance.change(tx, behind=f"{standing.fenced.what} (found on {socket.gethostname()})")
            return standing.fenced
        found = standing.instance
        if found is None:
            try:
                found = self._drawn(tx, now)
            except OSError as error:
                if self.given is None:
                    return self._unnotable(f"{error.filename}: {error.strerror}", "NAME")
                found = instance.draw(tx, self.given.name, now)
        if self.given is not None and self.given.name != found.name:
            instance.change(tx, name=self.given.name)
            found = self._read(tx)
        if found.here != found.place:
            instance.settle_here(tx, found.here)
        return self._begin(found)

    def name(self, tx: Connection, now: datetime) -> None:
        """Name a database that was just made, so that its first backup can be told from it."""
        with contextlib.suppress(OSError):  # `enter` says what is wrong
            if self._unusable() is None and instance.read(tx) is None and not instance.sequence(tx):
                self._drawn(tx, now)

    def _drawn(self, tx: Connection, now: datetime) -> Instance:
        """A name for a database without one, noted first: who finds the name and no note is somewhere else."""
        bulk.lock(tx, _LOCK)
        known = instance.read(tx)
        if known is not None:  # another process was first
            return known
        name = self._new_name()
        if self.notes is not None:
            self.notes.rise(Note(name, 0, 0, now))
        return instance.draw(tx, name, now)

    def _unusable(self) -> Fenced | None:
        """What is wrong with the name or with the place for notes."""
        given = self.given
        if given is not None and not NAME.fullmatch(given.name):
            what = f"{given.by} is {given.name!r}, which cannot be a name"
            return Fenced("other-name", what, "use letters, digits, -, _ and .")
        return None

    def _begin(self, found: Instance) -> Fenced | None:
        """Note how far it has come, and from now on whatever is delivered."""
        self._known, self._highest = found, found.sequence
        try:
            if self.notes is not None:
                self._note(found.sequence)
                self.store.delivered = self.delivered
        except OSError as error:
            if not self._is_vouched:
                return self._unnotable(f"{error.filename or self._where}: {error.strerror}", found.name)
        return None

    @staticmethod
    def _unnotable(why: str, name: str) -> Fenced:
        do = f"set {STATE} to a folder that can be written and is kept, or {INSTANCE}={name}"
        return Fenced("no-note", f"what leaves cannot be noted ({why})", do)

    def delivered(self, sequence: int) -> None:
        """Tries up to this number are committed. Called in the database's thread."""
        if self._known is not None and sequence > self._highest:
            self._highest = sequence
            with contextlib.suppress(OSError):  # `enter` says it before the next run
                self._note(sequence)

    def _note(self, sequence: int) -> None:
        if self._known is not None and self.notes is not None:
            self.notes.rise(Note(self._known.name, self._known.epoch, sequence, datetime.now(UTC)))

    def _new_name(self) -> str:
        return self.given.name if self.given is not None else secrets.token_hex(6)

    @staticmethod
    def _read(tx: Connection) -> Instance:
        found = instance.read(tx)
        assert found is not None
        return found

    # adopting

    def doubtful_until(self, standing: Standing, now: datetime) -> datetime | None:
        """What happened before then may have been told by a database that is lost, or elsewhere; None: nothing.

        The gravest finding says it. A file's last note is when it last sent, within a try's time; of a server, and of
        a copy, others may know more than we do.
        """
        may_be_behind = any(one.kind == "behind" for one in standing.found) or self.store.file is None
        if not standing.found or not (standing.is_copy or may_be_behind):
            return None  # it is here and not behind its own note: nothing left that it does not know of
        found, note = standing.instance, standing.note
        if standing.is_copy or found is None or note is None or self.store.file is None:
            return now
        if note.epoch != found.epoch or note.sequence <= found.sequence:
            return now  # another sender's note showed it
        return min(now, note.at + CLAIM_MOST)

    def adopted_name(self, standing: Standing) -> str:
        """The name it goes by from then on: the one given from outside, a new one where it is a copy, else its own."""
        if self.given is not None:
            return self.given.name
        return self._new_name() if standing.is_copy or standing.instance is None else standing.instance.name

    def adopt(
        self, name: str, until: datetime | None, now: datetime, *, is_copy: bool = False, resend: bool = False
    ) -> int:
        """Take the database on under this name: what may have left by `until` is put aside for a person.

        Args:
            is_copy: the other may go on sending: all that is queued is put aside.
            resend: nothing is doubtful any more; else what an earlier adoption found stays so.

        Returns:
            How many messages were put aside.

        Raises:
            OSError: it cannot be noted; it is adopted all the same, and `enter` says what is missing.
        """
        note = self.notes.read(name) if self.notes is not None else None
        with self.store.begin() as tx:
            bulk.lock(tx, _LOCK)
            found = instance.read(tx) or instance.draw(tx, name, now)
            epoch = max(found.epoch, note.epoch if note is not None else 0) + 1
            instance.settle_here(tx, found.here)
            known = (None, None) if resend else (found.doubtful_until, until)
            doubtful = max((at for at in known if at is not None), default=None)
            instance.change(tx, name=name, epoch=epoch, adopted_at=now, doubtful_until=doubtful, behind=None)
            count = instance.put_aside(tx, until, now, is_copy=is_copy) if until is not None else 0
        if self.notes is not None:
            self.notes.rise(Note(name, epoch, found.sequence, datetime.now(UTC)))
        return count
