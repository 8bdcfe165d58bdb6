"""A template filled in by hand: from a real order, or from a made-up one that has everything."""

import getpass
import os
import secrets
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from crmkit.adapters.gateway import Gateway
from crmkit.cli.call import Call
from crmkit.core.account import Shop
from crmkit.core.customer import Customer
from crmkit.core.errors import ConfigError, DoubtError
from crmkit.core.message import Message, Receipt
from crmkit.core.money import Money
from crmkit.core.order import Line, Order, Parcel, Refund, Review
from crmkit.core.staging import kind_of
from crmkit.flow.render import Rendered, Template, context_of, locale_chain
from crmkit.flow.setup import Entry, Setup, StaffMember

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from crmkit.engine.local import Local


@dataclass
class Sample:
    """A template, and the facts it is filled in with."""

    call: Call
    setup: Setup
    template: Template
    shop: Shop | None
    facts: dict[str, Any]

    @classmethod
    def of(
        cls, call: Call, name: str, channel: str, *, order: str | None, locale: str | None, shop: str | None
    ) -> "Sample":
        """The sample that was asked for.

        Raises:
            ConfigError: there is no such template, order or shop.
        """
        setup, shop_facts, facts = _facts(call, order, shop)
        customer = facts["customer"]
        locales = locale_chain(
            locale, customer.locale if customer else None, shop_facts.locale if shop_facts else None, setup.locale
        )
        template = setup.templates.find(name, channel, locales, shop_facts.name if shop_facts else None)
        if template is None:
            from crmkit.host.document import nearest

            channels = setup.templates.channels(name)
            do = f"there is one for {', '.join(channels)}" if channels else nearest(name, setup.templates.names())
            raise ConfigError(f"there is no template {name!r} for {channel}", who="messages", operation="test", do=do)
        return cls(call, setup, template, shop_facts, facts)

    def params(self) -> dict[str, Any]:
        """The facts it is filled in with. Its links lead nowhere: who tries a message unsubscribes nobody."""
        zone = self.shop.zone if self.shop else self.setup.zone
        return context_of(shop=self.shop, now=self.call.now, zone=zone, links=self._links(), **self.facts)

    def _links(self) -> dict[str, str] | None:
        links, now = self.setup.links, self.call.now
        if links is None:
            return None
        words = {"unsubscribe": self.template.channel, "survey": "sample"}
        purposes = ("unsubscribe", "preferences", "statement", "order", "contact", "survey")
        return {purpose: links.make(purpose, 0, now, subject=0, word=words.get(purpose, "")) for purpose in purposes}

    def render(self) -> Rendered:
        """What it says.

        Raises:
            ConfigError: a fact it needs is not known, or it fails.
        """
        from crmkit.flow.render import MissingVariable

        try:
            return self.template.render(self.params())
        except MissingVariable as error:
            raise ConfigError(str(error), who=self.template.file, operation="render") from error

    async def send(self, rendered: Rendered, to: str) -> Receipt:
        """Hand it to the channel's first gateway.

        Args:
            to: an address, the name of somebody of the staff, or `me`.

        Raises:
            ConfigError: no gateway serves the channel, nobody is meant, staging does not let it go there, it is paused,
                or the database may not send and it goes to others than the staff.
            AdapterError: it could not be handed over.
        """
        from crmkit.engine.local import Local
        from crmkit.flow.deliver import Delivered
        from crmkit.flow.form import names_of
        from crmkit.store import migrate

        entry = self._entry()
        kind, address = _address(self.setup, entry, to)
        meant = address
        if self.setup.staging is not None:
            target = self.setup.staging.target(self.template.channel, kind, address, entry.adapter.reaches)
            if target is None:
                what = f"staging lets nothing go to {address}"
                raise ConfigError(what, who="messages", operation="test", do="add it to [staging] allow")
            kind, address = target.kind, target.address
        params = self.params()
        message = Message(
            id=0,
            key=f"test:{secrets.token_hex(8)}",
            channel=self.template.channel,
            address_kind=kind,
            address=address,
            purpose=self.template.purpose,
            template=self.template.name,
            locale=self.template.locale,
            text=rendered.text,
            subject=rendered.subject,
            html=rendered.html,
            params=params,
            form=self.template.form(names_of(entry), params),
            shop=self.shop.name if self.shop else None,
            order=self.facts["order"].external_id if self.facts.get("order") is not None else None,
            decided_at=self.call.now,
            leaves_at=self.call.now,
        )
        with self.call.open_store() as store:
            if migrate.is_empty(store):
                return await _alone(self.call.host.gateway(entry), message)
            migrate.check(store, self.call.host.migrations)
            local, done = Local(self.call.host, store), Delivered()
            with store.read() as tx:
                self._must_leave(tx, local, entry, meant)
            gateways = local.gateways(self.setup, self.call.now)
            try:
                gateway = await gateways.open(entry.name)
                if gateway is None:
                    what = f"busy elsewhere: {gateways.busy[entry.name]} uses it"
                    raise ConfigError(what, who=entry.name, operation="test", do="end it, or wait")
                with store.read() as tx:  # opening may take its time
                    self._must_leave(tx, local, entry, meant)
                return await _handed(gateway, message)
            finally:
                await gateways.close(done)

    def _must_leave(self, tx: "Connection", local: "Local", entry: Entry, meant: str) -> None:
        """Refuse what is paused; and where the database may not send, what is meant for others than the staff.

        Raises:
            ConfigError: it is refused.
        """
        from crmkit.cli.pause import kept_by
        from crmkit.flow.pause import Pauses
        from crmkit.store import pauses

        row = Pauses.standing(tx).of({"channel": self.template.channel, "template": self.template.name})
        row = row or pauses.of_gateway(tx, entry.name)
        if row is not None:
            raise ConfigError(kept_by(row), who="messages", operation="test")
        why = local.fence.standing().fenced
        own = {address for person in self.setup.staff for address in person.addresses.values()}
        if why is not None and meant not in own:
            what, do = f"{meant} is nobody of the staff, and {why}", "or try it to one of [[staff]]"
            raise ConfigError(what, who="messages", operation="test", do=do)

    def _entry(self) -> Entry:
        channel, shop = self.template.channel, self.shop.name if self.shop else None
        entry = next((one for one in self.setup.channels.get(channel, ()) if one.serves(shop)), None)
        if entry is None:
            raise ConfigError(f"no gateway serves {channel}", who="messages", operation="test", do="configure one")
        return entry


