"""Events the core tells itself: each is decided for one plugin, as that plugin asked, and no other hears of it."""

from datetime import datetime
from typing import Any

from crmkit.core.events import Event, ScheduleDue


class BroadcastMember(Event):
    """A member of a broadcast has its turn."""

    broadcast: int

    def own(self) -> dict[str, Any]:
        """Nothing that a template is shown."""
        return {}


class BundleDue(Event):
    """Sends that were combined are due, as one.

    Attributes:
        template, via, staff, key, context, not_before: as the first of them was asked for.
        parcels, refunds, reviews: numbers of what they were about.
        count: how many they are.
    """

    template: str
    via: list[str]
    staff: str | None = None
    key: str | None = None
    context: dict[str, Any] | None = None
    not_before: datetime | None = None
    parcels: list[int] | None = None
    refunds: list[int] | None = None
    reviews: list[int] | None = None
    count: int = 1

    def own(self) -> dict[str, Any]:
        """Nothing that a template is shown but what its `Send` brings."""
        return {}


#: What plugins ask for, and the core tells them.
INNER: tuple[type[Event], ...] = (BroadcastMember, BundleDue, ScheduleDue)
