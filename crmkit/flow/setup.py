"""What the steps are set up with: shops, channels, handlers, policies, templates, staff; made by `host`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from crmkit.adapters.gateway import Gateway
from crmkit.core.account import Shop
from crmkit.core.balance import Balance
from crmkit.core.events import EVENTS
from crmkit.core.hooks import Handler, Policy
from crmkit.core.inner import INNER
from crmkit.core.link import Links
from crmkit.core.money import Money
from crmkit.core.order import Order
from crmkit.core.quota import UNLIMITED, Limits
from crmkit.core.reputation import Thresholds
from crmkit.core.staging import Staging
from crmkit.flow.cap import Cap
from crmkit.flow.render import Templates


@dataclass(frozen=True, slots=True)
class Entry:
    """A configured gateway: one entry of a channel, in failover order.

    Attributes:
        name: unique; `[[channels.email]] name`, by default the adapter's slug.
        shops: the shops it sends for; empty: all.
        adapter, settings: what it is made of.
        limits: how much may leave by it.
        connection: the account whose memory it shares; None: it has its own.
        price: what a segment costs, as its entry says.
        balance_low: less left on its account at the vendor is little; None: nothing is.
    """

    name: str
    channel: str
    adapter: type[Gateway]
    settings: Any
    shops: frozenset[str] = frozenset()
    limits: Limits = UNLIMITED
    connection: str | None = None
    price: Money | None = None
    balance_low: Balance | None = None

    @property
    def deduplicates(self) -> bool:
        """Whether the same key may be sent again: as its settings say, where they do, else as its adapter does."""
        return bool(getattr(self.settings, "deduplicates", self.adapter.deduplicates))

    def serves(self, shop: str | None) -> bool:
        """Whether it sends for this shop; staff messages without a shop go by any."""
        return not self.shops or shop is None or shop in self.shops


@dataclass(frozen=True, slots=True)
class StaffMember:
    """A person of the shop: `addresses` by kind (`email`, `phone`)."""

    name: str
    teams: frozenset[str]
    addresses: Mapping[str, str]
    locale: str | None = None
    quiet_hours: tuple[time, time] | None = None


@dataclass(frozen=True, slots=True)
class Plugin:
    """A loaded playbook: its handlers by event, its settings, its policies."""

    name: str
    settings: Any = None
    handlers: tuple[Handler, ...] = ()
    policies: tuple[Policy, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """`[policy]`: what may be sent when.

    Attributes:
        quiet_hours: (from, to) in the recipient's zone, else the shop's; None: none.
        marketing_default: `deny` (an opt-in entry is needed) or `allow`.
        marketing_cap: how much marketing a customer, and an address, gets; None: as much as there is.
        pause: how much of what a gateway sends may go wrong before it pauses by itself.
    """

    quiet_hours: tuple[time, time] | None = None
    marketing_default: str = "deny"
    marketing_cap: Cap | None = None
    pause: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything the steps need to know beside the database and the clock.

    Attributes:
        absent: playbooks that are switched on and were not loaded (broken, or left out for this run): what they would
            decide must not count as decided.
        broken: adapters, by their plugins' names, that could not be loaded: what they may have asked for waits, too.
        links: makes the links customers are given; None where they cannot be reached from outside.
        may_say: by shop, what its marketplace says to a message: `(order, purpose, template)` gives why it may not be
            sent, or None; shops whose adapter has no opinion are not here.
        doubtful_until: what happened before it may have been told already, by the database this one was restored in
            place of: a person looks at it first.
        staging: whom it may reach, where it is there for trying out.
    """

    shops: Mapping[int, Shop]
    channels: Mapping[str, Sequence[Entry]]
    plugins: Sequence[Plugin]
    templates: Templates
    zone: ZoneInfo
    locale: str
    staff: Sequence[StaffMember] = ()
    rules: Rules = field(default_factory=Rules)
    absent: frozenset[str] = frozenset()
    broken: frozenset[str] = frozenset()
    links: Links | None = None
    may_say: Mapping[int, Callable[[Order | None, str, str], str | None]] = field(default_factory=dict)
    doubtful_until: datetime | None = None
    staging: Staging | None = None

    @property
    def listened(self) -> frozenset[str]:
        """Wire names of the events somebody handles; all there are while a plugin that might is not loaded."""
        if self.absent:
            return frozenset(EVENTS)
        return frozenset(handler.event.name for plugin in self.plugins for handler in plugin.handlers) | _INNER

    @property
    def away(self) -> frozenset[str]:
        """Plugins whose own work and timers wait for them."""
        return self.absent | self.broken

    @property
    def deduplicating(self) -> frozenset[str]:
        """Gateway entries to which the same key may be sent again."""
        return frozenset(e.name for entries in self.channels.values() for e in entries if e.deduplicates)

    @property
    def looking_up(self) -> frozenset[str]:
        """Gateway entries whose vendor can be asked what became of a message."""
        every = (entry for entries in self.channels.values() for entry in entries)
        return frozenset(entry.name for entry in every if entry.adapter.look_up is not Gateway.look_up)

    def limits(self, name: str) -> Limits:
        """How much may leave by a gateway entry."""
        entry = self.entry(name)
        return entry.limits if entry is not None else UNLIMITED

    def entry(self, name: str) -> Entry | None:
        """The gateway entry of this name."""
        return next((entry for entries in self.channels.values() for entry in entries if entry.name == name), None)

    def persons(self, target: str) -> list[StaffMember]:
        """The persons a team's or a person's name stands for."""
        return [person for person in self.staff if target == person.name or target in person.teams]


#: What the core itself decides.
_INNER = frozenset(kind.name for kind in INNER)
