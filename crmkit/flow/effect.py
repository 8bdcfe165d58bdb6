"""From what a handler asked for to what is written: each action is checked at once, and counts only with all others."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.actions import Action, Broadcast, Cancel, Emit, Later, Note, Save, Send
from crmkit.core.customer import Customer
from crmkit.core.errors import PluginError
from crmkit.core.events import ContactLeft, Event
from crmkit.core.interaction import CRMKIT, DEPTH_LIMIT
from crmkit.core.message import Reason, State
from crmkit.core.records import Address
from crmkit.flow import broadcast, combine, policy
from crmkit.flow.cap import Ledger
from crmkit.flow.compose import Composer
from crmkit.flow.setup import Plugin, Setup
from crmkit.flow.wave import Wave, Work
from crmkit.store import customers, facts, told
from crmkit.store import tables as t

Effect = Callable[[], None]


@dataclass(slots=True)
class Effects:
    """Makes effects of actions.

    Attributes:
        customers: whom the batch is about, by profile.
        wave: what effects are gathered in.
    """

    tx: Connection
    setup: Setup
    now: datetime
    composer: Composer
    customers: dict[int, Customer]
    wave: Wave
    _reachable: set[int] = field(default_factory=set)
    _ledger: Ledger | None = None
    _counted: set[int] = field(default_factory=set)

    def of(self, plugin: Plugin, work: Work, action: Action) -> Effect:
        """Check an action now, so that a bad one fails its plugin before anything of it counts.

        Raises:
            PluginError: it cannot be carried out.
        """
        event, wave = work.event, self.wave
        if isinstance(action, Send):
            _check_via(plugin, event, action)
            return self._send(plugin, work, action)
        if isinstance(action, Broadcast):
            _check_via(plugin, event, action)
            return self._broadcast(plugin, work, action)
        if isinstance(action, Note):
            note = _caused(plugin, work, "note", {"text": action.text}, None)
            return lambda: wave.told.append(note)
        if isinstance(action, Emit):
            key = None if action.key is None else f"{plugin.name}:{action.event.name}:{action.key}"
            row = _caused(plugin, work, action.event.name, action.event.payload(), key, action.event)
            _check_depth(plugin, event, row["depth"])
            if self._would_speak_up(work, row):
                row["is_quiet"] = True
            return lambda: wave.told.append(row)
        if isinstance(action, Later):
            if action.at.tzinfo is None:
                raise PluginError("Later at a time without a zone", who=plugin.name, operation=event.name)
            timer = self._timer(plugin, work, action)
            return lambda: wave.set(timer)
        if isinstance(action, Cancel):
            key = action.key if isinstance(action.key, str) else _subject(action.key, event)
            return lambda: wave.cancel(plugin.name, key)
        if isinstance(action, Save):
            if getattr(type(action.row), "__table__", None) is None or t.table_of(type(action.row)) in t.CORE:
                raise PluginError(
                    f"Save({type(action.row).__name__}) is no row of a table of the plugin's own",
                    who=plugin.name,
                    operation=event.name,
                    do="save rows of the models named in crmkit_tables",
                )
            return lambda: wave.saves.setdefault(type(action.row), []).append(action.row)
        raise PluginError(f"{type(action).__name__} is no action crmkit knows", who=plugin.name, operation=event.name)

    def _would_speak_up(self, work: Work, row: dict[str, Any]) -> bool:
        """Whether what a quiet cause tells names a shop that announces since earlier."""
        shop = self.setup.shops.get(row["shop_id"]) if row["shop_id"] is not None else None
        return work.is_quiet and (shop is None or row["occurred_at"] >= shop.announce_from)

    # messages

    def _send(self, plugin: Plugin, work: Work, action: Send) -> Effect:
        wave = self.wave
        if work.is_quiet:
            return self._count(plugin, work, action.template)
        if work.event.customer is not None and work.event.customer.id not in self._reachable:
            self.meet()
        if isinstance(action.to, Address):
            _check_left(plugin, work.event, action, action.to)
            self._meet_address(action.to.value)
        rows = self.composer.compose(plugin, work.event, action, self._verdict(plugin, work, action))
        for row in rows:
            row["depth"], row["correlation_id"] = work.row["depth"], work.row["correlation_id"]
        if action.combine is None:
            return lambda: wave.messages.extend(rows)
        held = combine.hold(plugin.name, work.event, work.row, action, rows)
        return lambda: wave.held.append(held)

    def _verdict(self, plugin: Plugin, work: Work, action: Send) -> Any:
        """Why this message is not sent, where that is known beforehand."""
        if action.combine is None:
            return None
        if action.combine.total_seconds() <= 0:
            raise PluginError(f"combine={action.combine} is no time", who=plugin.name, operation=work.event.name)
        return policy.suppress(Reason.COMBINED, "told with another of the same burst")

    def meet(self) -> None:
        """Load what is known of reaching the batch's customers."""
        self._reachable = {customer.id for customer in self.customers.values()}
        self.composer.reach = facts.reach_of(self.tx, self._reachable, self.now)

    def _meet_address(self, value: str) -> None:
        """Load what is known of an address that was left."""
        known = facts.reach_of(self.tx, (), self.now, (value,))
        self.composer.reach.by_address.update(known.by_address)
        self.composer.reach.suppressed.update(known.suppressed)

    def planned(self) -> Ledger:
        """When marketing is planned for the batch's customers and their addresses."""
        cap = self.setup.rules.marketing_cap
        if self._ledger is None:
            self._ledger = Ledger()
        fresh = self._reachable - self._counted
        if cap is None or not fresh:
            return self._ledger
        self._counted |= fresh
        family_of = {m: family for family, members in customers.members(self.tx, fresh).items() for m in members}
        addresses = {row["value"] for family in fresh for row in self.composer.reach.addresses.get(family, ())}
        since = self.now - timedelta(days=cap.days + 2)
        for row in told.marketing(self.tx, family_of, addresses, since):
            family = family_of.get(row["profile_id"])
            at = max(row["at"], self.now) if row["state"] == State.QUEUED else row["at"]
            self._ledger.add(at, ("address", row["address"]), ("customer", family))
        return self._ledger

    @property
    def planned_so_far(self) -> int:
        """How much marketing is known to be planned."""
        return 0 if self._ledger is None else self._ledger.size

    def take_back(self, planned: int) -> None:
        """What was planned since there was so much does not count."""
        if self._ledger is not None and planned:
            self._ledger.take_back(planned)
        elif self._ledger is not None:
            self._ledger, self._counted = None, set()

    def _broadcast(self, plugin: Plugin, work: Work, action: Broadcast) -> Effect:
        wave = self.wave
        frozen = broadcast.frozen(self.setup, plugin, work.event, action, work.row)
        self.composer.must_have(plugin, action.template, action.via)
        _check_depth(plugin, work.event, work.row["depth"] + 1)
        if work.is_quiet:
            return self._count(plugin, work, action.template)
        return lambda: wave.broadcasts.append(frozen)

    def _count(self, plugin: Plugin, work: Work, template: str) -> Effect:
        wave = self.wave
        shop = work.row["shop_id"] if work.row["shop_id"] is not None else 0
        return lambda: wave.quiet.update([(shop, plugin.name, template)])

    # timers

    def _timer(self, plugin: Plugin, work: Work, action: Later) -> dict[str, Any]:
        caused = _caused(plugin, work, action.event.name, action.event.payload(), None, action.event)
        return {
            "plugin": plugin.name,
            "key": action.key or _subject(type(action.event), work.event),
            "type": caused["type"],
            "due_at": action.at,
            "profile_id": caused["profile_id"],
            "shop_id": caused["shop_id"],
            "order_id": caused["order_id"],
            "payload": caused["payload"],
            "cause_id": caused["cause_id"],
            # at once, it is an effect like any other; later, a new beginning
            "depth": caused["depth"] if action.at <= self.now else 0,
            "correlation_id": caused["correlation_id"],
        }


