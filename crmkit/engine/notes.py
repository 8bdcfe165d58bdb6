"""Notes of instances, outside their databases: how far each has come, one file for each, in the user's state directory.

A note is written over in place, under a lock, in one block: a file that is replaced by another costs milliseconds each
time, and this is done with every commit. It never goes back, however many processes write it. It is brought to the
disk when it is begun and then at most once a second: what a power failure takes of it lets an old database pass, and
harms none that is whole.
"""

import errno
import fcntl
import json
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from crmkit.core.instance import Note

#: The environment: where notes are kept.
STATE = "CRMKIT_STATE"
#: A note is on the disk so many seconds after it was written, at the latest with the next.
LASTING = 1.0
#: Bytes of a note, always the same: less than a disk writes at once.
SIZE = 256


def state_folder(env: Mapping[str, str] = os.environ) -> Path | None:
    """Where this user's notes are kept; None where there is no home to keep them in."""
    if env.get(STATE):
        return Path(env[STATE]).absolute()
    base = env.get("XDG_STATE_HOME", "")
    if base and Path(base).is_absolute():
        return Path(base) / "crmkit"
    try:
        return Path.home() / ".local" / "state" / "crmkit"
    except RuntimeError:
        return None


class Notes:
    """What was noted of instances in a folder.

    Args:
        folder: made when something is noted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lasting = 0.0

    def file(self, name: str) -> Path:
        """Where an instance's note is."""
        return self.folder / f"{name}.json"

    def closed(self, name: str | None) -> str | None:
        """Why nothing can be noted of an instance, or of one without a name yet; None where it can. Changes nothing."""
        if name is not None and os.path.lexists(self.file(name)):
            place, needed = self.file(name), os.R_OK | os.W_OK
        else:
            place = next(one for one in (self.folder, *self.folder.parents) if os.path.lexists(one))
            needed = os.R_OK | os.W_OK | os.X_OK
            if not place.is_dir():
                return f"{place}: {os.strerror(errno.ENOTDIR)}"
        return None if os.access(place, needed) else f"{place}: {os.strerror(errno.EACCES)}"

    def read(self, name: str) -> Note | None:
        """An instance's note; None where there is none, or none that can be read."""
        try:
            number = os.open(self.file(name), os.O_RDONLY)
        except OSError:
            return None
        try:
            fcntl.flock(number, fcntl.LOCK_SH)  # nobody writes meanwhile
            return self._said(number)
        finally:
            os.close(number)

    @staticmethod
    def _said(number: int) -> Note | None:
        """What an open note says; half of one is as good as none."""
        try:
            found = json.loads(os.pread(number, 4 * SIZE, 0))
            at = datetime.fromisoformat(found["at"]).astimezone(UTC)
            return Note(found["instance"], found["epoch"], found["sequence"], at)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def rise(self, note: Note) -> None:
        """Note this, unless more is noted already.

        Raises:
            OSError: it cannot be written.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = os.open(self.file(note.name), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(number, fcntl.LOCK_EX)
            known = self._said(number)
            if known is not None and known.height >= note.height:
                return
            text = {"instance": note.name, "epoch": note.epoch, "sequence": note.sequence, "at": note.at.isoformat()}
            os.pwrite(number, json.dumps(text).ljust(SIZE - 1).encode() + b"\n", 0)
            if known is None or time.monotonic() - self._lasting >= LASTING:
                os.fsync(number)
                self._lasting = time.monotonic()
        finally:
            os.close(number)
