"""What may be said to a customer on which channel: the answers of the policies that decide and deliver ask."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.engine import Connection

from crmkit.core.message import Reason
from crmkit.flow import policy
from crmkit.flow.setup import Setup
from crmkit.store import facts, search
from crmkit.store.facts import Reach

PURPOSES = ("transactional", "marketing")
#: Customers looked at in one go.
_CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class Way:
    """One address of a customer over one channel, for one purpose; `reason` is why it may not be used, if so.

    `scope` is the order an address holds within, empty where it holds for the customer as such.
    """

    channel: str
    gateways: tuple[str, ...]
    kind: str
    address: str
    scope: str
    purpose: str
    reason: Reason | None = None
    detail: str | None = None


def ways(setup: Setup, reach: Reach, family: int, purpose: str) -> list[Way]:
    """Every address of a customer on every channel that reaches it, in the order of the configuration's channels."""
    found = []
    for channel, entries in setup.channels.items():
        for row in reach.addresses.get(family, ()):
            usable = tuple(entry.name for entry in entries if row["kind"] in entry.adapter.reaches)
            if usable:
                verdict = policy.address(setup, reach, family, channel, purpose, row)
                reason, detail = (None, None) if verdict is None else (verdict.reason, verdict.detail)
                way = Way(channel, usable, row["kind"], row["value"], row["scope"], purpose, reason, detail)
                found.append(way)
    return found


def best(found: Sequence[Way], reach: Reach, family: int) -> str:
    """How a customer is best reached, as `channel (kind)`; else the reason why not."""
    open_ways = [way for way in found if way.reason is None]
    if open_ways:
        way = min(open_ways, key=lambda way: way.scope != "")
        return f"{way.channel} ({way.kind})"
    if found:
        return str(next((way.reason for way in found if way.reason is not Reason.NO_CONSENT), found[0].reason))
    return str(Reason.NO_GATEWAY if reach.addresses.get(family) else Reason.NO_ADDRESS)


def census(tx: Connection, setup: Setup, now: datetime) -> dict[str, Counter[str]]:
    """Every customer counted once for each purpose, by the best way to reach them or the reason why not."""
    counts: dict[str, Counter[str]] = {purpose: Counter() for purpose in PURPOSES}
    after = 0
    while families := search.every_family(tx, after, _CHUNK):
        reach = facts.reach_of(tx, families, now)
        for family in families:
            for purpose in PURPOSES:
                counts[purpose][best(ways(setup, reach, family, purpose), reach, family)] += 1
        after = families[-1]
    return counts
