"""How two versions of one record become one row, whatever order they came in.

A row is a map of fields, each holding the value of the newest version that *said* it (a last-writer-wins register per
field), and of milestones, each the earliest time known. Both are joins: associative, commutative, idempotent.

So that a row stays narrow, the version of the newest record is kept once, with a bit for every field it said
(`said`); only fields that an older version said last are listed with that version (`older`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from crmkit.core.records import Record

#: (updated_at, observed_at, hash), as text of fixed width, so that versions compare as they stand and fit in JSON.
Version = tuple[str, str, str]
NEVER: Version = ("", "", "")


def stamp(moment: datetime | None) -> str:
    """`moment` as UTC text that sorts by time; empty for None."""
    return "" if moment is None else moment.astimezone(UTC).isoformat(timespec="microseconds")


def version_of(record: Record, changed_at: datetime | None = None) -> Version:
    """The version of `record`: the vendor's change, then when it was seen, then its content."""
    return stamp(record.updated_at or changed_at), stamp(record.observed_at), record.content_hash()


@dataclass(slots=True)
class Joined:
    """What joining a record into a row gave.

    Attributes:
        values: columns to write; empty if the row stays as it is.
        reached: milestones that were empty before, in the order given.
        before: the row's values before, for fields that changed.
    """

    values: dict[str, Any] = field(default_factory=dict)
    reached: list[str] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)


def join(
    row: Mapping[str, Any] | None,
    said: Mapping[str, Any],
    version: Version,
    fields: Sequence[str],
    milestones: Mapping[str, datetime | None],
    lowest: Mapping[str, int | None] = {},
) -> Joined:
    """Join one version into a row (None: no row yet).

    Args:
        row: column values as stored, `version` columns included.
        said: the fields this version says, already as stored values.
        version: its version.
        fields: every field of this kind of row, in a fixed order: bit i of `said` is fields[i].
        milestones: the milestones this version gives; None says nothing.
        lowest: numbers of which the smallest ever said is kept.
    """
    result = Joined()
    stored: Mapping[str, Any] = row if row is not None else {}
    _fill(result, stored, milestones, lowest)

    old_version: Version = (
        (stored["version_updated"], stored["version_observed"], stored["version_hash"]) if row is not None else NEVER
    )
    if row is not None and version == old_version:
        return result
    mask, older = (int(stored["said"]), dict(stored["older"] or {})) if row is not None else (0, {})
    is_newer = version > old_version
    if row is not None and is_newer and version[2] == old_version[2]:
        # The same content seen again later: only the version moves, so that what came between cannot win.
        result.values.update(version_updated=version[0], version_observed=version[1])
        return result

    bits = {name: 1 << index for index, name in enumerate(fields)}
    for name, value in said.items():
        field_version = old_version if mask & bits[name] else tuple(older.get(name, NEVER))
        if version > field_version:
            if name not in stored or stored[name] != value:
                result.before[name] = stored.get(name)
                result.values[name] = value
            if not is_newer:
                older[name] = list(version)
    if is_newer:
        for name in fields:
            if name in said:
                older.pop(name, None)
            elif mask & bits[name]:
                older[name] = list(old_version)
        mask = sum(bits[name] for name in said)
        result.values.update(version_updated=version[0], version_observed=version[1], version_hash=version[2])
    if row is None or mask != stored["said"]:
        result.values["said"] = mask
    if row is None or older != (stored["older"] or {}):
        result.values["older"] = older or None
    return result


def _fill(
    result: Joined,
    stored: Mapping[str, Any],
    milestones: Mapping[str, datetime | None],
    lowest: Mapping[str, int | None],
) -> None:
    for name, moment in milestones.items():
        known = stored.get(name)
        if moment is not None and (known is None or moment < known):
            result.values[name] = moment
            if known is None:
                result.reached.append(name)
    for name, number in lowest.items():
        known = stored.get(name)
        if number is not None and (known is None or number < known):
            result.values[name] = number
