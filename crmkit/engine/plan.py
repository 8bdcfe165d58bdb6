"""A plan: what a dispatch would do, every message of it, and what they come to."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from crmkit.flow.decide import Decided

#: What makes a message this one and no other: if one of these has changed, it is not what was planned.
PRINT = ("address", "content_hash", "gateways", "not_before")


@dataclass(slots=True)
class Plan:
    """What a dispatch at `now` would do: every message, those that would leave and those that would not.

    Each row is a message as the outbox would hold it, with `leaves_at`: when it would be handed over, None if it
    would not be in this run. In slices it has besides its `slice` (None: it is not due), its `fingerprint` (None: it is
    not queued), `is_chosen`, and its `price` with `currency` where that is known.

    Attributes:
        slices: the customers of each slice; None: nobody.
        beyond: customers with something due that it ends before, because of a limit.
    """

    now: datetime
    rows: list[dict[str, Any]] = field(default_factory=list)
    decided: Decided = field(default_factory=Decided)
    slices: list[list[int] | None] = field(default_factory=list)
    beyond: int = 0

    @property
    def leaving(self) -> list[dict[str, Any]]:
        """The messages that would leave."""
        return [row for row in self.rows if row["leaves_at"] is not None]


def fingerprint(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a message must still be for a plan to hold."""
    return {name: row[name] for name in PRINT}


def totals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What would leave, by channel and gateway: messages, segments, and the price where all of it is known."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["leaves_at"] is not None:
            groups[row["channel"], row["gateway"] or ""].append(row)
    found = []
    for (channel, gateway), many in sorted(groups.items()):
        prices: dict[str, Decimal] = defaultdict(Decimal)
        for row in many:
            if row.get("price") is not None:
                prices[row["currency"]] += row["price"]
        found.append(
            {
                "channel": channel,
                "gateway": gateway,
                "messages": len(many),
                "segments": sum(row["segments"] or 1 for row in many),
                "price": {currency: str(amount) for currency, amount in sorted(prices.items())},
                "unpriced": sum(row.get("price") is None for row in many),
            }
        )
    return found


def staying(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What would not leave: how many messages of each template, state and reason, the most first."""
    counts = Counter((row["template"], str(row["state"]), _reason(row)) for row in rows if row["leaves_at"] is None)
    return [
        {"template": template, "state": state, "reason": reason, "messages": count}
        for (template, state, reason), count in sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    ]


def _reason(row: Mapping[str, Any]) -> str | None:
    """Why a message would not leave: its reason, or that it was not chosen."""
    if row["reason"] is not None:
        return str(row["reason"])
    return None if row.get("is_chosen", True) else "not-chosen"
