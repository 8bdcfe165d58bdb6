"""The chain of gateways a message may go by: who is next when one is down, paused or configured no more.

A message moves on only when nothing of it can have left; who refused it for good is struck off its chain, and after
doubt nobody else is on it. After a wait the chain starts at its first again; who waits for one that takes nothing,
while another comes back, waits no longer.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.message import Reason
from crmkit.core.quota import Quota
from crmkit.flow.setup import Setup
from crmkit.store import bulk, chains, pauses, quotas


@dataclass(frozen=True, slots=True)
class Standing:
    """How the gateways stand at a moment."""

    setup: Setup
    now: datetime
    quotas: Mapping[str, Quota]
    paused: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, tx: Connection, setup: Setup, now: datetime) -> "Standing":
        """As the database knows them."""
        rows = {row["name"]: row for row in pauses.standing(tx) if row["scope"] == "gateway"}
        return cls(setup, now, quotas.every(tx), rows)

    def is_there(self, name: str) -> bool:
        """Whether it is configured and not paused."""
        return name not in self.paused and self.setup.entry(name) is not None

    def opens_at(self, name: str) -> datetime | None:
        """When it may be tried again, None if it may be now."""
        quota = self.quotas.get(name)
        return quota.shut_until(self.now) if quota is not None else None

    def free(self, chain: Sequence[str]) -> str | None:
        """The first of a chain that takes messages now."""
        return next((name for name in chain if self.is_there(name) and self.opens_at(name) is None), None)

    def route(self, chain: Sequence[str], now_with: str) -> dict[str, Any] | None:
        """Where a message goes that its gateway cannot take now: the columns to set; None if it stays as it is."""
        there = [name for name in chain if self.is_there(name)]
        free = self.free([name for name in chain if name != now_with])
        if free is not None:
            return {"gateway": free, "reason": None, "detail": None}
        times = {name: at for name in there if (at := self.opens_at(name)) is not None}
        if times:
            soonest = min(times, key=lambda name: times[name])
            error = self.quotas[soonest].error
            detail = f"gateway {soonest} takes nothing before {times[soonest].isoformat()}"
            if self.quotas[soonest].is_open(self.now):
                detail = f"gateway {soonest} is down: {error}" if error else f"gateway {soonest} is down"
            return {
                "gateway": there[0],
                "not_before": times[soonest],
                "reason": Reason.RETRY,
                "detail": detail,
            }
        row = next((self.paused[name] for name in chain if name in self.paused), None)
        if row is not None:
            return {"reason": Reason.PAUSED, "detail": pauses.detail(row)}
        if there:
            return None
        return {"reason": Reason.NO_GATEWAY, "detail": f"{' and '.join(chain)} not configured any more"}


def move_on(
    tx: Connection,
    setup: Setup,
    name: str,
    now: datetime,
    *,
    only_label: bool = False,
    most: int | None = chains.SLICE,
    only: Collection[int] | None = None,
) -> int:
    """Send what is due over a gateway that cannot take it on its way: to the next of its chain, or to wait.

    Args:
        most: so many at once; a run comes back until nothing moves.
        only_label: move nothing, only say where a pause keeps it.
        only: of these messages.

    Returns:
        How many messages that is news for.
    """
    bulk.lock(tx, chains.LOCK)
    standing = Standing.of(tx, setup, now)
    count = 0
    for chain in chains.due(tx, name, now, only):
        left = None if most is None else most - count
        if left is not None and left <= 0:
            break
        values = standing.route(chain, name)
        if values is None or (only_label and values["reason"] != Reason.PAUSED):
            continue
        unless = Reason.NO_GATEWAY if values["reason"] == Reason.NO_GATEWAY else None
        count += chains.move(tx, name, chain, now, values, unless=unless, most=left, only=only)
    return count


def turn_back(tx: Connection, setup: Setup, now: datetime) -> int:
    """Messages that wait for a gateway that takes nothing leave now by another that does again.

    When they were put off none of their chain did; since then one was resumed, or is configured again.

    Returns:
        How many that is news for.
    """
    standing = Standing.of(tx, setup, now)
    if not standing.paused and all(quota.shut_until(now) is None for quota in standing.quotas.values()):
        return 0
    bulk.lock(tx, chains.LOCK)
    count = 0
    for name, chain in chains.put_off(tx, now):
        free = standing.free(chain)
        if free is not None and standing.free([name]) is None:
            values = {"gateway": free, "not_before": now, "reason": None, "detail": None}
            count += chains.move_put_off(tx, name, chain, now, values)
    return count
