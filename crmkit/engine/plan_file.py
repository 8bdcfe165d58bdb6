"""The file of a plan: JSON lines, for its owner's eyes only. What they say is in docs/plan.md.

The first line says of what database, when and for what clock it was made, and its totals; then one line for each slice
of customers, and one for each message; the last holds a checksum of all before it.
"""

import contextlib
import hashlib
import json
import os
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from crmkit.core.errors import ConfigError
from crmkit.engine.plan import PRINT, Plan, staying, totals
from crmkit.store.plans import Named

#: The version of the format.
VERSION = 1
#: A first line is no longer than this, in characters: its totals are by gateway, and by template and reason.
_LONG = 1 << 24
#: A plan that is older is refused, and one that is made by a clock farther ahead.
LIFETIME, AHEAD = timedelta(hours=1), timedelta(minutes=5)
#: What the first line says, in this order.
HEADER = (
    "plan",
    "instance",
    "database",
    "schema",
    "now",
    "made_at",
    "slices",
    "beyond",
    "leaving",
    "staying",
)
#: What a line says of a message, in this order.
COLUMNS = (
    "slice",
    "key",
    "state",
    "leaves_at",
    "reason",
    "detail",
    "is_chosen",
    "template",
    "purpose",
    "locale",
    "channel",
    "gateway",
    "gateways",
    "address_kind",
    "address",
    "staff",
    "profile_id",
    "shop_id",
    "order_id",
    "interaction_id",
    "plugin",
    "not_before",
    "expires_at",
    "subject",
    "text",
    "html",
    "encoding",
    "segments",
    "price",
    "currency",
    "content_hash",
    "origin",
    "fingerprint",
)
#: How it shows that what is read is not what a plan says.
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError)
_NOT_WHOLE = "it is no whole plan"


@dataclass(frozen=True, slots=True)
class Made:
    """Where and when a plan was made.

    Attributes:
        instance: what its database is called; None if nothing was to leave it yet.
        database: what tells it from others.
        schema: the version of each history of its database.
        now: its clock.
        made_at: by the wall clock.
    """

    instance: str | None
    database: str
    schema: Mapping[str, str]
    now: datetime
    made_at: datetime


@dataclass(slots=True)
class PlanFile:
    """A plan as it was read.

    Attributes:
        slices: the customers of each, None: nobody.
        messages: the lines of each slice, by key; None: those that are not due.
    """

    path: Path
    made: Made
    slices: list[list[int] | None] = field(default_factory=list)
    messages: dict[int | None, dict[str, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))

    def must_fit(self, database: str, schema: Mapping[str, str], now: datetime, wall: datetime) -> None:
        """Refuse a plan of another database, or that is too old.

        Raises:
            ConfigError: it does not fit.
        """
        if self.made.database != database:
            raise _refused(self.path, "it is of another database", "make it where it is applied")
        if dict(self.made.schema) != dict(schema):
            raise _refused(self.path, "the database was of another version when it was made")
        for clock, at in ((now, self.made.now), (wall, self.made.made_at)):
            if clock - at > LIFETIME:
                raise _refused(self.path, f"it is of {at.isoformat()}, more than an hour ago")
            if at - clock > AHEAD:
                raise _refused(self.path, f"it is of {at.isoformat()}, which is still to come", "apply it by its clock")


def _refused(path: Path, what: str, do: str = "make a new one with `crmkit dispatch --plan FILE`") -> ConfigError:
    return ConfigError(what, who=str(path), operation="apply", do=do)


def message_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """What is told of messages."""
    return ({name: row.get(name) for name in COLUMNS} for row in rows)


# --- forgetting -------------------------------------------------------------------------------------------------------


def beside(path: Path) -> Path:
    """Where a plan is while it is written."""
    return path.with_name(f".{path.name}.new")


def tidy(paths: Sequence[Path]) -> None:
    """Remove what writers that were cut off left beside these plans. Nobody writes for an hour."""
    for new in map(beside, paths):
        with contextlib.suppress(OSError):
            if time.time() - new.stat().st_mtime > LIFETIME.total_seconds():
                new.unlink()


def forget(paths: Sequence[Path], named: Named | None) -> tuple[list[Path], list[Path]]:
    """Remove the plans in these files that say something of somebody, and whatever was half written there.

    Args:
        named: who; None: whoever it is.

    Returns:
        The files that are gone, now or before; and those that cannot be looked at or removed, or that hold anything but
        a plan as this program writes it: that is not ours to remove, and may name them.
    """
    gone, left = list[Path](), list[Path]()
    for path in paths:
        try:
            beside(path).unlink(missing_ok=True)
            if not _is_plan(path):
                left.append(path)
            elif named is None or _names(path, named):
                path.unlink()
                gone.append(path)
        except FileNotFoundError:
            gone.append(path)
        except OSError:
            left.append(path)
    return gone, left


def _names(path: Path, named: Named) -> bool:
    """Whether a plan is about somebody."""
    nobodys = set[int]()
    with path.open(encoding="utf-8", errors="replace") as stream:
        stream.readline()
        try:
            for told in map(json.loads, stream):
                if "customers" in told and told["customers"] is None:
                    nobodys.add(told["slice"])
                if _is_about(told, named, nobodys):
                    return True
        except _MALFORMED:
            return True  # a plan that was damaged may name anybody
    return False