async def _alone(gateway: Gateway, message: Message) -> Receipt:
    """Hand a message to a gateway where there is no database yet."""
    try:
        await gateway.open()
        try:
            return await _handed(gateway, message)
        finally:
            await gateway.close()
    finally:
        await gateway.http.aclose()


async def _handed(gateway: Gateway, message: Message) -> Receipt:
    if gateway.batch == 1:
        return await gateway.deliver(message)
    receipts = [one async for one in gateway.deliver_many([message])]
    if not receipts:
        raise DoubtError("no receipt was given", who=gateway.account.name, operation="deliver")
    return receipts[0]


def _address(setup: Setup, entry: Entry, to: str) -> tuple[str, str]:
    """The kind and address that are meant by an address, the name of somebody of the staff, or `me`.

    Raises:
        ConfigError: nobody is meant, or the gateway does not reach them.
    """
    reaches = entry.adapter.reaches
    names = [person.name for person in setup.staff]
    mine = [person for person in setup.staff if _is_me(person)] if to == "me" else []
    persons = mine or [person for person in setup.staff if person.name.casefold() == to.casefold()]
    if len(persons) == 1:
        for kind in reaches:
            if kind in persons[0].addresses:
                return kind, persons[0].addresses[kind]
        what = f"{persons[0].name} has no {' or '.join(reaches)}"
        raise ConfigError(what, who="--to", do="add it to [[staff]], or give an address")
    is_address = "@" in to or to.lstrip("+").replace(" ", "").isdigit() or not {"email", "phone"} & set(reaches)
    if to == "me" or persons or not is_address:
        what = "who you are cannot be told" if to == "me" else f"{to!r} is no address, and nobody of the staff"
        raise ConfigError(what, who="--to", do=f"give an address, or one of [[staff]]: {', '.join(names) or 'none'}")
    kind = kind_of(to)
    return (kind if kind in reaches else reaches[0]), to


def _is_me(person: StaffMember) -> bool:
    """Whether a person of the staff is who runs this: by the name of the user, or the address in EMAIL."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = ""
    known = {user.casefold(), os.environ.get("EMAIL", "").casefold()} - {""}
    email = person.addresses.get("email", "").casefold()
    return not known.isdisjoint({person.name.casefold(), email, email.partition("@")[0]} - {""})


def _facts(call: Call, order: str | None, shop: str | None) -> tuple[Setup, Shop | None, dict[str, Any]]:
    if order is not None:
        return _real(call, order, shop)
    now = call.now
    entry = call.host.shops.get(shop) if shop is not None else next(iter(call.host.shops.values()), None)
    if shop is not None and entry is None:
        raise ConfigError(f"no shop {shop!r} is switched on", who="messages", operation="test")
    known = {} if entry is None else {entry.name: (0, now)}
    setup = call.host.setup(known)
    currency = (entry.account.currency if entry else None) or "EUR"
    amount = Money(Decimal(42), currency)
    parcel = Parcel(
        1, "1", "Parcel Post", "PP123456789", "https://track.example/PP123456789", now - timedelta(days=1), now
    )
    made_up = Order(
        id=0,
        shop_id=0,
        external_id="1001",
        number="1001",
        status="shipped",
        currency=currency,
        total=amount,
        placed_at=now - timedelta(days=3),
        paid_at=now - timedelta(days=3),
        shipped_at=now - timedelta(days=1),
        delivered_at=now,
        promised_at=now + timedelta(days=2),
        lines=(Line("Sample goods", Decimal(2), "SKU-1", total=amount),),
        parcels=(parcel,),
    )
    return (
        setup,
        setup.shops.get(0),
        {
            "customer": Customer(0, 0, name="Sam Sample"),
            "order": made_up,
            "parcel": parcel,
            "refund": Refund(0, "R-1", amount, now, now, "changed my mind"),
            "review": Review(0, "V-1", Decimal(5), "Good", "Came as promised.", now),
            "extra": {"promised_at": made_up.promised_at},
        },
    )


def _real(call: Call, order: str, shop: str | None) -> tuple[Setup, Shop | None, dict[str, Any]]:
    from crmkit.store import facts, report

    with call.reading() as tx:
        setup = call.setup(tx)
        found = [
            row
            for row in report.orders_called(tx, order)
            if shop is None or (row["shop_id"] in setup.shops and setup.shops[row["shop_id"]].name == shop)
        ]
        if not found:
            raise ConfigError(f"there is no order {order!r}", who="messages", operation="test")
        row = found[0]
        known = facts.orders_at(tx, [row["id"]], call.now)[row["id"]]
        customers = facts.customers_of(tx, [row["profile_id"]]) if row["profile_id"] is not None else {}
    parcel = known.parcels[-1] if known.parcels else None
    return (
        setup,
        setup.shops.get(row["shop_id"]),
        {
            "customer": customers.get(row["profile_id"]),
            "order": known,
            "parcel": parcel,
            "extra": {"promised_at": known.promised_at},
        },
    )
