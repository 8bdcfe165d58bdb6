"""A choice of messages: which of those that are due a run is about."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.core.message import WAITING
from crmkit.store import bulk
from crmkit.store import tables as t

_m = t.message.c


@dataclass(frozen=True, slots=True)
class Choice:
    """Which messages are meant; of each kind that is named, one of those named has to fit.

    Attributes:
        templates, channels, gateways: by name.
        customers: by number; None: all. `profiles` are all of theirs.
        orders: by number; None: all. `buyers` are the customers of those, None among them if one is not known.
        shops: by number; None: all.
        limit: so many messages may leave at the most.
    """

    templates: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    gateways: frozenset[str] = frozenset()
    customers: frozenset[int] | None = None
    profiles: frozenset[int] = frozenset()
    orders: frozenset[int] | None = None
    buyers: frozenset[int | None] = frozenset()
    shops: frozenset[int] | None = None
    limit: int | None = None

    @property
    def is_all(self) -> bool:
        """Whether it leaves nothing out."""
        return self == ALL

    @property
    def families(self) -> frozenset[int | None] | None:
        """The customers it is about, None among them for nobody; None where it may be any."""
        if self.customers is None:
            return None if self.orders is None else self.buyers
        return frozenset(self.customers) if self.orders is None else self.customers & self.buyers

    def takes(self, message: Mapping[str, Any]) -> bool:
        """Whether a message is meant."""
        return (
            (not self.templates or message["template"] in self.templates)
            and (not self.channels or message["channel"] in self.channels)
            and (not self.gateways or message["gateway"] in self.gateways)
            and (self.customers is None or message["profile_id"] in self.profiles)
            and (self.orders is None or message["order_id"] in self.orders)
            and (self.shops is None or message["shop_id"] in self.shops)
        )

    def due(self, tx: Connection, now: datetime, limit: int | None = None) -> list[int]:
        """The numbers of messages that are meant and may leave, soonest first."""
        about: list[Any] = [sa.text(WAITING), _m.not_before <= now]
        for column, names in ((_m.template, self.templates), (_m.channel, self.channels), (_m.gateway, self.gateways)):
            if names:
                about.append(bulk.one_of(tx, column, sorted(names)))
        chosen = ((_m.profile_id, self.customers, self.profiles), (_m.order_id, self.orders, self.orders))
        for column, is_asked, numbers in (*chosen, (_m.shop_id, self.shops, self.shops)):
            if is_asked is not None:
                about.append(bulk.one_of(tx, column, sorted(numbers or ())))
        statement = sa.select(_m.id).where(*about).order_by(_m.not_before, _m.id).limit(limit)
        return list(tx.execute(statement).scalars())


#: Every message there is.
ALL = Choice()
