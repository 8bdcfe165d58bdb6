"""An import is undone as a batch: what a run alone wrote goes, as if it had never been read.

Refused once something came of it that went out into the world, or into a plugin's tables. What others wrote too stays
as it is: a row that was there before is not given its old values back, its shop says them when it is read again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.errors import ConfigError
from crmkit.flow import family
from crmkit.store import bulk, customers, forgotten, log
from crmkit.store import undo as stored
from crmkit.store.undo import Written

#: Commands whose runs bring rows.
BRINGING = frozenset({"sync", "consent import"})


@dataclass(slots=True)
class Undone:
    """What undoing a run takes away.

    Attributes:
        counts: rows that go, by what they are.
        kept: rows that stay, since others wrote something of them too.
    """

    counts: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)


def undo(tx: Connection, number: int, now: datetime, *, by: str) -> Undone:
    """Take away what a run alone wrote.

    Args:
        number: the run's.
        by: who undoes it.

    Raises:
        ConfigError: there is no such run, it brought nothing, it goes on, something came of it already, or
            whether it did cannot be seen: there are tables of plugins that are not loaded.
    """
    bulk.lock(tx, bulk.INGEST)
    _undoable(stored.run(tx, number), number)
    written = Written.by(tx, number)
    forgotten.hold(tx, written.profiles, written.orders)
    came = stored.came_of(tx, written)
    if came:
        told = ", ".join(f"{count:,} {name}" for name, count in came.items())
        do = f"{_why(came, *stored.went_out(tx, written))}; correct the records at their source, and sync again"
        raise ConfigError(f"run {number} cannot be undone: {told} came of it", who="runs", operation="undo", do=do)
    hidden = forgotten.unreached(tx)
    if hidden:
        what = f"run {number} cannot be undone: what came of it in {', '.join(hidden)} cannot be seen"
        do = "load the plugins these tables are of; drop tables that nobody needs any more"
        raise ConfigError(what, who="runs", operation="undo", do=do)
    orders = written.orders - stored.shared_orders(tx, written)
    profiles = written.profiles - stored.shared_profiles(tx, written, orders)
    kept = len((stored.told_of(tx, written) | written.orders) - orders)
    weak, holders = stored.evidence(tx, written)
    owners = customers.owners_of(tx, weak)
    related = {profile for found in owners.values() for profile in found}
    related |= holders | stored.in_families_of(tx, profiles) | stored.buyers_of(tx, orders)
    counts = stored.take_away(tx, written, orders, profiles)
    left = related - profiles
    moved = family.regroup(tx, left)
    log.append(tx, family.place(tx, {*moved, *left} - profiles, shop=None, now=now), (), now)
    stored.mark(tx, number, now, by)
    stays = {"orders": kept, "profiles": len(written.profiles) - len(profiles)}
    return Undone(counts, {name: count for name, count in stays.items() if count})


def _why(came: Mapping[str, int], left: int, waiting: int) -> str:
    """Why what came of a run keeps it from being undone.

    Args:
        left: messages that left, or may have.
        waiting: messages that have not, and still may.
    """
    if left:
        return f"{left:,} of the messages left, or may have, and cannot be taken back"
    if waiting:
        keep = "`crmkit messages cancel` keeps them here"
        return f"no message of it has left, and {waiting:,} wait: {keep}"
    return "no message of it has left" if "messages" in came else "what came of it would stay without its cause"


def _undoable(row: Mapping[str, Any] | None, number: int) -> None:
    def refused(what: str, do: str) -> ConfigError:
        return ConfigError(f"run {number} {what}", who="runs", operation="undo", do=do)

    if row is None:
        raise refused("is not known", "see `crmkit runs list`")
    if row["command"] not in BRINGING:
        raise refused(f"was a {row['command']}, which brings nothing in", "see `crmkit runs list`")
    if row["outcome"] == "undone":
        raise refused("was undone already", "see `crmkit runs list`")
    if row["finished_at"] is None:
        raise refused(
            "goes on, or was cut off", "wait for its end; a run that was cut off is ended by the next of its kind"
        )
