"""A database of SQLite in one file more: copied while others write, looked through, and put back."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from crmkit.core.errors import ConfigError, DatabaseError

#: Told as it goes on: pages copied, pages in all.
Progress = Callable[[int, int], None]
#: Pages copied between two words on it: some four megabytes.
_PAGES = 1024
_WHO = "database"


@dataclass(frozen=True, slots=True)
class Kept:
    """A copy that was made: its size in bytes, the number of the last try at delivering in it."""

    file: Path
    size: int
    sequence: int


def belongs_to(file: Path, database: Path) -> bool:
    """Whether a file is the database, by whatever name, or one of those that SQLite keeps beside it."""
    try:
        real = database.resolve()
        if file.resolve() in [real.with_name(real.name + suffix) for suffix in ("", "-wal", "-shm", "-journal")]:
            return True
        return file.samefile(database)
    except (OSError, RuntimeError):  # one is not there, or a link that goes round
        return False


def backup(source: Path, target: Path, *, force: bool = False, progress: Progress = lambda done, total: None) -> Kept:
    """Copy a database as it is at this moment into a file of its own; others go on writing meanwhile.

    Args:
        target: written beside its place and put there when it is whole; for its owner's eyes only.
        force: replace a file that is there.

    Raises:
        ConfigError: there is a file already, it belongs to the database itself, or it cannot be written.
        DatabaseError: the copy is not sound.
    """
    part = target.with_name(target.name + ".part")
    for file in (target, part):
        if belongs_to(file, source):
            raise ConfigError("belongs to the database itself", who=str(file), do="name another file")
    if target.exists() and not force:
        raise ConfigError("is there already", who=str(target), do="name another file, or use --force")
    try:
        kept = _copy(source, part, progress)
        _last(part)
        part.replace(target)
        _last(target.absolute().parent)
    except OSError as error:
        where = error.filename or str(target)
        raise ConfigError(
            f"{where}: {error.strerror}", who="db backup", do="name a file that can be written"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return Kept(target, kept.size, kept.sequence)


def _copy(source: Path, target: Path, progress: Progress) -> Kept:
    target.unlink(missing_ok=True)
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(_open(source)) as old, closing(sqlite3.connect(target, isolation_level=None)) as new:
        # What is copied is what this transaction sees, however long it takes and whoever writes meanwhile.
        old.execute("BEGIN")
        try:
            old.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.DatabaseError as error:
            do = "name one that `db backup` wrote"
            raise DatabaseError(f"{source} cannot be read ({error})", who=_WHO, do=do) from error
        old.backup(new, pages=_PAGES, progress=lambda _, left, total: progress(total - left, total))
        new.execute("PRAGMA journal_mode=DELETE")
        sequence = look_through(new, source)  # nobody knows the copy by name
    return Kept(target, target.stat().st_size, sequence)


def look_through(database: sqlite3.Connection, file: Path) -> int:
    """Make sure that a database is sound and ours. Returns the number of its last try at delivering.

    Args:
        file: what is called unsound where it is not: of a copy, what it was made of.

    Raises:
        DatabaseError: it is not.
    """
    try:
        found = [str(row[0]) for row in database.execute("PRAGMA integrity_check(5)")]
        if found != ["ok"]:
            raise DatabaseError(f"{file} is not sound ({found[0]})", who=_WHO, do="take an older backup")
        broken = database.execute("PRAGMA foreign_key_check").fetchone()
        if broken is not None:
            raise DatabaseError(f"{file} is not sound (a row of {broken[0]} refers to none)", who=_WHO)
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"crmkit_version", "attempt"} <= tables:
            raise DatabaseError(f"{file} is no database of crmkit", who=_WHO, do="name one that `db backup` wrote")
        return int(database.execute("SELECT max(id) FROM attempt").fetchone()[0] or 0)
    except sqlite3.DatabaseError as error:
        raise DatabaseError(
            f"{file} cannot be read ({error})", who=_WHO, do="name one that `db backup` wrote"
        ) from error


def restore(
    source: Path,
    place: Path,
    now: datetime,
    check: Callable[[Path], None],
    *,
    progress: Progress = lambda done, total: None,
) -> Path | None:
    """Put a backup into a database's place; the file that was there is kept beside it.

    Args:
        check: raises where a copy of the backup is not what is wanted; nothing is changed then.

    Returns:
        Where that is; None if there was none.

    Raises:
        ConfigError: there is no such backup, it is the database itself, or it cannot be copied.
        DatabaseError: the backup is not sound, or a process uses the database.
    """
    if belongs_to(source, place):
        do = "name a file that `db backup` wrote"
        raise ConfigError("belongs to the database itself", who=str(source), do=do)
    if not source.is_file():
        raise ConfigError("does not exist", who=str(source), do="name a file that `db backup` wrote")
    part = place.with_name(place.name + ".restored")
    if belongs_to(source, part):
        raise ConfigError("is where its copy is put first", who=str(source), do="call it something else")
    try:
        _copy(source, part, progress)
        check(part)
        _last(part)
        with _alone(place):
            aside = _aside(place, now)
            if aside is not None:
                _like(part, aside)
            part.replace(place)
            _last(place.absolute().parent)
        return aside
    except OSError as error:
        what = f"{error.filename or place}: {error.strerror}"
        raise ConfigError(what, who="db restore", do="nothing was changed") from error
    finally:
        part.unlink(missing_ok=True)


def _aside(place: Path, now: datetime) -> Path | None:
    """Keep the file under another name too, so that the place is never empty; what belongs to it goes along."""
    if not place.exists():
        return None
    aside = place.with_name(f"{place.name}.before-{now:%Y%m%dT%H%M%S}")
    os.link(place, aside)
    for suffix in ("-wal", "-shm"):  # of a file that cannot be read: else there are none any more
        if (rest := place.with_name(place.name + suffix)).exists():
            rest.rename(aside.with_name(aside.name + suffix))
    return aside


def _like(file: Path, other: Path) -> None:
    """Whoever may read the one may read the other: a backup is put back by root, and used by the service's user."""
    found, own = other.stat(), file.stat()
    file.chmod(found.st_mode & 0o777)
    if (found.st_uid, found.st_gid) != (own.st_uid, own.st_gid):
        os.chown(file, found.st_uid, found.st_gid)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Keep every other process out of a database, whose file is whole then without its log.

    Raises:
        DatabaseError: another process has it open.
    """
    if not place.exists():
        yield
        return
    with closing(_open(place)) as database:
        try:
            database.execute("PRAGMA busy_timeout=1000")
            database.execute("PRAGMA journal_mode=DELETE")  # only who is alone may
            database.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            what, do = (
                f"{place} is in use by another process",
                "stop `crmkit run`, `serve` and every other, then repeat",
            )
            raise DatabaseError(what, who=_WHO, do=do) from error
        except sqlite3.DatabaseError:  # it cannot be read, which may be why it is restored
            pass
        yield


def _open(file: Path) -> sqlite3.Connection:
    found = sqlite3.connect(f"file:{_quoted(file)}?mode=rw", uri=True, isolation_level=None)
    found.execute("PRAGMA busy_timeout=60000")
    return found


def _quoted(file: Path) -> str:
    from urllib.parse import quote

    return quote(str(file.absolute()))


def _last(path: Path) -> None:
    """What is in a file, or in a folder, outlasts the machine."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
