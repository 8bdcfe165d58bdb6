"""A season at a shop: everything the core tells of, happening to all kinds of people. What playbooks are held to.

Among the people are who has no name, who cannot be reached, who bought as a guest, whose name is written from right to
left, or is longer than any line, or looks like a template; and orders of nobody, without a number or an amount.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from crmkit.core.customer import Customer
from crmkit.core.events import CONTEXT, Event
from crmkit.core.inner import INNER
from crmkit.core.order import Order
from crmkit.core.records import (
    Address,
    AnswerRecord,
    Buyer,
    ConsentRecord,
    InboundRecord,
    LineRecord,
    OrderRecord,
    OrderStatus,
    ParcelRecord,
    Record,
    RefundRecord,
    ReviewRecord,
)
from crmkit.flow import contact
from crmkit.store import tables as t
from crmkit.testing.journey import Journey

#: Whoever is told anything is told this by nobody else: no log and no error may hold it.
PERSONAL = (
    *("Ann Quillfeather", "ann@quillfeather.example", "+447911123456"),
    *("دانا الخطيب", "dana@alkhatib.example", "+966501234567"),
    *("李雷雷", "+8613800138000", "Zoë 🌸 O'Brien <b>&amp;", "zoe@obrien.example"),
    *("guest@nowhere.example", "nameless@nowhere.example"),
)


def people(locales: Sequence[str]) -> list[Buyer]:
    """All kinds of people; somebody speaks each of these languages."""
    plain = [
        Buyer(
            external_id="ann",
            name="Ann Quillfeather",
            email="ann@quillfeather.example",
            phone="+447911123456",
            marketing_consent=True,
        ),
        Buyer(
            external_id="dana",
            name="دانا الخطيب",
            email="dana@alkhatib.example",
            phone="+966501234567",
            locale="ar",
            city="\u202eجدة",
        ),
        Buyer(external_id="li", name="李雷雷", phone="+8613800138000", locale="zh-CN", timezone="Asia/Shanghai"),
        Buyer(external_id="zoe", name="Zoë 🌸 O'Brien <b>&amp;", email="zoe@obrien.example"),
        Buyer(external_id="sly", name="{{ 7 * 7 }}{% for x in y %}", email="sly@template.example"),
        Buyer(external_id="long", name="N" * 500, email="long@name.example"),
        Buyer(external_id="nameless", email="nameless@nowhere.example"),
        Buyer(external_id="nobody"),
        Buyer(email="guest@nowhere.example", name=""),
    ]
    speakers = [
        Buyer(external_id=f"of-{locale}", name=f"Speaker {locale}", email=f"{locale}@speaker.example", locale=locale)
        for locale in locales
    ]
    return [*plain, *speakers]


@dataclass
class Life:
    """A season at the first shop of an installation.

    Args:
        journey: the installation, to which nothing has happened yet.
        locales: languages that somebody speaks.
        events: what happens beside. What handlers are there for and never came about is made up, as far as it can be.

    Attributes:
        said: (account, record) in the order in which they were said.
    """

    journey: Journey
    locales: Sequence[str] = ("en",)
    events: Sequence[Event] = ()
    said: list[tuple[str | None, Record]] = field(default_factory=list)

    def live(self) -> None:
        """Let it all happen."""
        self._buying()
        self._waiting()
        self._speaking()
        self._returning()
        for event in [*self.events, *self._unseen()]:
            self._tell(event)
        self._reporting()
        for _ in range(4):
            self.journey.passes("30d")

    def _say(self, *records: Record, account: str | None = None) -> None:
        now = self.journey.clock.now
        dated = [one.model_copy(update={"observed_at": now}) for one in records]
        self.said += [(account, one) for one in dated]
        self.journey.says(*dated, account=account)

    def again(self, journey: Journey) -> None:
        """Say everything once more, all at once."""
        accounts = dict.fromkeys(account for account, _ in self.said)
        for account in accounts:
            journey.says(*(record for known, record in self.said if known == account), account=account)

    # what happens

    def _order(self, number: str, buyer: Buyer | None, **more: Any) -> OrderRecord:
        now = self.journey.clock.now
        lines = (LineRecord(external_id="1", title="Green tea 🍵", quantity=Decimal(2), unit_price=Decimal("9.95")),)
        given = {"external_id": number, "number": number, "placed_at": now, "updated_at": now, "buyer": buyer}
        paid = {"currency": "EUR", "total": Decimal("19.90"), "lines": lines, "promised_at": now + timedelta(days=10)}
        return OrderRecord(**{**given, **paid, **more})

    def _buying(self) -> None:
        now = self.journey.clock.now
        self.buyers = people(self.locales)
        placed = [self._order(f"a{number}", buyer) for number, buyer in enumerate(self.buyers)]
        bare = OrderRecord(external_id="bare", placed_at=now)
        bare_of_ann = OrderRecord(external_id="bare-ann", updated_at=now, status=OrderStatus.PAID, buyer=self.buyers[0])
        self._say(*placed, bare, bare_of_ann, self._order("free", self.buyers[3], total=Decimal(0)))

        self.journey.passes("1h")
        self.orders = [self._now(order, OrderStatus.PAID) for order in placed]
        self._say(*self.orders)

    def _waiting(self) -> None:
        """Half of the orders arrive, the others are late; one is promised for another day."""
        journey = self.journey
        journey.passes("1d")
        parcels = [
            ParcelRecord(
                order_external_id=order.external_id,
                ordinal=ordinal,
                carrier="Post",
                tracking_number=f"T{order.external_id}-{ordinal}",
                tracking_url="https://track.example/?a=1&b=2",
                shipped_at=journey.clock.now,
            )
            for order in self.orders
            for ordinal in ((1, 2) if order.external_id == "a0" else (1,))
        ]
        late = self.orders[-1]
        moved = journey.clock.now + timedelta(days=20)
        self._say(*parcels, ParcelRecord(order_external_id="bare", ordinal=1, shipped_at=journey.clock.now))
        self._say(late.model_copy(update={"promised_at": moved, "updated_at": journey.clock.now}))
        journey.passes("2d")
        arrived = [self._now(order, OrderStatus.DELIVERED) for order in self.orders[::2]]
        self._say(*arrived, *(one.model_copy(update={"delivered_at": journey.clock.now}) for one in parcels[:3]))
        journey.passes("12d")
        self._say(*(self._now(order, OrderStatus.COMPLETED) for order in self.orders[::2]))

    def _now(self, order: OrderRecord, status: OrderStatus) -> OrderRecord:
        now = self.journey.clock.now
        return order.model_copy(update={f"{status}_at": now, "updated_at": now, "status": status})

    def _speaking(self) -> None:
        """Reviews, answers, messages, consent; an address left on a page."""
        journey, now = self.journey, self.journey.clock.now
        ann, dana, phone = self.buyers[0], self.buyers[1], Address(kind="phone", value="+447911123456")
        self._say(
            ReviewRecord(external_id="r1", order_external_id="a0", rating=Decimal(1), text="Cold. 🌧", posted_at=now),
            ReviewRecord(external_id="r2", buyer=dana, rating=Decimal(5), posted_at=now),
            AnswerRecord(external_id="s1", survey="nps", buyer=ann, score=Decimal(3), answered_at=now),
            AnswerRecord(
                external_id="s2", survey="nps", order_external_id="a1", answers={"why": "لا"}, answered_at=now
            ),
            ConsentRecord(
                external_id="c1", buyer=dana, channel="email", purpose="marketing", state="granted", said_at=now
            ),
            ConsentRecord(external_id="c2", buyer=ann, channel="sms", state="withdrawn", said_at=now),
        )
        entries = journey.crmkit.host.channels
        if "sms" in entries:
            came = InboundRecord(external_id="m1", channel="sms", sender=phone, text="Where is it?", received_at=now)
            self._say(came, account=entries["sms"][0].name)
        if journey.crmkit.host.config.links is not None:
            self._leave_contact()
        journey.passes("1h")

    def _leave_contact(self) -> None:
        crmkit = self.journey.crmkit
        customer = crmkit.customer("nobody")
        for kind, value in (("email", "left@contact.example"), ("phone", "+447911123457")):
            with crmkit.store.begin() as tx:
                listened, now = crmkit.engine.setup(tx).listened, crmkit.clock.now
                contact.leave(tx, customer, None, kind, value, {}, locale="en", listened=listened, now=now)
        self.journey.settle()

    def _returning(self) -> None:
        """Money goes back, an order is cancelled and alive again, and who bought buys again."""
        journey, now = self.journey, self.journey.clock.now
        asked = {"currency": "EUR", "requested": Decimal("9.95"), "requested_at": now, "reason": "cold"}
        self._say(
            RefundRecord(external_id="f1", order_external_id="a0", **asked),
            RefundRecord(external_id="f2", order_external_id="a2", **asked),
            self._now(self.orders[1], OrderStatus.CANCELLED),
            self._now(self.orders[3], OrderStatus.CANCELLED),
        )
        journey.passes("1d")
        went = {**asked, "refunded": Decimal("9.95"), "refunded_at": journey.clock.now}
        alive = {"updated_at": journey.clock.now, "status": OrderStatus.PAID, "cancelled_at": None}
        self._say(
            RefundRecord(external_id="f1", order_external_id="a0", updated_at=journey.clock.now, **went),
            self.orders[3].model_copy(update=alive),
            self._order("b0", self.buyers[0], paid_at=journey.clock.now, status=OrderStatus.PAID),
        )
        journey.passes("1d")

    def _unseen(self) -> list[Event]:
        """Made-up events of the kinds that are handled, and did not come about."""
        crmkit = self.journey.crmkit
        seen = {row["type"] for row in crmkit.rows(t.interaction)} | {event.name for event in self.events}
        handled = {handler.event for plugin in crmkit.host.playbooks for handler in plugin.handlers}
        kinds = sorted((kind for kind in handled if kind.name not in seen), key=lambda kind: kind.name)
        made = (sample_of(kind) for kind in kinds)
        return [event for event in made if event is not None]

    def _tell(self, event: Event) -> None:
        """An event happens to customers of all kinds; one of a plugin's own to who has an order."""
        crmkit = self.journey.crmkit
        shop = next(iter(self._shops()), None)
        is_own = type(event).__module__ != Event.__module__
        for customer, order in self._subjects():
            if is_own and order is None:
                continue
            given = {"customer": customer, "order": order, "shop": shop}
            whole = type(event)(**{**_values(event), **{k: v for k, v in given.items() if v is not None}})
            crmkit.tell(whole, key=f"{event.name}-{customer.id if customer else 0}")
        self.journey.settle()

    def _subjects(self) -> Iterator[tuple[Customer | None, Order | None]]:
        crmkit = self.journey.crmkit
        for buyer, order in (("ann", "a0"), ("dana", "a1"), ("nameless", "a6"), ("nobody", "a7"), ("zoe", None)):
            yield crmkit.customer(buyer), crmkit.order(order) if order is not None else None
        yield None, None

    def _shops(self) -> Iterable[Any]:
        with self.journey.crmkit.store.read() as tx:
            return list(self.journey.crmkit.engine.setup(tx).shops.values())

    def _reporting(self) -> None:
        """Of what was told, something arrived and something came back."""
        left = [one for one in self.journey.told() if one.state == "sent"]
        for one, state in zip(left[-2:], ("delivered", "bounced"), strict=False):
            self.journey.reports(one, state, "bad-address" if state == "bounced" else None)  # type: ignore[arg-type]


def sample_of(kind: type[Event]) -> Event | None:
    """An event of this class with made-up fields; None where the core alone tells it, or nothing can be made up."""
    if kind in INNER:
        return None
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for one in fields(kind):
        if one.name in CONTEXT:
            continue
        try:
            values[one.name] = _made_up(hints[one.name])
        except LookupError:
            return None
    return kind(**values)


_MADE_UP: Mapping[Any, Any] = {
    str: "seven",
    int: 7,
    float: 7.0,
    bool: True,
    Decimal: Decimal(7),
    datetime: datetime(2026, 3, 9, 12, tzinfo=UTC),
}


def _made_up(hint: Any) -> Any:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        known = [one for one in get_args(hint) if one is not NoneType]
        return _made_up(known[0])
    if origin in (dict, list, tuple):
        return origin()
    return _MADE_UP[hint]


def _values(event: Event) -> dict[str, Any]:
    return {one.name: getattr(event, one.name) for one in fields(event)}
