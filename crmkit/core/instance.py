"""Which database this is, and whether who sends for it is the one who did: the two checks of the fence, as rules.

*Identity*: the database holds a name and the place it was at when it last sent; whoever sends knows the name from
outside it, by configuration or by a note of its own. *High water*: the note holds the number of the last try it knows
of; a database that has not come so far is older than what left.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlmodel import Field, SQLModel

from crmkit.core.columns import UtcTime

#: What an instance may be called: it becomes the name of a file.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

Kind = Literal["other-name", "elsewhere", "behind", "unknown", "no-note"]


class InstanceRow(SQLModel, table=True):
    """This database as whoever sends for it knows it; one row, drawn when it is made.

    `place` is where it is: a file's path, or a server's own number and the database's; `inode` tells a file that was
    moved from one that was copied. `epoch` counts adoptions: a note of an earlier one says nothing any more. What
    happened before `doubtful_until` may have been told by the database this one was restored in place of. `behind` is
    what one sender found, so that all of them stop.
    """

    __tablename__ = "instance"

    id: int = Field(primary_key=True)
    name: str
    place: str
    inode: str | None = None
    epoch: int = 0
    drawn_at: datetime = Field(sa_type=UtcTime)
    adopted_at: datetime | None = Field(default=None, sa_type=UtcTime)
    doubtful_until: datetime | None = Field(default=None, sa_type=UtcTime)
    behind: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database is, and what tells its file from a copy of it."""

    at: str
    inode: str | None = None


@dataclass(frozen=True, slots=True)
class Instance:
    """A database as it says itself.

    Attributes:
        sequence: the number of the last try at delivering it has; 0: nothing was ever handed over.
        here: where it is now; `place` is where it was when it last sent.
    """

    name: str
    place: Place
    here: Place
    epoch: int
    sequence: int
    doubtful_until: datetime | None = None
    behind: str | None = None

    @property
    def is_here(self) -> bool:
        """Whether it is where it was: at the same path or on the same server, or the very file under another name."""
        has_moved = self.here.inode is not None and self.here.inode == self.place.inode
        return self.here.at == self.place.at or has_moved


@dataclass(frozen=True, slots=True)
class Note:
    """What a sender noted outside the database: how far it had come, and when that was."""

    name: str
    epoch: int
    sequence: int
    at: datetime

    @property
    def height(self) -> tuple[int, int]:
        """What rises: an adoption begins anew."""
        return self.epoch, self.sequence


@dataclass(frozen=True, slots=True)
class Given:
    """The name a sender was given from outside the database.

    Attributes:
        by: what gave it, in words.
        proves: whether whoever copies the database does not copy it along.
    """

    name: str
    by: str
    proves: bool = True


@dataclass(frozen=True, slots=True)
class Fenced:
    """Why a database may only plan: what was found, and what to do."""

    kind: Kind
    what: str
    do: str

    def __str__(self) -> str:
        return f"database: it may not send: {self.what}; {self.do}"


_ADOPT = "look at what `crmkit db adopt` would take on"


def fenced(instance: Instance, note: Note | None, given: Given | None, where: str) -> list[Fenced]:
    """All that keeps a database from sending, what a person should see to first at the head; none where nothing does.

    One finding does not hide another: a name that is mistyped says nothing about whether the database is a copy, or
    older than what left.

    Args:
        note: the one of its name that can be reached.
        given: the name from outside.
        where: the place notes are kept in, in words.
    """
    found = []
    if instance.behind is not None:
        found.append(Fenced("behind", instance.behind, _ADOPT))
    is_other = given is not None and given.name != instance.name
    is_new = not instance.sequence and instance.is_here  # it takes a name on: nothing left under another
    if given is not None and is_other and not is_new:
        what = f"{given.by} says {given.name!r}, and the database is {instance.name!r}"
        found.append(Fenced("other-name", what, f"correct the name or the database's address; else {_ADOPT}"))
    if not instance.is_here:
        what = (
            f"it was moved or copied: {instance.name!r} sent from {instance.place.at}, and this is {instance.here.at}"
        )
        found.append(Fenced("elsewhere", what, f"stop whoever sends from there; {_ADOPT}"))
    if instance.behind is None and note is not None and (late := _lags(instance, note, where)) is not None:
        found.append(Fenced("behind", late, _ADOPT))
    is_vouched = is_new if is_other else given is not None and given.proves
    is_others = not instance.sequence and instance.here.inode is None  # a server's, which others may have made
    if note is None and not is_others and not is_vouched:
        what = f"nothing here has sent for {instance.name!r} before (no note in {where})"
        do = f"where others go on sending for it, set CRMKIT_INSTANCE={instance.name}; where it is a copy, {_ADOPT}"
        found.append(Fenced("unknown", what, do))
    return found


def _lags(instance: Instance, note: Note, where: str) -> str | None:
    """In words, that a database is older than its note."""
    if instance.epoch < note.epoch:
        return f"it is older than an adoption of {instance.name!r} noted in {where} on {_day(note.at)}"
    if instance.epoch == note.epoch and instance.sequence < note.sequence:
        what = (
            f"it ends at try {instance.sequence:,}, and try {note.sequence:,} was noted in {where} on {_day(note.at)}"
        )
        return f"{what}: it is older than what left"
    return None


def _day(at: datetime) -> str:
    return at.isoformat(" ", "seconds")
