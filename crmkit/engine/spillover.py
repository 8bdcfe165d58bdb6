"""What one slice of a plan sets off beyond its own customers, and hands on to theirs: a slice is rolled back."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.inner import BroadcastMember
from crmkit.core.quota import Quota
from crmkit.flow.setup import Setup
from crmkit.store import bulk, outbox, quotas, slices
from crmkit.store import tables as t
from crmkit.store.bulk import Row
from crmkit.store.slices import Slice
from crmkit.store.told import UNTOLD


@dataclass(slots=True)
class Spillover:
    """Work of customers of other slices, accounts as they stand, and what the staff is told once.

    Attributes:
        work: pending work, by profile.
        behind: what it points at: `interaction` and `broadcast` by number, `member` by interaction.
    """

    work: dict[int, list[Row]] = field(default_factory=lambda: defaultdict(list))
    behind: dict[str, dict[int, Row]] = field(default_factory=lambda: defaultdict(dict))
    quotas: dict[str, Quota] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)

    def take(self, tx: Connection, one: Slice, above: int, now: datetime, told: Sequence[dict[str, Any]]) -> None:
        """Keep what a slice left that is not its own.

        Args:
            above: what pending work had been numbered up to, before it.
            told: its messages.
        """
        mine = one.profiles or frozenset()
        for profile in mine:
            self.work.pop(profile, None)
        left = [row for row in slices.left(tx, above, now) if row["profile_id"] not in mine]
        for row in left:
            self.work[row["profile_id"]].append(row)
        if left:
            found = slices.behind(tx, left)
            self.behind["interaction"].update({row["id"]: row for row in found[t.interaction]})
            self.behind["broadcast"].update({row["id"]: row for row in found[t.broadcast]})
            self.behind["member"].update({row["interaction_id"]: row for row in found[t.broadcast_member]})
        self.told += [row for row in told if row["staff"] and row["once"] and row["state"] not in UNTOLD]

    def put(self, tx: Connection, setup: Setup, one: Slice) -> None:
        """Give a slice what is its."""
        for name, quota in self.quotas.items():
            if setup.limits(name).any:
                quotas.lock(tx, name)
                quotas.save(tx, quota)
        outbox.add(tx, [dict(row) for row in self.told])
        work = [row for profile in sorted(one.profiles or ()) for row in self.work.get(profile, ())]
        if not work:
            return
        told = [self.behind["interaction"][row["interaction_id"]] for row in work]
        members = [self.behind["member"][row["id"]] for row in told if row["id"] in self.behind["member"]]
        casts = [self.behind["broadcast"][number] for number in sorted({row["broadcast_id"] for row in members})]
        if tx.dialect.name == "sqlite":  # which gave numbers out again that were rolled back
            told, work, members, casts = _renumbered(tx, told, work, members, casts)
        for table, rows in (
            (t.interaction, told),
            (t.broadcast, casts),
            (t.broadcast_member, members),
            (t.pending, work),
        ):
            slices.put(tx, table, rows)


def _renumbered(
    tx: Connection, told: Sequence[Row], work: Sequence[Row], members: Sequence[Row], casts: Sequence[Row]
) -> tuple[list[Row], list[Row], list[Row], list[Row]]:
    """The same rows under numbers that are free now."""

    def fresh(table: Any, rows: Sequence[Row]) -> dict[int, int]:
        return dict(zip((row["id"] for row in rows), bulk.next_ids(tx, table, len(rows)), strict=True))

    kept = {row["id"]: row for row in told}
    number, cast, turn = fresh(t.interaction, list(kept.values())), fresh(t.broadcast, casts), fresh(t.pending, work)

    def payload(row: Row) -> Any:
        if row["type"] != BroadcastMember.name:
            return row["payload"]
        return {**row["payload"], "broadcast": cast.get(row["payload"]["broadcast"], row["payload"]["broadcast"])}

    return (
        [{**row, "id": number[row["id"]], "payload": payload(row)} for row in kept.values()],
        [{**row, "id": turn[row["id"]], "interaction_id": number[row["interaction_id"]]} for row in work],
        [
            {**row, "broadcast_id": cast[row["broadcast_id"]], "interaction_id": number[row["interaction_id"]]}
            for row in members
        ],
        [{**row, "id": cast[row["id"]]} for row in casts],
    )