def _check_via(plugin: Plugin, event: Event, action: Send | Broadcast) -> None:
    if isinstance(action.via, str) or not action.via:
        raise PluginError(f"via={action.via!r} is no list of channels", who=plugin.name, operation=event.name)


def _check_left(plugin: Plugin, event: Event, action: Send, to: Address) -> None:
    """An address nobody consented for may be written to for one thing only: the code that its owner asked for."""
    contact = event.contact if isinstance(event, ContactLeft) else None
    if contact is None or (contact.kind, contact.value) != (to.kind, to.value):
        what, do = "sends to an address of nobody's", "only contact-left may be answered to the address that was left"
        raise PluginError(what, who=plugin.name, operation=event.name, do=do)
    if action.key is not None or action.combine is not None:
        what, do = "sends to an address that was left with a key, or combined", "leave key= and combine= out"
        raise PluginError(what, who=plugin.name, operation=event.name, do=do)


def _check_depth(plugin: Plugin, event: Event, depth: int) -> None:
    if depth > DEPTH_LIMIT:
        raise PluginError(
            f"a chain of events deeper than {DEPTH_LIMIT}", who=plugin.name, operation=event.name, do="end the loop"
        )


def _caused(
    plugin: Plugin, work: Work, kind: str, payload: dict[str, Any] | None, key: str | None, event: Event | None = None
) -> dict[str, Any]:
    """An interaction that another one caused: with its customer, shop and order, unless `event` names its own."""
    cause = work.row
    own_order = event.order.id if event is not None and event.order is not None else None
    own_customer = event.customer.profile_id if event is not None and event.customer is not None else None
    return {
        "type": kind,
        "profile_id": own_customer if own_customer is not None else cause["profile_id"],
        "shop_id": event.shop.id if event is not None and event.shop is not None else cause["shop_id"],
        "order_id": own_order if own_order is not None else cause["order_id"],
        "actor": f"plugin:{plugin.name}",
        "occurred_at": cause["occurred_at"],
        "payload": payload,
        "cause_id": cause["id"],
        "depth": cause["depth"] + 1,
        "key": key,
        "correlation_id": cause["correlation_id"],
    }


def _subject(kind: type[Event], event: Event) -> str:
    """The default key of a timer: the event's type and what it is about."""
    if event.order is not None:
        return f"{kind.name}:order:{event.order.shop_id}:{event.order.external_id}"
    if event.customer is not None:
        return f"{kind.name}:customer:{event.customer.id}"
    return f"{kind.name}:shop:{event.shop.id if event.shop else CRMKIT}"
