"""Journeys: what happens to customers over weeks, and exactly what they are told, in milliseconds.

```python
def test_a_late_parcel_is_told_once(journey):
    tea = journey("care")
    tea.order("1001", buyer=ANN, promised_at=tea.clock.now + timedelta(days=5))
    tea.passes("6w")
    assert tea.told("template", "to") == [("shipment-late", "ann@buyers.example")]
```

Time goes from due time to due time, so that each step sees the world as it was then.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from crmkit.core.events import Event
from crmkit.core.message import State
from crmkit.core.optout import opt_out
from crmkit.core.order import MILESTONES
from crmkit.core.records import (
    Address,
    Buyer,
    ConsentRecord,
    InboundRecord,
    OrderRecord,
    OrderStatus,
    ReceiptRecord,
    Record,
)
from crmkit.store import accounts
from crmkit.store import tables as t
from crmkit.testing.clock import Clock
from crmkit.testing.installation import Installation
from crmkit.testing.stand_in import SLUG

#: Left, as far as we know; will not leave; may leave yet.
_LEFT = frozenset({State.SENT, State.DELIVERED, State.BOUNCED, State.FAILED, State.IN_DOUBT})
_SILENT = frozenset({State.SUPPRESSED, State.HELD, State.CANCELLED})
_WAITING = frozenset({State.QUEUED, State.SENDING})


@dataclass(frozen=True, slots=True)
class Told:
    """A message of a journey.

    Attributes:
        at: when it left; of one that did not, when it was decided.
        template, channel, purpose: what it is.
        to: the address; of one that has none, None.
        staff: the person of the staff it is for; None for customers.
        order: the order's number (else its id) it is about.
        subject, text, html: as rendered.
        state, reason, detail: what became of it, and why.
        not_before: when it may leave, where that is later.
        plugin: who asked for it.
        gateway, vendor_id: whom it was handed to, and the vendor's number for it.
        key: the same for every try.
        began_with: the event at the beginning of what it came of: `order-paid`, `schedule-due`.
    """

    at: datetime
    template: str
    channel: str
    to: str | None
    purpose: str = "transactional"
    staff: str | None = None
    order: str | None = None
    subject: str | None = None
    text: str | None = None
    html: str | None = None
    state: str = "sent"
    reason: str | None = None
    detail: str | None = None
    not_before: datetime | None = None
    plugin: str = ""
    gateway: str | None = None
    vendor_id: str | None = None
    key: str = ""
    began_with: str | None = None


class Journey:
    """What happens at an installation.

    Args:
        crmkit: the installation.

    Attributes:
        crmkit: the installation.
        clock: its time.
    """

    def __init__(self, crmkit: Installation) -> None:
        self.crmkit = crmkit
        self._orders: dict[tuple[str | None, str], dict[str, Any]] = {}

    @property
    def clock(self) -> Clock:
        """Its time."""
        return self.crmkit.clock

    # what happens

    def says(self, *records: Record, account: str | None = None) -> None:
        """A shop (a gateway: of receipts and replies) says records, which are taken in and decided now.

        Args:
            account: whose; the first shop's where None.
        """
        self.crmkit.say(*records, account=account)
        self.settle()

    def order(self, number: str, *milestones: str, shop: str | None = None, **fields: Any) -> None:
        """A shop says an order: as it said it last, with what is new.

        Args:
            number: its number and its id.
            milestones: reached now: `placed`, `paid`, `shipped`, ...; `placed` where it is new and none is named.
            shop: which; the first where None.
            fields: of `OrderRecord`.
        """
        known = self._orders.setdefault((shop, number), {"external_id": number, "number": number})
        unknown = [name for name in milestones if name not in MILESTONES]
        if unknown:
            raise ValueError(f"journey: {unknown[0]!r} is no milestone; there are {', '.join(MILESTONES)}")
        reached = milestones or (() if "placed_at" in known or "placed_at" in fields else ("placed",))
        if reached:
            known["status"] = OrderStatus(reached[-1])
        known |= {f"{name}_at": self.clock.now for name in reached}
        known |= fields
        self.says(OrderRecord(**{**known, "updated_at": self.clock.now}), account=shop)

    def tells(self, event: Event, *, key: str | None = None) -> None:
        """An event happens, of the core's or a plugin's own, and is decided now.

        Args:
            event: its `customer`, `order` and `shop` are whom it is about (`crmkit.customer(...)` finds them).
            key: what makes it the same one when it is told again.
        """
        self.crmkit.tell(event, key=key)
        self.settle()

    def hears(self, sender: str | Address, text: str, *, channel: str = "sms", order: str | None = None) -> None:
        """A customer writes to the shop, by a gateway, which tells a STOP apart as gateways do (`crmkit.opt_out`).

        Args:
            sender: an e-mail address or a phone number, or another kind of address.
            channel: the channel whose first gateway it comes by.
            order: the id of the order it is about.
        """
        number = f"in-{len(self.crmkit.rows(t.interaction))}"
        if isinstance(sender, str):
            sender = Address(kind="email" if "@" in sender else "phone", value=sender)
        came: list[Record] = [
            InboundRecord(
                external_id=number,
                channel=channel,
                sender=sender,
                text=text,
                received_at=self.clock.now,
                order_external_id=order,
            )
        ]
        state = opt_out(text)
        if state is not None:
            came.append(
                ConsentRecord(
                    external_id=number,
                    address=sender,
                    channel=channel,
                    state=state,
                    wording=text,
                    said_at=self.clock.now,
                )
            )
        self.says(*came, account=self._gateway(channel))

    def reports(
        self, told: Told, state: Literal["sent", "delivered", "bounced", "failed"], reason: str | None = None
    ) -> None:
        """The vendor says what became of a message that left."""
        receipt = ReceiptRecord(state=state, key=told.key, reason=reason, occurred_at=self.clock.now)
        self.says(receipt, account=told.gateway)

    def passes(self, duration: str | timedelta) -> None:
        """Time passes: `"3d"`. Whatever becomes due meanwhile is decided and delivered at its time."""
        self.clock.move(duration)
        self.settle()

    def until(self, moment: datetime | str) -> None:
        """Time passes until a moment."""
        before = self.clock.now
        if self.clock.to(moment) < before:
            self.clock.to(before)
            raise ValueError(f"journey: {moment} is past; it is {before:%Y-%m-%d %H:%M} UTC")
        self.settle()

    def settle(self) -> None:
        """Whatever waits to be read is read, and what is due is decided and delivered."""
        engine = self.crmkit.engine
        readable = engine.accounts.readable()
        names = [
            name
            for name, entry in readable.items()
            if entry.adapter.name != SLUG or self.crmkit.stage.waiting.get(name)
        ]
        if names:
            self.crmkit.sync(*names)
        self.crmkit.dispatch()

    def _gateway(self, channel: str) -> str:
        entries = self.crmkit.host.channels.get(channel)
        if not entries:
            raise ValueError(f"journey: no gateway for {channel} is configured")
        return entries[0].name

    # what was told

    @property
    def messages(self) -> list[Told]:
        """Every message, also of those that did not leave, in the order of their times."""
        numbers = {row["id"]: row["number"] or row["external_id"] for row in self.crmkit.rows(t.orders)}
        log = {row["id"]: row for row in self.crmkit.rows(t.interaction)}
        found = [_told(row, numbers, log) for row in self.crmkit.rows(t.message)]
        return sorted(found, key=lambda one: one.at)  # a message's number decides between those of one time

    def told(self, *fields: str) -> list[Any]:
        """What left: each a `Told`; its one field, or a tuple of several, where they are named."""
        return _picked(self.messages, _LEFT, fields)

    def silent(self, *fields: str) -> list[Any]:
        """What was not said, in the same form: suppressed, held for a person, cancelled; `reason` says why."""
        return _picked(self.messages, _SILENT, fields)

    def waiting(self, *fields: str) -> list[Any]:
        """What may leave yet, in the same form; `not_before` says when."""
        return _picked(self.messages, _WAITING, fields)

    def timers(self) -> list[tuple[datetime, str, str]]:
        """What will happen: (when, the event's name, whose timer it is)."""
        rows = sorted(self.crmkit.rows(t.timer), key=lambda row: (row["due_at"], row["plugin"], row["key"]))
        return [(row["due_at"], row["type"], row["plugin"]) for row in rows]

    def story(self) -> str:
        """The whole journey as text, to be read and compared with a golden file."""
        from crmkit.testing.story import story

        return story(self)

    @property
    def shops(self) -> Mapping[int, str]:
        """{stored number: name} of every account."""
        with self.crmkit.store.read() as tx:
            return {row["id"]: row["name"] for row in accounts.every(tx)}


def a_buyer(name: str = "Ann", **fields: Any) -> Buyer:
    """A buyer with a buyer id and an e-mail address made of a name; `fields` are of `Buyer`."""
    word = "".join(part for part in name.lower() if part.isalnum()) or "buyer"
    return Buyer(**{"external_id": word, "name": name, "email": f"{word}@buyers.example", **fields})


def _told(row: Mapping[str, Any], numbers: Mapping[int, str], log: Mapping[int, Mapping[str, Any]]) -> Told:
    is_later = row["not_before"] > row["decided_at"]
    first = log.get(row["interaction_id"])
    while first is not None and first["cause_id"] in log:
        first = log[first["cause_id"]]
    return Told(
        at=row["sent_at"] or row["decided_at"],
        template=row["template"],
        channel=row["channel"],
        to=row["address"],
        purpose=row["purpose"],
        staff=row["staff"],
        order=numbers.get(row["order_id"]),
        subject=row["subject"],
        text=row["text"],
        html=row["html"],
        state=str(row["state"]),
        reason=None if row["reason"] is None else str(row["reason"]),
        detail=row["detail"],
        not_before=row["not_before"] if is_later else None,
        plugin=row["plugin"],
        gateway=row["gateway"],
        vendor_id=row["vendor_id"],
        key=row["key"],
        began_with=None if first is None else first["type"],
    )


def _picked(messages: Iterable[Told], states: frozenset[State], fields: tuple[str, ...]) -> list[Any]:
    found = [one for one in messages if one.state in states]
    if not fields:
        return list(found)
    if len(fields) == 1:
        return [getattr(one, fields[0]) for one in found]
    return [tuple(getattr(one, name) for name in fields) for one in found]