def _is_about(told: Mapping[str, Any], named: Named, nobodys: Collection[int]) -> bool:
    """Whether a line of a plan is about somebody; what tells the staff may be without saying so."""
    if not named.profiles.isdisjoint(told.get("customers") or [told.get("profile_id")]):
        return True
    if told.get("order_id") in named.orders:
        return True
    if told.get("origin") != "decided":
        return told.get("interaction_id") in named.interactions
    # what it was decided on may not have been kept: of a customer's slice that is told by the customer
    return told["staff"] is not None and told["slice"] in nobodys


# --- what is there already --------------------------------------------------------------------------------------------


def must_be_free(path: Path) -> None:
    """Refuse a place where there is anything but a plan: nobody asked for that to go.

    Raises:
        ConfigError: there is, or nobody can tell.
    """
    try:
        is_free = not path.is_symlink() and _is_plan(path)
    except FileNotFoundError:
        is_free = True
    except OSError as error:
        raise ConfigError(f"cannot be looked at ({error.strerror})", who=str(path), do="name another file") from error
    if not is_free:
        raise ConfigError("is there already, and is no plan", who=str(path), do="name another file")


def _is_plan(path: Path) -> bool:
    """Whether a file begins as a plan does, whatever became of the rest of it.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # who reads from a pipe may wait for ever
        return False
    with path.open(encoding="utf-8", errors="replace") as stream:
        try:
            told = json.loads(stream.readline(_LONG))
        except ValueError:
            return False
    return isinstance(told, dict) and told.keys() >= set(HEADER)


# --- writing ----------------------------------------------------------------------------------------------------------


def write(path: Path, plan: Plan, made: Made, line: Callable[[Any], str]) -> None:
    """Write a plan so that only its owner can read it: it holds what buyers are told.

    Args:
        line: writes a value as one line of JSON.

    Raises:
        ConfigError: it cannot be written, or something else is there.
    """
    header = {
        "plan": VERSION,
        "instance": made.instance,
        "database": made.database,
        "schema": made.schema,
        "now": made.now,
        "made_at": made.made_at,
        "slices": len(plan.slices),
        "beyond": plan.beyond,
        "leaving": totals(plan.rows),
        "staying": staying(plan.rows),
    }
    rows: dict[int | None, list[Mapping[str, Any]]] = defaultdict(list)
    for row in plan.rows:
        rows[row["slice"]].append(row)
    digest = hashlib.sha256()
    new = beside(path)
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            new.chmod(0o600)

            def put(value: Any) -> None:
                text = line(value) + "\n"
                digest.update(text.encode())
                stream.write(text)

            put(header)
            for number, families in enumerate(plan.slices):
                put({"slice": number, "customers": families})
                for told in message_lines(rows[number]):
                    put(told)
            for told in message_lines(rows[None]):
                put(told)
            stream.write(line({"sha256": digest.hexdigest()}) + "\n")
        must_be_free(path)  # making the plan took a while
        new.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot be written ({error.strerror})", who=str(path), do="name another file") from error
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)


# --- reading ----------------------------------------------------------------------------------------------------------


def read(path: Path) -> PlanFile:
    """Read a plan.

    Raises:
        ConfigError: it cannot be read, is none, or is not as it was written.
    """
    try:
        whole = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", who=str(path), operation="apply") from error
    body, _, last = whole.rstrip(b"\n").rpartition(b"\n")
    try:
        header, end = json.loads(body.partition(b"\n")[0]), json.loads(last)
        version, checksum = header["plan"], end["sha256"]
    except _MALFORMED:
        raise _refused(path, _NOT_WHOLE) from None
    if version != VERSION:
        raise _refused(path, f"it is of the format {version!r}, and this program knows {VERSION}")
    if checksum != hashlib.sha256(body + b"\n").hexdigest():
        raise _refused(path, "it is not as it was written")
    try:
        return _read(path, header, body.split(b"\n")[1:])
    except _MALFORMED:
        raise _refused(path, _NOT_WHOLE) from None


def _read(path: Path, header: Mapping[str, Any], lines: Sequence[bytes]) -> PlanFile:
    schema = {str(history): str(version) for history, version in header["schema"].items()}
    made = Made(header["instance"], header["database"], schema, _time(header["now"]), _time(header["made_at"]))
    found = PlanFile(path, made)
    for told in map(json.loads, lines):
        if "key" in told:
            if missing := set(COLUMNS) - told.keys():
                raise KeyError(*missing)
            if told["slice"] not in (None, len(found.slices) - 1):
                raise ValueError(told["slice"])
            if (print_ := told["fingerprint"]) is not None:
                values = {name: print_[name] for name in PRINT}
                told["fingerprint"] = {**values, "not_before": _time(print_["not_before"])}
            found.messages[told["slice"]][told["key"]] = told
        else:
            customers = told["customers"]
            if told["slice"] != len(found.slices):
                raise ValueError(told["slice"])
            found.slices.append(None if customers is None else [int(number) for number in customers])
    if header["slices"] != len(found.slices):
        raise ValueError(header["slices"])
    return found


def _time(written: str) -> datetime:
    moment = datetime.fromisoformat(written)
    if moment.tzinfo is None:  # it would be read in the zone of whatever machine this is
        raise ValueError(written)
    return moment.astimezone(UTC)
